package scenario

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/multihost/multihost/redislock"
)

// Only a release is forgiven that is overdue, not what went wrong before it.
func TestALateReleaseHidesNoError(t *testing.T) {
	late, bad := fmt.Errorf("no answer: %w", redislock.ErrUnknownOutcome), errors.New("sold twice")
	for _, c := range []struct{ work, release, want error }{
		{nil, nil, nil}, {nil, late, nil}, {bad, nil, bad}, {bad, late, bad}, {nil, bad, bad}, {late, nil, late},
	} {
		do := func(ctx context.Context, fn func(context.Context, int) error) error {
			return errors.Join(fn(ctx, 1), c.release)
		}
		err := holding(t.Context(), do, func(context.Context, int) error { return c.work })
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("with %v from the work and %v from the release it should be %v, got %v", c.work, c.release, c.want, err)
		}
	}
}
