package redissem_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

// A player is one goroutine of a random mix, whose deeds are recorded.
type player struct {
	t       *testing.T
	id      int
	history *redistest.PermitHistory

	sem     *redissem.Semaphore // TTL: mixTTL
	lapsing *redissem.Semaphore // half of that, without renewal
	rough   bool                // calls may find Redis unavailable
	resizes bool
}

const (
	mixTTL   = 60 * time.Millisecond
	mixLimit = 3
)

// play makes a number of random moves.
func (p *player) play(moves int) {
	for range moves {
		switch n := rand.N(100); {
		case n < 45:
			p.acquire(p.sem.Acquire, soon, rand.N(2*time.Millisecond))
		case n < 60:
			p.acquire(p.sem.TryAcquire, soon, rand.N(time.Millisecond))
		case n < 85: // gives up, now and then at the moment of the grant
			p.acquire(p.sem.Acquire, rand.N(4*time.Millisecond), 0)
		case n < 92: // across one renewal or several
			p.acquire(p.sem.Acquire, soon, mixTTL/3+rand.N(mixTTL))
		case n < 96 && p.resizes:
			p.resize(1 + rand.N(mixLimit+1))
		default:
			p.acquire(p.lapsing.Acquire, soon, 2*mixTTL)
		}
	}
}

func (p *player) acquire(call func(context.Context) (*redissem.Permit, error), wait, hold time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	taking := p.history.Acquire(p.id)
	h, err := call(ctx)
	switch {
	case err == nil:
		p.hold(h, taking, hold)
	case errors.Is(err, redissem.ErrNotAcquired), errors.Is(err, context.DeadlineExceeded) && wait != soon:
		taking.Refused()
	case p.rough && errors.Is(err, redissem.ErrUnavailable): // open
	default:
		p.t.Errorf("a permit should come within %v, got %v", wait, err)
	}
}

func (p *player) resize(limit int) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	resizing := p.history.Resize(p.id, limit)
	switch err := p.sem.Resize(ctx, limit); {
	case err == nil:
		resizing.Done()
	case !p.rough || !errors.Is(err, redissem.ErrUnavailable):
		p.t.Errorf("Resize should succeed, got %v", err)
	}
}

// hold keeps the permit for a while, asks it again and again whether it stands,
// and releases it.
func (p *player) hold(h *redissem.Permit, taking redistest.PermitCall, d time.Duration) {
	id := h.ID()
	taking.Granted(id)
	holding := p.history.Hold(p.id, id)
	still := func() bool { return h.Err() == nil }
	for end := time.Now().Add(d); ; {
		if !p.history.Use(p.id, id, still) || !time.Now().Before(end) {
			break
		}
		use(h, max(d/4, 100*time.Microsecond))
	}
	giving := p.history.Release(p.id, id)
	switch err := h.Release(context.Background()); {
	case err == nil:
		giving.Done()
		holding.Kept()
	case errors.Is(err, redissem.ErrLost):
		giving.Lost()
		holding.Lost()
	case !errors.Is(err, redissem.ErrUnknownOutcome):
		p.t.Errorf("Release should return nil or say ErrLost, got %v", err)
	}
}

// takenLua counts the permits that are taken, by the server's clock.
const takenLua = `
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000000 + t[2])
return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')`

// sample asks the server, until stop, how many permits are taken.
func sample(t *testing.T, client redis.UniversalClient, name string, stop <-chan struct{}) (most, samples int) {
	for {
		select {
		case <-stop:
			return most, samples
		default:
		}
		n, err := client.Eval(soonCtx(t), takenLua, []string{key(name, "")}).Int()
		if err == nil {
			most, samples = max(most, n), samples+1
		}
		timer := time.NewTimer(200 * time.Microsecond)
		<-timer.C
	}
}

// mix lets the goroutines of several processes, a client each, play for the
// same semaphore, and judges what they and the server saw.
//
// A permit that is passed on inside a process is not granted anew, so for that
// moment a lowered limit is not obeyed: one mix passes on, the other resizes.
func mix(t *testing.T, s *redistest.Server, name string, clients []redis.UniversalClient, rough, resizes bool, settled func()) {
	t.Helper()
	history := redistest.NewPermitHistory(mixLimit)
	var wg, sampler sync.WaitGroup
	over := make(chan struct{})
	watch := s.Client(t)
	sampler.Go(func() {
		most, samples := sample(t, watch, name, over)
		t.Logf("by the server's account at most %d were held, of %d samples", most, samples)
		limit := mixLimit
		if resizes {
			limit++ // it raises it by one
		}
		if most > limit || samples == 0 {
			t.Errorf("%d held at a time, more than the limit ever was (%d samples)", most, samples)
		}
	})
	for i, client := range clients {
		handoffs := 4 * i
		if resizes {
			handoffs = -1
		}
		sem := newSem(t, client, name, mixLimit, &redissem.Options{TTL: mixTTL, LocalHandoffs: handoffs})
		lapsing := newSem(t, client, name, mixLimit, &redissem.Options{TTL: mixTTL / 2, NoRenew: true})
		for j := range 3 {
			p := &player{t: t, id: i*3 + j, history: history, sem: sem, lapsing: lapsing, rough: rough, resizes: resizes}
			wg.Go(func() { p.play(8) })
		}
	}
	wg.Wait()
	close(over)
	sampler.Wait()
	settled()
	history.Judge(t)
	calm := newSem(t, clients[0], name, mixLimit, nil)
	if err := calm.Resize(soonCtx(t), 2); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, soon, func() error {
		if got := state(t, calm); got.Held != 0 {
			return fmt.Errorf("nobody should hold a permit any more, got %+v", got)
		}
		return nil
	})
	wantFree(t, calm, 2)
}

func TestNeverMoreThanTheLimit(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, resizes := range []bool{false, true} {
			name := redistest.Name(t) + fmt.Sprint(resizes)
			clients := []redis.UniversalClient{s.Client(t), s.Client(t), s.Client(t)}
			mix(t, s, name, clients, false, resizes, func() {
				redistest.NoLeaks(t, s, name, ":limit", ":ended", ":changes")
			})
		}
	})
}

// The same while connections break, messages get lost and scripts are
// forgotten.
func TestNeverMoreThanTheLimitOverABadNetwork(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		good, bad := redistest.NewWire(t), redistest.NewWire(t)
		direct := s.Client(t)
		clients := []redis.UniversalClient{s.Client(t, good.Through), s.Client(t, bad.Through), s.Client(t, bad.Through)}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				timer := time.NewTimer(rand.N(40 * time.Millisecond))
				select {
				case <-stop:
					timer.Stop()
					return
				case <-timer.C:
				}
				switch i % 6 {
				case 0:
					bad.CutPubSub()
				case 1:
					bad.DropReply(redistest.Has(name))
				case 2:
					bad.DropMessages("grant")
				case 3:
					bad.KeepMessages()
				case 4:
					bad.DropCommand(redistest.Has(name))
				case 5:
					_ = direct.ScriptFlush(context.Background()).Err()
				}
			}
		}()
		mix(t, s, name, clients, true, rand.N(2) == 0, func() {
			close(stop)
			<-stopped
			bad.KeepMessages()
			redistest.NoLeaks(t, s, name, ":limit", ":ended", ":changes")
		})
	})
}
