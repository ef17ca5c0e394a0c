package redisqueue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/multihost/multihost/internal/hub"
)

// maxBuffer bounds the buffer of a Writer.
const maxBuffer = 1 << 20

// Writer puts values from a buffer, in the background and in their order, many in
// one command. Its buffer lives in this process and is lost with it: Flush or
// Close it before the process ends. All methods are safe for concurrent use.
type Writer[T any] struct {
	q *Queue[T]
	n int

	mu      sync.Mutex
	buffer  []*item // not yet put, the first of them on their way
	in, out int     // how many came into the buffer, and left it
	running bool
	ctx     context.Context // ends with Discard
	cancel  context.CancelFunc
	err     error         // why it puts no more
	changed chan struct{} // closed and replaced when the buffer has shrunk, or at the end
}

// Buffered returns a Writer with a buffer for n values, 1 to 1,048,576; other
// numbers are brought into that range.
func (q *Queue[T]) Buffered(n int) *Writer[T] {
	w := &Writer[T]{q: q, n: min(max(n, 1), maxBuffer), changed: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

func (w *Writer[T]) wrap(op string, err *error) {
	if *err != nil {
		*err = fmt.Errorf("redisqueue: %s a writer of %q: %w", op, w.q.object.Name(), *err)
	}
}

// Put puts a value into the buffer, and waits while that is full. It returns an
// error when the Writer has stopped: ErrClosed after Close or Discard, or the
// error that ended it, ErrShutdown or ErrMismatch; then the value, and what is
// still in the buffer, is not put. While Redis is away the Writer tries on; after
// 50 minutes it may no longer know whether what was on its way was put, and ends
// with ErrUnknownOutcome.
func (w *Writer[T]) Put(ctx context.Context, v T) (err error) {
	defer w.wrap("put into", &err)
	if err := ctx.Err(); err != nil {
		return err
	}
	it, err := w.q.encode(v)
	if err != nil {
		return err
	}
	it.data = bytes.Clone(it.data) // it may be the caller's own, who goes on using it
	for {
		w.mu.Lock()
		if w.err != nil {
			defer w.mu.Unlock()
			return w.err
		}
		if len(w.buffer) < w.n {
			w.buffer = append(w.buffer, it)
			w.in++
			if !w.running {
				w.running = true
				go w.run()
			}
			w.mu.Unlock()
			return nil
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run puts what is in the buffer until it is empty.
func (w *Writer[T]) run() {
	s, done := w.q.station()
	defer done()
	for {
		w.mu.Lock()
		batch := w.buffer[:min(len(w.buffer), maxBatch)]
		if len(batch) == 0 || w.ended() {
			w.running = false
			w.buffer = nil
			w.mu.Unlock()
			return
		}
		o := s.order(w.q.settings, batch, true, true) // under mu: none begins after Discard
		w.mu.Unlock()
		w.follow(s, o)
	}
}

// follow waits for the end of an order, and makes room in the buffer as soon as a
// value is put: a full queue lets them in one by one.
func (w *Writer[T]) follow(s *station, o *order) {
	for out := 0; out < len(o.items); {
		var n int
		var err error
		select {
		case <-o.moved:
			n = max(out, s.settled(o))
		case <-o.closed:
			n = len(o.items)
			_, err = s.result(w.ctx, o)
		case <-w.ctx.Done():
			s.withdraw(o)
			n = len(o.items)
			_, err = s.result(w.ctx, o)
		}
		w.mu.Lock()
		w.buffer = w.buffer[n-out:]
		w.out += n - out
		out = n
		if err != nil && !w.ended() {
			w.err = err
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
	}
}

// ended says whether the Writer puts no more. Called with mu.
func (w *Writer[T]) ended() bool { return w.err != nil && !errors.Is(w.err, errClosing) }

// Flush waits until everything that is in the buffer now was put. An error says
// why it was not: ErrShutdown, ErrMismatch, ErrClosed after Discard, or ctx's.
func (w *Writer[T]) Flush(ctx context.Context) (err error) {
	defer w.wrap("flush", &err)
	return w.drain(ctx)
}

func (w *Writer[T]) drain(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for last := w.in; ; {
		switch {
		case w.ended():
			return w.err
		case w.out >= last:
			return nil
		}
		changed := w.changed
		w.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		w.mu.Lock()
		if err != nil {
			return hub.Join(err, fmt.Errorf("%d values are not put yet", w.in-w.out))
		}
	}
}

// Close takes no more values and flushes. When ctx ends first, the Writer goes on
// in the background; Discard ends it. Closing it again is Flush.
func (w *Writer[T]) Close(ctx context.Context) (err error) {
	defer w.wrap("close", &err)
	w.mu.Lock()
	if w.err == nil {
		w.err = errClosing
	}
	w.mu.Unlock()
	return w.drain(ctx)
}

// Discard closes the Writer and drops what is in the buffer. What is on its way to
// Redis may have been put.
func (w *Writer[T]) Discard() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended() {
		w.err = ErrClosed
		close(w.changed)
		w.changed = make(chan struct{})
	}
	w.cancel()
}

// errClosing is ErrClosed of a Writer that still puts what it has.
var errClosing = fmt.Errorf("%w: it takes no more values", ErrClosed)
