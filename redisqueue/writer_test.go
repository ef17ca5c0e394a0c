package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// buffered returns a Writer that the test's end discards: it would go on during
// other tests.
func buffered[T any](t testing.TB, q *redisqueue.Queue[T], n int) *redisqueue.Writer[T] {
	w := q.Buffered(n)
	t.Cleanup(w.Discard)
	return w
}

func TestAWriterPutsInTheBackground(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		wire := redistest.NewWire(t)
		q, other := newQueue[int](t, s.Client(t, wire.Through), name, nil), newQueue[int](t, s.Client(t), name, nil)
		w := buffered(t, q, 4)
		if err := w.Flush(soonCtx(t)); err != nil {
			t.Fatalf("Flush of nothing should return nil, got %v", err)
		}
		wire.Partition()
		for i := range 4 {
			if err := w.Put(soonCtx(t), i); err != nil {
				t.Fatalf("Put should return when the value is in the buffer, got %v", err)
			}
		}
		flush := beginErr(t, w.Flush)
		flush.wantWaiting(t, "Flush while nothing can be put")
		wire.Heal()
		flush.returns(t, "Flush")
		wantCounts(t, other, counts{waiting: 4})
		for i := range 100 {
			if err := w.Put(soonCtx(t), 4+i); err != nil {
				t.Fatalf("Put should succeed, got %v", err)
			}
		}
		if err := w.Close(soonCtx(t)); err != nil {
			t.Fatalf("Close should return nil when all is put, got %v", err)
		}
		for i := range 104 {
			wantGot(t, other, i)
		}
		wantEmpty(t, other)
		wantErr(t, "Put after Close", w.Put(soonCtx(t), 1), redisqueue.ErrClosed)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// A full queue fills the buffer, and a full buffer makes Put wait.
func TestAFullBufferMakesPutWait(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, bounded(1)), newQueue[int](t, s.Client(t), name, bounded(1))
		put(t, q, -1)
		w := buffered(t, q, 3)
		n := 0
		var waiter *call[struct{}]
		for { // what is on its way may or may not count
			v := n
			waiter = beginErr(t, func(ctx ctxT) error { return w.Put(ctx, v) })
			done := false
			pause(200*time.Millisecond, waiter.over)
			select {
			case <-waiter.over:
				waiter.returns(t, "Put")
				n++
			default:
				done = true
			}
			if done {
				break
			}
			if n > 6 {
				t.Fatalf("a Writer with a buffer for 3 should not take %d", n)
			}
		}
		if n < 3 {
			t.Errorf("a Writer with a buffer for 3 should take as many, it took %d", n)
		}
		waiter.cancel()
		wantOnly(t, "Put whose ctx ends while the buffer is full", waiter.fails(t, "Put"), errCanceled)
		next := beginErr(t, func(ctx ctxT) error { return w.Put(ctx, n) })
		wantGot(t, other, -1)
		next.returns(t, "Put, when there is room,")
		for i := range n + 1 {
			wantGot(t, other, i)
		}
		if err := w.Close(soonCtx(t)); err != nil {
			t.Errorf("Close should return nil, got %v", err)
		}
		wantEmpty(t, other)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestWritersOfManyGoroutinesLoseNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const producers, each = 4, 200
		name := redistest.Name(t)
		q := newQueue[redistest.QueueItem](t, s.Client(t), name, nil)
		w := buffered(t, q, 10)
		var group sync.WaitGroup
		for p := range producers {
			group.Go(func() {
				for i := range each {
					if err := w.Put(context.Background(), redistest.QueueItem{Producer: p, Number: i}); err != nil {
						t.Errorf("Put should succeed, got %v", err)
					}
				}
			})
		}
		group.Wait()
		if err := w.Flush(soonCtx(t)); err != nil {
			t.Fatalf("Flush should return nil, got %v", err)
		}
		next := map[int]int{}
		for _, item := range drain(t, newQueue[redistest.QueueItem](t, s.Client(t), name, nil)) {
			if item.Number != next[item.Producer] {
				t.Fatalf("after %d items of producer %d came %d", next[item.Producer], item.Producer, item.Number)
			}
			next[item.Producer]++
		}
		for p := range producers {
			if next[p] != each {
				t.Errorf("of producer %d should come %d items, came %d", p, each, next[p])
			}
		}
		if err := w.Close(soonCtx(t)); err != nil {
			t.Errorf("Close should return nil, got %v", err)
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestAWriterTellsOfErrors(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[any](t, s.Client(t), name, &redisqueue.Options{MaxItem: 10})
		w := buffered(t, q, 5)
		for what, v := range map[string]any{"what cannot be encoded": func() {}, "what is too large": "0123456789"} {
			if err := w.Put(soonCtx(t), v); err == nil {
				t.Errorf("Put of %s should fail at once", what)
			}
		}
		if err := w.Put(soonCtx(t), 1); err != nil {
			t.Errorf("Put should go on after a value that was refused, got %v", err)
		}
		if err := w.Flush(soonCtx(t)); err != nil {
			t.Errorf("Flush should return nil, got %v", err)
		}
		wantCounts(t, q, counts{waiting: 1})
		shutdown(t, q)
		if err := w.Put(soonCtx(t), 2); err != nil {
			wantErr(t, "Put after Shutdown", err, redisqueue.ErrShutdown)
		}
		wantErr(t, "Flush after Shutdown", w.Flush(soonCtx(t)), redisqueue.ErrShutdown)
		w.Discard()
		if err := w.Put(soonCtx(t), 3); !errors.Is(err, redisqueue.ErrClosed) && !errors.Is(err, redisqueue.ErrShutdown) {
			t.Errorf("Put should say that the writer or the queue has ended, got %v", err)
		}
		wantCounts(t, q, counts{waiting: 1})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestDiscardDropsWhatIsInTheBuffer(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q, other := newQueue[int](t, s.Client(t), name, bounded(1)), newQueue[int](t, s.Client(t), name, bounded(1))
		put(t, q, -1)
		w := buffered(t, q, 100)
		for i := range 20 {
			if err := w.Put(soonCtx(t), i); err != nil {
				t.Fatalf("Put should succeed, got %v", err)
			}
		}
		flush := beginErr(t, w.Flush)
		w.Discard()
		if err := flush.fails(t, "Flush of what is discarded"); errors.Is(err, context.Canceled) {
			t.Errorf("Flush should not blame its ctx, got %v", err)
		}
		wantErr(t, "Put after Discard", w.Put(soonCtx(t), 1), redisqueue.ErrClosed)
		awaitNoParked(t, other)
		wantGot(t, other, -1)
		if left := drain(t, other); len(left) > 1 {
			t.Errorf("what was in the buffer should be dropped, got %v", left)
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestCloseGivesUpWhenItsCtxEnds(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, bounded(1))
		put(t, q, -1)
		w := buffered(t, q, 5)
		for i := range 3 {
			if err := w.Put(soonCtx(t), i); err != nil {
				t.Fatal(err)
			}
		}
		redistest.EventuallyTrue(t, soon, "what was sent waits for room", func() bool { return state(t, q).Parked > 0 })
		ctx, cancel := context.WithCancel(context.Background())
		closing := beginErr(t, func(context.Context) error { return w.Close(ctx) })
		flushing := beginErr(t, func(context.Context) error { return w.Flush(ctx) })
		closing.wantWaiting(t, "Close while the queue is full")
		cancel()
		wantErr(t, "Close whose ctx ends", closing.fails(t, "Close"), errCanceled)
		wantErr(t, "Flush whose ctx ends", flushing.fails(t, "Flush"), errCanceled)
		w.Discard()
		awaitNoParked(t, q)
		wantGot(t, q, -1)
		t.Log("put before the end: ", fmt.Sprint(drain(t, q)))
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestABufferHasRoomForSomething(t *testing.T) {
	q := newQueue[int](t, unreached(t), "x", nil)
	for _, n := range []int{0, -1} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("Buffered(%d) should not panic, it said %v", n, r)
				}
			}()
			w := q.Buffered(n)
			w.Discard()
		}()
	}
}
