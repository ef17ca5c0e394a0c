package recipes

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redislock"
)

// Lead runs lead in one of all the processes that call it with the same name; the
// others stand by. When the leader's machine dies, another takes over within
// five seconds; when it stops in good order, at once. A leader that cannot reach
// Redis is told in time by its ctx, and stands by again. Lead ends with ctx, or
// when lead returns by itself.
func Lead(ctx context.Context, client redis.UniversalClient, name string,
	lead func(ctx context.Context, token uint64) error) error {
	lock, err := redislock.New(client, name, &redislock.Options{TTL: 5 * time.Second})
	if err != nil {
		return err
	}
	for {
		err := lock.Do(ctx, func(ctx context.Context, lease *redislock.Lease) error {
			return lead(ctx, lease.Token()) // send the token with what you write
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, redislock.ErrLost) && !errors.Is(err, redislock.ErrUnavailable) {
			return err
		}
		slog.Warn("not leading", "name", name, "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}
