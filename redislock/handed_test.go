package redislock_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// What was handed over lasts three seconds until its first renewal, whatever
// the TTL. The pause after a renewal that failed, and the patience with one that
// is not answered, were a part of TTL: one bad renewal lost the lease.
func TestAHandedOverLeaseOutlivesOneBadRenewal(t *testing.T) {
	for what, spoil := range map[string]func(*redistest.Wire, redistest.Match) *redistest.Fault{
		"its reply is lost with the connection": (*redistest.Wire).DropReply,
		"its connection has gone silent":        (*redistest.Wire).HoldCommand,
	} {
		t.Run(what, func(t *testing.T) {
			for _, ttl := range []time.Duration{4 * time.Second, 10 * time.Second, time.Minute, time.Hour} {
				redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
					w := redistest.NewWire(t)
					load(t, client)
					h := take(t, newLock(t, client, "x", unhurried))
					l := newLock(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", &redislock.Options{TTL: ttl})
					waiter := begin(t, l)
					awaitLine(t, client, "x", 1)
					time.Sleep(time.Second)
					bad := spoil(w, script(t, "renew"))
					release(t, h)
					h = waiter.granted(t)
					time.Sleep(2 * time.Second)
					if !bad.Struck() {
						t.Fatal("the first renewal should have been spoilt")
					}
					time.Sleep(3 * time.Second)
					if err := h.Err(); err != nil {
						t.Errorf("TTL %v: a lease whose second renewal can be sent should stand, its Err is %v", ttl, err)
					} else {
						release(t, h)
					}
					bad.Release()
				})
			}
		})
	}
}

// A slowCtx is over by the time somebody waits for its end; the grant has come as
// well.
type slowCtx struct {
	context.Context
	wait   func()
	waited atomic.Bool
}

func (c *slowCtx) Done() <-chan struct{} {
	c.wait()
	c.waited.Store(true)
	over := make(chan struct{})
	close(over)
	return over
}

func (c *slowCtx) Err() error {
	if c.waited.Load() {
		return context.Canceled
	}
	return nil
}

// A caller that has given up has not had its turn, even if the lock came at the
// same moment: MinHold does not keep it from the others then.
func TestACancelThatRacesAGrantDoesNotBeginAMinHold(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		l := newLock(t, client, "x", &redislock.Options{MinHold: time.Hour})
		for what, get := range map[string]func(context.Context) (*redislock.Lease, error){"Acquire": l.Acquire, "TryAcquire": l.TryAcquire} {
			cancelled := 0
			for range 30 { // in half of them the select takes the end of the ctx
				h, err := get(&slowCtx{Context: t.Context(), wait: func() { time.Sleep(time.Second) }})
				if err == nil {
					release(t, h)
					time.Sleep(2 * time.Hour)
					continue
				}
				wantErr(t, "a cancelled "+what, err, context.Canceled)
				cancelled++
				start := time.Now()
				h = acquire(t, newLock(t, client, "x", unhurried))
				if d := time.Since(start); d > time.Second {
					t.Fatalf("after a cancelled %s the lock should be free, it was after %v", what, d)
				}
				release(t, h)
			}
			if cancelled == 0 {
				t.Errorf("no %s was cancelled", what)
			}
		}
	})
}

// A lease that is not renewed asks when its grant was made, and who granted it
// was lost on the way.
func TestAGrantThatHasToBeDatedIsObservedAsHandedOver(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		var heard journal
		h := take(t, newLock(t, client, "x", unhurried))
		l := newLock(t, redistest.BubbleClient(t, m), "x", &redislock.Options{NoRenew: true, Observe: heard.note})
		waiter := begin(t, l)
		time.Sleep(time.Second)
		release(t, h)
		release(t, waiter.granted(t))
		time.Sleep(time.Second)
		if heard.count(by(redislock.HandedOver)) != 1 {
			t.Error("a turn that another process has handed over should be observed as such")
		}
	})
}

// The check that gets the lock may go unanswered: the next one finds it, and nobody has
// handed it over.
func TestALockThatALostCheckHasTakenIsNotObservedAsHandedOver(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		var heard journal
		w := redistest.NewWire(t)
		load(t, client)
		l := newLock(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", &redislock.Options{Observe: heard.note})
		if err := client.Set(t.Context(), key("x", ""), "of another program", 900*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		waiter := begin(t, l)
		time.Sleep(500 * time.Millisecond)
		lost := w.DropReply(script(t, "check"))
		h := waiter.granted(t)
		lost.Await(t)
		time.Sleep(time.Second)
		if heard.count(by(redislock.Free)) != 1 {
			t.Error("what ran out, and was taken by the process's own check, should be observed as free")
		}
		release(t, h)
	})
}
