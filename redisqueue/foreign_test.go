package redisqueue_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alicebob/miniredis/v2"
	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// Another program may push plain values into the list, the same one twice: they
// are two items.
func TestEqualItemsOfAnotherProgramAreEachDelivered(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		q := newQueue[string](t, client, "x", unhurried)
		client.RPush(t.Context(), "mh1:queue:{x}", "same", "same", "same")
		a, b, c := receive(t, q), receive(t, q), receive(t, q)
		wantCounts(t, q, counts{claimed: 3})
		for _, d := range []*redisqueue.Delivery[string]{a, b} {
			nack(t, d, time.Second)
		}
		wantCounts(t, q, counts{delayed: 2, claimed: 1})
		ack(t, c)
		time.Sleep(2 * time.Second)
		for range 2 {
			ack(t, wantReceived(t, q, "same", 2))
		}
		wantCounts(t, q, counts{})
	})
}

// So do those that come back from a consumer that has died.
func TestEqualItemsOfADeadConsumerStayTwo(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		q := newQueue[string](t, client, "x", &redisqueue.Options{TTL: short})
		dying := newQueue[string](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", &redisqueue.Options{TTL: short})
		client.RPush(t.Context(), "mh1:queue:{x}", "same", "same")
		receive(t, dying)
		receive(t, dying)
		w.Down()
		a, b := wantReceived(t, q, "same", 2), wantReceived(t, q, "same", 2)
		nack(t, a, time.Second)
		nack(t, b, time.Second)
		wantCounts(t, q, counts{delayed: 2})
	})
}

// Who waits in Redis gets it past every script.
func TestAnItemOfAnotherProgramComesToWhoWaits(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client, w := s.Client(t), redistest.NewWire(t)
		q := newQueue[string](t, s.Client(t, w.Through), name, unhurried)
		blocked := w.Watch(redistest.Is("BLMOVE"))
		waiters := []*call[*redisqueue.Delivery[string]]{beginReceive(t, q), beginReceive(t, q)}
		blocked.Await(t)
		client.RPush(soonCtx(t), "mh1:queue:{"+name+"}", "same", "same")
		a, b := waiters[0].returns(t, "Receive"), waiters[1].returns(t, "Receive")
		if a.ID() == b.ID() || a.Attempt() != 1 || b.Attempt() != 1 {
			t.Errorf("two items should come for the first time, got %s for the %d. and %s for the %d.", a.ID(), a.Attempt(), b.ID(), b.Attempt())
		}
		ack(t, a)
		ack(t, b)
		wantCounts(t, q, counts{})
		remove(t, q)
	})
}
