package redissem

import (
	"context"
	"runtime"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/turnstile"
)

// Permit is a permit in somebody's hand. Only it gives the permit back. It is
// renewed until then; a Permit that is dropped without Release stops being
// renewed. All methods are safe for concurrent use.
type Permit struct {
	sem     *Semaphore
	hold    *turnstile.Hold
	cleanup runtime.Cleanup
}

func newPermit(s *Semaphore, hold *turnstile.Hold) *Permit {
	h := &Permit{sem: s, hold: hold}
	h.cleanup = runtime.AddCleanup(h, (*turnstile.Hold).Abandon, hold)
	return h
}

// ID returns the permit's id, which no other permit of any process has had or
// will have. It is what State lists and Break takes. It says nothing of an order,
// and stays when the permit has ended.
func (h *Permit) ID() string { return h.hold.ID() }

// Deadline returns the time until which the permit is trusted, as things stand
// now; a renewal moves it. It is shown on the wall clock, but measured on the
// monotonic one.
func (h *Permit) Deadline() time.Time { return clock.Wall(h.hold.Deadline()) }

// Done is closed when the permit is lost or released.
func (h *Permit) Done() <-chan struct{} { return h.hold.Done() }

// Err returns nil while the permit stands, then ErrLost or ErrReleased. It looks
// at the clock itself, so it is right even before Done closes.
func (h *Permit) Err() error { return h.hold.Err() }

// Context returns a context that ends with parent or with the permit; in the
// latter case its cause is ErrLost or ErrReleased.
func (h *Permit) Context(parent context.Context) (context.Context, context.CancelFunc) {
	return h.hold.Context(parent)
}

// Release gives the permit to the next. It ignores the end of ctx, so that a
// deferred Release works after a cancellation, and waits at most a second, or
// until the permit's deadline, for the answer: ErrUnknownOutcome says that none
// came; the permit then ends by itself at the latest. ErrLost says that the permit
// had been lost, ErrReleased that it was released before.
func (h *Permit) Release(ctx context.Context) (err error) {
	defer h.sem.wrap("release a permit of", &err)
	h.cleanup.Stop()
	defer runtime.KeepAlive(h)
	return h.hold.Release(ctx)
}

func (h *Permit) do(parent context.Context, fn func(ctx context.Context, permit *Permit) error) error {
	return h.hold.Do(parent, h.Release, func(ctx context.Context) error { return fn(ctx, h) })
}
