package redislock_test

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// During a suspension of the host no timer runs, and afterwards each is late by
// what was left of it. The handle looks at the clock. (Not parallel: the clock is
// that of all leases.)
func TestASuspensionOfTheHostCountsAsTime(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl = 10 * time.Second
		h := take(t, newLock(t, client, "x", nil))
		token := h.Token()
		ctx, cancel := h.Context(context.Background())
		defer cancel()
		time.Sleep(time.Minute)
		clock.Suspend(ttl / 2)
		wantHeld(t, h)
		clock.Suspend(ttl)
		m.FastForward(3 * ttl / 2)
		wantErr(t, "Err after a suspension longer than the TTL", h.Err(), redislock.ErrLost)
		if got := h.Token(); got != 0 {
			t.Errorf("Token after it should be 0, got %d", got)
		}
		late, cancel := h.Context(context.Background())
		defer cancel()
		if late.Err() == nil {
			t.Error("a context that is made after it should have ended")
		}
		next := take(t, newLock(t, client, "x", nil))
		wantNext(t, next, token)

		start := time.Now()
		<-ctx.Done()
		wantErr(t, "the cause of a context from before", context.Cause(ctx), redislock.ErrLost)
		<-h.Done()
		if took := time.Since(start); took > ttl/3 {
			t.Errorf("Done should close when the next timer runs, within %v, it took %v", ttl/3, took)
		}
		wantErr(t, "Release", h.Release(context.Background()), redislock.ErrLost)
		wantHeld(t, next)
		release(t, next)
	})
}

// A client whose wall clock is wrong is one whose server has another time: nothing
// that either says to the other is a time of day.
func TestAWallClockThatIsWrongChangesNothing(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour, 20 * 365 * 24 * time.Hour} {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			redistest.NewServerTime(t, m, off)
			const ttl = 9 * time.Second
			h := take(t, newLock(t, client, "x", &redislock.Options{TTL: ttl}))
			token := h.Token()
			other := redistest.BubbleClient(t, m)
			waiter := begin(t, newLock(t, other, "x", &redislock.Options{TTL: ttl, NoRenew: true}))
			time.Sleep(time.Minute) // renewals
			wantHeld(t, h)
			waiter.wantWaiting(t)
			if left := time.Until(h.Deadline()); left < ttl/2 || left > ttl {
				t.Errorf("the deadline should be within the TTL of %v, it is in %v", ttl, left)
			}
			start := time.Now()
			release(t, h)
			next := waiter.granted(t)
			if took := time.Since(start); took > time.Second {
				t.Errorf("the lock should be handed over at once, it took %v", took)
			}
			wantNext(t, next, token)
			<-next.Done()
			if held := time.Since(start); held > ttl || held < 2*time.Second {
				t.Errorf("a lease that is not renewed should end within its TTL of %v, it did after %v", ttl, held)
			}
			release(t, acquire(t, newLock(t, client, "x", nil)))
			if took := time.Since(start); took > ttl+time.Second {
				t.Errorf("the next should have the lock after the TTL of %v, it had it after %v", ttl, took)
			}
		})
	}
}

// This is not prevented: what the server takes for the end of the TTL is the end.
// Tokens grow all the same, also when its clock goes back.
func TestAStepOfTheServersClockForwardEndsLeasesEarly(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		server := redistest.NewServerTime(t, m, 0)
		const ttl = 10 * time.Second
		renewed := take(t, newLock(t, client, "renewed", nil))
		h := take(t, newLock(t, client, "x", &redislock.Options{TTL: ttl, NoRenew: true}))
		token := h.Token()
		time.Sleep(time.Second)
		server.Step(ttl / 2)
		wantTaken(t, newLock(t, client, "x", nil))
		time.Sleep(ttl / 2)
		wantHeld(t, h) // and yet:
		next := take(t, newLock(t, redistest.BubbleClient(t, m), "x", nil))
		wantNext(t, next, token)
		token = next.Token()
		wantHeld(t, renewed)
		release(t, renewed)
		server.Step(-time.Hour)
		release(t, next)
		wantNext(t, take(t, newLock(t, client, "x", nil)), token)
	})
}

// This is not prevented either: a server that has lost the lock and its counter, and
// whose clock is behind, begins with a smaller token. Once its counter has seen a
// token, its clock may be behind.
func TestAnEmptyServerWhoseClockIsBehindRepeatsTokens(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		server := redistest.NewServerTime(t, m, 0)
		l := newLock(t, client, "x", nil)
		h := take(t, l)
		token := h.Token()
		release(t, h)
		server.Step(-time.Hour)
		h = take(t, l)
		wantNext(t, h, token)
		release(t, h)
		m.FlushAll()
		h = take(t, l)
		if got := h.Token(); got >= token {
			t.Errorf("an empty server whose clock is behind cannot know of %d, its token is %d", token, got)
		}
		release(t, h)
	})
}
