package redislock_test

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// breakable is a TTL with a third that can be waited for: a holder whose
// process listens to nothing hears of Break at its next renewal.
var breakable = &redislock.Options{TTL: short}

func TestBreakEndsALivingHolder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, whoever := range []bool{false, true} {
			name := redistest.Name(t)
			client := s.Client(t)
			h := take(t, newLock(t, client, name, breakable))
			waiter := begin(t, newLock(t, s.Client(t), name, unhurried))
			awaitLine(t, client, name, 1)
			token := h.Token()
			if whoever {
				token = 0
			}
			if err := newLock(t, s.Client(t), name, nil).Break(soonCtx(t), token); err != nil {
				t.Fatalf("Break(%d) should end the holder, got %v", token, err)
			}
			wantErr(t, "the holder's Err, when Break has returned,", h.Err(), redislock.ErrLost)
			wantLost(t, h)
			next := waiter.granted(t)
			wantErr(t, "Release after Break", h.Release(soonCtx(t)), redislock.ErrLost)
			wantHeld(t, next) // it came after the one who was meant
			release(t, next)
			wantNoKeys(t, client, name)
		}
	})
}

func TestBreakOfAHolderInTheSameProcess(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		l := newLock(t, s.Client(t), redistest.Name(t), breakable)
		h := take(t, l)
		if err := l.Break(soonCtx(t), 0); err != nil {
			t.Fatalf("Break should end the holder, got %v", err)
		}
		wantLost(t, h)
		wantFree(t, l)
	})
}

func TestBreakOfADeadHolderReturnsWhenItsLeaseHasEnded(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		h := take(t, newLock(t, s.Client(t, w.Through), name, &redislock.Options{TTL: 3 * brief}))
		token := h.Token()
		w.Partition()
		l := newLock(t, s.Client(t), name, nil)
		if err := l.Break(soonCtx(t), token); err != nil {
			t.Fatalf("Break of a dead holder should return nil, got %v", err)
		}
		wantErr(t, "the dead holder's Err, when Break has returned,", h.Err(), redislock.ErrLost)
		wantFree(t, l)
	})
}

func TestBreakTakesAThirdOfTheTTLAtMostIfTheHolderLives(t *testing.T) {
	const ttl = 30 * time.Second
	for who, breaks := range map[string]func(theirs, other redis.UniversalClient) redis.UniversalClient{
		"by another process":      func(_, other redis.UniversalClient) redis.UniversalClient { return other },
		"by the holder's process": func(theirs, _ redis.UniversalClient) redis.UniversalClient { return theirs },
	} {
		t.Run(who, func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				// The holder misses what it is told, and hears it at its renewal.
				w := redistest.NewWire(t)
				theirs := redistest.BubbleClient(t, m, w.ThroughBubble)
				h := take(t, newLock(t, theirs, "x", &redislock.Options{TTL: ttl}))
				w.DropMessages("revoke")
				time.Sleep(ttl)
				l := newLock(t, breaks(theirs, client), "x", nil)
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				if err := l.Break(ctx, h.Token()); err != nil {
					t.Fatalf("Break should return nil, got %v", err)
				}
				if took := time.Since(start); took > ttl/3 {
					t.Errorf("Break should take a third of the TTL at most, %v, it took %v", ttl/3, took)
				}
				wantLost(t, h)
			})
		})
	}
}

func TestBreakOfATurnThatIsOverHarmsNobody(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		l := newLock(t, s.Client(t), name, &redislock.Options{TTL: short})
		other := newLock(t, s.Client(t), name, nil)
		before := take(t, l)
		token := before.Token()
		release(t, before)
		for what, token := range map[string]uint64{"of a turn that is over": token, "of whoever holds a free lock": 0, "that was never given": 1} {
			if err := other.Break(soonCtx(t), token); err != nil {
				t.Errorf("Break of a token %s should return nil, got %v", what, err)
			}
		}
		h := take(t, l)
		for what, token := range map[string]uint64{"of a turn that is over": token, "that was never given": h.Token() + 1e9} {
			if err := other.Break(soonCtx(t), token); err != nil {
				t.Errorf("Break of a token %s should return nil, got %v", what, err)
			}
		}
		first := h.Deadline()
		redistest.EventuallyTrue(t, soon, "the present holder is renewed", func() bool {
			wantHeld(t, h)
			return h.Deadline().After(first)
		})
		release(t, h)
		wantNoKeys(t, s.Client(t), name)
	})
}

// The process has been granted the lock once, and its turns share a ticket.
func TestBreakOfATurnThatWasPassedOnHarmsNobody(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		before := take(t, newLock(t, client, name, unhurried))
		var heard journal
		l := newLock(t, s.Client(t), name, &redislock.Options{TTL: short, Observe: heard.note})
		first := begin(t, l)
		heard.awaitKind(t, redislock.Waiting, 1)
		second := begin(t, l)
		heard.awaitKind(t, redislock.Waiting, 2)
		awaitLine(t, client, name, 1)
		release(t, before)
		h := first.granted(t)
		token := h.Token()
		release(t, h)
		h = second.granted(t)
		if h.Token() <= token {
			t.Fatalf("tokens should grow, got %d after %d", h.Token(), token)
		}
		if err := newLock(t, client, name, nil).Break(soonCtx(t), token); err != nil {
			t.Fatalf("Break of a turn that is over should return nil, got %v", err)
		}
		wantHeld(t, h)
		if err := newLock(t, client, name, nil).Break(soonCtx(t), h.Token()); err != nil {
			t.Fatalf("Break of the present turn should return nil, got %v", err)
		}
		wantLost(t, h)
	})
}

func TestBreakEndsTheWaitForAReleasedLockThatRests(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		l := newLock(t, s.Client(t), name, &redislock.Options{MinHold: time.Minute})
		release(t, take(t, l))
		wantTaken(t, l)
		if err := l.Break(soonCtx(t), 0); err != nil {
			t.Fatalf("Break of a lock that rests should return nil, got %v", err)
		}
		release(t, take(t, newLock(t, s.Client(t), name, nil)))
	})
}

func TestManyMayBreakTheSameHolder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		h := take(t, newLock(t, s.Client(t), name, breakable))
		over := make(chan error)
		for i := range 6 {
			l := newLock(t, s.Client(t), name, nil)
			token := []uint64{0, h.Token()}[i%2]
			go func() { over <- l.Break(soonCtx(t), token) }()
		}
		for range 6 {
			if err := await(t, over, "the end of Break"); err != nil {
				t.Errorf("each Break of the same holder should return nil, got %v", err)
			}
		}
		wantLost(t, h)
		wantNoKeys(t, s.Client(t), name)
	})
}

// A holder that waits for something as well listens, and need not wait for its
// renewal.
func TestBreakIsHeardAtOnceByAProcessThatListens(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		theirs := redistest.BubbleClient(t, m)
		h := take(t, newLock(t, theirs, "x", unhurried))
		take(t, newLock(t, client, "y", unhurried))
		begin(t, newLock(t, theirs, "y", unhurried))
		time.Sleep(time.Second)
		start := time.Now()
		if err := newLock(t, client, "x", nil).Break(soonCtx(t), h.Token()); err != nil {
			t.Fatalf("Break should return nil, got %v", err)
		}
		if took := time.Since(start); took > 10*time.Millisecond {
			t.Errorf("a process that listens should hear of Break at once, it took %v", took)
		}
		wantLost(t, h)
	})
}

// Whoever waits for the end of a dead holder's lease may stop waiting; the
// holder, should it live after all, hears that it was revoked.
func TestBreakReturnsWhenItsCtxEndsAndTheRevocationStands(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		client := s.Client(t)
		h := take(t, newLock(t, s.Client(t, w.Through), name, breakable))
		w.Partition()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		err := newLock(t, client, name, nil).Break(ctx, h.Token())
		wantErr(t, "Break whose ctx ends", err, context.DeadlineExceeded)
		w.Heal()
		wantLost(t, h)
		wantNoKeys(t, s.Client(t), name)
	})
}

func TestARevokedLeaseIsNotRenewed(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		h := take(t, newLock(t, redistest.BubbleClient(t, m), "x", nil))
		l := newLock(t, client, "x", nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantErr(t, "Break whose ctx ends", l.Break(ctx, h.Token()), context.DeadlineExceeded)
		wantHeld(t, h) // nobody has told it yet
		wantTaken(t, l)
		time.Sleep(redislock.DefaultTTL / 3)
		wantLost(t, h)
		wantFree(t, l)
	})
}
