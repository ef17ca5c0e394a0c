package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func TestACancelledWaitLeavesNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
		var gets []*call[int]
		var receives []*call[*redisqueue.Delivery[int]]
		for range 10 {
			gets = append(gets, begin(t, q.Get))
			receives = append(receives, beginReceive(t, q))
		}
		heard.awaitKind(t, redisqueue.Waiting, 20)
		for i := range gets {
			gets[i].cancel()
			receives[i].cancel()
		}
		for i := range gets {
			wantOnly(t, "a cancelled Get", gets[i].fails(t, "a cancelled Get"), errCanceled)
			wantOnly(t, "a cancelled Receive", receives[i].fails(t, "a cancelled Receive"), errCanceled)
		}
		redistest.NoLeaks(t, s, name, lasting...)
		put(t, q, 1)
		wantGot(t, newQueue[int](t, s.Client(t), name, nil), 1) // nobody takes it who has gone
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestAnEndedCtxDoesNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		w := redistest.NewWire(t)
		q := newQueue[int](t, s.Client(t, w.Through), redistest.Name(t), nil)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for what, call := range calls() {
			wantOnly(t, what+" with an ended ctx", call(ctx, q), errCanceled)
		}
		if w.Dialled() != 0 {
			t.Errorf("with an ended ctx nothing should be sent, got %v", w.Counts())
		}
	})
}

func TestACancelledWaitReturnsAtOnceWhenTheServerIsSilent(t *testing.T) {
	own := redistest.StartOwn(t)
	name := redistest.Name(t)
	client := own.Client(t)
	full := newQueue[int](t, client, name+"full", bounded(1))
	put(t, full, 0)
	var heard journal
	empty := newQueue[int](t, client, name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
	const n = 15
	waits := map[string][]func() (context.CancelFunc, <-chan struct{}, *error){}
	for range n {
		g, r, p := begin(t, empty.Get), beginReceive(t, empty), beginPut(t, full, 1)
		waits["Get"] = append(waits["Get"], func() (context.CancelFunc, <-chan struct{}, *error) { return g.cancel, g.over, &g.err })
		waits["Receive"] = append(waits["Receive"], func() (context.CancelFunc, <-chan struct{}, *error) { return r.cancel, r.over, &r.err })
		waits["Put"] = append(waits["Put"], func() (context.CancelFunc, <-chan struct{}, *error) { return p.cancel, p.over, &p.err })
	}
	heard.awaitKind(t, redisqueue.Waiting, 2*n)
	awaitCounts(t, full, counts{waiting: 1, parked: n})

	own.Pause(t)
	for what, all := range waits {
		var took []time.Duration
		for _, w := range all {
			cancel, over, err := w()
			start := time.Now()
			cancel()
			await(t, over, "the end of a cancelled "+what)
			took = append(took, time.Since(start))
			wantErr(t, "a cancelled "+what, *err, errCanceled)
			if what == "Put" { // it may still be let in
				wantErr(t, "a Put that cannot be withdrawn for sure", *err, redisqueue.ErrUnknownOutcome)
			}
		}
		fast(t, "a cancelled "+what+" that waits", 5*time.Millisecond, took)
	}
	for what, call := range calls() {
		var took []time.Duration
		for i := range 9 {
			q := newQueue[int](t, client, fmt.Sprint(name, what, i), nil)
			ctx, cancel := context.WithCancel(context.Background())
			over := make(chan error)
			go func() { over <- call(ctx, q) }()
			pause(time.Duration(i)*4*time.Millisecond, nil) // the call is at another place each time
			start := time.Now()
			cancel()
			wantErr(t, "a cancelled "+what, await(t, over, "the end of "+what), errCanceled)
			took = append(took, time.Since(start))
		}
		fast(t, "a cancelled "+what, 5*time.Millisecond, took)
	}

	own.Resume(t)
	awaitNoParked(t, full)
	// What was sent to the silent server was carried out: a Put of it has put.
	for what := range calls() {
		for i := range 9 {
			remove(t, newQueue[int](t, client, fmt.Sprint(name, what, i), nil))
		}
	}
	remove(t, full)
	remove(t, empty)
	noLeaks(t, own.Server, name)
}

// takers are the ways to take items; each returns what it took.
func takers(q *redisqueue.Queue[int]) map[string]func(context.Context) ([]int, error) {
	return map[string]func(context.Context) ([]int, error){
		"Get": func(ctx context.Context) ([]int, error) {
			v, err := q.Get(ctx)
			return []int{v}, err
		},
		"GetMany": func(ctx context.Context) ([]int, error) { return q.GetMany(ctx, 3) },
		"Receive": func(ctx context.Context) ([]int, error) {
			d, err := q.Receive(ctx)
			if err != nil {
				return nil, err
			}
			// A machine that stands still for a second leaves it unknown.
			if err := d.Ack(context.Background()); err != nil && !errors.Is(err, redisqueue.ErrUnknownOutcome) {
				return nil, err
			}
			return []int{d.Value()}, nil
		},
	}
}

// Many give up, now and then at the moment when an item comes: each item is
// taken once, by somebody who returned it.
func TestCancelsLoseNothingAndTakeNothingTwice(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"Get", "GetMany", "Receive"} {
		t.Run(how, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) { cancelsUnderLoad(t, s, how, 200) })
		})
	}
}

func cancelsUnderLoad(t *testing.T, s *redistest.Server, how string, n int) {
	name := redistest.Name(t)
	putter := newQueue[int](t, s.Client(t), name, nil)
	var mu sync.Mutex
	var got []int
	cancelled := 0
	stop := make(chan struct{})
	var group sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(stop)
		group.Wait()
	})
	t.Cleanup(end)
	for range 2 { // processes
		q := newQueue[int](t, s.Client(t), name, unhurried)
		take := takers(q)[how]
		for range 4 { // goroutines of each
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					ctx, cancel := context.WithTimeout(context.Background(), rand.N(2*time.Millisecond))
					all, err := take(ctx)
					cancel()
					mu.Lock()
					switch {
					case err == nil:
						got = append(got, all...)
					case errors.Is(err, context.DeadlineExceeded):
						cancelled++
					default:
						t.Errorf("%s should succeed or end by its ctx, got %v", how, err)
					}
					mu.Unlock()
				}
			})
		}
	}
	for i := range n {
		put(t, putter, i)
		if i%8 == 0 {
			pause(rand.N(time.Millisecond), nil)
		}
	}
	redistest.Eventually(t, soon, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(got) < n {
			return fmt.Errorf("of %d items %d came back, State is %+v", n, len(got), countsOf(state(t, putter)))
		}
		return nil
	})
	end()
	slices.Sort(got)
	for i, v := range got {
		if v != i {
			t.Fatalf("each item should be taken once, got %v", got)
		}
	}
	wantEmpty(t, putter)
	t.Logf("%d calls gave up", cancelled)
	awaitCounts(t, putter, counts{})
	remove(t, putter)
	noLeaks(t, s, name)
}

// With one taker that gives up there is nobody else to take the item meanwhile,
// so what it had in hand comes back in its place.
func TestWhatACancelledGetHadInHandComesBackInOrder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		load(t, s.Client(t)) // a command that has to be sent again is overtaken
		putter, q := newQueue[int](t, s.Client(t), name, nil), newQueue[int](t, s.Client(t), name, nil)
		for range 4 {
			many := begin(t, func(ctx ctxT) ([]int, error) { return q.GetMany(ctx, 2) })
			one := begin(t, q.Get)
			pause(rand.N(time.Millisecond), nil)
			putting := beginErr(t, func(ctx ctxT) error { _, err := putter.PutMany(ctx, []int{1, 2, 3, 4}); return err })
			pause(rand.N(time.Millisecond), nil)
			many.cancel()
			one.cancel()
			putting.returns(t, "PutMany")
			await(t, many.over, "the end of GetMany")
			await(t, one.over, "the end of Get")
			taken := append([]int{}, many.v...)
			if one.err == nil {
				taken = append(taken, one.v)
			}
			// By the same process: another one could take the rest while this one still
			// has something in hand.
			var left []int
			for len(taken)+len(left) < 4 {
				more, err := q.GetMany(soonCtx(t), 4)
				if err != nil {
					t.Fatalf("each item should be taken or left, taken were %v, left are %v, then %v", taken, left, err)
				}
				left = append(left, more...)
			}
			if !slices.IsSorted(left) {
				t.Fatalf("what comes back should be in order, taken were %v, left are %v", taken, left)
			}
			all := append(taken, left...)
			slices.Sort(all)
			if !slices.Equal(all, []int{1, 2, 3, 4}) {
				t.Fatalf("each item should be taken or left, taken were %v, left are %v", taken, left)
			}
		}
		remove(t, putter)
		noLeaks(t, s, name)
	})
}

func TestHoweverManyWaitOneConnectionOfTheProcessBlocks(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, !s.Clients, "no CLIENT LIST")
		name := redistest.Name(t)
		client := s.Client(t)
		var heard journal
		const each = 50
		for range each { // a handle each
			opts := &redisqueue.Options{TTL: time.Minute, Observe: heard.note}
			begin(t, newQueue[int](t, client, name, opts).Get)
		}
		for range each {
			beginReceive(t, newQueue[int](t, client, name+"2", &redisqueue.Options{TTL: time.Minute, Observe: heard.note}))
		}
		heard.awaitKind(t, redisqueue.Waiting, 2*each)
		blocking := func() (n int, all []redistest.Conn) {
			all = s.Conns(t)
			for _, c := range all {
				if c.Last == "blpop" || c.Last == "blmove" {
					n++
				}
			}
			return n, all
		}
		redistest.Eventually(t, soon, func() error {
			if n, all := blocking(); n != 2 {
				return fmt.Errorf("two queues should have two connections that block, got %d of %+v", n, all)
			}
			return nil
		})
		// Besides the client's own for the first look of each handle there are a private
		// one and a subscription; for a moment after many calls, two. (A cluster's client
		// looks at its nodes as well.)
		redistest.Eventually(t, soon, func() error {
			pooled := int(client.PoolStats().TotalConns)
			if _, all := blocking(); !s.Cluster && len(all) > pooled+4 {
				return fmt.Errorf("so few connections should do for %d waits: %d, got %+v", 2*each, pooled+4, all)
			}
			return nil
		})
		put(t, newQueue[int](t, s.Client(t), name, nil), 1, 2, 3)
		redistest.Eventually(t, soon, func() error {
			if n, all := blocking(); n != 2 {
				return fmt.Errorf("after some items two connections should block, got %d of %+v", n, all)
			}
			return nil
		})
	})
}
