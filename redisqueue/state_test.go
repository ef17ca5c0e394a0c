package redisqueue_test

import (
	"maps"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func TestStateOfWhatNobodyHasUsed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, bounded(3))
		got := state(t, q)
		if countsOf(got) != (counts{}) || got.Codec != "" || got.Shutdown || got.Consumers != nil {
			t.Errorf("nothing is known of a queue that nobody has used, got %+v", got)
		}
		empty, err1 := q.Empty(soonCtx(t))
		full, err2 := q.Full(soonCtx(t))
		n, err3 := q.Len(soonCtx(t))
		if !empty || full || n != 0 || err1 != nil || err2 != nil || err3 != nil {
			t.Errorf("it should be empty, got %v, %v, %d, %v, %v, %v", empty, full, n, err1, err2, err3)
		}
		redistest.NoLeaks(t, s, name) // a look leaves nothing
	})
}

func TestLenEmptyAndFull(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, bounded(2))
		want := func(n int, empty, full bool) {
			t.Helper()
			gotN, err1 := q.Len(soonCtx(t))
			gotEmpty, err2 := q.Empty(soonCtx(t))
			gotFull, err3 := q.Full(soonCtx(t))
			if gotN != n || gotEmpty != empty || gotFull != full || err1 != nil || err2 != nil || err3 != nil {
				t.Errorf("Len, Empty, Full should be %d, %v, %v, got %d, %v, %v, %v, %v, %v", n, empty, full, gotN, gotEmpty, gotFull, err1, err2, err3)
			}
		}
		put(t, q, 1)
		want(1, false, false)
		put(t, q, 2)
		want(2, false, true)
		waiter := beginPut(t, q, 3)
		awaitCounts(t, q, counts{waiting: 2, parked: 1})
		want(2, false, true) // what waits for room does not count
		d := receive(t, q)
		waiter.returns(t, "Put")
		want(2, false, true)
		wantGot(t, q, 2, 3)
		want(0, true, false) // nor does what is claimed
		nack(t, d, time.Hour)
		want(0, true, false) // nor does what is delayed
		remove(t, q)
		unbounded := newQueue[int](t, s.Client(t), name, nil)
		put(t, unbounded, 1)
		if full, err := unbounded.Full(soonCtx(t)); full || err != nil {
			t.Errorf("a queue without a bound should never be full, got %v, %v", full, err)
		}
		remove(t, unbounded)
	})
}

func TestStateTellsOfTheConsumers(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		const ttl = 20 * time.Second
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: ttl})
		own := map[string]string{"job": "语 \"{}\"", "": "\n"}
		named := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: ttl, Metadata: own})
		put(t, q, 1, 2, 3)
		a, b, c := receive(t, q), receive(t, q), receive(t, named)
		got := state(t, named)
		if got.Claimed != 3 || len(got.Consumers) != 2 {
			t.Fatalf("there should be two consumers with three items, got %+v", got)
		}
		for _, consumer := range got.Consumers {
			if consumer.ID == "" || consumer.TTL <= ttl/2 || consumer.TTL > ttl {
				t.Errorf("a consumer has an id and up to %v left, got %+v", ttl, consumer)
			}
			switch consumer.Claimed {
			case 1:
				if !maps.Equal(consumer.Metadata, own) {
					t.Errorf("its own metadata should be told, got %q", consumer.Metadata)
				}
			case 2:
				host, _ := os.Hostname()
				if m := consumer.Metadata; m["host"] != host || m["pid"] != strconv.Itoa(os.Getpid()) || m["program"] == "" || len(m) != 3 {
					t.Errorf("host, pid and program should be told, got %q", m)
				}
			default:
				t.Errorf("one consumer has one item, the other two, got %+v", consumer)
			}
		}
		for _, d := range []*delivery{a, b, c} {
			ack(t, d)
		}
		redistest.NoLeaks(t, s, name, lasting...) // who holds nothing leaves
		if got := state(t, q); len(got.Consumers) != 0 {
			t.Errorf("there should be no consumer any more, got %+v", got)
		}
		remove(t, q)
	})
}

// A process that waits for deliveries is a consumer, too.
func TestStateTellsOfConsumersThatWait(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, unhurried)
		waiter := beginReceive(t, q)
		redistest.EventuallyTrue(t, soon, "a consumer that waits is told of", func() bool {
			all := state(t, q).Consumers
			return len(all) == 1 && all[0].Claimed == 0 && all[0].Metadata["pid"] != ""
		})
		waiter.cancel()
		await(t, waiter.over, "the end of Receive")
		redistest.NoLeaks(t, s, name, lasting...)
		remove(t, q)
	})
}

func TestWhatHappensCanBeHeard(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, MaxDeliveries: 2, Observe: heard.note})
		if n, err := q.PutMany(soonCtx(t), []int{1, 2, 3, 4}); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		put(t, q, 5)
		if _, err := q.TryGet(soonCtx(t)); err != nil {
			t.Fatal(err)
		}
		if all, err := q.GetMany(soonCtx(t), 2); len(all) != 2 || err != nil {
			t.Fatal(all, err)
		}
		ack(t, receive(t, q))
		nack(t, receive(t, q), 0)
		nack(t, receive(t, q), 0) // dead
		waiter := begin(t, q.Get)
		heard.awaitKind(t, redisqueue.Waiting, 1)
		put(t, q, 6)
		waiter.returns(t, "Get")
		for kind, want := range map[redisqueue.Kind][2]int{ // how often, how many items
			redisqueue.Put: {3, 6}, redisqueue.Got: {3, 4}, redisqueue.Received: {3, 3},
			redisqueue.Acked: {1, 1}, redisqueue.Nacked: {1, 1}, redisqueue.Buried: {1, 1}, redisqueue.Waiting: {1, 0},
			redisqueue.Lost: {0, 0}, redisqueue.Swept: {0, 0},
		} {
			heard.awaitKind(t, kind, want[0])
			if n, items := heard.count(kind); n != want[0] || items != want[1] {
				t.Errorf("%s should be heard %d times, of %d items, it was %d times, of %d", kind, want[0], want[1], n, items)
			}
		}
		heard.mu.Lock()
		for _, o := range heard.all {
			if o.Name != name || o.Duration < 0 || o.Duration > soon {
				t.Errorf("an observation should name the queue and tell how long it took, got %+v", o)
			}
		}
		heard.mu.Unlock()
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// An observer that is slow, or uses the queue itself, holds nothing up.
func TestASlowObserverHoldsNothingUp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		proceed := make(chan struct{})
		inner := newQueue[int](t, client, name, nil)
		q := newQueue[int](t, client, name, &redisqueue.Options{Observe: func(redisqueue.Observation) {
			<-proceed
			_, _ = inner.Len(soonCtx(t))
		}})
		for i := range 50 {
			put(t, q, i)
			wantGot(t, q, i)
		}
		close(proceed)
		remove(t, q)
		noLeaks(t, s, name)
	})
}
