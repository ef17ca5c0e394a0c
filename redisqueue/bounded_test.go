package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

type ctxT = context.Context

var errCanceled = context.Canceled

func wantFull[T any](t testing.TB, q *redisqueue.Queue[T], v T) {
	t.Helper()
	if err := q.TryPut(soonCtx(t), v); !errors.Is(err, redisqueue.ErrFull) {
		t.Fatalf("TryPut to a full queue should say ErrFull, got %v", err)
	}
}

func TestAFullQueueTakesNoMore(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, bounded(2)), newQueue[int](t, s.Client(t), name, bounded(2))
		put(t, q, 1, 2)
		wantFull(t, q, 3)
		wantFull(t, other, 3)
		wantCounts(t, other, counts{waiting: 2})
		waiter := beginPut(t, other, 4)
		awaitCounts(t, q, counts{waiting: 2, parked: 1})
		wantFull(t, q, 5)
		waiter.wantWaiting(t, "Put to a full queue")
		wantGot(t, q, 1)
		waiter.returns(t, "Put when there is room")
		wantCounts(t, q, counts{waiting: 2})
		wantFull(t, q, 5)
		wantGot(t, other, 2, 4)
		wantEmpty(t, q)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// Every way to take an item makes room for the next.
func TestWhoeverTakesAnItemLetsInTheNext(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		q, other := newQueue[int](t, s.Client(t), name, bounded(1)), newQueue[int](t, client, name, bounded(1))
		take := map[string]func() (int, error){
			"Get":                         func() (int, error) { return other.Get(soonCtx(t)) },
			"TryGet":                      func() (int, error) { return other.TryGet(soonCtx(t)) },
			"GetMany":                     func() (int, error) { all, err := other.GetMany(soonCtx(t), 1); return all[0], err },
			"Receive":                     func() (int, error) { d := receive(t, other); return d.Value(), d.Ack(soonCtx(t)) },
			"Get in the putter's process": func() (int, error) { return q.Get(soonCtx(t)) },
		}
		for what, take := range take {
			put(t, q, 1)
			waiter := beginPut(t, q, 2)
			awaitCounts(t, other, counts{waiting: 1, parked: 1})
			if v, err := take(); v != 1 || err != nil {
				t.Fatalf("%s should return 1, got %v, %v", what, v, err)
			}
			waiter.returns(t, "Put after "+what)
			wantGot(t, other, 2)
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestWhoWaitsForRoomIsNotOvertaken(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const n = 12
		name := redistest.Name(t)
		queues := []*redisqueue.Queue[int]{
			newQueue[int](t, s.Client(t), name, bounded(2)), newQueue[int](t, s.Client(t), name, bounded(2)), newQueue[int](t, s.Client(t), name, bounded(2)),
		}
		put(t, queues[0], 0, 1)
		var waiters []*call[struct{}]
		for i := range n {
			waiters = append(waiters, beginPut(t, queues[i%3], 2+i))
			awaitCounts(t, queues[0], counts{waiting: 2, parked: i + 1})
		}
		stop := make(chan struct{})
		var pushy sync.WaitGroup
		overtook := 0
		pushy.Go(func() { // somebody who tries to get in between
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := queues[0].TryPut(context.Background(), -1); err == nil {
					overtook++
				} else if !errors.Is(err, redisqueue.ErrFull) {
					t.Errorf("TryPut should say ErrFull, got %v", err)
				}
			}
		})
		for i := range n {
			wantGot(t, queues[(i+1)%3], i)
			waiters[i].returns(t, "the first Put that waits")
			for _, w := range waiters[i+1:] {
				w.wantWaiting(t, "a Put behind it")
			}
		}
		close(stop)
		pushy.Wait()
		if overtook > 0 {
			t.Errorf("TryPut should not succeed while others wait for room, it did %d times", overtook)
		}
		wantGot(t, queues[0], n, n+1)
		wantEmpty(t, queues[0])
		remove(t, queues[0])
		noLeaks(t, s, name)
	})
}

func TestPutManyWaitsForRoomAgainAndAgain(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, bounded(3)), newQueue[int](t, s.Client(t), name, bounded(3))
		all := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
		waiter := begin(t, func(ctx ctxT) (int, error) { return q.PutMany(ctx, all) })
		awaitCounts(t, other, counts{waiting: 3, parked: 7})
		behind := beginPut(t, other, 11)
		awaitCounts(t, other, counts{waiting: 3, parked: 8})
		wantGot(t, other, 1, 2, 3, 4, 5, 6)
		waiter.wantWaiting(t, "PutMany whose last item has no room")
		wantGot(t, other, 7)
		if n := waiter.returns(t, "PutMany"); n != len(all) {
			t.Errorf("PutMany should put %d, got %d", len(all), n)
		}
		wantGot(t, other, 8, 9, 10, 11)
		behind.returns(t, "Put")

		waiter = begin(t, func(ctx ctxT) (int, error) { return q.PutMany(ctx, all) })
		awaitCounts(t, other, counts{waiting: 3, parked: 7})
		wantGot(t, other, 1, 2)
		awaitCounts(t, other, counts{waiting: 3, parked: 5})
		waiter.cancel()
		certain := wantCancelled(t, waiter.fails(t, "a cancelled PutMany"))
		if waiter.v > 5 || certain && waiter.v < 5 {
			t.Errorf("PutMany should tell how many were put, 5, got %d, %v", waiter.v, waiter.err)
		}
		awaitCounts(t, other, counts{waiting: 3})
		wantGot(t, other, 3, 4, 5)
		wantEmpty(t, other)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestACancelledPutTakesItsItemBack(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, bounded(1)), newQueue[int](t, s.Client(t), name, bounded(1))
		put(t, q, 0)
		var waiters []*call[struct{}]
		for i := range 6 {
			waiters = append(waiters, beginPut(t, []*redisqueue.Queue[int]{q, other}[i%2], i+1))
			awaitCounts(t, q, counts{waiting: 1, parked: i + 1})
		}
		for _, i := range []int{0, 3, 4} {
			waiters[i].cancel()
			wantCancelled(t, waiters[i].fails(t, "a cancelled Put"))
		}
		awaitCounts(t, q, counts{waiting: 1, parked: 3})
		wantGot(t, q, 0, 2, 3, 6)
		wantEmpty(t, q)
		for _, i := range []int{1, 2, 5} {
			waiters[i].returns(t, "Put")
		}
		// Nothing of the room is lost either.
		put(t, q, 7)
		wantFull(t, q, 8)
		wantGot(t, other, 7)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// wantCancelled says that a Put that waited should have ended by its ctx, and
// returns whether it knows what became of its item: it returns within milliseconds,
// and on a loaded machine it may not have heard.
func wantCancelled(t testing.TB, err error) (certain bool) {
	t.Helper()
	wantErr(t, "a cancelled Put", err, errCanceled)
	return !errors.Is(err, redisqueue.ErrUnknownOutcome)
}

// A Put that is cancelled at the moment when it is let in was put if it
// returns nil, and else was not, unless it says that it does not know.
func TestACancelThatRacesTheAdmissionCountsExactly(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const rounds = 200
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, bounded(1)), newQueue[int](t, s.Client(t), name, bounded(1))
		fates := map[int]error{}
		got := map[int]int{}
		for i := range rounds {
			put(t, q, -1)
			waiters := []*call[struct{}]{beginPut(t, q, i), beginPut(t, q, rounds+i)}
			pause(rand.N(2*time.Millisecond), nil)
			taken := begin(t, other.Get)
			pause(rand.N(time.Millisecond), nil)
			for j, w := range waiters {
				w.cancel()
				await(t, w.over, "the end of a cancelled Put")
				fates[i+j*rounds] = w.err
			}
			got[taken.returns(t, "Get")]++ // it may be a Put of this round
			awaitNoParked(t, q)
			for _, v := range drain(t, other) {
				got[v]++
			}
		}
		if got[-1] != rounds {
			t.Errorf("%d items were put that nobody cancelled, %d came", rounds, got[-1])
		}
		were, doubts := 0, 0
		for v, err := range fates {
			switch {
			case err == nil:
				if were++; got[v] != 1 {
					t.Errorf("%d was put and should come once, it came %d times", v, got[v])
				}
			case wantCancelled(t, err):
				if got[v] != 0 {
					t.Errorf("%d was not put and should not come, it came %d times", v, got[v])
				}
			default:
				if doubts++; got[v] > 1 {
					t.Errorf("%d should come once at most, it came %d times", v, got[v])
				}
			}
		}
		t.Logf("of %d, %d were put, %d did not know", len(fates), were, doubts)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func awaitNoParked[T any](t testing.TB, q *redisqueue.Queue[T]) {
	t.Helper()
	redistest.Eventually(t, soon, func() error {
		if s := state(t, q); s.Parked > 0 {
			return fmt.Errorf("nobody should wait for room any more, got %+v", s)
		}
		return nil
	})
}

func TestWhatComesBackIsNotRefused(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, bounded(1))
		put(t, q, 1)
		d := receive(t, q)
		put(t, q, 2)
		nack(t, d, 0)
		wantCounts(t, q, counts{waiting: 2})
		wantFull(t, q, 3)
		if full, err := q.Full(soonCtx(t)); !full || err != nil {
			t.Errorf("Full should say so, got %v, %v", full, err)
		}
		waiter := beginPut(t, q, 3)
		awaitCounts(t, q, counts{waiting: 2, parked: 1})
		wantGot(t, q, 1)
		wantCounts(t, q, counts{waiting: 1, parked: 1})
		waiter.wantWaiting(t, "Put to a queue that is still full")
		wantGot(t, q, 2, 3)
		waiter.returns(t, "Put")
		remove(t, q)
		noLeaks(t, s, name)
	})
}
