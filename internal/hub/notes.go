package hub

import "sync"

// maxNotes bounds what waits for a slow observer.
const maxNotes = 1 << 14

// notes runs callbacks of the user one after another, in order, apart from
// everything that must not block.
type notes struct {
	mu    sync.Mutex
	busy  bool
	queue []func()
}

// Note runs f soon, after those noted before it. An observer that is more than
// maxNotes behind misses the oldest.
func (h *Hub) Note(f func()) {
	n := &h.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == maxNotes {
		n.queue = n.queue[1:]
	}
	n.queue = append(n.queue, f)
	if !n.busy {
		n.busy = true
		go n.run()
	}
}

func (n *notes) run() {
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.busy, n.queue = false, nil
			n.mu.Unlock()
			return
		}
		f := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		f()
	}
}
