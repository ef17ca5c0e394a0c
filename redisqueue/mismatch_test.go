package redisqueue_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// compared are the calls that compare what the handle was opened with.
var compared = []string{"Put", "TryPut", "PutMany", "Get", "TryGet", "GetMany", "All", "Receive", "Work", "Join"}

func TestAnotherSizeOrCodecIsRefused(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{MaxSize: 777})
		put(t, q, 5)
		for what, c := range map[string]struct {
			opts *redisqueue.Options
			says []string
		}{
			"another size":  {&redisqueue.Options{MaxSize: 888}, []string{"777", "888"}},
			"no bound":      {&redisqueue.Options{}, []string{"777", "0"}},
			"another codec": {&redisqueue.Options{MaxSize: 777, Codec: plain{"plain"}}, []string{"json", "plain"}},
		} {
			mine := newQueue[int](t, s.Client(t), name, c.opts)
			for _, call := range compared {
				for range 2 { // not at the first call only
					err := calls()[call](soonCtx(t), mine)
					wantOnly(t, call+" with "+what, err, redisqueue.ErrMismatch)
					for _, word := range c.says {
						if !strings.Contains(err.Error(), word) {
							t.Errorf("%s with %s should name %s, got %v", call, what, word, err)
						}
					}
				}
			}
		}
		// To look at it, or to remove it, nobody has to know how it was opened; and who
		// has looked is compared all the same.
		looks := newQueue[int](t, s.Client(t), name, &redisqueue.Options{MaxSize: 1, Codec: plain{"plain"}})
		if got := state(t, looks); got.MaxSize != 777 || got.Codec != "json" {
			t.Errorf("State should tell what is there, got %+v", got)
		}
		if full, err := looks.Full(soonCtx(t)); full || err != nil {
			t.Errorf("Full should go by what is there, got %v, %v", full, err)
		}
		wantOnly(t, "Put after State", looks.Put(soonCtx(t), 1), redisqueue.ErrMismatch)
		replaces := newQueue[int](t, s.Client(t), name, &redisqueue.Options{OnMismatch: redisqueue.Replace})
		if got := state(t, replaces); got.MaxSize != 777 {
			t.Errorf("State should replace nothing, got %+v", got)
		}
		// A handle that agrees goes on, in the same process too.
		wantCounts(t, q, counts{waiting: 1})
		wantGot(t, newQueue[int](t, s.Client(t), name, &redisqueue.Options{MaxSize: 777}), 5)
		remove(t, looks)
		noLeaks(t, s, name)
	})
}

func TestTwoHandlesOfOneProcessAreComparedEach(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		q, other := newQueue[int](t, client, name, bounded(2)), newQueue[int](t, client, name, bounded(3))
		put(t, q, 1)
		waiter := begin(t, func(ctx context.Context) (int, error) { get(t, q); return q.Get(ctx) })
		wantOnly(t, "Put of a handle with another size", other.Put(soonCtx(t), 2), redisqueue.ErrMismatch)
		_, err := other.Get(soonCtx(t))
		wantOnly(t, "Get of a handle with another size", err, redisqueue.ErrMismatch)
		put(t, q, 3)
		if v := waiter.returns(t, "Get"); v != 3 {
			t.Errorf("the handle that agrees should get its items, got %v", v)
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestAdoptFollowsWhatIsThere(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, bounded(1))
		adopts := newQueue[int](t, s.Client(t), name, &redisqueue.Options{MaxSize: 5, OnMismatch: redisqueue.Adopt})
		put(t, q, 1)
		wantFull(t, adopts, 2)
		waiter := beginPut(t, adopts, 2)
		awaitCounts(t, q, counts{waiting: 1, parked: 1})
		if full, err := adopts.Full(soonCtx(t)); !full || err != nil {
			t.Errorf("the queue should be full by its own measure, got %v, %v", full, err)
		}
		wantGot(t, adopts, 1, 2)
		waiter.returns(t, "Put")
		if n := state(t, adopts).MaxSize; n != 1 {
			t.Errorf("the queue's size should stay 1, it is %d", n)
		}
		other := newQueue[int](t, s.Client(t), name, &redisqueue.Options{MaxSize: 1, Codec: plain{"plain"}, OnMismatch: redisqueue.Adopt})
		for _, call := range compared {
			wantOnly(t, call+" with a codec that cannot be adopted", calls()[call](soonCtx(t), other), redisqueue.ErrMismatch)
		}
		remove(t, q)
		put(t, adopts, 1) // the first one of a new queue decides
		if n := state(t, q).MaxSize; n != 5 {
			t.Errorf("the new queue's size should be 5, it is %d", n)
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestReplacePutsItsOwnInPlace(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, bounded(1))
		put(t, q, 1)
		waiters := []*call[struct{}]{beginPut(t, q, 2)}
		awaitCounts(t, q, counts{waiting: 1, parked: 1})
		waiters = append(waiters, beginPut(t, q, 3))
		awaitCounts(t, q, counts{waiting: 1, parked: 2})
		replaces := newQueue[int](t, s.Client(t), name, &redisqueue.Options{MaxSize: 3, OnMismatch: redisqueue.Replace})
		start := time.Now()
		wantFull(t, replaces, 4) // those who waited come first
		for _, w := range waiters {
			w.returns(t, "Put, when there is room by the new size,")
		}
		if took := time.Since(start); took > soon/2 {
			t.Errorf("those who wait should be let in at once, it took %v", took)
		}
		got := state(t, replaces)
		if countsOf(got) != (counts{waiting: 3}) || got.MaxSize != 3 {
			t.Errorf("the new size should be in force, got %+v", got)
		}
		// Whoever comes with the old size is told.
		wantOnly(t, "Put with the old size", newQueue[int](t, s.Client(t), name, bounded(1)).Put(soonCtx(t), 5), redisqueue.ErrMismatch)
		smaller := newQueue[int](t, s.Client(t), name, &redisqueue.Options{MaxSize: 2, OnMismatch: redisqueue.Replace})
		wantFull(t, smaller, 5)
		wantGot(t, smaller, 1)
		wantFull(t, smaller, 5)
		wantGot(t, smaller, 2)
		put(t, smaller, 5)
		unbounded := newQueue[int](t, s.Client(t), name, &redisqueue.Options{OnMismatch: redisqueue.Replace})
		put(t, unbounded, 6, 7, 8)
		wantGot(t, unbounded, 3, 5, 6, 7, 8)

		strings := newQueue[int](t, s.Client(t), name, &redisqueue.Options{Codec: plain{"plain"}, OnMismatch: redisqueue.Replace})
		put(t, strings, 9)
		if c := state(t, strings).Codec; c != "plain" {
			t.Errorf("the new codec should be in force, got %q", c)
		}
		wantGot(t, strings, 9)
		remove(t, strings)
		noLeaks(t, s, name)
	})
}
