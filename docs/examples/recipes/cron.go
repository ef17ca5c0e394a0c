package recipes

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redislock"
)

// RunOnce runs the job on the machine that comes first, and on no other that comes
// within half the interval. Every machine calls it once per interval.
func RunOnce(ctx context.Context, client redis.UniversalClient, name string, interval time.Duration,
	job func(ctx context.Context) error) error {
	lock, err := redislock.New(client, name, &redislock.Options{
		// However short the job is: longer than the machines' clocks differ.
		MinHold: interval / 2,
	})
	if err != nil {
		return err
	}
	lease, err := lock.TryAcquire(ctx)
	if errors.Is(err, redislock.ErrNotAcquired) {
		return nil // another machine runs it, or did so just now
	}
	if err != nil {
		return err
	}
	jobCtx, cancel := lease.Context(ctx) // ends with the lease
	defer cancel()
	return errors.Join(job(jobCtx), lease.Release(ctx))
}
