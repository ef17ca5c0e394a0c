package hub

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
)

// feed is the pub/sub connection to one node.
//
// Lock order: Hub.mu, feed.mu. No lock is held while a topic's functions run.
type feed struct {
	link *link

	mu      sync.Mutex
	topics  map[string]*Topic
	running bool

	conn *wire // the present connection, nil while there is none
}

func newFeed(l *link) *feed {
	return &feed{link: l, topics: map[string]*Topic{}}
}

func (f *feed) has(t *Topic) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.topics[t.channel] == t
}

func (f *feed) add(t *Topic) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.topics[t.channel] = t
	t.confirmed, t.since = false, clock.Now()
	if !f.running {
		f.running = true
		go f.run()
		return
	}
	if f.conn != nil {
		f.conn.join(t.channel)
	}
}

func (f *feed) remove(t *Topic) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.topics[t.channel] != t {
		return
	}
	delete(f.topics, t.channel)
	t.confirmed = false
	if f.conn == nil {
		return
	}
	if len(f.topics) == 0 {
		f.conn.kill() // run ends
		return
	}
	f.conn.leave(t.channel)
}

func (f *feed) all() []*Topic {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.topics))
}

// tellIfClosed has those who wait look if the user has closed the client: then
// they are told.
func (f *feed) tellIfClosed() {
	topics := f.all()
	if len(topics) > 0 && f.link.closedByUser(topics[0].channel) {
		for _, t := range topics {
			t.ready(true)
		}
	}
}

// redial ends the present connection; run makes the next.
func (f *feed) redial() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		f.conn.kill()
	}
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.topics)
	if f.conn != nil {
		f.conn.kill()
	}
}

// run keeps a connection up while there are topics.
func (f *feed) run() {
	for failures := 0; ; {
		f.mu.Lock()
		if len(f.topics) == 0 || f.link.hub.ctx.Err() != nil {
			f.running = false
			f.mu.Unlock()
			return
		}
		w := f.dial()
		f.conn = w
		for channel := range f.topics {
			w.joins[channel] = true
		}
		w.writing = true
		first := w.next()
		f.mu.Unlock()

		// The first command dials. Nobody else may wait for go-redis's lock
		// meanwhile: in a synctest bubble that would stop the time.
		w.write(first)
		answered := w.read()

		f.mu.Lock()
		w.dead = true
		f.conn = nil
		w.timer.Stop()
		for _, t := range f.topics {
			if t.confirmed {
				t.confirmed, t.since = false, clock.Now()
			}
		}
		f.mu.Unlock()
		w.close()
		f.tellIfClosed()
		if failures++; answered {
			failures = 0
		}
		select {
		case <-f.link.hub.ctx.Done():
		case <-time.After(pause(failures + 1)):
		}
		if f.link.hub.cluster != nil {
			f.reroute(f.all())
		}
	}
}

// reroute sends topics whose slot has moved to the feed of their new node.
func (f *feed) reroute(topics []*Topic) {
	h := f.link.hub
	h.cluster.ReloadState(h.ctx)
	for _, t := range topics {
		l := h.shard(t.channel)
		if l.feed == f {
			continue
		}
		h.mu.Lock()
		if t.feed == f && t.holds > 0 {
			f.remove(t)
			t.feed = l.feed
			l.feed.add(t)
		}
		h.mu.Unlock()
	}
}
