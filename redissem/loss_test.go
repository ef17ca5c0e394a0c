package redissem_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

// A holder behind a silent partition is told before the next has its permit.
func TestAPartitionedHolderIsToldBeforeTheNextIsGranted(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		h := take(t, newSem(t, s.Client(t, w.Through), name, 2, &redissem.Options{TTL: 4 * brief}))
		stays := take(t, newSem(t, s.Client(t), name, 2, unhurried))
		waiter := begin(t, newSem(t, s.Client(t), name, 2, unhurried))
		w.Partition()
		next := waiter.granted(t)
		wantErr(t, "the first holder's Err, when the next has its permit,", h.Err(), redissem.ErrLost)
		wantLost(t, h)
		w.Heal()
		wantErr(t, "Release after the loss", h.Release(soonCtx(t)), redissem.ErrLost)
		wantHeld(t, stays)
		wantHeld(t, next) // what was on its way touches nobody
		release(t, next)
		release(t, stays)
		wantNoKeys(t, s.Client(t), name)
	})
}

func TestALostKeyIsNoticedByTheNextRenewal(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl = 9 * time.Second
		for what, lose := range map[string]func(h *redissem.Permit){
			"all keys":          func(*redissem.Permit) { m.FlushAll() },
			"the main key":      func(*redissem.Permit) { m.Del(key("x", "")) },
			"the holders":       func(*redissem.Permit) { m.Del(key("x", "holders")) },
			"the permit itself": func(h *redissem.Permit) { ticket, _, _ := cut(h.ID()); _, _ = m.ZRem(key("x", ""), ticket) },
		} {
			h := take(t, newSem(t, client, "x", 1, &redissem.Options{TTL: ttl}))
			time.Sleep(ttl)
			lose(h)
			start := time.Now()
			<-h.Done()
			if took := time.Since(start); took > ttl/3 {
				t.Errorf("the loss of %s should be noticed within %v, it took %v", what, ttl/3, took)
			}
			wantErr(t, "Err", h.Err(), redissem.ErrLost)
			wantErr(t, "Release after the loss", h.Release(soonCtx(t)), redissem.ErrLost)
			time.Sleep(2 * ttl)
			wantFree(t, newSem(t, client, "x", 1, nil), 1)
			m.FlushAll()
		}
	})
}

func TestWaitsGoOnAfterAnOutageAndAnEmptyRestart(t *testing.T) {
	t.Parallel()
	s := redistest.StartOwn(t)
	name := redistest.Name(t)
	client := s.Client(t)
	held := take(t, newSem(t, client, name, 1, &redissem.Options{TTL: short}))
	waiter := begin(t, newSem(t, s.Client(t), name, 1, unhurried))
	awaitLine(t, client, name, 1)
	s.Kill(t)
	_, err := newSem(t, s.Client(t), name, 1, nil).TryAcquire(soonCtx(t))
	wantErr(t, "a first attempt while Redis is down", err, redissem.ErrUnavailable)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = newSem(t, s.Client(t), name, 1, nil).Acquire(ctx)
	if !errors.Is(err, redissem.ErrUnavailable) {
		t.Errorf("an Acquire while Redis is down should say ErrUnavailable, got %v", err)
	}
	wantLost(t, held)
	s.Start(t)
	release(t, waiter.granted(t))
	wantFree(t, newSem(t, client, name, 1, nil), 1)
}

func TestScriptsMayBeFlushed(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, s.Client(t), name, 1, unhurried)
		for range 3 {
			if err := client.ScriptFlush(soonCtx(t)).Err(); err != nil {
				t.Fatal(err)
			}
			h := acquire(t, sem)
			waiter := begin(t, newSem(t, s.Client(t), name, 1, unhurried))
			awaitLine(t, client, name, 1)
			if err := client.ScriptFlush(soonCtx(t)).Err(); err != nil {
				t.Fatal(err)
			}
			release(t, h)
			release(t, waiter.granted(t))
		}
		wantNoKeys(t, client, name)
	})
}

// A pub/sub connection that is cut again and again makes hand-overs slower, and
// loses none.
func TestACutSubscriptionOnlyCostsTime(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		client := s.Client(t)
		mine := newSem(t, client, name, 1, unhurried)
		theirs := newSem(t, s.Client(t, w.Through), name, 1, unhurried)
		for range 5 {
			h := acquire(t, mine)
			waiter := begin(t, theirs)
			awaitLine(t, client, name, 1)
			w.CutPubSub()
			release(t, h)
			release(t, waiter.granted(t))
		}
		wantNoKeys(t, client, name)
	})
}

// Somebody who gives up at the very moment of the grant has either the permit
// or nothing, and nothing stays behind.
func TestACancellationThatRacesTheGrant(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		mine, theirs := newSem(t, client, name, 1, unhurried), newSem(t, s.Client(t), name, 1, unhurried)
		both := map[bool]int{}
		for i := range redistest.Long(200, 50_000) {
			h := acquire(t, mine)
			waiter := begin(t, theirs)
			if i%4 != 0 { // else it may not even stand in line
				redistest.EventuallyTrue(t, soon, "it stands in line", func() bool {
					return client.ZCard(soonCtx(t), key(name, "line")).Val() == 1
				})
			}
			time.AfterFunc(rand.N(500*time.Microsecond), waiter.cancel)
			release(t, h)
			await(t, waiter.over, "the end of Acquire")
			both[waiter.err == nil]++
			switch {
			case waiter.err == nil:
				release(t, waiter.permit)
			case !errors.Is(waiter.err, context.Canceled):
				t.Fatalf("Acquire should succeed or be cancelled, got %v", waiter.err)
			}
		}
		t.Logf("granted or not: %v", both)
		redistest.NoLeaks(t, s, name, ":limit", ":ended")
		wantFree(t, mine, 1)
	})
}
