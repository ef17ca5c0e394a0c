package redisqueue_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func TestAnAcknowledgedItemIsGone(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, unhurried), newQueue[int](t, s.Client(t), name, unhurried)
		put(t, other, 1, 2, 3)
		a := wantReceived(t, q, 1, 1)
		b := wantReceived(t, other, 2, 1)
		wantCounts(t, q, counts{waiting: 1, claimed: 2})
		ack(t, a)
		await(t, a.Done(), "Done of an acknowledged delivery")
		for what, err := range map[string]error{"Err": a.Err(), "Ack": a.Ack(soonCtx(t)), "Nack": a.Nack(soonCtx(t), 0)} {
			wantErr(t, what+" after Ack", err, redisqueue.ErrReleased)
		}
		wantHeld(t, b)
		wantCounts(t, q, counts{waiting: 1, claimed: 1})
		ack(t, b)
		ack(t, wantReceived(t, q, 3, 1))
		wantCounts(t, q, counts{})
		wantEmpty(t, q)
		redistest.NoLeaks(t, s, name, lasting...)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestReceiveWaitsForAnItem(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
		other := newQueue[int](t, s.Client(t), name, unhurried)
		var waiters []*call[*redisqueue.Delivery[int]]
		for range 5 {
			waiters = append(waiters, beginReceive(t, q))
		}
		heard.awaitKind(t, redisqueue.Waiting, 5)
		for i := range 5 {
			put(t, other, i)
		}
		seen := map[int]bool{}
		for _, w := range waiters {
			d := w.returns(t, "Receive")
			seen[d.Value()] = true
			ack(t, d)
		}
		if len(seen) != 5 {
			t.Errorf("five that wait should receive five items, got %v", seen)
		}
		wantCounts(t, q, counts{})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestWhatIsGivenBackComesFirstAndCounts(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, unhurried), newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1, 2, 3)
		a := wantReceived(t, q, 1, 1)
		id := a.ID()
		nack(t, a, 0)
		for what, err := range map[string]error{"Err": a.Err(), "Ack": a.Ack(soonCtx(t)), "Nack": a.Nack(soonCtx(t), 0)} {
			wantErr(t, what+" after Nack", err, redisqueue.ErrReleased)
		}
		wantCounts(t, q, counts{waiting: 3})
		a = wantReceived(t, other, 1, 2)
		if a.ID() != id || id == "" {
			t.Errorf("the id should be the same in each delivery, it was %q and is %q", id, a.ID())
		}
		nack(t, a, -time.Second) // as good as none
		a = wantReceived(t, q, 1, 3)
		b := wantReceived(t, q, 2, 1)
		if b.ID() == id || b.ID() == "" {
			t.Errorf("each item should have an id of its own, got %q and %q", id, b.ID())
		}
		ack(t, a)
		ack(t, b)
		wantGot(t, other, 3)
		wantCounts(t, q, counts{})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// Get and Receive may be mixed: whoever gives back, gives back to both.
func TestGetTakesWhatWasGivenBack(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, unhurried)
		getter := newQueue[int](t, s.Client(t), name, &redisqueue.Options{Observe: heard.note})
		put(t, q, 1)
		d := receive(t, q)
		waiter := begin(t, getter.Get)
		heard.awaitKind(t, redisqueue.Waiting, 1)
		nack(t, d, 0)
		if v := waiter.returns(t, "Get"); v != 1 {
			t.Errorf("Get should take what was given back, got %v", v)
		}
		put(t, q, 2)
		wantGot(t, getter, 2)
		wantCounts(t, q, counts{})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestADelayedItemWaitsUntilItIsDue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, unhurried), newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1, 2)
		const delay = 300 * time.Millisecond
		for what, take := range map[string]func() int{
			"Get": func() int { return get(t, other) },
			"Receive": func() int {
				d := receive(t, other)
				ack(t, d)
				return d.Value()
			},
			"Receive in the same process": func() int {
				d := receive(t, q)
				ack(t, d)
				return d.Value()
			},
		} {
			d := receive(t, q)
			first := d.Value()
			start := time.Now()
			nack(t, d, delay)
			wantCounts(t, q, counts{waiting: 1, delayed: 1})
			if v := take(); v == first {
				t.Errorf("%s should take the other item before the delayed one is due", what)
			}
			if v := take(); v != first {
				t.Errorf("%s should take the delayed item %d, got %d", what, first, v)
			}
			if after := time.Since(start); after < delay || after > delay+soon/2 {
				t.Errorf("%s should get the delayed item after %v, got it after %v", what, delay, after)
			}
			put(t, q, 1, 2)
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestAnItemThatWasDeliveredOftenEnoughIsADeadLetter(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, MaxDeliveries: 3, Observe: heard.note})
		put(t, q, 1, 2)
		nack(t, wantReceived(t, q, 1, 1), 0)
		nack(t, wantReceived(t, q, 1, 2), time.Millisecond)
		awaitCounts(t, q, counts{waiting: 2})
		first, second := receive(t, q), receive(t, q)
		if first.Value() == 2 {
			first, second = second, first
		}
		if first.Attempt() != 3 {
			t.Fatalf("the item should be delivered for the 3. time, got %d", first.Attempt())
		}
		nack(t, first, time.Hour)
		awaitCounts(t, q, counts{claimed: 1, dead: 1})
		heard.awaitKind(t, redisqueue.Buried, 1)
		ack(t, second)
		wantCounts(t, q, counts{dead: 1})
		wantEmpty(t, q)
		// It counts as finished.
		if err := q.Join(soonCtx(t)); err != nil {
			t.Errorf("Join should not wait for dead letters, got %v", err)
		}
		remove(t, q)
		wantCounts(t, q, counts{})
		noLeaks(t, s, name)
	})
}

func TestALiveConsumerKeepsItsItems(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const ttl = 2 * time.Second // a busy machine must not keep renewals back for so long
		name := redistest.Name(t)
		opts := &redisqueue.Options{TTL: ttl}
		q, other := newQueue[int](t, s.Client(t), name, opts), newQueue[int](t, s.Client(t), name, opts)
		put(t, q, 1)
		d := receive(t, q)
		waiter := beginReceive(t, other) // sweeps what is dead
		<-time.NewTimer(3 * ttl).C
		wantHeld(t, d)
		waiter.wantWaiting(t, "Receive while the item is held")
		wantCounts(t, q, counts{claimed: 1})
		ack(t, d)
		put(t, q, 2)
		d = waiter.returns(t, "Receive")
		if d.Value() != 2 || d.Attempt() != 1 {
			t.Errorf("only the second item should come, got %v for the %d. time", d.Value(), d.Attempt())
		}
		ack(t, d)
		remove(t, q)
	})
}

// A consumer that cannot reach Redis is told before anybody else can have the
// item.
func TestAConsumerBehindASilentPartitionIsToldBeforeTheItemComesAgain(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		var heard journal
		opts := &redisqueue.Options{TTL: short, Observe: heard.note}
		q, other := newQueue[int](t, s.Client(t, w.Through), name, opts), newQueue[int](t, s.Client(t), name, opts)
		put(t, other, 1, 2, 3)
		mine := []*redisqueue.Delivery[int]{wantReceived(t, q, 1, 1), wantReceived(t, q, 2, 1), wantReceived(t, q, 3, 1)}
		ctx, cancel := mine[0].Context(context.Background())
		defer cancel()
		w.Partition()
		for i := range 3 { // in their order
			again := wantReceived(t, other, i+1, 2)
			for _, d := range mine {
				wantErr(t, "Err, when the item has come again,", d.Err(), redisqueue.ErrLost)
			}
			ack(t, again)
		}
		heard.awaitKind(t, redisqueue.Lost, 3)
		heard.awaitKind(t, redisqueue.Swept, 1)
		for _, d := range mine {
			wantLost(t, d)
		}
		await(t, ctx.Done(), "the end of the context of a lost delivery")
		wantErr(t, "its cause", context.Cause(ctx), redisqueue.ErrLost)
		w.Heal()
		put(t, other, 4)
		ack(t, wantReceived(t, q, 4, 1))
		awaitCounts(t, other, counts{})
		remove(t, other)
	})
}

func TestTheContextOfADeliveryEndsWithIt(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1)
		d := receive(t, q)
		type key struct{}
		parent, end := context.WithCancel(context.WithValue(context.Background(), key{}, "v"))
		ctx, cancel := d.Context(parent)
		defer cancel()
		if ctx.Err() != nil || ctx.Value(key{}) != "v" {
			t.Fatalf("the context should stand and carry its parent's values, got %v, %v", ctx.Err(), ctx.Value(key{}))
		}
		other, cancelOther := d.Context(context.Background())
		defer cancelOther()
		end()
		await(t, ctx.Done(), "the end of a context whose parent ended")
		if other.Err() != nil {
			t.Error("the context of another parent should stand")
		}
		ack(t, d)
		await(t, other.Done(), "the end of a context whose delivery ended")
		wantErr(t, "its cause", context.Cause(other), redisqueue.ErrReleased)
		late, cancelLate := d.Context(context.Background())
		defer cancelLate()
		wantErr(t, "the cause of a context made later", context.Cause(late), redisqueue.ErrReleased)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// The ctx of Ack carries values only.
func TestAckIgnoresTheEndOfItsCtx(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		d := receive(t, q)
		if err := d.Nack(ctx, 0); err != nil {
			t.Errorf("Nack with an ended ctx should return nil, got %v", err)
		}
		if err := wantReceived(t, q, 1, 2).Ack(ctx); err != nil {
			t.Errorf("Ack with an ended ctx should return nil, got %v", err)
		}
		wantCounts(t, q, counts{})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestADroppedDeliveryGivesItsItemBack(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		// A heartbeat sees to it, not the end of the TTL.
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: 3 * time.Second})
		put(t, q, 1)
		start := time.Now()
		func() {
			if _, err := q.Receive(soonCtx(t)); err != nil {
				t.Fatal(err)
			}
		}()
		redistest.Eventually(t, soon, func() error {
			runtime.GC()
			if s := state(t, q); s.Waiting != 1 || s.Claimed != 0 {
				return errors.New("a delivery that nobody knows any more should give its item back")
			}
			return nil
		})
		t.Logf("it came back after %v", time.Since(start))
		ack(t, wantReceived(t, q, 1, 2))
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// An item that somebody holds is not given back by the garbage collector,
// however often it comes along.
func TestAHeldDeliveryIsNotGivenBack(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		q := newQueue[int](t, s.Client(t), redistest.Name(t), unhurried)
		put(t, q, 1)
		d := receive(t, q)
		for range 10 {
			runtime.GC()
			wantCounts(t, q, counts{claimed: 1})
		}
		ack(t, d)
		remove(t, q)
	})
}
