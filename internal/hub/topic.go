package hub

import (
	"sync/atomic"
	"time"

	"github.com/multihost/multihost/internal/clock"
)

// Topic is one channel that the process listens to while somebody holds it.
type Topic struct {
	hub     *Hub
	channel string

	// Message hears each message, with the latest moment before which it
	// cannot have been sent; Ready hears that the subscription was confirmed,
	// for the first time or again: what came before may have been missed, so
	// look at the state now. Both are called on the connection's goroutine and
	// must not block.
	message func(payload string, after time.Time)
	ready   func(again bool)

	made  time.Time
	alive atomic.Int64 // when Alive was last true, in ns since made

	// Guarded by hub.mu.
	holds int
	timer *clock.Alarm
	feed  *feed // nil: not listening

	// Guarded by feed.mu while there is one, else by hub.mu.
	confirmed bool
	before    bool      // was confirmed at least once since it was held
	since     time.Time // when it was asked for, or last confirmed no more
}

// Topic returns a topic for the channel. Nothing is sent until it is held.
func (h *Hub) Topic(channel string, message func(payload string, after time.Time), ready func(again bool)) *Topic {
	return &Topic{hub: h, channel: channel, message: message, ready: ready, made: clock.Now()}
}

// Hold subscribes, if nobody holds the topic yet, and reports whether the
// subscription stands already; if not, ready will be called.
func (t *Topic) Hold() (confirmed bool) {
	t.hub.Again()
	t.hub.mu.Lock()
	t.holds++
	if t.timer != nil {
		t.timer.Stop()
	}
	f := t.feed
	t.hub.mu.Unlock()
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.topics[t.channel] == t {
			return t.confirmed
		}
	}
	go t.listen()
	return false
}

// listen finds the node and subscribes there.
func (t *Topic) listen() {
	l := t.hub.shard(t.channel)
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	if t.holds == 0 || t.feed == l.feed && l.feed.has(t) {
		return
	}
	if t.feed != nil {
		t.feed.remove(t)
	}
	t.feed = l.feed
	l.feed.add(t)
}

// Drop ends one hold. The subscription outlives the last one by [Linger].
func (t *Topic) Drop() {
	t.hub.mu.Lock()
	if t.holds--; t.holds == 0 {
		if t.timer == nil {
			t.timer = t.hub.AfterFunc(Linger, t.expire)
		} else {
			t.timer.Reset(Linger, 0)
		}
	}
	t.hub.mu.Unlock()
	t.hub.Done()
}

func (t *Topic) expire() {
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	if t.holds == 0 && t.feed != nil {
		t.feed.remove(t)
		t.feed, t.before = nil, false
	}
}

// Alive says whether, as far as is known, messages come in. Many waits that are
// cancelled together ask at once; the answer holds for a millisecond, so that
// they need not queue for it.
func (t *Topic) Alive() bool {
	now := int64(clock.Since(t.made))
	if last := t.alive.Load(); last > 0 && now-last < int64(time.Millisecond) {
		return true
	}
	if !t.look() {
		return false
	}
	t.alive.Store(now)
	return true
}

func (t *Topic) look() bool {
	t.hub.mu.Lock()
	f := t.feed
	t.hub.mu.Unlock()
	if f == nil {
		return true // it has just been asked for
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !t.confirmed {
		return clock.Since(t.since) < silent
	}
	return f.conn != nil && (len(f.conn.awaited) == 0 || clock.Since(f.conn.awaited[0].sent) < silent)
}

// Deaf says that the server does not see the subscription although it was
// confirmed: dial again, perhaps elsewhere.
func (t *Topic) Deaf() {
	t.hub.mu.Lock()
	f := t.feed
	t.hub.mu.Unlock()
	if f != nil {
		f.redial()
	}
}

// shard returns the link of the node that serves the channel.
func (h *Hub) shard(channel string) *link {
	if h.cluster == nil {
		return h.link(nil)
	}
	for attempt := 1; ; attempt++ {
		node, err := h.cluster.MasterForKey(h.ctx, channel)
		if err == nil {
			return h.link(node)
		}
		select {
		case <-h.ctx.Done():
			return h.link(nil)
		case <-time.After(pause(attempt)):
		}
		h.cluster.ReloadState(h.ctx)
	}
}
