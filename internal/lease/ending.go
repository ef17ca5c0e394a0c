package lease

import (
	"context"
	"sync"
)

// Ending is the end of something that is held: a channel that closes and
// contexts that are cancelled, once. All methods are safe for concurrent use.
type Ending struct {
	done chan struct{}

	mu      sync.Mutex
	err     error
	cancels map[*context.CancelCauseFunc]struct{}
}

// NewEnding returns an end that has not come yet.
func NewEnding() *Ending { return &Ending{done: make(chan struct{})} }

// Done is closed at the end.
func (e *Ending) Done() <-chan struct{} { return e.done }

// Err is what it ended by, nil before.
func (e *Ending) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// End ends it, and reports whether it had not ended before.
func (e *Ending) End(err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return false
	}
	e.err = err
	close(e.done)
	for c := range e.cancels {
		(*c)(err)
	}
	e.cancels = nil
	return true
}

// Context returns a context that ends with parent or at the end, whose error is
// then its cause.
func (e *Ending) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		cancel(e.err)
		return ctx, func() {}
	}
	if e.cancels == nil {
		e.cancels = map[*context.CancelCauseFunc]struct{}{}
	}
	e.cancels[&cancel] = struct{}{}
	return ctx, func() {
		e.mu.Lock()
		delete(e.cancels, &cancel)
		e.mu.Unlock()
		cancel(context.Canceled)
	}
}
