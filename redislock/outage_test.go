package redislock_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// impatient is a client that gives up soon.
func impatient(o *redis.UniversalOptions) {
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	o.MaxRetries, o.DialerRetries = 1, 1
}

func TestAFirstAttemptSaysThatRedisIsUnavailable(t *testing.T) {
	t.Parallel()
	for what, strike := range map[string]func(*redistest.Own, testing.TB){"gone": (*redistest.Own).Kill, "silent": (*redistest.Own).Pause} {
		t.Run(what, func(t *testing.T) {
			own := redistest.StartOwn(t)
			l := newLock(t, own.Client(t, impatient), redistest.Name(t), nil)
			strike(own, t)
			var wg sync.WaitGroup
			for call, do := range calls(t) {
				wg.Go(func() {
					err := do(soonCtx(t), l)
					if !errors.Is(err, redislock.ErrUnavailable) {
						t.Errorf("%s should say ErrUnavailable, got %v", call, err)
					}
					if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
						t.Errorf("%s should fail before its ctx ends, got %v", call, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestAWaitThatEndsWhileRedisIsUnavailableSaysSo(t *testing.T) {
	for what, strike := range map[string]func(*redistest.Wire){"gone": (*redistest.Wire).Down, "silent": (*redistest.Wire).Partition} {
		t.Run(what, func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				w := redistest.NewWire(t)
				through := redistest.BubbleClient(t, m, w.ThroughBubble)
				take(t, newLock(t, client, "x", unhurried))
				waiter := begin(t, newLock(t, through, "x", unhurried))
				time.Sleep(time.Second)
				strike(w)
				time.Sleep(5 * time.Second) // twice what a PONG may take
				waiter.wantWaiting(t)
				waiter.cancel()
				wantErr(t, "a wait that ends during an outage", waiter.ended(t), context.Canceled, redislock.ErrUnavailable)

				late := begin(t, newLock(t, through, "y", unhurried))
				time.Sleep(time.Second)
				late.cancel()
				wantErr(t, "a wait that begins and ends during an outage", late.ended(t), redislock.ErrUnavailable)
				w.CutAll()
				w.Heal()
				w.Up()
			})
		})
	}
}

func TestAWaitInLineSurvivesARestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what    string
		persist bool
	}{{"with its data", true}, {"empty", false}} {
		t.Run(c.what, func(t *testing.T) {
			var args []string
			if c.persist {
				args = redistest.Persist(t)
			}
			own := redistest.StartOwn(t, args...)
			name := redistest.Name(t)
			client := own.Client(t)
			h := take(t, newLock(t, client, name, &redislock.Options{TTL: 5 * time.Second}))
			token := h.Token()
			waiter := begin(t, newLock(t, own.Client(t), name, unhurried))
			awaitLine(t, client, name, 1)
			own.Restart(t)
			if c.persist {
				// The one who waits is back in line, or there again.
				awaitLine(t, client, name, 1)
				waiter.wantWaiting(t)
				wantHeld(t, h)
				release(t, h)
			}
			next := waiter.granted(t)
			if next.Token() <= token {
				t.Errorf("tokens should grow over a restart, it was %d and is %d", token, next.Token())
			}
			if !c.persist {
				wantLost(t, h) // its next renewal tells
			}
			release(t, next)
			wantNoKeys(t, client, name)
		})
	}
}

func TestAWaitInLineSurvivesALongOutage(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		through := redistest.BubbleClient(t, m, w.ThroughBubble)
		h := take(t, newLock(t, client, "x", unhurried))
		waiter := begin(t, newLock(t, through, "x", unhurried))
		time.Sleep(time.Second)
		for range 3 {
			w.Down()
			time.Sleep(5 * time.Minute)
			waiter.wantWaiting(t)
			w.Up()
			time.Sleep(time.Minute)
		}
		release(t, h)
		start := time.Now()
		release(t, waiter.granted(t))
		if took := time.Since(start); took > time.Second {
			t.Errorf("after the outage the lock should be handed over at once, it took %v", took)
		}
	})
}

func TestAHolderWhoseKeyIsGoneHearsItAtTheNextRenewal(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		ttl := short
		client := s.Client(t)
		name := redistest.Name(t)
		start := time.Now()
		held := map[string]*redislock.Lease{}
		for _, what := range []string{"deleted", "expired", "stolen"} {
			held[what] = take(t, newLock(t, client, name+what, &redislock.Options{TTL: ttl}))
		}
		err := errors.Join(
			client.Del(soonCtx(t), key(name+"deleted", "")).Err(),
			client.PExpire(soonCtx(t), key(name+"expired", ""), time.Millisecond).Err(),
			client.Set(soonCtx(t), key(name+"stolen", ""), "somebody", time.Minute).Err(),
		)
		if err != nil {
			t.Fatal(err)
		}
		for what, h := range held {
			wantLost(t, h)
			if after := time.Since(start); after > ttl*9/10 {
				t.Errorf("the holder whose key is %s should hear it at the next renewal, after %v, it did after %v", what, ttl/3, after)
			}
			wantErr(t, "Release after the loss", h.Release(soonCtx(t)), redislock.ErrLost)
		}
		if v, err := client.Get(soonCtx(t), key(name+"stolen", "")).Result(); v != "somebody" || err != nil {
			t.Errorf("another's key should not be touched, it is %q, %v", v, err)
		}
	})
}

func TestAHolderHearsOfAnEmptyRestartAtTheNextRenewal(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t)
	name := redistest.Name(t)
	const ttl = 3 * time.Second
	start := time.Now()
	h := take(t, newLock(t, own.Client(t), name, &redislock.Options{TTL: ttl}))
	token := h.Token()
	own.Restart(t)
	wantLost(t, h)
	if after := time.Since(start); after > ttl*9/10 {
		t.Errorf("the holder should hear it at the next renewal, after %v, it did after %v", ttl/3, after)
	}
	next := take(t, newLock(t, own.Client(t), name, nil))
	if next.Token() <= token {
		t.Errorf("tokens should grow over a restart, it was %d and is %d", token, next.Token())
	}
	release(t, next)
}

func TestReleaseOfALeaseWhoseKeyIsGoneSaysErrLost(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		if err := client.Del(soonCtx(t), key(name, "")).Err(); err != nil {
			t.Fatal(err)
		}
		next := take(t, newLock(t, s.Client(t), name, unhurried))
		wantErr(t, "Release of a lease whose key is gone", h.Release(soonCtx(t)), redislock.ErrLost)
		wantHeld(t, next)
		wantTaken(t, newLock(t, client, name, unhurried))
		release(t, next)
	})
}

func TestAHolderBehindASilentPartitionIsToldBeforeAnotherHasTheLock(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		client := s.Client(t)
		opts := &redislock.Options{TTL: short}
		h := acquire(t, newLock(t, s.Client(t, w.Through), name, opts))
		ctx, cancel := h.Context(context.Background())
		defer cancel()
		other := begin(t, newLock(t, client, name, opts))
		awaitLine(t, client, name, 1)
		w.Partition()
		next := other.granted(t)
		wantErr(t, "the first holder's Err, when the next has the lock,", h.Err(), redislock.ErrLost)
		if h.Token() != 0 {
			t.Errorf("the first holder's token should be 0 when the next has the lock, it is %d", h.Token())
		}
		wantLost(t, h)
		await(t, ctx.Done(), "the end of the context of a lost lease")
		wantErr(t, "its cause", context.Cause(ctx), redislock.ErrLost)
		wantErr(t, "Release after the loss", h.Release(soonCtx(t)), redislock.ErrLost)
		w.Heal()
		// What waited in the wire, renewals and the giving back, harms nobody.
		first := next.Deadline()
		redistest.EventuallyTrue(t, soon, "the next lease is renewed", func() bool {
			wantHeld(t, next)
			return next.Deadline().Sub(first) > opts.TTL/2
		})
		release(t, next)
		wantNoKeys(t, client, name)
	})
}

func TestAHolderBehindASilentPartitionIsToldAtItsDeadline(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		h := take(t, newLock(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", nil))
		other := begin(t, newLock(t, client, "x", nil))
		time.Sleep(4 * time.Second) // one renewal
		w.Partition()
		deadline := h.Deadline()
		<-h.Done()
		if late := time.Since(deadline); late != 0 {
			t.Errorf("Done should close at the deadline, it did %v later", late)
		}
		other.wantWaiting(t)
		next := other.granted(t)
		if after := time.Since(deadline); after > time.Second {
			t.Errorf("the next should have the lock soon after the deadline, it had it after %v", after)
		}
		release(t, next)
		w.CutAll()
		w.Heal()
	})
}

func TestReleaseDoesNotWaitForEverForASilentServer(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		for _, c := range []struct{ ttl, held, most time.Duration }{
			{time.Minute, 0, time.Second},
			{10 * time.Second, 9700 * time.Millisecond, 200 * time.Millisecond}, // what is left of the trust
		} {
			w := redistest.NewWire(t)
			through := redistest.BubbleClient(t, m, w.ThroughBubble)
			h := take(t, newLock(t, through, "x", &redislock.Options{TTL: c.ttl, NoRenew: true}))
			time.Sleep(c.held)
			w.Partition()
			start := time.Now()
			err := h.Release(context.Background())
			if took := time.Since(start); took != c.most {
				t.Errorf("Release should wait %v for an answer, it took %v", c.most, took)
			}
			wantErr(t, "an unanswered Release", err, redislock.ErrUnknownOutcome)
			wantErr(t, "Err after it", h.Err(), redislock.ErrReleased)
			w.Heal()
			release(t, acquire(t, newLock(t, client, "x", nil)))
		}
	})
}

// A pub/sub connection that is cut once a second slows hand-overs down and
// breaks nothing.
func TestWaitsGoOnWhileThePubSubConnectionIsCutAgainAndAgain(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		through := redistest.BubbleClient(t, m, w.ThroughBubble)
		mine, theirs := newLock(t, client, "x", unhurried), newLock(t, through, "x", unhurried)
		for range 20 {
			h := acquire(t, mine)
			waiter := begin(t, theirs)
			time.Sleep(time.Second)
			w.CutPubSub()
			release(t, h)
			start := time.Now()
			<-waiter.over
			if took := time.Since(start); took > 31*time.Second {
				t.Errorf("without its subscription a wait should end by its fallback check within 30 s, it took %v", took)
			}
			release(t, waiter.granted(t))
		}
	})
}

// On a real server: whoever waits hears of hand-overs by the pub/sub connection, which
// the server closes every second.
func TestHandOversGoOnWhileTheServerClosesPubSubConnections(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t)
	name := redistest.Name(t)
	over := make(chan struct{})
	var turns atomic.Int64
	var longest atomic.Int64 // wait
	var wg sync.WaitGroup
	for range 3 {
		l := newLock(t, own.Client(t), name, nil)
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					start := time.Now()
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					h, err := l.Acquire(ctx)
					cancel()
					if err != nil {
						t.Errorf("Acquire should succeed, got %v", err)
						return
					}
					for d := int64(time.Since(start)); ; {
						if old := longest.Load(); d <= old || longest.CompareAndSwap(old, d) {
							break
						}
					}
					turns.Add(1)
					if err := h.Release(context.Background()); err != nil {
						t.Errorf("Release should return nil, got %v", err)
					}
				}
			})
		}
	}
	killer := own.Client(t)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	killed, rounds := int64(0), redistest.Long(3, 60)
	for range rounds {
		<-tick.C
		n, err := killer.ClientKillByFilter(soonCtx(t), "TYPE", "pubsub").Result()
		if err != nil {
			t.Error(err)
		}
		killed += n
	}
	close(over)
	wg.Wait()
	d := time.Duration(longest.Load())
	t.Logf("%d connections were closed in %d s; %d turns, the longest wait was %v", killed, rounds, turns.Load(), d.Round(time.Millisecond))
	if killed < int64(rounds) {
		t.Errorf("a subscription should have been closed each second, %d were in %d s", killed, rounds)
	}
	if d > 31*time.Second {
		t.Errorf("a wait should end by the fallback check within 30 s, the longest took %v", d)
	}
}
