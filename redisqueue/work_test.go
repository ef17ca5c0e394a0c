package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

type delivery = redisqueue.Delivery[int]

func TestWorkDoesSoManyAtATime(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const n, items = 3, 30
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, unhurried)
		for i := range items {
			put(t, q, i)
		}
		var now, most atomic.Int32
		var mu sync.Mutex
		var done []int
		together := make(chan struct{})
		work := beginErr(t, func(ctx ctxT) error {
			return q.Work(ctx, n, func(ctx context.Context, d *delivery) error {
				if k := now.Add(1); k > most.Load() {
					if most.Store(k); k == n {
						close(together)
					}
				}
				defer now.Add(-1)
				pause(time.Second, together) // until all are at it
				mu.Lock()
				defer mu.Unlock()
				done = append(done, d.Value())
				return nil
			})
		})
		if err := q.Join(soonCtx(t)); err != nil {
			t.Fatalf("Join should return nil, got %v", err)
		}
		wantCounts(t, q, counts{})
		if most.Load() != n {
			t.Errorf("%d should be worked on at a time, it were %d", n, most.Load())
		}
		slices.Sort(done)
		if len(done) != items || done[items-1] != items-1 {
			t.Errorf("each item should be worked on once, got %v", done)
		}
		work.wantWaiting(t, "Work")
		work.cancel()
		wantOnly(t, "Work whose ctx ended", work.fails(t, "Work"), errCanceled)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestWorkGivesBackWhatFails(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var mu sync.Mutex
		var delays []int
		const delay = 100 * time.Millisecond
		q := newQueue[string](t, s.Client(t), name, &redisqueue.Options{TTL: time.Minute, MaxDeliveries: 3,
			RetryDelay: func(attempt int) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				delays = append(delays, attempt)
				return delay
			}})
		put(t, q, "good", "second time", "never", "acks itself", "nacks itself")
		attempts := map[string][]int{}
		var last time.Time
		start := time.Now()
		work := beginErr(t, func(ctx ctxT) error {
			return q.Work(ctx, 2, func(ctx context.Context, d *redisqueue.Delivery[string]) error {
				mu.Lock()
				attempts[d.Value()] = append(attempts[d.Value()], d.Attempt())
				last = time.Now()
				mu.Unlock()
				switch d.Value() {
				case "second time":
					if d.Attempt() == 2 {
						return nil
					}
				case "good":
					return nil
				case "acks itself":
					if err := d.Ack(ctx); err != nil {
						t.Errorf("Ack inside Work should return nil, got %v", err)
					}
					return errors.New("afterwards")
				case "nacks itself":
					if d.Attempt() == 1 {
						if err := d.Nack(ctx, 0); err != nil {
							t.Errorf("Nack inside Work should return nil, got %v", err)
						}
					}
					return nil
				}
				return errors.New("failed")
			})
		})
		if err := q.Join(soonCtx(t)); err != nil {
			t.Fatalf("Join should return nil, got %v", err)
		}
		wantCounts(t, q, counts{dead: 1})
		work.wantWaiting(t, "Work")
		mu.Lock()
		got := fmt.Sprint(attempts)
		slices.Sort(delays)
		if want := fmt.Sprint(map[string][]int{"good": {1}, "second time": {1, 2}, "never": {1, 2, 3}, "acks itself": {1}, "nacks itself": {1, 2}}); got != want {
			t.Errorf("the attempts should be %s, got %s", want, got)
		}
		// Whose Ack or Nack was called inside may be asked for as well; it has no effect.
		for _, want := range []int{1, 1, 2} {
			i := slices.Index(delays, want)
			if i < 0 {
				t.Fatalf("RetryDelay should be asked for each attempt that failed, got %v", delays)
			}
			delays = slices.Delete(delays, i, i+1)
		}
		if took := last.Sub(start); took < 2*delay {
			t.Errorf("two retries should take two delays of %v, the last came after %v", delay, took)
		}
		mu.Unlock()
		work.cancel()
		wantOnly(t, "Work whose ctx ended", work.fails(t, "Work"), errCanceled)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestWorkLetsTheRunningOnesFinish(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1, 2, 3, 4)
		started, finish := make(chan struct{}, 4), make(chan struct{})
		type key struct{}
		work := beginErr(t, func(ctx ctxT) error {
			return q.Work(context.WithValue(ctx, key{}, "v"), 2, func(ctx context.Context, d *delivery) error {
				started <- struct{}{}
				<-finish
				if ctx.Err() != nil || ctx.Value(key{}) != "v" {
					t.Errorf("the ctx inside should not end with the one of Work, and carry its values, got %v, %v", ctx.Err(), ctx.Value(key{}))
				}
				return nil
			})
		})
		await(t, started, "the first item")
		await(t, started, "the second item")
		work.cancel()
		wantCounts(t, q, counts{waiting: 2, claimed: 2})
		work.wantWaiting(t, "Work while its items are worked on")
		close(finish)
		wantOnly(t, "Work whose ctx ended", work.fails(t, "Work"), errCanceled)
		wantCounts(t, q, counts{waiting: 2})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// ending is a Work that ends while an item is on its way to it.
type ending struct {
	w      *redistest.Wire
	other  *redisqueue.Queue[int]
	answer *redistest.Fault // with the item
	work   *call[struct{}]
}

func eachEnding(t *testing.T, behave func(t *testing.T, e ending)) {
	for _, command := range []string{"claim", "BLMOVE"} {
		t.Run(command, func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, direct *redis.Client, m *miniredis.Miniredis) {
				w := redistest.NewWire(t)
				load(t, direct)
				mine := newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", unhurried)
				other := newQueue[int](t, direct, "x", unhurried)
				carries := redistest.Is(command)
				if command == "claim" {
					carries = script(t, command)
					put(t, other, 1)
				}
				e := ending{w: w, other: other, answer: w.HoldReply(carries)}
				e.work = beginErr(t, func(ctx ctxT) error {
					return mine.Work(ctx, 1, func(context.Context, *delivery) error {
						t.Error("what comes after the end should not be worked on")
						return nil
					})
				})
				if command != "claim" {
					synctest.Wait()
					put(t, other, 1)
				}
				e.answer.AwaitReply(t)
				e.work.cancel()
				synctest.Wait()
				e.work.wantWaiting(t, "Work with an item on its way")
				behave(t, e)
				if err := e.work.fails(t, "Work"); !errors.Is(err, context.Canceled) {
					t.Errorf("Work whose ctx ended should say so, got %v", err)
				}
				wantCounts(t, other, counts{waiting: 1})
				time.Sleep(time.Second)
				if consumers := state(t, other).Consumers; len(consumers) > 0 {
					t.Errorf("a consumer that has nothing should be forgotten, got %v", consumers)
				}
				remove(t, other)
			})
		})
	}
}

func TestWorkThatEndedKeepsNothing(t *testing.T) {
	eachEnding(t, func(_ *testing.T, e ending) { e.answer.Release() })
}

func TestWorkThatEndedKeepsNothingWhenTheWayBackIsSlow(t *testing.T) {
	eachEnding(t, func(t *testing.T, e ending) {
		back := e.w.HoldCommand(script(t, "back"))
		e.answer.Release()
		back.Await(t)
		time.Sleep(500 * time.Millisecond)
		e.work.wantWaiting(t, "Work with an item on its way back")
		back.Release()
	})
}

func TestWorkThatEndedKeepsNothingWhenTheConnectionBreaks(t *testing.T) {
	eachEnding(t, func(_ *testing.T, e ending) { e.w.CutAll() })
}

func TestWorkEndsAlthoughRedisIsSilent(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 1)
		answer := s.w.HoldReply(script(t, "claim"))
		work := beginErr(t, func(ctx ctxT) error {
			return s.mine.Work(ctx, 1, func(context.Context, *delivery) error { return nil })
		})
		answer.AwaitReply(t)
		work.cancel()
		if err := work.fails(t, "Work"); !errors.Is(err, context.Canceled) {
			t.Errorf("Work whose ctx ended should say so, got %v", err)
		}
		answer.Release()
		awaitCounts(t, s.other, counts{waiting: 1})
	})
}

func TestWorkEndsWithTheQueue(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1, 2, 3)
		var done, failed atomic.Int32
		var works []*call[struct{}]
		for range 2 {
			mine := newQueue[int](t, s.Client(t), name, unhurried)
			works = append(works, beginErr(t, func(ctx ctxT) error {
				return mine.Work(ctx, 2, func(_ context.Context, d *delivery) error {
					if d.Attempt() == 1 {
						failed.Add(1)
						return errors.New("the first time")
					}
					done.Add(1)
					return nil
				})
			}))
		}
		if err := q.Shutdown(soonCtx(t)); err != nil {
			t.Fatalf("Shutdown should succeed, got %v", err)
		}
		for _, w := range works {
			w.returns(t, "Work after Shutdown")
		}
		if done.Load() != 3 || failed.Load() != 3 {
			t.Errorf("all should be done before Work ends, %d are done, %d failed first", done.Load(), failed.Load())
		}
		wantCounts(t, q, counts{})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestTheCtxInsideWorkEndsWhenTheDeliveryIsLost(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		// The next heartbeat tells.
		q, other := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: short}), newQueue[int](t, s.Client(t), name, unhurried)
		put(t, q, 1)
		started := make(chan struct{}, 2)
		work := beginErr(t, func(ctx ctxT) error {
			return q.Work(ctx, 1, func(ctx context.Context, d *delivery) error {
				started <- struct{}{}
				if d.Value() == 2 {
					return nil
				}
				<-ctx.Done()
				if cause := context.Cause(ctx); !errors.Is(cause, redisqueue.ErrLost) {
					t.Errorf("the cause inside should be ErrLost, got %v", cause)
				}
				return ctx.Err()
			})
		})
		await(t, started, "the first item")
		remove(t, other)
		put(t, other, 2)
		await(t, started, "the item of the new queue")
		if err := other.Join(soonCtx(t)); err != nil {
			t.Fatalf("Join should return nil, got %v", err)
		}
		work.wantWaiting(t, "Work after the loss of an item")
		work.cancel()
		wantOnly(t, "Work whose ctx ended", work.fails(t, "Work"), errCanceled)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestWorkGoesOnAfterWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		put(t, newQueue[any](t, client, name, unhurried), any("x"), any(nil), any(3))
		q := newQueue[int](t, client, name, unhurried)
		var sum atomic.Int32
		work := beginErr(t, func(ctx ctxT) error {
			return q.Work(ctx, 1, func(_ context.Context, d *delivery) error { sum.Add(int32(d.Value())); return nil })
		})
		if err := q.Join(soonCtx(t)); err != nil {
			t.Fatalf("Join should return nil, got %v", err)
		}
		wantCounts(t, q, counts{dead: 2})
		if sum.Load() != 3 {
			t.Errorf("what can be decoded should be worked on, the sum should be 3, it is %d", sum.Load())
		}
		work.cancel()
		wantOnly(t, "Work whose ctx ended", work.fails(t, "Work"), errCanceled)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestWorkRefusesWhatMakesNoSense(t *testing.T) {
	q := newQueue[int](t, unreached(t), "x", nil)
	fn := func(context.Context, *delivery) error { return nil }
	for says, err := range map[string]error{
		"1 or more":      q.Work(soonCtx(t), 0, fn),
		"n is -1":        q.Work(soonCtx(t), -1, fn),
		"fn is nil":      q.Work(soonCtx(t), 1, nil),
		"redisqueue: wo": q.Work(soonCtx(t), 0, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error should say %q, got %v", says, err)
		}
	}
}

func TestWorkSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		q := newQueue[int](t, s.Client(t, w.Through, impatient), name, &redisqueue.Options{TTL: short})
		other := newQueue[int](t, s.Client(t), name, unhurried)
		put(t, other, 1, 2)
		down := make(chan struct{}, 1)
		var again atomic.Int32
		work := beginErr(t, func(ctx ctxT) error {
			return q.Work(ctx, 1, func(_ context.Context, d *delivery) error {
				if d.Value() == 1 && d.Attempt() == 1 {
					w.Down()
					down <- struct{}{}
				}
				if d.Attempt() > 1 {
					again.Add(1)
				}
				return nil
			})
		})
		await(t, down, "the first item")
		pause(short+short/2, work.over)
		work.wantWaiting(t, "Work while Redis is away")
		w.Up()
		join(t, other)
		if n := again.Load(); n > 1 {
			t.Errorf("only the item whose Ack did not arrive should come again, once, it were %d", n)
		}
		work.wantWaiting(t, "Work after an outage")
		work.cancel()
		wantErr(t, "Work whose ctx ended", work.fails(t, "Work"), errCanceled)
		remove(t, other)
	})
}

func TestWorkThatNeverReachedRedisSaysSo(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		w := redistest.NewWire(t)
		w.Down()
		q := newQueue[int](t, s.Client(t, w.Through, impatient), redistest.Name(t), nil)
		wantErr(t, "Work without Redis", q.Work(soonCtx(t), 3, func(context.Context, *delivery) error { return nil }), redisqueue.ErrUnavailable)
	})
}

// The rule is that ctx.Err() is always matched, whatever the cause of its end.
func TestWaitsMatchTheErrorOfTheirCtxWhateverItsCause(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		full := newQueue[int](t, s.Client(t), name+"full", bounded(1))
		put(t, full, 1)
		empty := newQueue[int](t, s.Client(t), name, nil)
		for what, call := range calls() {
			q := empty
			switch what {
			case "Put", "PutMany", "Join":
				q = full
			case "Get", "GetMany", "All", "Receive", "Work":
			default:
				continue // does not wait
			}
			for _, cause := range []error{errors.New("a cause"), redisqueue.ErrShutdown} {
				ctx, cancel := context.WithCancelCause(context.Background())
				c := beginErr(t, func(context.Context) error { return call(ctx, q) })
				pause(20*time.Millisecond, c.over)
				c.wantWaiting(t, what)
				cancel(cause)
				wantErr(t, what+" whose ctx ended by "+cause.Error(), c.fails(t, what), errCanceled)
			}
		}
		awaitNoParked(t, full)
		remove(t, full)
		remove(t, empty)
		noLeaks(t, s, name)
	})
}

// impatient is a client that gives up soon.
func impatient(o *redis.UniversalOptions) {
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	o.MaxRetries, o.DialerRetries = 1, 1
}
