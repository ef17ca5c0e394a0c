package interop_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// keyOf is what docs/protocol.md says.
func keyOf(name string) string { return "mh1:lock:{" + name + "}" }

// A simple program takes a lock as the Redis manual says: SET NX PX with a value of
// its own, and deletes the key if the value is still there. It uses rueidis.
type simple struct {
	t      *testing.T
	client rueidis.Client
	key    string
	value  string
}

func newSimple(t *testing.T, addr, key, value string) simple {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return simple{t, client, key, value}
}

func (s simple) lock(ttl time.Duration) bool {
	err := s.client.Do(context.Background(), s.client.B().Set().Key(s.key).Value(s.value).Nx().Px(ttl).Build()).Error()
	if err != nil && !rueidis.IsRedisNil(err) {
		s.t.Error(err)
	}
	return err == nil
}

var deleteIfMine = rueidis.NewLuaScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

func (s simple) unlock() bool {
	n, err := deleteIfMine.Exec(context.Background(), s.client, []string{s.key}, []string{s.value}).AsInt64()
	if err != nil {
		s.t.Error(err)
	}
	return n == 1
}

func newLock(t *testing.T, client redis.UniversalClient, name string) *redislock.Lock {
	t.Helper()
	l, err := redislock.New(client, name, &redislock.Options{TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestASimpleProgramAndALockKeepEachOtherOut(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		l := newLock(t, s.Client(t), name)
		program := newSimple(t, s.Addr, keyOf(name), "theirs")

		lease, err := l.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if program.lock(time.Minute) {
			t.Error("SET NX should fail while we hold the lock")
		}
		if program.unlock() {
			t.Error("the program should not find its value in our key")
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}

		if !program.lock(time.Minute) {
			t.Fatal("SET NX should succeed after our Release")
		}
		if _, err := l.TryAcquire(t.Context()); !errors.Is(err, redislock.ErrNotAcquired) {
			t.Errorf("TryAcquire should say ErrNotAcquired while the program holds the lock, got %v", err)
		}
		if state, err := l.State(t.Context()); err != nil || !state.Held || !state.Foreign || state.Owner != "theirs" {
			t.Errorf("State should tell of the program, got %+v, %v", state, err)
		}
		if !program.unlock() {
			t.Error("its key should not have been touched")
		}
		lease, err = l.TryAcquire(t.Context())
		if err != nil {
			t.Fatalf("TryAcquire should succeed after the program's unlock, got %v", err)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A name that needs escaping: the key is as documented.
func TestTheKeyOfANameWithBraces(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		l := newLock(t, s.Client(t), name+"{a}%")
		program := newSimple(t, s.Addr, keyOf(name+"%7Ba%7D%25"), "theirs")
		if !program.lock(time.Minute) {
			t.Fatal("SET NX of a free lock should succeed")
		}
		if _, err := l.TryAcquire(t.Context()); !errors.Is(err, redislock.ErrNotAcquired) {
			t.Errorf("TryAcquire should say ErrNotAcquired, got %v", err)
		}
		program.unlock()
	})
}

// Both at once, many times: never together.
func TestSimpleProgramsAndLocksNeverHoldTogether(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const turns = 30
		name := redistest.Name(t)
		var inside, together atomic.Int32
		use := func() {
			if inside.Add(1) > 1 {
				together.Add(1)
			}
			timer := time.NewTimer(time.Millisecond)
			<-timer.C
			inside.Add(-1)
		}
		var wg sync.WaitGroup
		for range 2 {
			program := newSimple(t, s.Addr, keyOf(name), redistest.Name(t))
			wg.Go(func() {
				for range turns {
					redistest.EventuallyTrue(t, time.Minute, "a simple program, which polls, has its turn", func() bool { return program.lock(time.Minute) })
					use()
					program.unlock()
				}
			})
			l := newLock(t, s.Client(t), name)
			wg.Go(func() {
				for range turns {
					if err := l.Do(t.Context(), func(context.Context, *redislock.Lease) error { use(); return nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := together.Load(); n > 0 {
			t.Errorf("no two should hold the lock together, they did %d times", n)
		}
	})
}
