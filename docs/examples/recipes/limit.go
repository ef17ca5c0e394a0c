package recipes

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redissem"
)

// Limit allows so many calls a second, counted over all processes that use the
// same name: to keep to what a foreign API allows.
type Limit struct{ permits *redissem.Semaphore }

// NewLimit returns the limit with this name.
func NewLimit(client redis.UniversalClient, name string, callsPerSecond int) (*Limit, error) {
	permits, err := redissem.New(client, name, callsPerSecond, &redissem.Options{
		MinHold: time.Second, // a permit is not free earlier, however short the call was
	})
	if err != nil {
		return nil, err
	}
	return &Limit{permits}, nil
}

// Call waits until one more call is allowed, in the order of arrival, and calls.
// Calls that take longer than a second count as long as they take.
func (l *Limit) Call(ctx context.Context, call func(ctx context.Context) error) error {
	return l.permits.Do(ctx, func(ctx context.Context, _ *redissem.Permit) error { return call(ctx) })
}
