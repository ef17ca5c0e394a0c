package multihost_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
	"github.com/multihost/multihost/redislock"
	"github.com/multihost/multihost/redissem"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const (
	crowdSize = 1000             // goroutines for the lock or the semaphore, and as many for the event
	idleFor   = 30 * time.Second // the period of the rarest thing that happens: the fallback check
	heldFor   = 10 * time.Minute // the lease's TTL: what its holder sends is no cost of waiting
	perSecond = 2                // commands that a process may cost while it waits
	mostConns = 3                // of the process: the client's, the private one, the subscription
	atOnce    = 5 * time.Millisecond
	leave     = time.Second // until nothing is left
)

// A crowd is one process full of goroutines that wait, with a server of its
// own to count on.
type crowd struct {
	own     *redistest.Own
	name    string
	release func(context.Context) error // of what they wait for
	all     []*idler
}

// A contested is what only one may have: how to take it, to give it back, and to
// wait for it, which is told.
type contested func(t *testing.T, owner, waiter redis.UniversalClient, name string, waits func()) (release, wait func(context.Context) error)

func lockOf(t *testing.T, owner, waiter redis.UniversalClient, name string, waits func()) (release, wait func(context.Context) error) {
	t.Helper()
	held, err := redislock.New(owner, name, &redislock.Options{TTL: heldFor})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := held.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lock, err := redislock.New(waiter, name, &redislock.Options{Observe: func(o redislock.Observation) {
		if o.Kind == redislock.Waiting {
			waits()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return lease.Release, func(ctx context.Context) error { _, err := lock.Acquire(ctx); return err }
}

func semaphoreOf(t *testing.T, owner, waiter redis.UniversalClient, name string, waits func()) (release, wait func(context.Context) error) {
	t.Helper()
	held, err := redissem.New(owner, name, 1, &redissem.Options{TTL: heldFor})
	if err != nil {
		t.Fatal(err)
	}
	permit, err := held.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sem, err := redissem.New(waiter, name, 1, &redissem.Options{Observe: func(o redissem.Observation) {
		if o.Kind == redissem.Waiting {
			waits()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return permit.Release, func(ctx context.Context) error { _, err := sem.Acquire(ctx); return err }
}

// An idler is one goroutine that waits.
type idler struct {
	cancel context.CancelFunc
	over   chan struct{} // closed when its wait has ended
	ended  time.Time
	err    error
}

func (i *idler) run(wait func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	i.cancel, i.over = cancel, make(chan struct{})
	go func() {
		i.err = wait(ctx)
		i.ended = time.Now()
		close(i.over)
	}()
}

// gather has the goroutines of one client wait for a lock or a permit, whose
// holder uses the same client or another one, and for an event.
func gather(t *testing.T, elsewhere bool, of contested) *crowd {
	t.Helper()
	c := &crowd{own: redistest.StartOwn(t), name: redistest.Name(t)}
	client := c.own.Client(t)
	owner := client
	if elsewhere {
		owner = c.own.Client(t, func(o *redis.UniversalOptions) { o.ClientName = "the-holder" })
	}
	var waiting sync.WaitGroup
	waiting.Add(2 * crowdSize)
	release, wait := of(t, owner, client, c.name, waiting.Done)
	c.release = release
	event, err := redisevent.New(client, c.name, &redisevent.Options{Observe: func(o redisevent.Observation) {
		if o.Kind == redisevent.Waiting {
			waiting.Done()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range crowdSize {
		var forTurn, forEvent idler
		forTurn.run(wait)
		forEvent.run(event.Wait)
		c.all = append(c.all, &forTurn, &forEvent)
	}
	t.Cleanup(func() {
		for _, i := range c.all {
			i.cancel()
		}
	})
	settled := make(chan struct{})
	go func() { waiting.Wait(); close(settled) }()
	select {
	case <-settled:
	case <-time.After(time.Minute):
		t.Fatal("all goroutines should wait by now")
	}
	c.quiet(t)
	return c
}

// quiet waits until the process has looked once more, after its subscription was
// confirmed, and has nothing left to say.
func (c *crowd) quiet(t *testing.T) {
	t.Helper()
	var scripts int64
	since := time.Now()
	redistest.EventuallyTrue(t, time.Minute, "the process says nothing for a second", func() bool {
		stats := c.own.CommandStats(t)
		if n := stats["EVALSHA"] + stats["EVAL"]; n != scripts {
			scripts, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
}

// count counts what clients have made the server do while during runs, by
// command. INFO commandstats counts each command that a script calls too, and
// those of the counting itself, which are taken off.
func count(t *testing.T, crowds []*crowd, during func()) []map[string]int64 {
	t.Helper()
	type counts = map[string]int64
	var first, before, spent []counts
	for _, c := range crowds {
		first = append(first, c.own.CommandStats(t))
		before = append(before, c.own.CommandStats(t))
	}
	during()
	for i, c := range crowds {
		after := c.own.CommandStats(t)
		for name := range after {
			after[name] -= 2*before[i][name] - first[i][name]
		}
		maps.DeleteFunc(after, func(_ string, n int64) bool { return n <= 0 })
		spent = append(spent, after)
	}
	return spent
}

// A process may have any number of goroutines wait: to the server they are one
// client that says next to nothing.
func TestTwoThousandWaitsCostTheServerNextToNothing(t *testing.T) {
	where := []string{
		"the lock's holder is in the same process", "the lock's holder is in another one",
		"the permit's holder is in the same process", "the permit's holder is in another one",
	}
	crowds := []*crowd{
		gather(t, false, lockOf), gather(t, true, lockOf), gather(t, false, semaphoreOf), gather(t, true, semaphoreOf),
	}
	began := time.Now()
	spent := count(t, crowds, func() { <-time.NewTimer(idleFor).C })
	span := time.Since(began) // on a busy machine, longer
	for i, c := range crowds {
		conns := len(c.own.Conns(t))
		var sum int64
		for _, n := range spent[i] {
			sum += n
		}
		sent := spent[i]["PING"] + spent[i]["EVALSHA"] + spent[i]["EVAL"] // the others are the scripts'
		rate := float64(sum) / span.Seconds()
		t.Logf("%d goroutines wait, %s: %d connections; in %v %d commands were sent, which with those of scripts makes %d, %.2f a second: %v",
			len(c.all), where[i], conns, span.Round(time.Millisecond), sent, sum, rate, spent[i])
		if conns > mostConns {
			t.Errorf("the process should have at most %d connections, it has %d", mostConns, conns)
		}
		if rate >= perSecond {
			t.Errorf("a process that waits should cost fewer than %d commands a second, it cost %.2f", perSecond, rate)
		}
	}

	t.Logf("for comparison, plain goroutines, cancelled by fifties: median, 90, 99 and 100 of 100 within %v", quantiles(crowds[0].cancel(t, plain(t), 50)))
	for i, c := range crowds {
		half := len(c.all) / 2
		report(t, where[i]+", cancelled one by one", c.cancel(t, c.all[:half], 1))
		report(t, where[i]+", cancelled by fifties", c.cancel(t, c.all[half:], 50))
		if err := c.release(t.Context()); err != nil {
			t.Errorf("Release should return nil, got %v", err)
		}
	}
	start := time.Now()
	for _, c := range crowds {
		redistest.NoLeaks(t, c.own.Server, c.name, ":fence", ":limit")
	}
	d := time.Since(start)
	t.Logf("nothing is left after %v", d.Round(time.Millisecond))
	if d > leave {
		t.Errorf("nothing should be left after %v, it took %v", leave, d)
	}
}

// plain are goroutines that do nothing but wait: what they take to return is the
// machine's doing.
func plain(t *testing.T) (all []*idler) {
	t.Helper()
	for range crowdSize {
		i := &idler{}
		i.run(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		all = append(all, i)
	}
	t.Cleanup(func() {
		for _, i := range all {
			i.cancel()
		}
	})
	return all
}

// quantiles are the median, the 90th and 99th percentile and the longest.
func quantiles(took []time.Duration) (q [4]time.Duration) {
	slices.Sort(took)
	for i, part := range []float64{0.5, 0.9, 0.99, 1} {
		q[i] = took[int(part*float64(len(took)-1))]
	}
	return q
}

// cancel cancels waits, so many at a time, and returns how long each took to
// return.
func (c *crowd) cancel(t *testing.T, all []*idler, group int) (took []time.Duration) {
	t.Helper()
	for some := range slices.Chunk(all, group) {
		start := time.Now()
		for _, i := range some {
			i.cancel()
		}
		for _, i := range some {
			select {
			case <-i.over:
			case <-time.After(time.Minute):
				t.Fatal("a cancelled wait should return at once, it has not in a minute")
			}
			took = append(took, i.ended.Sub(start))
			if !errors.Is(i.err, context.Canceled) || errors.Is(i.err, redislock.ErrUnavailable) {
				t.Errorf("a cancelled wait should say so and nothing else, got %v", i.err)
			}
		}
	}
	return took
}

// report judges how long cancelled waits took to return: all but a few, for the
// machine has other things to do, and holds up plain goroutines as well.
func report(t *testing.T, what string, took []time.Duration) {
	t.Helper()
	q := quantiles(took)
	t.Logf("%s: median, 90, 99 and 100 of 100 within %v", what, q)
	if raceDetector {
		return // it makes everything several times slower
	}
	if q[1] > atOnce {
		t.Errorf("%s: waits should return within %v, the median is %v, and nine of ten take up to %v", what, atOnce, q[0], q[1])
	}
}
