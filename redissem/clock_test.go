package redissem_test

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

// During a suspension of the host no timer runs; the handle looks at the clock.
// (Not parallel: the clock is that of all permits.)
func TestASuspensionOfTheHostCountsAsTime(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl = 10 * time.Second
		h := take(t, newSem(t, client, "x", 1, nil))
		time.Sleep(time.Minute)
		clock.Suspend(ttl / 2)
		wantHeld(t, h)
		clock.Suspend(ttl)
		wantErr(t, "Err after a suspension longer than the TTL", h.Err(), redissem.ErrLost)
		start := time.Now()
		<-h.Done()
		if took := time.Since(start); took > ttl/3 {
			t.Errorf("Done should close when the next timer runs, within %v, it took %v", ttl/3, took)
		}
		wantErr(t, "Release", h.Release(context.Background()), redissem.ErrLost)
	})
}

// A client whose wall clock is wrong is one whose server has another time.
func TestAWallClockThatIsWrongChangesNothing(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour, 20 * 365 * 24 * time.Hour} {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			redistest.NewServerTime(t, m, off)
			const ttl = 9 * time.Second
			start := time.Now()
			h := take(t, newSem(t, client, "x", 2, &redissem.Options{TTL: ttl}))
			take(t, newSem(t, client, "x", 2, &redissem.Options{TTL: ttl, NoRenew: true}))
			waiter := begin(t, newSem(t, redistest.BubbleClient(t, m), "x", 2, nil))
			release(t, waiter.granted(t))
			if took := time.Since(start); took < ttl-time.Second || took > ttl+time.Second {
				t.Errorf("a permit that is not renewed should end after its TTL of %v, it did after %v", ttl, took)
			}
			time.Sleep(time.Minute)
			wantHeld(t, h)
			if got := state(t, newSem(t, client, "x", 2, nil)); got.Held != 1 || got.Permits[0].TTL > ttl || got.Permits[0].TTL < ttl/2 {
				t.Errorf("the one permit should have a remaining time within its TTL, got %+v", got)
			}
			release(t, h)
		})
	}
}

// This is not prevented: permits end by the server's clock. Those that are renewed
// in time stand.
func TestAStepOfTheServersClockMovesTheEndsOfPermits(t *testing.T) {
	const ttl = 10 * time.Second
	for _, c := range []struct{ step, held, over time.Duration }{
		{ttl / 2, ttl/2 - time.Second, ttl/2 + time.Second},
		{-ttl, ttl + ttl/2, 2*ttl + time.Second},
	} {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			server := redistest.NewServerTime(t, m, 0)
			w := redistest.NewWire(t)
			start := time.Now()
			renewed := take(t, newSem(t, client, "renewed", 1, nil))
			keys := take(t, newSem(t, client, "x", 2, unhurried)) // and so the keys: their TTLs are not lengthened here
			take(t, newSem(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 2, &redissem.Options{TTL: ttl}))
			w.Partition() // as if it were dead
			time.Sleep(time.Second)
			server.Step(c.step)
			sem := newSem(t, client, "x", 2, nil)
			time.Sleep(time.Until(start.Add(c.held)))
			wantTaken(t, sem)
			time.Sleep(time.Until(start.Add(c.over)))
			release(t, take(t, sem))
			release(t, keys)
			if c.step > 0 {
				wantHeld(t, renewed)
				release(t, renewed)
			}
			w.CutAll()
			w.Heal()
		})
	}
}
