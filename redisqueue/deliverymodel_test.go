package redisqueue_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// A worker is one goroutine that receives, in a random mix.
type worker struct {
	t       *testing.T
	id      int
	queue   *redisqueue.Queue[queueItem]
	history *redistest.DeliveryHistory
	rough   bool
}

// work receives until ctx ends.
func (w *worker) work(ctx context.Context) {
	for ctx.Err() == nil {
		brief, cancel := context.WithTimeout(ctx, rand.N(20*time.Millisecond))
		receiving := w.history.Receive(w.id)
		d, err := w.queue.Receive(brief)
		cancel()
		switch {
		case err == nil:
			w.hold(d, receiving.Got(d.Value(), d.Attempt()))
		case brief.Err() != nil, w.rough && errors.Is(err, redisqueue.ErrUnavailable):
			receiving.Nothing()
		default:
			w.t.Errorf("Receive should succeed or end by its ctx, got %v", err)
			receiving.Nothing()
		}
	}
}

// hold keeps an item for a while, looks again and again whether it is still
// its own, and finishes it or gives it back.
func (w *worker) hold(d *redisqueue.Delivery[queueItem], delivered redistest.Delivered) {
	holding := w.history.Hold(w.id, delivered)
	for range 1 + rand.N(3) {
		if !w.history.Use(w.id, delivered, func() bool { return d.Err() == nil }) {
			break
		}
		pause(rand.N(3*time.Millisecond), d.Done())
	}
	var call redistest.DeliveryCall
	var err error
	switch n := rand.N(10); {
	case n < 7:
		call = w.history.Ack(w.id, delivered)
		err = d.Ack(context.Background())
	case n < 9:
		call = w.history.Nack(w.id, delivered)
		err = d.Nack(context.Background(), 0)
	default:
		call = w.history.Nack(w.id, delivered)
		err = d.Nack(context.Background(), rand.N(20*time.Millisecond))
	}
	switch {
	case err == nil:
		call.Done()
		holding.Kept()
	case errors.Is(err, redisqueue.ErrLost):
		call.Lost()
		holding.Lost()
		if !w.rough {
			w.t.Logf("a delivery was lost though nothing happened: the machine must have stood still")
		}
	case errors.Is(err, redisqueue.ErrUnknownOutcome):
		call.Unknown()
	default:
		w.t.Errorf("Ack should return nil or say ErrLost, got %v", err)
	}
}

// deliveries lets the goroutines of several processes work on so many items,
// and judges what they saw.
func deliveries(t *testing.T, name string, clients []redis.UniversalClient, rough bool, ttl time.Duration, items int, settle func()) {
	t.Helper()
	history := redistest.DeliveryHistory{MaxDeliveries: 3}
	if rough {
		// What a process is just being handed counts as delivered, also when its
		// connection breaks for so long that its claim ends before it hears of it.
		for range 2 * 3 {
			history.Receive(99)
		}
	}
	opts := &redisqueue.Options{TTL: ttl, MaxDeliveries: history.MaxDeliveries}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { cancel(); group.Wait() })
	for i, client := range clients {
		q := newQueue[queueItem](t, client, name, opts)
		for j := range 3 {
			w := &worker{t: t, id: i*3 + j, queue: q, history: &history, rough: rough}
			group.Go(func() { w.work(ctx) })
		}
	}
	putter := newQueue[queueItem](t, clients[0], name, opts)
	for n := range items {
		item := queueItem{Number: n}
		call := history.Put(99, item)
		switch err := putter.Put(soonCtx(t), item); {
		case err == nil:
			call.Done()
		case rough && errors.Is(err, redisqueue.ErrUnknownOutcome):
			call.Unknown()
		case rough && errors.Is(err, redisqueue.ErrUnavailable):
			call.Refused()
		default:
			t.Fatalf("Put should succeed, got %v", err)
		}
	}
	settle()
	join(t, putter)
	got := countsOf(state(t, putter))
	if got.dead == 0 {
		t.Log("no item became a dead letter")
	}
	got.dead = 0
	if got != (counts{}) {
		t.Errorf("after Join nothing should be left, got %+v", got)
	}
	history.Drained()
	cancel()
	group.Wait()
	history.Judge(t)
	remove(t, putter)
}

func TestEachItemIsDeliveredUntilItIsAcknowledged(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		deliveries(t, name, []redis.UniversalClient{s.Client(t), s.Client(t)}, false, time.Minute, 150, func() {})
		noLeaks(t, s, name)
	})
}

// The same while connections break, for a moment or for longer than the TTL.
func TestEachItemIsDeliveredOverABadNetwork(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		good, bad := redistest.NewWire(t), redistest.NewWire(t)
		end := badNetwork(t, s, bad, name, func() {})
		const ttl = time.Second
		deliveries(t, name, []redis.UniversalClient{s.Client(t, good.Through), s.Client(t, bad.Through), s.Client(t, bad.Through)}, true, ttl, 100, func() {
			bad.Partition()
			pause(2*ttl, nil)
			bad.Heal()
			end()
		})
		// What arrives late may enlist a consumer once more.
		redistest.NoLeaks(t, s, name, append(late, ":gone", ":consumers", ":metadata")...)
	})
}
