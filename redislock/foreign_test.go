package redislock_test

import (
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// setNX takes the lock as a program does that knows only its key.
func setNX(t *testing.T, client redis.UniversalClient, name string, ttl time.Duration) bool {
	t.Helper()
	args := []any{"SET", key(name, ""), "somebody", "NX"}
	if ttl > 0 {
		args = append(args, "PX", ttl.Milliseconds())
	}
	err := client.Do(soonCtx(t), args...).Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return err == nil
}

func TestAnotherProgramMayTakeTheKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		l := newLock(t, s.Client(t), name, unhurried)
		if !setNX(t, client, name, 0) {
			t.Fatal("SET NX of a free lock should succeed")
		}
		wantTaken(t, l)
		waiter := begin(t, l)
		awaitLine(t, client, name, 1)
		waiter.wantWaiting(t)
		state, err := l.State(soonCtx(t))
		if err != nil || !state.Held || !state.Foreign || state.Owner != "somebody" || state.TTL != -1 || state.Token != 0 || state.Metadata != nil || state.Waiters != 1 {
			t.Errorf("State should tell of a foreign holder without end and of one who waits, got %+v, %v", state, err)
		}
		wantErr(t, "Break of a foreign holder", l.Break(soonCtx(t), 0), redislock.ErrMismatch)
		wantErr(t, "Break of a token while a foreign holder has the lock", l.Break(soonCtx(t), 7), redislock.ErrMismatch)
		wantErr(t, "Delete while a foreign holder has the lock", l.Delete(soonCtx(t)), redislock.ErrNotAcquired)
		if v, err := client.GetDel(soonCtx(t), key(name, "")).Result(); v != "somebody" || err != nil {
			t.Errorf("the key of a foreign holder should not be touched, it is %q, %v", v, err)
		}
		wantTaken(t, newLock(t, client, name, nil)) // the line comes first
		release(t, waiter.granted(t))
	})
}

func TestTheLockOfAnotherProgramIsFreeWhenItsTTLHasEnded(t *testing.T) {
	t.Parallel()
	const ttl = time.Second // on a busy machine State may take a tenth of that
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		l := newLock(t, s.Client(t), name, unhurried)
		start := time.Now()
		setNX(t, client, name, ttl)
		state, err := l.State(soonCtx(t))
		if err != nil || !state.Foreign || state.TTL <= 0 || state.TTL > ttl {
			t.Errorf("State should tell of a foreign holder with up to %v left, got %+v, %v", ttl, state, err)
		}
		h := acquire(t, l)
		if after := time.Since(start); after < ttl {
			t.Errorf("a foreign holder should keep the lock for its TTL of %v, it was taken after %v", ttl, after)
		}
		release(t, h)
	})
}

func TestAForeignHolderIsWaitedForAndNeverStolenFrom(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		setNX(t, client, "x", 0)
		waiter := begin(t, newLock(t, redistest.BubbleClient(t, m), "x", nil))
		for range 10 {
			time.Sleep(time.Minute)
			waiter.wantWaiting(t)
			if v := client.Get(soonCtx(t), key("x", "")).Val(); v != "somebody" {
				t.Fatalf("the key of a foreign holder should not be touched, it is %q", v)
			}
		}
		client.Del(soonCtx(t), key("x", ""))
		deleted := time.Now()
		<-waiter.over
		// Another program tells nobody: this is how often one who waits looks.
		if took := time.Since(deleted); took > time.Second {
			t.Errorf("a lock that another program gave back should be seen within a second, it took %v", took)
		}
		release(t, waiter.granted(t))
	})
}

// More milliseconds than a time.Duration can tell must not become a time that
// is over.
func TestAForeignTTLOfCenturiesIsNotLookedAtAllTheTime(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		client := s.Client(t)
		s.SkipOn(t, !s.Real, "no TTLs of centuries")
		if err := client.Do(soonCtx(t), "SET", key(name, ""), "somebody", "PX", int64(1e13)).Err(); err != nil {
			t.Fatal(err)
		}
		l := newLock(t, s.Client(t, w.Through), name, unhurried)
		waiter := begin(t, l)
		awaitLine(t, client, name, 1)
		if got := state(t, newLock(t, client, name, nil)); !got.Foreign || got.TTL < 100*365*24*time.Hour {
			t.Errorf("State should tell of a foreign holder with centuries left, got %+v", got)
		}
		w.ResetCounts()
		client.Del(soonCtx(t), key(name, ""))
		wantTaken(t, newLock(t, client, name, nil)) // the line comes first
		release(t, waiter.granted(t))
		if sent := w.Counts(); sent["EVALSHA"]+sent["EVAL"] > 10 {
			t.Errorf("one who waits for a foreign holder should look once a second, it sent %v", sent)
		}
	})
}

func TestOurLeaseKeepsOtherProgramsOut(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newLock(t, s.Client(t), name, unhurried))
		if setNX(t, client, name, time.Minute) {
			t.Error("SET NX of the documented key should fail while we hold the lock")
		}
		if left := client.PTTL(soonCtx(t), key(name, "")).Val(); left <= 0 || left > unhurried.TTL {
			t.Errorf("the key should end within the TTL of %v, PTTL says %v", unhurried.TTL, left)
		}
		release(t, h)
		if !setNX(t, client, name, time.Minute) {
			t.Error("SET NX should succeed after our Release")
		}
		client.Del(soonCtx(t), key(name, ""))
	})
}

// Between two turns, while others wait, another program may be faster.
func TestAWaitGoesOnWhenAnotherProgramWasFaster(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		waiter := begin(t, newLock(t, s.Client(t), name, unhurried))
		awaitLine(t, client, name, 1)
		if err := client.Set(soonCtx(t), key(name, ""), "somebody", time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "Release of a lock that another program has now", h.Release(soonCtx(t)), redislock.ErrLost)
		waiter.wantWaiting(t)
		client.Del(soonCtx(t), key(name, ""))
		// Nobody has told the one who waits that the holder is another now.
		// Whoever asks for the lock next lets him in.
		wantTaken(t, newLock(t, client, name, unhurried))
		release(t, waiter.granted(t))
	})
}
