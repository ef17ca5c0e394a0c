package redisqueue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func shutdown[T any](t testing.TB, q *redisqueue.Queue[T]) {
	t.Helper()
	if err := q.Shutdown(soonCtx(t)); err != nil {
		t.Fatalf("Shutdown should succeed, got %v", err)
	}
}

func TestShutdownEndsWhoWaitsWithin100ms(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		took := map[string][]time.Duration{}
		for round := range 3 {
			q := newQueue[int](t, s.Client(t), name, bounded(1))
			put(t, q, 0)
			opts := bounded(1)
			opts.Observe = heard.note
			empty := newQueue[int](t, s.Client(t), name+"empty", opts)
			other := newQueue[int](t, s.Client(t), name+"empty", opts)
			waits := map[string][]*call[struct{}]{}
			add := func(what string, c *call[struct{}]) { waits[what] = append(waits[what], c) }
			for _, q := range []*redisqueue.Queue[int]{empty, other} {
				for range 3 {
					add("Get", beginErr(t, func(ctx ctxT) error { _, err := q.Get(ctx); return err }))
					add("GetMany", beginErr(t, func(ctx ctxT) error { _, err := q.GetMany(ctx, 2); return err }))
					add("Receive", beginErr(t, func(ctx ctxT) error { _, err := q.Receive(ctx); return err }))
				}
			}
			heard.awaitKind(t, redisqueue.Waiting, (round+1)*18)
			for range 3 {
				add("Put", beginPut(t, q, 1))
				add("Put", beginPut(t, newQueue[int](t, s.Client(t), name, bounded(1)), 2))
			}
			awaitCounts(t, q, counts{waiting: 1, parked: 6})

			start := time.Now()
			shutdown(t, newQueue[int](t, s.Client(t), name, bounded(1)))
			for _, c := range waits["Put"] {
				wantOnly(t, "a Put that waits for room", c.fails(t, "Put"), redisqueue.ErrShutdown)
				took["Put"] = append(took["Put"], time.Since(start))
			}
			start = time.Now()
			shutdown(t, newQueue[int](t, s.Client(t), name+"empty", bounded(1)))
			for _, what := range []string{"Get", "GetMany", "Receive"} {
				for _, c := range waits[what] {
					wantOnly(t, what+" of an empty queue", c.fails(t, what), redisqueue.ErrShutdown)
					took[what] = append(took[what], time.Since(start))
				}
			}
			wantGot(t, q, 0) // and none of those who waited for room
			wantCounts(t, q, counts{})
			remove(t, q)
			remove(t, empty)
		}
		limit := 100 * time.Millisecond
		if !s.Clients {
			limit = 500 * time.Millisecond // a slice, without CLIENT UNBLOCK
		}
		for what, all := range took {
			fast(t, what+", when the queue is shut down,", limit, all)
		}
		noLeaks(t, s, name)
	})
}

func TestAfterShutdownTheQueueIsDrained(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, unhurried), newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1, 2, 3, 4)
		if state(t, q).Shutdown {
			t.Error("State should not tell of a Shutdown before there is one")
		}
		shutdown(t, q)
		shutdown(t, other) // twice is harmless
		for what, err := range map[string]error{
			"Put":     other.Put(soonCtx(t), 5),
			"TryPut":  other.TryPut(soonCtx(t), 5),
			"PutMany": func() error { _, err := q.PutMany(soonCtx(t), []int{5, 6}); return err }(),
		} {
			wantOnly(t, what+" after Shutdown", err, redisqueue.ErrShutdown)
		}
		if !state(t, other).Shutdown {
			t.Error("State should tell of the Shutdown")
		}
		wantGot(t, other, 1)
		if v, err := q.TryGet(soonCtx(t)); v != 2 || err != nil {
			t.Errorf("TryGet should go on after Shutdown, got %v, %v", v, err)
		}
		ack(t, wantReceived(t, other, 3, 1))
		if all, err := q.GetMany(soonCtx(t), 10); len(all) != 1 || err != nil {
			t.Errorf("GetMany should go on after Shutdown, got %v, %v", all, err)
		}
		for _, q := range []*redisqueue.Queue[int]{q, other} {
			for what, call := range calls() {
				switch what {
				case "Get", "TryGet", "GetMany", "Receive":
					wantOnly(t, what+" when the queue is drained", call(soonCtx(t), q), redisqueue.ErrShutdown)
				}
			}
		}
		wantCounts(t, q, counts{})
		// The mark stays, whoever comes.
		wantOnly(t, "Put after Shutdown", newQueue[int](t, s.Client(t), name, unhurried).Put(soonCtx(t), 1), redisqueue.ErrShutdown)
		remove(t, q)
		put(t, other, 7)
		wantGot(t, q, 7)
		wantEmpty(t, q)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// Receive ends only when nothing can come back any more.
func TestReceiveAfterShutdownWaitsForWhatOthersHold(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		opts := &redisqueue.Options{TTL: time.Minute, Observe: heard.note}
		q, other := newQueue[int](t, s.Client(t), name, opts), newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1)
		d := wantReceived(t, other, 1, 1)
		shutdown(t, other)
		waiter := beginReceive(t, q)
		heard.awaitKind(t, redisqueue.Waiting, 1)
		waiter.wantWaiting(t, "Receive while an item is claimed")
		nack(t, d, 200*time.Millisecond)
		waiter.wantWaiting(t, "Receive while an item is delayed")
		d = waiter.returns(t, "Receive when the item is due")
		if d.Attempt() != 2 {
			t.Errorf("the item should come for the 2. time, got %d", d.Attempt())
		}
		more := beginReceive(t, q)
		theirs := beginReceive(t, other)
		heard.awaitKind(t, redisqueue.Waiting, 2)
		more.wantWaiting(t, "Receive while the item is claimed again")
		ack(t, d)
		wantOnly(t, "Receive when all is done", more.fails(t, "Receive"), redisqueue.ErrShutdown)
		wantOnly(t, "Receive in another process", theirs.fails(t, "Receive"), redisqueue.ErrShutdown)
		if more.took > soon/2 || theirs.took > soon/2 {
			t.Errorf("Receive should end when the last item is done, it took %v and %v", more.took, theirs.took)
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// Who waits next, after all others have given up, has not heard the news.
func TestWhoComesLaterHearsOfTheShutdownAtOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
		other := newQueue[int](t, s.Client(t), name, unhurried)
		var took []time.Duration
		for i := range 7 {
			put(t, other, 1)
			d := receive(t, other)
			shutdown(t, other)
			first := beginReceive(t, q)
			heard.awaitKind(t, redisqueue.Waiting, i+1)
			first.cancel()
			await(t, first.over, "the end of Receive")
			ack(t, d)
			start := time.Now()
			_, err := q.Receive(soonCtx(t))
			wantOnly(t, "Receive of what is drained", err, redisqueue.ErrShutdown)
			took = append(took, time.Since(start))
			remove(t, other)
		}
		// Where there is no CLIENT UNBLOCK, at the end of the slice.
		fast(t, "Receive of what is drained", 500*time.Millisecond, took)
		noLeaks(t, s, name)
	})
}

func TestACrashDuringTheDrainLosesNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		opts := &redisqueue.Options{TTL: short}
		q, dies := newQueue[int](t, s.Client(t), name, opts), newQueue[int](t, s.Client(t, w.Through), name, opts)
		put(t, q, 1, 2)
		wantReceived(t, dies, 1, 1)
		shutdown(t, q)
		w.Down()
		var got []int
		for {
			d, err := q.Receive(soonCtx(t))
			if errors.Is(err, redisqueue.ErrShutdown) {
				break
			}
			if err != nil {
				t.Fatalf("Receive should succeed until all is done, got %v", err)
			}
			got = append(got, d.Value())
			ack(t, d)
		}
		if len(got) != 2 || got[0] != 2 || got[1] != 1 {
			t.Errorf("the item of the dead consumer should come again before the end, got %v", got)
		}
		remove(t, q)
	})
}

func TestDeleteMakesTheNameNew(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		opts := &redisqueue.Options{TTL: time.Minute, MaxSize: 3, MaxDeliveries: 1}
		q, other := newQueue[int](t, s.Client(t), name, opts), newQueue[int](t, s.Client(t), name, opts)
		put(t, q, 1, 2, 3)
		nack(t, receive(t, q), 0) // dead
		put(t, q, 4)
		d, theirs := receive(t, q), receive(t, other)
		put(t, q, 5, 6)
		parked := beginPut(t, q, 7)
		awaitCounts(t, q, counts{waiting: 3, parked: 1, claimed: 2, dead: 1})
		remove(t, newQueue[int](t, s.Client(t), name, nil)) // however it was opened
		wantCounts(t, q, counts{})
		for _, d := range []*delivery{d, theirs} {
			wantErr(t, "Ack of what was deleted", d.Ack(soonCtx(t)), redisqueue.ErrLost)
		}
		await(t, parked.over, "the end of a Put whose queue was deleted")
		// It may have been put into the new queue, or gone with the old.
		t.Logf("the Put that waited returned %v", parked.err)
		drain(t, q)
		remove(t, q)

		// Another size, another codec: nothing is known of the old queue.
		fresh := newQueue[string](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, MaxSize: 1, Observe: heard.note})
		waiter := begin(t, fresh.Get)
		heard.awaitKind(t, redisqueue.Waiting, 1)
		remove(t, q) // nothing is there, and who waits goes on
		waiter.wantWaiting(t, "Get when the queue is deleted")
		put(t, newQueue[string](t, s.Client(t), name, bounded(1)), "new")
		if v := waiter.returns(t, "Get"); v != "new" {
			t.Errorf("Get should return what was put after Delete, got %q", v)
		}
		shutdown(t, fresh)
		remove(t, fresh)
		put(t, fresh, "again")
		wantGot(t, fresh, "again")
		remove(t, fresh)
		noLeaks(t, s, name)
	})
}

// The queue looks drained while an item is on its way to a Get: that must not
// end it, or nobody would be left to take the item when it goes back.
func TestAGetWhoseItemIsOnItsWayDoesNotSayThatTheQueueIsDrained(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for range 3 {
			held := s.w.HoldReply(redistest.Is("BLPOP"))
			blocked := s.w.Counts()["BLPOP"]
			waiter := begin(t, s.mine.Get)
			redistest.EventuallyTrue(t, soon, "BLPOP is sent", func() bool { return s.w.Counts()["BLPOP"] > blocked })
			put(t, s.other, 1)
			held.Await(t)
			asked := s.w.Watch(script(t, "take"))
			shutdown(t, s.other)
			asked.AwaitReply(t) // it has heard the news, and asks
			pause(20*time.Millisecond, waiter.over)
			waiter.wantWaiting(t, "Get whose item is on its way")
			held.Release()
			if v := waiter.returns(t, "Get"); v != 1 {
				t.Errorf("Get should return 1, got %d", v)
			}
			remove(t, s.other)
		}
	})
}

// What was on its way to a Get that gave up counts as taken meanwhile: Join does not
// wait for it, and the queue looks drained. It is not lost.
func TestWhatComesBackAfterTheEndStaysInTheQueue(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 1, 2)
		wantGot(t, s.mine, 1)
		held := s.w.HoldReply(script(t, "take"))
		getting := begin(t, s.mine.Get)
		held.Await(t)
		shutdown(t, s.other)
		if err := s.other.Join(soonCtx(t)); err != nil {
			t.Errorf("Join should return, got %v", err)
		}
		_, err := s.other.Get(soonCtx(t))
		wantErr(t, "Get of a queue that looks drained", err, redisqueue.ErrShutdown)
		getting.cancel()
		wantErr(t, "a cancelled Get", getting.fails(t, "Get"), errCanceled)
		held.Release()
		awaitCounts(t, s.other, counts{waiting: 1})
		wantGot(t, s.other, 2)
	})
}
