package redisqueue

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// Delivery is an item in a consumer's hand. It is claimed, and the claim is
// renewed, until Ack or Nack; a Delivery that is dropped without them gives the
// item back. All methods are safe for concurrent use.
type Delivery[T any] struct {
	value   T
	id      string
	name    string // of the queue
	claim   *claim
	cleanup runtime.Cleanup
}

func newDelivery[T any](q *Queue[T], c *claim, v T) *Delivery[T] {
	d := &Delivery[T]{value: v, id: c.env.id(), name: q.object.Name(), claim: c}
	if q.id != nil {
		d.id = q.id(v)
	}
	d.cleanup = runtime.AddCleanup(d, (*claim).abandon, c)
	return d
}

func (d *Delivery[T]) wrap(op string, err *error) {
	if *err != nil {
		*err = fmt.Errorf("redisqueue: %s an item of %q: %w", op, d.name, *err)
	}
}

// Value is the item.
func (d *Delivery[T]) Value() T { return d.value }

// Attempt is how often the item was delivered, from 1 for the first time.
func (d *Delivery[T]) Attempt() int { return d.claim.env.attempt() + 1 }

// ID names the item: by Options.ID if there is one, else by an id of its own,
// which is the same in each of its deliveries.
func (d *Delivery[T]) ID() string { return d.id }

// Done is closed when the delivery is over: lost, acknowledged or given back.
func (d *Delivery[T]) Done() <-chan struct{} { return d.claim.ending.Done() }

// Err returns nil while the delivery stands, then ErrLost or ErrReleased. It
// looks at the clock itself, so it is right even before Done closes.
func (d *Delivery[T]) Err() error { return d.claim.state() }

// Context returns a context that ends with parent or with the delivery; in the
// latter case its cause is ErrLost or ErrReleased.
func (d *Delivery[T]) Context(parent context.Context) (context.Context, context.CancelFunc) {
	return d.claim.context(parent)
}

// Ack finishes the item: it is gone. It ignores the end of ctx, and waits at most
// a second, or until the claim's end, for the answer: ErrUnknownOutcome says
// that none came; the item may come again then. ErrLost says that the claim had
// ended before, and the item comes again; ErrReleased that Ack or Nack was
// called before.
func (d *Delivery[T]) Ack(ctx context.Context) (err error) {
	defer d.wrap("acknowledge", &err)
	d.cleanup.Stop()
	defer runtime.KeepAlive(d)
	return d.claim.ack()
}

// Nack gives the item back: to the head of the queue, or with a delay to where it
// waits until then. If it was delivered MaxDeliveries times it goes to the dead
// letters instead. Errors are those of Ack; a negative delay is none.
func (d *Delivery[T]) Nack(ctx context.Context, delay time.Duration) (err error) {
	defer d.wrap("give back", &err)
	d.cleanup.Stop()
	defer runtime.KeepAlive(d)
	return d.claim.nack(max(delay, 0))
}
