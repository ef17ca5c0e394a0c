package redislock

import (
	"context"
	"runtime"
	"time"

	"github.com/multihost/multihost/internal/clock"
)

// Lease is the lock in somebody's hand. Only it gives the lock back. It is
// renewed until then; a Lease that is dropped without Release stops being
// renewed. All methods are safe for concurrent use.
type Lease struct {
	lock    *Lock
	turn    turn
	cleanup runtime.Cleanup
}

// turn is the lock in the process's hand, in one of two ways.
type turn interface {
	Token() uint64
	Deadline() time.Time
	Done() <-chan struct{}
	Err() error
	Context(parent context.Context) (context.Context, context.CancelFunc)
	Do(parent context.Context, release func(context.Context) error, fn func(context.Context) error) error
	Release(context.Context) error
	Abandon()
}

func newLease(l *Lock, t turn) *Lease {
	h := &Lease{lock: l, turn: t}
	h.cleanup = runtime.AddCleanup(h, turn.Abandon, t)
	return h
}

// Token returns the fencing token of this turn: greater than that of every
// turn before it. Send it with what you write, and let the receiver refuse
// smaller ones. It is 0 as soon as the lease is lost or released, by the clock,
// also in a process that was paused.
func (h *Lease) Token() uint64 { return h.turn.Token() }

// Deadline returns the time until which the lease is trusted, as things stand
// now; a renewal moves it. It is shown on the wall clock, but measured on the
// monotonic one.
func (h *Lease) Deadline() time.Time { return clock.Wall(h.turn.Deadline()) }

// Done is closed when the lease is lost or released.
func (h *Lease) Done() <-chan struct{} { return h.turn.Done() }

// Err returns nil while the lease stands, then ErrLost or ErrReleased. It looks
// at the clock itself, so it is right even before Done closes.
func (h *Lease) Err() error { return h.turn.Err() }

// Context returns a context that ends with parent or with the lease; in the
// latter case its cause is ErrLost or ErrReleased.
func (h *Lease) Context(parent context.Context) (context.Context, context.CancelFunc) {
	return h.turn.Context(parent)
}

// Release gives the lock to the next. It ignores the end of ctx, so that a
// deferred Release works after a cancellation, and waits at most a second, or
// until the lease's deadline, for the answer: ErrUnknownOutcome says that none
// came; the lease then ends by itself at the latest. ErrLost says that the lease
// had been lost, ErrReleased that it was released before.
func (h *Lease) Release(ctx context.Context) (err error) {
	defer h.lock.wrap("release", &err)
	h.cleanup.Stop()
	defer runtime.KeepAlive(h)
	return h.turn.Release(ctx)
}

func (h *Lease) do(parent context.Context, fn func(ctx context.Context, lease *Lease) error) error {
	return h.turn.Do(parent, h.Release, func(ctx context.Context) error { return fn(ctx, h) })
}
