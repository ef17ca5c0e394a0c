package redisqueue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func join[T any](t testing.TB, q *redisqueue.Queue[T]) {
	t.Helper()
	if err := q.Join(soonCtx(t)); err != nil {
		t.Fatalf("Join of a queue whose items are finished should return nil, got %v", err)
	}
}

// beginJoin calls Join, which should find that it has to wait.
func beginJoin[T any](t testing.TB, q *redisqueue.Queue[T], heard *journal) *call[struct{}] {
	t.Helper()
	before, _ := heard.count(redisqueue.Waiting)
	c := beginErr(t, q.Join)
	heard.awaitKind(t, redisqueue.Waiting, before+1)
	return c
}

func TestJoinWaitsUntilEveryItemIsFinished(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, MaxSize: 2, MaxDeliveries: 2, Observe: heard.note})
		other := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, MaxSize: 2, MaxDeliveries: 2})
		join(t, q)
		put(t, other, 1, 2)
		parked := beginPut(t, other, 3)
		awaitCounts(t, other, counts{waiting: 2, parked: 1})
		joins := []*call[struct{}]{beginJoin(t, q, &heard), beginJoin(t, q, &heard)}
		still := func(while string) {
			t.Helper()
			wantCounts(t, q, countsOf(state(t, other)))
			for _, j := range joins {
				j.wantWaiting(t, "Join while "+while)
			}
		}
		still("items wait")
		d := receive(t, other)
		parked.returns(t, "Put")
		wantGot(t, other, 2, 3)
		still("an item is claimed")
		nack(t, d, time.Second/2)
		wantCounts(t, q, counts{delayed: 1})
		still("an item is delayed")
		joins = append(joins, beginJoin(t, q, &heard))
		d = wantReceived(t, other, 1, 2)
		still("an item is claimed again")
		nack(t, d, 0) // it is dead now
		for _, j := range joins {
			j.returns(t, "Join")
		}
		wantCounts(t, q, counts{dead: 1})
		join(t, q)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// The last item is finished and the next one put at once: there was a moment
// at which all were finished.
func TestJoinMissesNoSuchMoment(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
		other := newQueue[int](t, s.Client(t), name, unhurried)
		finish := []func(){
			func() { get(t, other) },
			func() { ack(t, receive(t, other)) },
			func() { drain(t, other) },
			func() { _, _ = other.GetMany(soonCtx(t), 5) },
		}
		put(t, other, 0)
		for i := range 40 {
			j := beginJoin(t, q, &heard)
			j.wantWaiting(t, "Join")
			finish[i%len(finish)]()
			put(t, other, i+1)
			j.returns(t, fmt.Sprintf("Join %d, when all were finished for a moment", i))
			wantCounts(t, q, counts{waiting: 1})
		}
		wantGot(t, q, 40)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// An item that passes through a Get that waits is finished as well.
func TestJoinSeesWhatAWaitingGetTakes(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
		other := newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 0)
		d := receive(t, q)
		for i := range 20 {
			getter := begin(t, q.Get)
			j := beginJoin(t, q, &heard)
			put(t, other, i)
			getter.returns(t, "Get")
			j.wantWaiting(t, "Join while the first item is claimed")
			j.cancel()
			// On a busy machine it may say that Redis is unavailable, too.
			wantErr(t, "a cancelled Join", j.fails(t, "a cancelled Join"), errCanceled)
		}
		j := beginJoin(t, q, &heard)
		ack(t, d)
		j.returns(t, "Join")
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// Nobody finishes what a dead consumer held before it came again.
func TestJoinWaitsForWhatALostConsumerHeld(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		opts := &redisqueue.Options{TTL: short}
		lost, other := newQueue[int](t, s.Client(t, w.Through), name, opts), newQueue[int](t, s.Client(t), name, opts)
		put(t, other, 1)
		receive(t, lost)
		j := beginErr(t, newQueue[int](t, s.Client(t), name, opts).Join)
		w.Down()
		d := wantReceived(t, other, 1, 2)
		j.wantWaiting(t, "Join while the item is held again")
		ack(t, d)
		j.returns(t, "Join")
		remove(t, other)
	})
}

func TestJoinEndsWhenTheQueueIsDeleted(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
		put(t, q, 1)
		j := beginJoin(t, q, &heard)
		remove(t, newQueue[int](t, s.Client(t), name, nil))
		j.returns(t, "Join of a queue that was deleted")
		noLeaks(t, s, name)
	})
}

func TestJoinAfterShutdownWaitsForTheRest(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, Observe: heard.note})
		put(t, q, 1)
		before := beginJoin(t, q, &heard)
		if err := q.Shutdown(soonCtx(t)); err != nil {
			t.Fatalf("Shutdown should succeed, got %v", err)
		}
		after := beginJoin(t, q, &heard)
		before.wantWaiting(t, "Join while an item waits")
		after.wantWaiting(t, "Join while an item waits")
		wantGot(t, q, 1)
		before.returns(t, "Join")
		after.returns(t, "Join")
		join(t, q)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// A Join that is cancelled while Redis answers says nothing but that.
func TestACancelledJoinSaysOnlyThat(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		var heard journal
		q := newQueue[int](t, client, "x", &redisqueue.Options{Observe: heard.note})
		other := newQueue[int](t, redistest.BubbleClient(t, m), "x", nil)
		put(t, other, 0)
		for i := range 20 {
			j := beginJoin(t, q, &heard)
			put(t, other, i)
			j.wantWaiting(t, "Join")
			j.cancel()
			wantOnly(t, "a cancelled Join", j.fails(t, "a cancelled Join"), errCanceled)
		}
	})
}
