package recipes

import (
	"context"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redisevent"
)

// Reload calls load now, and again after each change, until ctx ends. A
// change that was made while load ran, or while Redis was away, is not missed.
// Several at once may come as one.
func Reload(ctx context.Context, client redis.UniversalClient, name string,
	load func(ctx context.Context) error) error {
	changed, err := redisevent.New(client, name, nil)
	if err != nil {
		return err
	}
	for _, err := range changed.Watch(ctx) {
		if err != nil {
			return err // ctx has ended, or Redis was away at the very start
		}
		if err := load(ctx); err != nil {
			slog.Error("the old configuration stays", "name", name, "err", err)
		}
	}
	return nil
}

// Changed has every process load the configuration. Call it after the new one
// was written.
func Changed(ctx context.Context, client redis.UniversalClient, name string) error {
	changed, err := redisevent.New(client, name, nil)
	if err != nil {
		return err
	}
	return changed.Pulse(ctx)
}
