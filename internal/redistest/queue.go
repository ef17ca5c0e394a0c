package redistest

import "sync"

// A queue takes whatever is pushed and gives it out in order.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	ended bool
	ready chan struct{} // holds a token when there may be something to pop
}

func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

func (q *queue[T]) push(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
	q.signal()
}

// end says that nothing more will be pushed.
func (q *queue[T]) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue[T]) signal() {
	select {
	case q.ready <- struct{}{}:
	default: // a token is there already
	}
}

// pop waits for the next item; false when there will be none, or when stop is
// closed. Only one goroutine pops.
func (q *queue[T]) pop(stop <-chan struct{}) (T, bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			v := q.items[0]
			q.items = q.items[1:]
			q.mu.Unlock()
			return v, true
		}
		ended := q.ended
		q.mu.Unlock()
		var none T
		if ended {
			return none, false
		}
		select {
		case <-q.ready:
		case <-stop:
			return none, false
		}
	}
}

// A gate lets pass while it is open.
type gate struct {
	mu     sync.Mutex
	isOpen bool
	open   chan struct{} // closed while the gate is open
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && !g.isOpen:
		close(g.open)
	case !open && g.isOpen:
		g.open = make(chan struct{})
	}
	g.isOpen = open
}

// wait blocks until the gate is open; false when stop was closed.
func (g *gate) wait(stop <-chan struct{}) bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
	case <-stop:
	}
	select {
	case <-stop:
		return false
	default:
		return true
	}
}
