package redislock_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

var (
	// short is a TTL whose renewal is waited for. A machine with much else to do
	// may be slow to send it.
	short = redistest.Scale(3 * time.Second)
	// brief is one whose end is waited for.
	brief = redistest.Scale(100 * time.Millisecond)
)

func TestAHeldLeaseOutlivesItsTTL(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		ctx, cancel := context.WithCancel(context.Background())
		h, err := newLock(t, s.Client(t), name, &redislock.Options{TTL: short}).Acquire(ctx)
		if err != nil {
			t.Fatalf("Acquire should succeed, got %v", err)
		}
		cancel() // it bounds the wait only, not the holding
		first, token := h.Deadline(), h.Token()
		last := first
		redistest.Eventually(t, soon, func() error {
			runtime.GC() // a lease in use is not taken for one that was dropped
			wantHeld(t, h)
			now := h.Deadline()
			if now.Before(last) {
				t.Fatalf("the deadline should only move forward, it went back by %v", last.Sub(now))
			}
			last = now
			if last.Sub(first) < short {
				return errors.New("the deadline should move on with each renewal")
			}
			return nil
		})
		if h.Token() != token {
			t.Errorf("renewals should not change the token, it was %d and is %d", token, h.Token())
		}
		other := newLock(t, s.Client(t), name, nil)
		wantTaken(t, other)
		release(t, h)
		wantFree(t, other)
	})
}

func TestRenewalKeepsALeaseForHours(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		l := newLock(t, client, "x", nil)
		h := take(t, l)
		for range 20 {
			time.Sleep(6 * time.Minute)
			wantHeld(t, h)
			if left := time.Until(h.Deadline()); left < redislock.DefaultTTL/2 {
				t.Fatalf("a renewed lease should have more than half of its TTL left, it has %v", left)
			}
		}
		release(t, h)
		redistest.NoBubbleLeaks(t, m, client, "x", ":fence")
	})
}

func TestNoRenewEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		h := take(t, newLock(t, s.Client(t), name, &redislock.Options{TTL: brief, NoRenew: true}))
		deadline := h.Deadline()
		next := begin(t, newLock(t, s.Client(t), name, nil))
		got := next.granted(t)
		wantErr(t, "Err of the first, when the next has it,", h.Err(), redislock.ErrLost)
		wantLost(t, h)
		if !h.Deadline().Equal(deadline) {
			t.Errorf("without renewal the deadline should stay, it moved by %v", h.Deadline().Sub(deadline))
		}
		wantErr(t, "Release after the loss", h.Release(soonCtx(t)), redislock.ErrLost)
		wantHeld(t, got)
		release(t, got)
	})
}

// The end of a lease is noticed by its holder, which gives back what may be left,
// and by who waits, which looks: the next may hear twice that it has the lock.
func TestWhoFollowsALapsedLeaseMayReleaseAtOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		lapses := newLock(t, s.Client(t), name, &redislock.Options{TTL: 20 * time.Millisecond, NoRenew: true})
		l := newLock(t, s.Client(t), name, unhurried)
		for range 30 {
			if _, err := lapses.Acquire(soonCtx(t)); err != nil && !errors.Is(err, redislock.ErrUnavailable) {
				t.Fatalf("Acquire should succeed, got %v", err) // or be too late
			}
			release(t, acquire(t, l))
		}
		wantNoKeys(t, s.Client(t), name)
	})
}

func TestALeaseIsTrustedUntilTTLLessMargin(t *testing.T) {
	for _, c := range []struct{ ttl, margin, want time.Duration }{
		{10 * time.Second, 0, 9900 * time.Millisecond},
		{100 * time.Millisecond, 0, 95 * time.Millisecond},
		{10 * time.Second, 4 * time.Second, 6 * time.Second},
		{10*time.Millisecond + 1, time.Millisecond, 10 * time.Millisecond}, // rounded up to 11 ms
	} {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			start := time.Now()
			h := take(t, newLock(t, client, "x", &redislock.Options{TTL: c.ttl, Margin: c.margin, NoRenew: true}))
			if got := h.Deadline().Sub(start); got != c.want {
				t.Errorf("TTL %v with margin %v should be trusted for %v, the deadline says %v", c.ttl, c.margin, c.want, got)
			}
			<-h.Done()
			if got := time.Since(start); got != c.want {
				t.Errorf("TTL %v with margin %v should close Done after %v, it did after %v", c.ttl, c.margin, c.want, got)
			}
		})
	}
}

// drop acquires the lock and forgets the lease.
func drop(t *testing.T, l *redislock.Lock) {
	t.Helper()
	if _, err := l.Acquire(soonCtx(t)); err != nil {
		t.Fatalf("Acquire should succeed, got %v", err)
	}
}

func TestADroppedLeaseLapsesWithinATTL(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		drop(t, newLock(t, s.Client(t), name, &redislock.Options{TTL: brief}))
		awaitCollected(t, newLock(t, s.Client(t), name, nil))
	})
}

// awaitCollected waits for a lock whose lease nobody has any more.
func awaitCollected(t *testing.T, l *redislock.Lock) {
	t.Helper()
	next := begin(t, l)
	redistest.EventuallyTrue(t, soon, "the lock of a lease that nobody has any more is free", func() bool {
		runtime.GC()
		select {
		case <-next.over:
			return true
		default:
			return false
		}
	})
	release(t, next.granted(t))
}

// A cleanup runs outside of bubbles, where the clock is another.
func TestADroppedLeaseLapsesInABubble(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		drop(t, newLock(t, client, "x", nil))
		for range 3 {
			runtime.GC()
		}
		next := begin(t, newLock(t, client, "x", nil))
		time.Sleep(time.Minute)
		select {
		case <-next.over:
			release(t, next.granted(t))
		default:
			t.Fatal("the lock of a lease that nobody has any more should be free within its TTL")
		}
	})
}

func TestMaxHoldEndsALease(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		start := time.Now()
		h := take(t, newLock(t, s.Client(t), name, &redislock.Options{TTL: 3 * brief, MaxHold: brief}))
		if end := start.Add(brief + soon); h.Deadline().After(end) {
			t.Errorf("the deadline should be before MaxHold is over, it is %v after", h.Deadline().Sub(end))
		}
		next := begin(t, newLock(t, s.Client(t), name, nil))
		wantLost(t, h)
		if held := time.Since(start); held < brief {
			t.Errorf("the lease should last for its MaxHold of %v, Done closed after %v", brief, held)
		}
		wantErr(t, "Release after MaxHold", h.Release(soonCtx(t)), redislock.ErrLost)
		release(t, next.granted(t))
	})
}

func TestMaxHoldLeavesTheLockTakenForTheRestOfItsTTL(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl, maxHold = 9 * time.Second, 20 * time.Second
		h := take(t, newLock(t, client, "x", &redislock.Options{TTL: ttl, MaxHold: maxHold}))
		start := time.Now()
		next := begin(t, newLock(t, redistest.BubbleClient(t, m), "x", nil))
		<-h.Done()
		if held := time.Since(start); held != maxHold {
			t.Errorf("Done should close after %v, it did after %v", maxHold, held)
		}
		wantErr(t, "Err after MaxHold", h.Err(), redislock.ErrLost)
		if d := h.Deadline(); !d.Equal(start.Add(maxHold)) {
			t.Errorf("the deadline should be the end of MaxHold, it is %v later", d.Sub(start.Add(maxHold)))
		}
		next.wantWaiting(t) // what the holder still does has time to stop
		release(t, next.granted(t))
		if after := time.Since(start) - maxHold; after <= 0 || after > ttl+time.Second {
			t.Errorf("the next should have the lock within the TTL of %v, it had it %v after MaxHold", ttl, after)
		}
	})
}

func TestMinHoldKeepsTheLockTaken(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		for _, waits := range []string{"another process", "the same process"} {
			t.Run(waits, func(t *testing.T) {
				name := name + waits
				theirs := client
				if waits == "another process" {
					theirs = s.Client(t)
				}
				l := newLock(t, client, name, &redislock.Options{TTL: time.Minute, MinHold: brief})
				start := time.Now()
				h := take(t, l)
				waiter := begin(t, newLock(t, theirs, name, unhurried))
				awaitLine(t, client, name, 1)
				release(t, h)
				wantErr(t, "Err after Release", h.Err(), redislock.ErrReleased)
				if time.Since(start) < brief {
					state, err := l.State(soonCtx(t))
					if err != nil || !state.Held || state.Foreign {
						t.Errorf("a released lock should stay held until MinHold is over, State says %+v, %v", state, err)
					}
				}
				next := waiter.granted(t)
				if after := time.Since(start); after < brief {
					t.Errorf("MinHold %v should keep the lock taken, the next had it after %v", brief, after)
				}
				release(t, next)
			})
		}
	})
}

func TestMinHoldIsOverAtOnceForALongTurn(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		l := newLock(t, client, "x", &redislock.Options{TTL: 10 * time.Second, MinHold: time.Minute})
		for _, held := range []time.Duration{0, 25 * time.Second, 2 * time.Minute} {
			h := take(t, l)
			time.Sleep(held)
			release(t, h)
			released := time.Now()
			waiter := begin(t, l)
			<-waiter.over
			want := max(time.Minute-held, 0)
			if got := time.Since(released); got < want || got > want+5*time.Millisecond {
				t.Errorf("after %v of a MinHold of a minute the lock should be free in %v, it was in %v", held, want, got)
			}
			time.Sleep(2 * time.Minute)
			release(t, waiter.granted(t))
		}
	})
}

func TestTheEndOfALeaseEndsItsContexts(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		type tag struct{}
		parent := context.WithValue(context.Background(), tag{}, "kept")

		h := take(t, newLock(t, s.Client(t), name, unhurried))
		ctx, cancel := h.Context(parent)
		defer cancel()
		mine, cancelMine := h.Context(parent)
		cancelMine()
		ended, cancelEnded := context.WithCancel(parent)
		below, cancelBelow := h.Context(ended)
		defer cancelBelow()
		cancelEnded()
		await(t, below.Done(), "the end of a context whose parent has ended")
		if err := ctx.Err(); err != nil || ctx.Value(tag{}) != "kept" {
			t.Errorf("the context of a lease that stands should stand and have its parent's values, got %v, %v", err, ctx.Value(tag{}))
		}
		wantErr(t, "the cause of a context that was cancelled", context.Cause(mine), context.Canceled)
		release(t, h)
		await(t, ctx.Done(), "the end of the context of a released lease")
		wantErr(t, "the context of a released lease", ctx.Err(), context.Canceled)
		wantErr(t, "its cause", context.Cause(ctx), redislock.ErrReleased)
		wantErr(t, "the cause of one that had ended before", context.Cause(mine), context.Canceled)
		late, cancelLate := h.Context(parent)
		defer cancelLate()
		await(t, late.Done(), "the end of a context made from a released lease")
		wantErr(t, "its cause", context.Cause(late), redislock.ErrReleased)

		h = take(t, newLock(t, s.Client(t), name, &redislock.Options{TTL: brief, NoRenew: true}))
		ctx, cancel = h.Context(parent)
		defer cancel()
		await(t, ctx.Done(), "the end of the context of a lost lease")
		wantErr(t, "its cause", context.Cause(ctx), redislock.ErrLost)
		late, cancelLate = h.Context(parent)
		defer cancelLate()
		wantErr(t, "the cause of a context made from a lost lease", context.Cause(late), redislock.ErrLost)
	})
}

func TestReleaseEndsALeaseOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		l := newLock(t, s.Client(t), name, unhurried)
		h := take(t, l)
		if h.Token() == 0 {
			t.Error("the token of a lease that stands should not be 0")
		}
		release(t, h)
		await(t, h.Done(), "Done of a released lease")
		wantErr(t, "Err of a released lease", h.Err(), redislock.ErrReleased)
		if h.Token() != 0 {
			t.Errorf("the token of a released lease should be 0, it is %d", h.Token())
		}
		next := take(t, newLock(t, s.Client(t), name, unhurried))
		wantErr(t, "the second Release", h.Release(soonCtx(t)), redislock.ErrReleased)
		wantHeld(t, next)
		wantTaken(t, l)
		release(t, next)
	})
}

func TestOneOfManyReleasesCounts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		h := take(t, newLock(t, s.Client(t), redistest.Name(t), unhurried))
		all := make(chan error)
		for range 10 {
			go func() { all <- h.Release(soonCtx(t)) }()
		}
		nils := 0
		for range 10 {
			switch err := await(t, all, "the answer of Release"); {
			case err == nil:
				nils++
			case !errors.Is(err, redislock.ErrReleased):
				t.Errorf("one of many Releases should return nil or ErrReleased, got %v", err)
			}
		}
		if nils != 1 {
			t.Errorf("one of many Releases should return nil, %d did", nils)
		}
	})
}

func TestReleaseIgnoresTheEndOfItsCtx(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		h := take(t, newLock(t, s.Client(t), name, unhurried))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := h.Release(ctx); err != nil {
			t.Errorf("Release with a cancelled ctx should release, got %v", err)
		}
		wantFree(t, newLock(t, s.Client(t), name, unhurried))
	})
}
