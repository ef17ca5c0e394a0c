package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Work receives items and has fn work on them, n at a time, until ctx ends or
// the queue was shut down and is drained. fn returning nil acknowledges the
// item, an error gives it back after RetryDelay; Ack and Nack may also be called
// in fn. The ctx of fn ends when the delivery is lost, not with the ctx of Work:
// when that ends, Work takes no more items, lets the running ones finish, waits
// up to a second until items on their way here are back in the queue (or with
// others of this process who wait), and returns its error: a process that then
// ends keeps nothing from the others. Work returns nil after a shutdown. It
// survives an outage of Redis once that was reached; an item whose Ack did not
// arrive comes again. Any other error of Receive ends it, but for items that
// cannot be decoded, which are among the dead letters. A panic in fn gives the
// item back and is not recovered.
func (q *Queue[T]) Work(ctx context.Context, n int, fn func(context.Context, *Delivery[T]) error) (err error) {
	defer q.wrap("work on", &err)
	if n < 1 {
		return fmt.Errorf("n is %d; allowed is 1 or more", n)
	}
	if fn == nil {
		return errors.New("fn is nil; give a function that works on one item")
	}
	working := context.WithoutCancel(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	var first sync.Once
	for range n {
		workers.Go(func() {
			ended := q.loop(ctx, working, fn)
			first.Do(func() {
				err = ended
				stop()
			})
		})
	}
	workers.Wait()
	s, done := q.station()
	s.receiver(q.settings).settle()
	done()
	if errors.Is(err, ErrShutdown) {
		return nil
	}
	return err
}

// loop works on one item after another. The error is one that ends the work.
func (q *Queue[T]) loop(ctx, working context.Context, fn func(context.Context, *Delivery[T]) error) error {
	for failures := 0; ; {
		d, err := q.Receive(ctx)
		switch {
		case err == nil:
			failures = 0
			q.handle(working, d, fn)
		case errors.Is(err, ErrUndecodable):
		case ctx.Err() == nil && errors.Is(err, ErrUnavailable) && q.settings.compared.Load():
			failures++
			select {
			case <-time.After(backoff(failures)):
			case <-ctx.Done():
			}
		default:
			return err
		}
	}
}

// handle works on one item.
func (q *Queue[T]) handle(ctx context.Context, d *Delivery[T], fn func(context.Context, *Delivery[T]) error) {
	failed := errors.New("fn panicked")
	defer func() {
		// What this returns is for Observe: lost, or done by fn, or the item comes
		// again.
		if failed == nil {
			_ = d.Ack(ctx)
		} else {
			_ = d.Nack(ctx, q.delay(d.Attempt()))
		}
	}()
	inside, cancel := d.Context(ctx)
	defer cancel()
	failed = fn(inside, d)
}

func (q *Queue[T]) delay(attempt int) time.Duration {
	if q.retryDelay == nil {
		return 0
	}
	return q.retryDelay(attempt)
}

// settles is how long settle waits at most.
const settles = time.Second

// settle waits until what was on its way to a wait that has ended is back in the
// queue, or is for others of this process who wait.
func (f *fetcher) settle() {
	settled := make(chan struct{})
	f.s.mu.Lock()
	f.settling = append(f.settling, settled)
	f.tellSettled()
	f.s.mu.Unlock()
	timer := time.NewTimer(settles)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		f.settling = slices.DeleteFunc(f.settling, func(c chan struct{}) bool { return c == settled })
	}
}

// tellSettled ends settle where it is so. Called with mu.
func (f *fetcher) tellSettled() {
	x := f.session
	if len(f.takers) == 0 && (f.running || x != nil && (len(x.back) > 0 || x.reclaiming)) {
		return
	}
	for _, settled := range f.settling {
		close(settled)
	}
	f.settling = nil
}
