package main

import (
	"context"
	"errors"
	"time"

	bsm "github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/multihost/multihost/redislock"
	"github.com/multihost/multihost/redissem"
)

// take waits for one turn; give ends it.
type take func(ctx context.Context) (give func() error, err error)

// contestant is one way to take turns.
type contestant struct {
	name string
	// sends are the commands that its clients send.
	sends []string
	// open connects for so many goroutines. What it returns is called by each
	// of them, with the name of what it takes.
	open func(addr string, goroutines int) (func(name string) take, error)
	// fill makes a name ready, where there is something to make ready.
	fill func(ctx context.Context, addr, name string) error
}

const permits = 4 // of a semaphore

var scripts = []string{"evalsha", "eval"}

var contestants = []contestant{
	{name: "multihost", sends: scripts, open: openLock},
	{name: "redsync", sends: append([]string{"set", "setnx"}, scripts...), open: openRedsync},
	{name: "bsm/redislock", sends: scripts, open: openBSM},
	{name: "rueidislock", sends: scripts, open: openRueidis},
	{name: "bare SET NX", sends: append([]string{"set"}, scripts...), open: openBare},
	{name: "bare token", sends: []string{"blpop", "rpush"}, open: openToken, fill: fill(1)},
	{name: "multihost, 4 permits", sends: scripts, open: openSemaphore},
	{name: "4 bare tokens", sends: []string{"blpop", "rpush"}, open: openToken, fill: fill(permits)},
}

func find(name string) *contestant {
	for i := range contestants {
		if contestants[i].name == name {
			return &contestants[i]
		}
	}
	return nil
}

func openLock(addr string, _ int) (func(string) take, error) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	return func(name string) take {
		lock, err := redislock.New(client, name, &redislock.Options{TTL: ttl})
		return func(ctx context.Context) (func() error, error) {
			if err != nil {
				return nil, err
			}
			lease, err := lock.Acquire(ctx)
			if err != nil {
				return nil, err
			}
			return func() error { return lease.Release(ctx) }, nil
		}
	}, nil
}

func openSemaphore(addr string, _ int) (func(string) take, error) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	return func(name string) take {
		sem, err := redissem.New(client, name, permits, &redissem.Options{TTL: ttl})
		return func(ctx context.Context) (func() error, error) {
			if err != nil {
				return nil, err
			}
			permit, err := sem.Acquire(ctx)
			if err != nil {
				return nil, err
			}
			return func() error { return permit.Release(ctx) }, nil
		}
	}, nil
}

func openRedsync(addr string, _ int) (func(string) take, error) {
	rs := redsync.New(goredis.NewPool(redis.NewClient(&redis.Options{Addr: addr})))
	return func(name string) take {
		m := rs.NewMutex(name, redsync.WithExpiry(ttl), redsync.WithTries(1<<30))
		return func(ctx context.Context) (func() error, error) {
			if err := m.LockContext(ctx); err != nil {
				return nil, err
			}
			return func() error {
				_, err := m.Unlock()
				return err
			}, nil
		}
	}, nil
}

func openBSM(addr string, _ int) (func(string) take, error) {
	client := bsm.New(redis.NewClient(&redis.Options{Addr: addr}))
	return func(name string) take {
		return func(ctx context.Context) (func() error, error) {
			// It gives up after the TTL if ctx has no deadline; ours has one.
			lock, err := client.Obtain(ctx, name, ttl, &bsm.Options{RetryStrategy: bsm.LinearBackoff(time.Millisecond)})
			if err != nil {
				return nil, err
			}
			return func() error { return lock.Release(context.WithoutCancel(ctx)) }, nil
		}
	}, nil
}

func openRueidis(addr string, _ int) (func(string) take, error) {
	locker, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: []string{addr}},
		KeyValidity:  ttl, KeyMajority: 1, NoLoopTracking: true,
		// How long it waits for an answer. The default, 20 ms, is too short on a busy machine.
		TryNextAfter: time.Second,
	})
	if err != nil {
		return nil, err
	}
	return func(name string) take {
		return func(ctx context.Context) (func() error, error) {
			_, cancel, err := locker.WithContext(ctx, name)
			if err != nil {
				return nil, err
			}
			return func() error { cancel(); return nil }, nil
		}
	}, nil
}

var release = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

// openBare is what a lock without waiting costs at least.
func openBare(addr string, _ int) (func(string) take, error) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	return func(name string) take {
		return func(ctx context.Context) (func() error, error) {
			switch ok, err := client.SetNX(ctx, name, "me", ttl).Result(); {
			case err != nil:
				return nil, err
			case !ok:
				return nil, errors.New("it is taken")
			}
			return func() error { return release.Run(context.WithoutCancel(ctx), client, []string{name}, "me").Err() }, nil
		}
	}, nil
}

// openToken passes tokens through a list: no lease, but the least that a fair
// hand-over between processes costs.
func openToken(addr string, goroutines int) (func(string) take, error) {
	client := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 2*goroutines + 8})
	return func(name string) take {
		return func(ctx context.Context) (func() error, error) {
			if err := client.BLPop(ctx, 0, name).Err(); err != nil {
				return nil, err
			}
			return func() error { return client.RPush(context.WithoutCancel(ctx), name, "token").Err() }, nil
		}
	}, nil
}

func fill(tokens int) func(ctx context.Context, addr, name string) error {
	return func(ctx context.Context, addr, name string) error {
		client := redis.NewClient(&redis.Options{Addr: addr})
		defer client.Close()
		for range tokens {
			if err := client.RPush(ctx, name, "token").Err(); err != nil {
				return err
			}
		}
		return nil
	}
}
