package redissem_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

var (
	// short is a TTL whose renewal is waited for. A machine with much else to do
	// may be slow to send it.
	short = redistest.Scale(3 * time.Second)
	// brief is one whose end is waited for.
	brief = redistest.Scale(100 * time.Millisecond)
)

func TestAHeldPermitOutlivesItsTTL(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		ctx, cancel := context.WithCancel(context.Background())
		h, err := newSem(t, s.Client(t), name, 1, &redissem.Options{TTL: short}).Acquire(ctx)
		if err != nil {
			t.Fatalf("Acquire should succeed, got %v", err)
		}
		cancel() // it bounds the wait only, not the holding
		first, id := h.Deadline(), h.ID()
		redistest.Eventually(t, soon, func() error {
			runtime.GC() // a permit in use is not taken for one that was dropped
			wantHeld(t, h)
			if h.Deadline().Sub(first) < short {
				return errors.New("the deadline should move on with each renewal")
			}
			return nil
		})
		if h.ID() != id {
			t.Errorf("renewals should not change the id, it was %s and is %s", id, h.ID())
		}
		other := newSem(t, s.Client(t), name, 1, nil)
		wantTaken(t, other)
		release(t, h)
		wantFree(t, other, 1)
	})
}

func TestRenewalKeepsManyPermitsForHours(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		sem := newSem(t, client, "x", 20, unhurried)
		var held []*redissem.Permit
		for range 20 {
			held = append(held, take(t, sem))
			time.Sleep(time.Second)
		}
		for range 20 {
			time.Sleep(6 * time.Minute)
			for _, h := range held {
				wantHeld(t, h)
			}
			if got := state(t, sem); got.Held != 20 {
				t.Fatalf("twenty should be held, got %+v", got)
			}
		}
		for _, h := range held {
			release(t, h)
		}
		redistest.NoBubbleLeaks(t, m, client, "x", ":limit")
	})
}

func TestWhoWaitsIsServedByTheEarliestEnd(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		start := time.Now()
		for _, ttl := range []time.Duration{7 * time.Second, 3 * time.Second, 5 * time.Second} {
			take(t, newSem(t, client, "x", 3, &redissem.Options{TTL: ttl, NoRenew: true}))
		}
		var line []*attempt
		for i := range 3 {
			line = append(line, begin(t, newSem(t, redistest.BubbleClient(t, m), "x", 3, unhurried)))
			awaitLine(t, client, "x", i+1)
		}
		for i, a := range line {
			<-a.over
			want := time.Duration(3+2*i) * time.Second
			if took := time.Since(start); took < want || took > want+100*time.Millisecond {
				t.Errorf("waiter %d should be served when a permit ends, after %v, it took %v", i, want, took)
			}
		}
		for _, a := range line {
			release(t, a.granted(t))
		}
	})
}

// A dead first in line does not keep the second from noticing.
func TestTheDeathOfHolderAndFirstWaiterCostsOneTTL(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl = 20 * time.Second
		w := redistest.NewWire(t)
		dies := redistest.BubbleClient(t, m, w.ThroughBubble)
		for range 3 {
			take(t, newSem(t, dies, "x", 3, &redissem.Options{TTL: ttl}))
		}
		begin(t, newSem(t, dies, "x", 3, unhurried))
		awaitLine(t, client, "x", 1)
		var line []*attempt
		for i := range 2 {
			line = append(line, begin(t, newSem(t, redistest.BubbleClient(t, m), "x", 3, unhurried)))
			awaitLine(t, client, "x", i+2)
		}
		w.Down()
		start := time.Now()
		for _, a := range line {
			<-a.over
		}
		if took := time.Since(start); took > ttl+time.Second {
			t.Errorf("when all holders and the first in line die, the others should be served within the TTL of %v, it took %v", ttl, took)
		}
		for _, a := range line {
			release(t, a.granted(t))
		}
		w.Up()
	})
}

func TestNoRenewEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		h := take(t, newSem(t, s.Client(t), name, 1, &redissem.Options{TTL: brief, NoRenew: true}))
		deadline := h.Deadline()
		got := begin(t, newSem(t, s.Client(t), name, 1, nil)).granted(t)
		wantErr(t, "Err of the first, when the next has it,", h.Err(), redissem.ErrLost)
		wantLost(t, h)
		if !h.Deadline().Equal(deadline) {
			t.Errorf("without renewal the deadline should stay, it moved by %v", h.Deadline().Sub(deadline))
		}
		wantErr(t, "Release after the loss", h.Release(soonCtx(t)), redissem.ErrLost)
		wantHeld(t, got)
		release(t, got)
	})
}

func TestAPermitIsTrustedUntilTTLLessMargin(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl, margin = 10 * time.Second, 4 * time.Second
		start := time.Now()
		h := take(t, newSem(t, client, "x", 1, &redissem.Options{TTL: ttl, Margin: margin, NoRenew: true}))
		<-h.Done()
		if got := time.Since(start); got != ttl-margin {
			t.Errorf("TTL %v with margin %v should close Done after %v, it did after %v", ttl, margin, ttl-margin, got)
		}
		wantTaken(t, newSem(t, redistest.BubbleClient(t, m), "x", 1, nil)) // the margin is the holder's
	})
}

func TestADroppedPermitLapsesWithinATTL(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		if _, err := newSem(t, s.Client(t), name, 1, &redissem.Options{TTL: brief}).Acquire(soonCtx(t)); err != nil {
			t.Fatal(err)
		}
		next := begin(t, newSem(t, s.Client(t), name, 1, nil))
		redistest.EventuallyTrue(t, soon, "the permit that nobody has any more is free", func() bool {
			runtime.GC()
			select {
			case <-next.over:
				return true
			default:
				return false
			}
		})
		release(t, next.granted(t))
	})
}

func TestMaxHoldEndsAPermitAndLeavesItTakenForTheRestOfItsTTL(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl, maxHold = 9 * time.Second, 20 * time.Second
		h := take(t, newSem(t, client, "x", 1, &redissem.Options{TTL: ttl, MaxHold: maxHold}))
		start := time.Now()
		next := begin(t, newSem(t, redistest.BubbleClient(t, m), "x", 1, nil))
		<-h.Done()
		if held := time.Since(start); held != maxHold {
			t.Errorf("Done should close after %v, it did after %v", maxHold, held)
		}
		wantErr(t, "Err after MaxHold", h.Err(), redissem.ErrLost)
		next.wantWaiting(t) // what the holder still does has time to stop
		release(t, next.granted(t))
		if after := time.Since(start) - maxHold; after <= 0 || after > ttl+time.Second {
			t.Errorf("the next should have the permit within the TTL of %v, it had it %v after MaxHold", ttl, after)
		}
		wantErr(t, "Release after MaxHold", h.Release(soonCtx(t)), redissem.ErrLost)
	})
}

// Whoever releases after MaxHold has stopped what it did.
func TestReleaseAfterMaxHoldFreesThePermit(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		h := take(t, newSem(t, client, "x", 1, &redissem.Options{TTL: time.Hour, MaxHold: time.Second}))
		<-h.Done()
		wantTaken(t, newSem(t, client, "x", 1, nil))
		wantErr(t, "Release after MaxHold", h.Release(soonCtx(t)), redissem.ErrLost)
		time.Sleep(time.Second)
		wantFree(t, newSem(t, client, "x", 1, nil), 1)
	})
}

// At most limit grants in any MinHold: a rate limit, for goroutines of one
// process and for several processes.
func TestMinHoldIsARateLimit(t *testing.T) {
	const limit, calls, minHold = 5, 103, time.Second
	for _, processes := range []int{1, 4} {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			at := make(chan time.Time, calls)
			w := redistest.NewWire(t)
			for i := range processes {
				sem := newSem(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", limit, &redissem.Options{MinHold: minHold})
				for j := range calls {
					if j%processes == i {
						go func() {
							_ = sem.Do(context.Background(), func(context.Context, *redissem.Permit) error { at <- time.Now(); return nil })
						}()
					}
				}
			}
			start := time.Now()
			var grants []time.Time
			for range calls {
				grants = append(grants, <-at)
			}
			for i := limit; i < len(grants); i++ {
				if d := grants[i].Sub(grants[i-limit]); d < minHold {
					t.Errorf("%d processes: call %d came %v after call %d; of %d calls in %v there should be no more", processes, i, d, i-limit, limit, minHold)
				}
			}
			took, least := time.Since(start), (calls-1)/limit*minHold
			counts := w.Counts()
			commands := counts["EVALSHA"] + counts["EVAL"]
			t.Logf("%d processes: %d calls at %d per %v took %v and %d scripts", processes, calls, limit, minHold, took, commands)
			if took < least || took > least+least/10 {
				t.Errorf("%d processes: %d calls at %d per %v should take %v and hardly more, they took %v", processes, calls, limit, minHold, least, took)
			}
			if commands > 6*calls {
				t.Errorf("%d processes: %d calls should cost a few commands each, they cost %d", processes, calls, commands)
			}
			time.Sleep(10 * time.Second)
			wantNoKeys(t, client, "x")
		})
	}
}

func TestAPermitThatRestsStaysTakenAndIsSeen(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, client, name, 2, &redissem.Options{TTL: time.Minute, MinHold: time.Hour})
		h := take(t, sem)
		release(t, h)
		wantErr(t, "Err after Release", h.Err(), redissem.ErrReleased)
		second := take(t, newSem(t, client, name, 2, unhurried))
		wantTaken(t, newSem(t, s.Client(t), name, 2, unhurried))
		got := state(t, sem)
		if got.Held != 2 || len(got.Permits) != 2 || !got.Permits[1].Resting || got.Permits[1].Metadata != nil || got.Permits[1].TTL < 59*time.Minute {
			t.Fatalf("the released permit should rest for an hour, got %+v", got)
		}
		wantErr(t, "Delete while a permit rests", sem.Delete(soonCtx(t)), redissem.ErrNotAcquired)
		// To break the turn that is over is not to end the rest.
		if err := sem.Break(soonCtx(t), h.ID()); err != nil {
			t.Fatal(err)
		}
		wantTaken(t, newSem(t, client, name, 2, unhurried))
		waiter := begin(t, newSem(t, s.Client(t), name, 2, unhurried))
		awaitLine(t, client, name, 1)
		if err := sem.Break(soonCtx(t), got.Permits[1].ID); err != nil {
			t.Fatal(err)
		}
		release(t, waiter.granted(t))
		release(t, second)
		wantNoKeys(t, client, name)
	})
}

func TestReleaseEndsAPermitOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		sem := newSem(t, s.Client(t), name, 1, unhurried)
		h := take(t, sem)
		id := h.ID()
		all := make(chan error)
		for range 10 {
			go func() { all <- h.Release(soonCtx(t)) }()
		}
		nils := 0
		for range 10 {
			switch err := await(t, all, "the answer of Release"); {
			case err == nil:
				nils++
			case !errors.Is(err, redissem.ErrReleased):
				t.Errorf("one of many Releases should return nil or ErrReleased, got %v", err)
			}
		}
		if nils != 1 {
			t.Errorf("one of many Releases should return nil, %d did", nils)
		}
		await(t, h.Done(), "Done of a released permit")
		if h.ID() != id {
			t.Errorf("the id should stay, it was %s and is %s", id, h.ID())
		}
		next := take(t, newSem(t, s.Client(t), name, 1, unhurried))
		wantErr(t, "another Release", h.Release(soonCtx(t)), redissem.ErrReleased)
		wantHeld(t, next) // the value does not rise above the limit
		wantTaken(t, sem)
		release(t, next)
		wantFree(t, sem, 1)
	})
}

func TestReleaseIgnoresTheEndOfItsCtx(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		h := take(t, newSem(t, s.Client(t), name, 1, unhurried))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := h.Release(ctx); err != nil {
			t.Errorf("Release with a cancelled ctx should release, got %v", err)
		}
		wantFree(t, newSem(t, s.Client(t), name, 1, unhurried), 1)
	})
}

// A permit that rests for longer than others are taken for outlives them.
func TestAShortPermitDoesNotEndTheRestOfAnother(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		opts := redissem.Options{TTL: time.Second, MinHold: time.Hour}
		rate := newSem(t, client, "x", 2, &opts)
		release(t, take(t, rate)) // rests for an hour
		opts.NoRenew = true
		take(t, newSem(t, client, "x", 2, &opts)) // ends with its TTL
		time.Sleep(time.Minute)
		take(t, rate)
		if _, err := rate.TryAcquire(soonCtx(t)); !errors.Is(err, redissem.ErrNotAcquired) {
			t.Errorf("one of two permits rests for an hour, so a second one should not be had, got %v", err)
		}
	})
}
