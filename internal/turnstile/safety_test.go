package turnstile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
	"github.com/multihost/multihost/internal/lease"
	"github.com/multihost/multihost/internal/redistest"
)

// One test for each of the seven points of the package doc that make the
// hand-over safe. mutants_test.go takes each point's code out and shows that
// its test fails then.

func TestMain(m *testing.M) { redistest.Main(m) }

// process is what one process knows of one lock.
type process struct {
	t     *testing.T
	line  *Line
	terms *Terms
}

func newProcess(t *testing.T, client redis.UniversalClient, name string, ttl time.Duration) *process {
	t.Helper()
	object, err := keyspace.New(keyspace.Lock, "", name)
	if err != nil {
		t.Fatal(err)
	}
	h := hub.Use(client, nil)
	p := &process{t: t, line: Open(h, object), terms: &Terms{
		Terms: lease.Terms{TTL: ttl, Margin: max(ttl/100, 5*time.Millisecond)}, Handoffs: 64,
	}}
	t.Cleanup(func() {
		p.line.Close()
		h.Done()
	})
	return p
}

func (p *process) acquire() *Hold {
	p.t.Helper()
	h, err := p.line.Acquire(context.Background(), p.terms)
	if err != nil {
		p.t.Fatalf("Acquire: %v", err)
	}
	return h
}

// wait begins to acquire and returns once the process stands in line and can be
// reached.
func (p *process) wait(ctx context.Context) <-chan outcome {
	p.t.Helper()
	result := make(chan outcome, 1)
	go func() {
		h, err := p.line.Acquire(ctx, p.terms)
		result <- outcome{h, err}
	}()
	redistest.EventuallyTrue(p.t, 10*time.Second, "the process stands in line and listens", func() bool {
		p.line.mu.Lock()
		defer p.line.mu.Unlock()
		pl := p.line.place
		if pl == nil || !pl.standing || pl.calling {
			return false
		}
		p.line.inbox.mu.Lock()
		defer p.line.inbox.mu.Unlock()
		return !p.line.inbox.confirmed.IsZero()
	})
	return result
}

func got(t *testing.T, result <-chan outcome) *Hold {
	t.Helper()
	select {
	case o := <-result:
		if o.err != nil {
			t.Fatalf("Acquire: %v", o.err)
		}
		return o.hold
	case <-time.After(time.Minute):
		t.Fatal("Acquire still waits after a minute")
		return nil
	}
}

func release(t *testing.T, h *Hold) {
	t.Helper()
	if err := h.Release(context.Background()); err != nil {
		t.Fatalf("Release: %v", err)
	}
}

// Point 1. A grant that lay unread for a second and a half is trusted no
// longer than the server keeps it.
func TestTrustInAHandedOverGrantEndsBeforeTheServersLease(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := newProcess(t, client, "x", 10*time.Second)
		b := newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 10*time.Second)
		first := a.acquire()
		result := b.wait(t.Context())

		late := w.HoldMessage("grant")
		release(t, first)
		late.Await(t)
		time.Sleep(1500 * time.Millisecond)
		late.Release()

		h := got(t, result)
		trust, server := time.Until(h.Deadline()), m.TTL("mh1:lock:{x}")
		if trust <= 0 || trust > server {
			t.Errorf("the grant is trusted for %v, and the server keeps it for %v", trust, server)
		}
		release(t, h)
	})
}

// Point 2. A place that nobody listens for is passed over at once, and keeps
// its number.
func TestUnreachablePlaceIsPassedOverAndKept(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := newProcess(t, client, "x", time.Minute)
		b := newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		c := newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
		d := newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
		held := a.acquire()
		forB := b.wait(t.Context())
		forC := c.wait(t.Context())
		forD := d.wait(t.Context())

		w.Down()
		synctest.Wait()
		start := time.Now()
		release(t, held)
		h := got(t, forC)
		if wait := time.Since(start); wait > time.Second {
			t.Errorf("behind a place that nobody listens for, the hand-over took %v", wait)
		}

		w.Up()
		redistest.EventuallyTrue(t, 10*time.Second, "the place can be reached again", func() bool {
			return w.PubSubConns() == 1
		})
		synctest.Wait()
		release(t, h)
		release(t, got(t, forB)) // not d: b came before
		release(t, got(t, forD))
	})
}

// Point 3. A waiter that looks alive and is not holds the others up for no more
// than three seconds, whatever its TTL.
func TestAnOfferLastsThreeSeconds(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := newProcess(t, client, "x", time.Minute)
		b := newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		c := newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
		held := a.acquire()
		forB := b.wait(t.Context())
		forC := c.wait(t.Context())

		w.Partition() // b's machine hangs; its connections stay open
		start := time.Now()
		release(t, held)
		h := got(t, forC)
		if wait := time.Since(start); wait < 2*time.Second || wait > 3200*time.Millisecond {
			t.Errorf("the next in line got the lock after %v; want it when the offer of 3s to the dead one has ended", wait)
		}
		w.Heal()
		release(t, h)
		release(t, got(t, forB))
	})
}

// Point 4. A join that arrives after its own clean-up does nothing.
func TestJoinThatArrivesAfterItsCleanUpIsRefused(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		b := newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		late := w.HoldCommand(redistest.All(redistest.Is("eval"), redistest.Has(joinLua)))
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := b.line.Acquire(ctx, b.terms)
			result <- err
		}()
		late.Await(t)
		late.Hangup()
		cleaned := w.Watch(redistest.Has(releaseLua))
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Fatalf("Acquire returned %v, want context.Canceled", err)
		}
		cleaned.AwaitReply(t)
		late.Release()
		late.AwaitReply(t)
		for _, key := range []string{"mh1:lock:{x}", "mh1:lock:{x}:line", "mh1:lock:{x}:places"} {
			if m.Exists(key) {
				t.Errorf("%s is there: a command that came late took the lock for nobody", key)
			}
		}
	})
}

// Point 4. A grant for a ticket that does not wait is given back.
func TestStrayGrantIsGivenBack(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		a := newProcess(t, client, "x", time.Minute)
		held := a.acquire()
		b := newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
		result := b.wait(t.Context())
		// The process forgets its place, as if it had been replaced.
		b.line.mu.Lock()
		p := b.line.place
		stolen := *p
		p.ticket = b.line.hub.NewID()
		b.line.mu.Unlock()
		release(t, held)
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		if m.Exists("mh1:lock:{x}") {
			t.Errorf("the lock is still held by %s, for which nobody waits", stolen.ticket)
		}
		release(t, got(t, result)) // its check says "unknown", and it joins anew
	})
}

// Point 5. The reply to a release is lost and somebody else has the lock when
// it is repeated: that is success, not loss.
func TestRepeatedReleaseIsNoLoss(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		b := newProcess(t, client, "x", time.Minute)
		release(t, a.acquire()) // loads the scripts
		held := a.acquire()
		result := b.wait(t.Context())
		lost := w.DropReply(redistest.Has(held.grant.ticket))
		if err := held.Release(t.Context()); err != nil {
			t.Errorf("Release returned %v although it was carried out", err)
		}
		if !lost.Struck() {
			t.Fatal("no reply was lost")
		}
		release(t, got(t, result))
	})
}

// Point 6. With full memory a lock can be given back and handed over.
func TestReleaseWithFullMemory(t *testing.T) {
	s := redistest.StartOwn(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
	clientA, clientB := s.Client(t), s.Client(t)
	a := newProcess(t, clientA, "x", time.Minute)
	b := newProcess(t, clientB, "x", time.Minute)
	a.terms.Handoffs = 3 // several tokens: the unused ones are given back by a SET
	held := a.acquire()
	result := b.wait(t.Context())
	full := false
	for i := 0; i < 1<<20 && !full; i++ {
		err := clientA.RPush(t.Context(), "ballast", make([]byte, 4096)).Err()
		full = err != nil && redis.HasErrorPrefix(err, "OOM")
	}
	if !full {
		t.Fatal("the memory did not fill up")
	}
	release(t, held)
	release(t, got(t, result))
}

// Point 7. Break tells the holder before anybody else gets the lock.
func TestBreakNeverMakesASecondHolder(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		a := newProcess(t, client, "x", 3*time.Second)
		b := newProcess(t, redistest.BubbleClient(t, m), "x", 3*time.Second)
		c := newProcess(t, redistest.BubbleClient(t, m), "x", 3*time.Second)
		held := a.acquire()
		result := b.wait(t.Context())
		broken := make(chan error, 1)
		start := time.Now()
		go func() { broken <- c.line.Break(t.Context(), held.Token()) }()
		h := got(t, result)
		if err := held.Err(); !errors.Is(err, lease.ErrLost) {
			t.Errorf("there are two holders: the one that was broken says %v", err)
		}
		if err := <-broken; err != nil {
			t.Errorf("Break: %v", err)
		}
		if took := time.Since(start); took > time.Second+100*time.Millisecond {
			t.Errorf("Break took %v; want at most a third of the TTL of 3s", took)
		}
		release(t, h)
	})
}
