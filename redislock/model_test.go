package redislock_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// A player is one goroutine of a random mix, whose deeds are recorded.
type player struct {
	t       *testing.T
	id      int
	history *redistest.MutexHistory

	lock    *redislock.Lock // TTL: mixTTL
	lapsing *redislock.Lock // half of that, without renewal
	rough   bool            // calls may find Redis unavailable
}

const mixTTL = 60 * time.Millisecond

// play makes a number of random moves.
func (p *player) play(moves int) {
	for range moves {
		switch n := rand.N(100); {
		case n < 45:
			p.acquire(p.lock, soon, rand.N(2*time.Millisecond))
		case n < 60:
			p.try(rand.N(time.Millisecond))
		case n < 90: // gives up, now and then at the moment of the grant
			p.acquire(p.lock, rand.N(4*time.Millisecond), 0)
		case n < 97: // across one renewal or several
			p.acquire(p.lock, soon, mixTTL/3+rand.N(mixTTL))
		default:
			p.acquire(p.lapsing, soon, 2*mixTTL)
		}
	}
}

func (p *player) acquire(l *redislock.Lock, wait, hold time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	taking := p.history.Acquire(p.id)
	h, err := l.Acquire(ctx)
	switch {
	case err == nil:
		p.hold(h, taking, hold)
	case errors.Is(err, context.DeadlineExceeded):
		taking.Refused()
		if wait == soon && !p.rough {
			p.t.Errorf("the lock should come within %v", wait)
		}
	case p.rough && errors.Is(err, redislock.ErrUnavailable):
		taking.Unknown()
	default:
		p.t.Errorf("Acquire should succeed or end by its ctx, got %v", err)
	}
}

func (p *player) try(hold time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	taking := p.history.Try(p.id)
	h, err := p.lock.TryAcquire(ctx)
	switch {
	case err == nil:
		p.hold(h, taking, hold)
	case errors.Is(err, redislock.ErrNotAcquired):
		taking.Refused()
	case p.rough && errors.Is(err, redislock.ErrUnavailable):
		taking.Unknown()
	default:
		p.t.Errorf("TryAcquire should succeed or say ErrNotAcquired, got %v", err)
	}
}

// hold keeps the lease for a while, asks it again and again whether it stands,
// and releases it.
func (p *player) hold(h *redislock.Lease, taking redistest.MutexTaking, d time.Duration) {
	token := h.Token()
	if token == 0 {
		return // lost already; whose turn it was, nobody will know
	}
	taking.Granted(token)
	holding := p.history.Hold(p.id, token)
	still := func() bool { return h.Err() == nil && h.Token() == token }
	for end := time.Now().Add(d); ; {
		if !p.history.Use(p.id, token, still) || !time.Now().Before(end) {
			break
		}
		use(h, max(d/4, 100*time.Microsecond))
	}
	giving := p.history.Release(p.id, token)
	switch err := h.Release(context.Background()); {
	case err == nil:
		giving.Released()
		holding.Kept()
	case errors.Is(err, redislock.ErrLost):
		giving.Lost()
		holding.Lost()
	case errors.Is(err, redislock.ErrUnknownOutcome):
		giving.Unknown()
	default:
		p.t.Errorf("Release should return nil or say ErrLost, got %v", err)
	}
}

// mix lets the goroutines of several processes, a client each, play for the
// same lock, and judges what they saw.
func mix(t *testing.T, name string, clients []redis.UniversalClient, rough bool, goroutines, moves int, settled func()) {
	t.Helper()
	var history redistest.MutexHistory
	var wg sync.WaitGroup
	for i, client := range clients {
		l := newLock(t, client, name, &redislock.Options{TTL: mixTTL, LocalHandoffs: i*4 - 1})
		lapsing := newLock(t, client, name, &redislock.Options{TTL: mixTTL / 2, NoRenew: true})
		for j := range goroutines {
			p := &player{t: t, id: i*goroutines + j, history: &history, lock: l, lapsing: lapsing, rough: rough}
			wg.Go(func() { p.play(moves) })
		}
	}
	wg.Wait()
	settled()
	history.Settled()
	// Now that nobody stands in line, TryAcquire has no excuse.
	calm := &player{t: t, id: len(clients) * goroutines, history: &history, lock: newLock(t, clients[0], name, nil)}
	for range 3 {
		calm.try(0)
	}
	history.Judge(t)
}

func TestOneHolderAtATimeAndGrowingTokens(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		clients := []redis.UniversalClient{s.Client(t), s.Client(t), s.Client(t)}
		mix(t, name, clients, false, 4, 12, func() { redistest.NoLeaks(t, s, name, ":fence", ":ended") })
	})
}

// The same while connections break, messages get lost and scripts are
// forgotten.
func TestOneHolderAtATimeOverABadNetwork(t *testing.T) {
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
		mix(t, name, clients, true, 3, 8, func() {
			close(stop)
			<-stopped
			bad.KeepMessages()
			redistest.NoLeaks(t, s, name, ":fence", ":ended")
		})
	})
}
