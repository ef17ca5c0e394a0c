package redislock_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

type body = func(context.Context, *redislock.Lease) error

// eachDo runs a behaviour of Do and TryDo with a lock that is free.
func eachDo(t *testing.T, opts *redislock.Options, behave func(t *testing.T, client redis.UniversalClient, name string, do func(context.Context, body) error)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client := s.Client(t)
		t.Run("Do", func(t *testing.T) {
			name := redistest.Name(t)
			behave(t, client, name, newLock(t, client, name, opts).Do)
		})
		t.Run("TryDo", func(t *testing.T) {
			name := redistest.Name(t)
			behave(t, client, name, newLock(t, client, name, opts).TryDo)
		})
	})
}

var errOfFn = errors.New("of fn")

func TestDoReturnsTheErrorOfFnAndReleases(t *testing.T) {
	eachDo(t, unhurried, func(t *testing.T, client redis.UniversalClient, name string, do func(context.Context, body) error) {
		other := newLock(t, client, name, unhurried)
		for _, want := range []error{nil, errOfFn} {
			ran := 0
			err := do(soonCtx(t), func(ctx context.Context, h *redislock.Lease) error {
				ran++
				wantHeld(t, h)
				if ctx.Err() != nil || h.Token() == 0 {
					t.Errorf("fn should run with a ctx and a token, got %v, %d", ctx.Err(), h.Token())
				}
				wantTaken(t, other)
				return want
			})
			if !errors.Is(err, want) || errors.Is(err, redislock.ErrLost) {
				t.Errorf("fn returned %v, so should Do, got %v", want, err)
			}
			if ran != 1 {
				t.Errorf("fn should run once, it ran %d times", ran)
			}
			wantFree(t, other)
		}
	})
}

func TestDoSaysThatTheLeaseWasLostBeforeFnReturned(t *testing.T) {
	t.Parallel()
	opts := &redislock.Options{TTL: 50 * time.Millisecond, NoRenew: true}
	for _, ofFn := range []error{nil, errOfFn} {
		eachDo(t, opts, func(t *testing.T, client redis.UniversalClient, name string, do func(context.Context, body) error) {
			err := do(soonCtx(t), func(ctx context.Context, h *redislock.Lease) error {
				await(t, ctx.Done(), "the end of the ctx of fn, whose lease is lost,")
				wantErr(t, "its cause", context.Cause(ctx), redislock.ErrLost)
				return ofFn
			})
			wantErr(t, "Do after a loss", err, redislock.ErrLost)
			if ofFn != nil {
				wantErr(t, "Do after a loss and an error of fn", err, ofFn)
			}
		})
	}
}

// What fn did with a lease that it no longer had may have gone wrong, even if
// nobody had told it.
func TestDoSaysThatTheKeyWasGone(t *testing.T) {
	eachDo(t, unhurried, func(t *testing.T, client redis.UniversalClient, name string, do func(context.Context, body) error) {
		err := do(soonCtx(t), func(ctx context.Context, h *redislock.Lease) error {
			return client.Del(ctx, key(name, "")).Err()
		})
		wantErr(t, "Do whose key was deleted", err, redislock.ErrLost)
	})
}

func TestDoReleasesWhenFnPanicsOrExits(t *testing.T) {
	eachDo(t, unhurried, func(t *testing.T, client redis.UniversalClient, name string, do func(context.Context, body) error) {
		over := make(chan any)
		go func() {
			defer func() { over <- recover() }()
			_ = do(soonCtx(t), func(context.Context, *redislock.Lease) error { panic("in fn") })
		}()
		if got := await(t, over, "the panic"); got != "in fn" {
			t.Errorf("Do should let the panic of fn pass, got %v", got)
		}
		wantFree(t, newLock(t, client, name, unhurried))
		go func() {
			defer func() { over <- recover() }()
			_ = do(soonCtx(t), func(context.Context, *redislock.Lease) error { runtime.Goexit(); return nil })
		}()
		if got := await(t, over, "the end of the goroutine"); got != nil {
			t.Errorf("Goexit in fn should end the goroutine without a panic, got %v", got)
		}
		wantFree(t, newLock(t, client, name, unhurried))
	})
}

func TestFnMayReleaseByItself(t *testing.T) {
	eachDo(t, unhurried, func(t *testing.T, client redis.UniversalClient, name string, do func(context.Context, body) error) {
		other := newLock(t, client, name, unhurried)
		err := do(soonCtx(t), func(ctx context.Context, h *redislock.Lease) error {
			release(t, h)
			await(t, ctx.Done(), "the end of the ctx of fn, whose lease is released,")
			wantErr(t, "its cause", context.Cause(ctx), redislock.ErrReleased)
			wantFree(t, other)
			return nil
		})
		if err != nil {
			t.Errorf("Do should return nil when fn has released by itself, got %v", err)
		}
	})
}

func TestTheEndOfTheCallersCtxReachesFnAndTheLockIsReleased(t *testing.T) {
	eachDo(t, unhurried, func(t *testing.T, client redis.UniversalClient, name string, do func(context.Context, body) error) {
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(context.Background())
		err := do(ctx, func(ctx context.Context, h *redislock.Lease) error {
			cancel(why)
			await(t, ctx.Done(), "the end of the ctx of fn")
			wantErr(t, "its cause", context.Cause(ctx), why)
			wantHeld(t, h) // the lease is not bound to the ctx
			return ctx.Err()
		})
		wantErr(t, "Do", err, context.Canceled)
		wantFree(t, newLock(t, client, name, unhurried))
	})
}

func TestDoDoesNotRunFnWithoutTheLock(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		h := take(t, newLock(t, s.Client(t), name, unhurried))
		l := newLock(t, s.Client(t), name, unhurried)
		never := func(context.Context, *redislock.Lease) error {
			t.Error("fn should not run without the lock")
			return nil
		}
		wantErr(t, "TryDo of a taken lock", l.TryDo(soonCtx(t), never), redislock.ErrNotAcquired)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		wantErr(t, "Do whose ctx ends", l.Do(ctx, never), context.DeadlineExceeded)
		release(t, h)
		wantNoKeys(t, s.Client(t), name)
	})
}
