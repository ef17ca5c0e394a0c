package redisqueue_test

import (
	"sync/atomic"
	"testing"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// touchy is a codec that panics as long as it is told to.
type touchy struct {
	redisqueue.Codec
	panics *atomic.Bool
}

func (c touchy) Decode(data []byte, v any) error {
	if c.panics.Load() {
		panic("touchy")
	}
	return c.Codec.Decode(data, v)
}

// A program that recovers from a panic of its own codec, or ID, has no delivery
// that it could give back: the item comes again all the same.
func TestAnItemComesAgainWhenReceivePanics(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		var panics atomic.Bool
		for what, opts := range map[string]redisqueue.Options{
			"Decode": {Codec: touchy{redisqueue.JSON, &panics}},
			"ID": {ID: func(any) string {
				if panics.Load() {
					panic("touchy")
				}
				return ""
			}},
		} {
			opts.TTL = unhurried.TTL
			q := newQueue[int](t, s.Client(t), redistest.Name(t), &opts)
			put(t, q, 1)
			panics.Store(true)
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("a panic in %s should not be hidden", what)
					}
				}()
				_, _ = q.Receive(soonCtx(t))
			}()
			panics.Store(false)
			ack(t, wantReceived(t, q, 1, 2))
			remove(t, q)
		}
	})
}

// Whoever sweeps, and however an item came back: what counts is the limit of the
// handle that would receive it.
func TestMaxDeliveriesIsThatOfWhoReceives(t *testing.T) {
	eachSite(t, &redisqueue.Options{TTL: short}, func(t *testing.T, s site) {
		once := newQueue[int](t, s.direct, s.name, &redisqueue.Options{TTL: short, MaxDeliveries: 1})
		put(t, s.other, 1)
		wantReceived(t, s.third, 1, 1)
		s.lost.Down()
		redistest.EventuallyTrue(t, soon, "the claim of who has died ends", func() bool { return state(t, s.other).Consumers[0].TTL <= 0 })
		wantEmpty(t, once) // it sweeps
		d := wantReceived(t, s.other, 1, 2)
		nack(t, d, 0)
		waiter := beginReceive(t, once)
		awaitCounts(t, s.other, counts{dead: 1})
		waiter.wantWaiting(t, "Receive of what was delivered as often as it may be")
		// The same with what comes while it waits.
		if err := s.direct.RPush(soonCtx(t), key(s.name, ""), "x 1 2").Err(); err != nil {
			t.Fatal(err)
		}
		awaitCounts(t, s.other, counts{dead: 2})
		put(t, s.other, 3)
		d = waiter.returns(t, "Receive")
		if d.Value() != 3 {
			t.Errorf("Receive should return 3, got %d", d.Value())
		}
		ack(t, d)
		awaitCounts(t, s.other, counts{dead: 2})
	})
}
