package redislock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

func TestACancelledWaitLeavesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		var heard journal
		l := newLock(t, s.Client(t), name, &redislock.Options{TTL: time.Minute, Observe: heard.note})
		var all []*attempt
		for range 10 {
			all = append(all, begin(t, l))
		}
		heard.awaitKind(t, redislock.Waiting, len(all))
		awaitLine(t, client, name, 1)
		for _, a := range all {
			a.cancel()
		}
		for _, a := range all {
			err := a.ended(t)
			wantErr(t, "a cancelled wait", err, context.Canceled)
			if errors.Is(err, redislock.ErrUnavailable) {
				t.Errorf("a wait cancelled while Redis answers should not say ErrUnavailable, got %v", err)
			}
		}
		awaitLine(t, client, name, 0)
		redistest.Eventually(t, soon, func() error {
			left, err := client.Exists(soonCtx(t), key(name, "line"), key(name, "places")).Result()
			if err == nil && left > 0 {
				err = errors.New("the place in line should be gone")
			}
			return err
		})
		wantHeld(t, h)
		release(t, h)
		redistest.NoLeaks(t, s, name, ":fence")
	})
}

// fast fails the test unless the quickest half of what was measured is within
// 5 ms. A machine with other work to do may slow some calls down, but a call that
// waits for something is slow each time.
func fast(t *testing.T, what string, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	if median := took[len(took)/2]; median > 5*time.Millisecond {
		t.Errorf("%s should return within 5 ms, of %d half took longer than %v: %v", what, len(took), median, took)
	}
}

func TestACancelledWaitReturnsAtOnceWhenTheServerIsSilent(t *testing.T) {
	own := redistest.StartOwn(t)
	name := redistest.Name(t)
	client := own.Client(t)
	h := take(t, newLock(t, client, name, unhurried))
	waits := own.Client(t)
	var line []*attempt
	for range 15 {
		line = append(line, begin(t, newLock(t, waits, name, unhurried)))
	}
	awaitLine(t, client, name, 1)

	own.Pause(t)
	var took []time.Duration
	for _, a := range line {
		start := time.Now()
		a.cancel()
		wantErr(t, "a cancelled wait", a.ended(t), context.Canceled)
		took = append(took, time.Since(start))
	}
	fast(t, "a cancelled wait in line", took)

	for what, call := range calls(t) {
		took = nil
		for i := range 9 {
			l := newLock(t, waits, fmt.Sprint(name, what, i), unhurried)
			ctx, cancel := context.WithCancel(context.Background())
			over := make(chan error)
			go func() { over <- call(ctx, l) }()
			use(h, time.Duration(i)*4*time.Millisecond) // the call is at another place each time
			start := time.Now()
			cancel()
			wantErr(t, "a cancelled "+what, await(t, over, "the end of "+what), context.Canceled)
			took = append(took, time.Since(start))
		}
		fast(t, "a cancelled "+what, took)
	}

	own.Resume(t)
	release(t, h)
	// What was sent to the silent server was carried out, and is given back.
	redistest.NoLeaks(t, own.Server, name, ":fence", ":ended")
}

func TestAnEndedCtxDoesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		w := redistest.NewWire(t)
		l := newLock(t, s.Client(t, w.Through), redistest.Name(t), nil)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for what, call := range calls(t) {
			err := call(ctx, l)
			wantErr(t, what+" with an ended ctx", err, context.Canceled)
			if errors.Is(err, redislock.ErrUnavailable) {
				t.Errorf("%s with an ended ctx knows nothing of Redis, got %v", what, err)
			}
		}
		if w.Dialled() != 0 {
			t.Errorf("with an ended ctx nothing should be sent, got %v", w.Counts())
		}
	})
}

// races runs rounds in which somebody who waits gives up at the moment when
// the lock is given to him. A grant that got lost would keep the next one
// waiting for a minute.
func races(t *testing.T, rounds int, holder, waiter *redislock.Lock, pause func()) {
	t.Helper()
	granted := 0
	for range rounds {
		h := acquire(t, holder)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan *redislock.Lease)
		go func() {
			h, err := waiter.Acquire(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled Acquire should return ctx.Err(), got %v", err)
			}
			over <- h
		}()
		pause()
		released := make(chan error)
		go func() { released <- h.Release(soonCtx(t)) }()
		pause()
		cancel()
		if h := await(t, over, "the end of a cancelled wait"); h != nil {
			granted++
			release(t, h)
		}
		if err := await(t, released, "the answer of Release"); err != nil {
			t.Fatalf("Release should return nil, got %v", err)
		}
	}
	t.Logf("%d of %d got the lock before they gave up", granted, rounds)
}

func TestACancelThatRacesAGrantLosesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		pause := func(most time.Duration) func() { // about as long as a hand-over takes
			return func() {
				for end := time.Now().Add(rand.N(most)); time.Now().Before(end); {
					runtime.Gosched()
				}
			}
		}
		t.Run("across processes", func(t *testing.T) {
			races(t, redistest.Long(150, 50_000), newLock(t, client, name, unhurried), newLock(t, s.Client(t), name, unhurried), pause(2*time.Millisecond))
		})
		t.Run("in one process", func(t *testing.T) {
			l := newLock(t, client, name, unhurried)
			races(t, redistest.Long(150, 50_000), l, l, pause(20*time.Microsecond))
		})
		redistest.NoLeaks(t, s, name, ":fence", ":ended")
	})
}

func TestACancelThatRacesAGrantLosesNothingInABubble(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		other := newLock(t, redistest.BubbleClient(t, m), "x", unhurried)
		races(t, 1000, newLock(t, client, "x", unhurried), other, func() {
			// Now at once, now when everybody waits.
			if rand.N(2) == 0 {
				time.Sleep(time.Duration(rand.N(3)) * time.Millisecond)
			}
		})
		wantFree(t, other)
	})
}

func TestACancelledTryAcquireHoldsNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		l := newLock(t, s.Client(t), name, unhurried)
		for range 200 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.N(300))*time.Microsecond)
			h, err := l.TryAcquire(ctx)
			switch {
			case err == nil:
				release(t, h)
			case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, redislock.ErrNotAcquired):
				// Not acquired: the attempt before is still being given back.
				t.Fatalf("TryAcquire should end by its ctx, got %v", err)
			}
			cancel()
		}
		release(t, acquire(t, l))
		wantNoKeys(t, s.Client(t), name)
	})
}
