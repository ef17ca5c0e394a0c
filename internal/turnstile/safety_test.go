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

// process is what one process knows of one lock, or of a semaphore with one
// permit.
type process struct {
	t     *testing.T
	line  *Line
	terms *Terms
}

// eachKind runs a test of what lock and semaphore have in common with both.
func eachKind(t *testing.T, test func(t *testing.T, k site)) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, site{kind}) })
	}
}

// bubble is eachKind in a bubble.
func bubble(t *testing.T, test func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis)) {
	eachKind(t, func(t *testing.T, k site) {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) { test(t, k, client, m) })
	})
}

// site is one kind of what is waited for.
type site struct{ kind string }

func (k site) key(name string) string { return "mh1:" + k.kind + ":{" + name + "}" }

// left is what the server leaves of the turn under way.
func (k site) left(m *miniredis.Miniredis, name string) time.Duration {
	if k.kind == keyspace.Lock {
		return m.TTL(k.key(name))
	}
	members, err := m.SortedSet(k.key(name))
	if err != nil {
		return 0
	}
	for _, at := range members {
		return time.Until(time.UnixMicro(int64(at)))
	}
	return 0
}

func (k site) newProcess(t *testing.T, client redis.UniversalClient, name string, ttl time.Duration) *process {
	t.Helper()
	object, err := keyspace.New(k.kind, "", name)
	if err != nil {
		t.Fatal(err)
	}
	h := hub.Use(client, nil)
	p := &process{t: t, line: Open(h, object), terms: &Terms{
		Terms: lease.Terms{TTL: ttl, Margin: max(ttl/100, 5*time.Millisecond)}, Handoffs: 64,
	}}
	if k.kind == keyspace.Semaphore {
		p.terms.Limit = NewLimit(1, Refuse)
	}
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

// breaks revokes a turn of another process.
func (p *process) breaks(h *Hold) error {
	if p.terms.Limit != nil {
		return p.line.BreakPermit(context.Background(), h.ID())
	}
	return p.line.Break(context.Background(), h.Token())
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
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := k.newProcess(t, client, "x", 10*time.Second)
		b := k.newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 10*time.Second)
		first := a.acquire()
		result := b.wait(t.Context())

		late := w.HoldMessage("grant")
		release(t, first)
		late.Await(t)
		time.Sleep(1500 * time.Millisecond)
		late.Release()

		h := got(t, result)
		trust, server := time.Until(h.Deadline()), k.left(m, "x")
		if trust <= 0 || trust > server {
			t.Errorf("the grant is trusted for %v, and the server keeps it for %v", trust, server)
		}
		release(t, h)
	})
}

// Point 2. A place that nobody listens for is passed over at once, and keeps
// its number.
func TestUnreachablePlaceIsPassedOverAndKept(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := k.newProcess(t, client, "x", time.Minute)
		b := k.newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		c := k.newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
		d := k.newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
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
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := k.newProcess(t, client, "x", time.Minute)
		b := k.newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		c := k.newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
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
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		b := k.newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		late := w.HoldCommand(redistest.All(redistest.Is("eval"), redistest.Has(kinds[k.kind].joinScript.Source)))
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := b.line.Acquire(ctx, b.terms)
			result <- err
		}()
		late.Await(t)
		late.Hangup()
		cleaned := w.Watch(redistest.Has(kinds[k.kind].releaseScript.Source))
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Fatalf("Acquire returned %v, want context.Canceled", err)
		}
		cleaned.AwaitReply(t)
		late.Release()
		late.AwaitReply(t)
		for _, key := range []string{k.key("x"), k.key("x") + ":line", k.key("x") + ":places"} {
			if m.Exists(key) {
				t.Errorf("%s is there: a command that came late took the lock for nobody", key)
			}
		}
	})
}

// Point 4. A grant for a ticket that does not wait is given back.
func TestStrayGrantIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		a := k.newProcess(t, client, "x", time.Minute)
		held := a.acquire()
		b := k.newProcess(t, redistest.BubbleClient(t, m), "x", time.Minute)
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
		if m.Exists(k.key("x")) {
			t.Errorf("the lock is still held by %s, for which nobody waits", stolen.ticket)
		}
		release(t, got(t, result)) // its check says "unknown", and it joins anew
	})
}

// Point 5. The reply to a release is lost and somebody else has the lock when
// it is repeated: that is success, not loss.
func TestRepeatedReleaseIsNoLoss(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a := k.newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", time.Minute)
		b := k.newProcess(t, client, "x", time.Minute)
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
	eachKind(t, func(t *testing.T, k site) {
		s := redistest.StartOwn(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
		clientA, clientB := s.Client(t), s.Client(t)
		a := k.newProcess(t, clientA, "x", time.Minute)
		b := k.newProcess(t, clientB, "x", time.Minute)
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
		// A permit is extended with a command that full memory refuses by itself.
		if renewed, err := held.renewNow(t); !renewed || err != nil || !k.longer(t, clientA, "x") {
			t.Fatalf("with full memory a lease should be renewed, got %v, %v", renewed, err)
		}
		release(t, held)
		h := got(t, result)
		if renewed, err := h.renewNow(t); !renewed || err != nil || !k.longer(t, clientA, "x") {
			t.Fatalf("with full memory what was handed over should be renewed, got %v, %v", renewed, err)
		}
		release(t, h)
	})
}

// longer says that the server keeps the turn for longer than its TTL of a minute.
func (k site) longer(t *testing.T, client redis.UniversalClient, name string) bool {
	if k.kind == keyspace.Lock {
		return client.PTTL(t.Context(), k.key(name)).Val() > 2*time.Minute
	}
	all := client.ZRangeWithScores(t.Context(), k.key(name), 0, -1).Val()
	return len(all) == 1 && time.Until(time.UnixMicro(int64(all[0].Score))) > 2*time.Minute
}

// renewNow renews the turn for an hour, which does change its end.
func (h *Hold) renewNow(t *testing.T) (bool, error) {
	l := h.grant.line
	r, err := l.hub.Do(t.Context(), &hub.Call{
		Script: l.renewScript, Keys: l.keys, Boxed: l.boxed,
		Args: []any{h.grant.ticket, ms(time.Hour), number(h.token), ""},
	})
	if err != nil {
		return false, err
	}
	v, err := decodeRenew(r.Value)
	return v.ok, err
}

// Point 7. Break tells the holder before anybody else gets the lock.
func TestBreakNeverMakesASecondHolder(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		a := k.newProcess(t, client, "x", 3*time.Second)
		b := k.newProcess(t, redistest.BubbleClient(t, m), "x", 3*time.Second)
		c := k.newProcess(t, redistest.BubbleClient(t, m), "x", 3*time.Second)
		held := a.acquire()
		result := b.wait(t.Context())
		broken := make(chan error, 1)
		start := time.Now()
		go func() { broken <- c.breaks(held) }()
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

// A renewal that comes late, after its lease has ended or was given back, makes
// no holder.
func TestARenewalMakesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		a := k.newProcess(t, client, "x", 3*time.Second)
		held := a.acquire()
		release(t, held)
		if renewed, err := held.renewNow(t); renewed || err != nil {
			t.Errorf("what was released should not be renewed, got %v, %v", renewed, err)
		}
		if m.Exists(k.key("x")) {
			t.Error("a late renewal has made a holder")
		}
		a.terms.NoRenew = true
		held = a.acquire()
		time.Sleep(4 * time.Second)
		if renewed, err := held.renewNow(t); renewed || err != nil {
			t.Errorf("what has ended should not be renewed, got %v, %v", renewed, err)
		}
		release(t, a.acquire())
	})
}
