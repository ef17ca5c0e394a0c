package hub

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
)

const (
	// beat is the pause between two PINGs while a topic is in use.
	beat = time.Second
	// silence is how long a PONG may take before the connection counts as dead.
	silence = 2500 * time.Millisecond
)

// wire is one pub/sub connection, dialled once and never again.
//
// A command is written only when the one before is answered: go-redis holds one
// lock while it writes and before each read, so over a connection without a
// buffer (a net.Pipe, as of a server in memory) a second command would stop both
// sides. What is asked for meanwhile goes out together.
type wire struct {
	feed   *feed
	ps     *redis.PubSub
	client *redis.Client // made for this connection alone; nil: the user's own
	timer  *time.Timer   // the next beat

	// Guarded by feed.mu.
	conn    net.Conn        // client's one connection
	joins   map[string]bool // channels to subscribe to
	leaves  map[string]bool // and to unsubscribe from; the last wish counts
	beats   bool            // a PING is due
	writing bool
	awaited []*command // not or not fully answered, oldest first
	serial  int
	after   time.Time // what is read now was not sent before this
	dead    bool
}

// kind is what a command asks for.
type kind int

const (
	ping kind = iota
	subscribe
	unsubscribe
)

// A command is answered once for each of its names, in order.
type command struct {
	kind     kind
	names    []string // channels, or what the PING says
	answered int      // how many
	sent     time.Time
	written  time.Time // zero: it is being written, or waits for the dialling
}

// dial makes the connection's client; the first command dials.
func (f *feed) dial() *wire {
	w := &wire{feed: f, joins: map[string]bool{}, leaves: map[string]bool{}}
	ctx := f.link.hub.ctx
	if o := f.link.options(); o != nil && f.link.hub.id.control == nil {
		dial, dialled := o.Dialer, atomic.Bool{}
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dialled.Swap(true) {
				return nil, errRedial
			}
			c, err := dial(ctx, network, addr)
			f.mu.Lock()
			defer f.mu.Unlock()
			if err == nil && w.dead {
				_ = c.Close()
				return nil, errRedial
			}
			w.conn = c
			return c, err
		}
		w.client = redis.NewClient(o)
		w.ps = w.client.Subscribe(ctx)
	} else if f.link.hub.id.control != nil {
		w.ps = f.link.hub.id.control.Subscribe(ctx)
	} else {
		w.ps = f.link.hub.id.client.Subscribe(ctx)
	}
	w.timer = time.AfterFunc(beat, w.tick)
	return w
}

// kill ends the connection: read returns, and run cleans up. Called with
// feed.mu.
func (w *wire) kill() {
	if w.dead {
		return
	}
	w.dead = true
	switch {
	case w.conn != nil:
		_ = w.conn.Close() // needs no lock of go-redis, unlike PubSub.Close
	case w.client == nil:
		go w.close()
	}
}

func (w *wire) close() {
	_ = w.ps.Close()
	if w.client != nil {
		_ = w.client.Close()
	}
}

// join asks for a subscription, leave for its end. Redis confirms also what stands
// already. Both are called with feed.mu.
func (w *wire) join(channel string) {
	delete(w.leaves, channel)
	w.joins[channel] = true
	w.wake()
}

func (w *wire) leave(channel string) {
	delete(w.joins, channel)
	w.leaves[channel] = true
	w.wake()
}

// wake has the next command written, if there is one. Called with feed.mu.
func (w *wire) wake() {
	if w.writing {
		return
	}
	if c := w.next(); c != nil {
		w.writing = true
		go w.write(c)
	}
}

// next takes the next command, nil if there is none or it must wait. In a cluster
// a command has one channel, since two may be of two slots; so as not to wait
// for each answer there, several go out (there is always a socket's buffer).
// Called with feed.mu.
func (w *wire) next() *command {
	together, ahead := maxBatch, 1
	if w.feed.link.hub.Sharded() {
		together, ahead = 1, maxBatch
	}
	if w.dead || len(w.awaited) >= ahead {
		return nil
	}
	c := &command{sent: clock.Now()}
	switch {
	case len(w.joins) > 0:
		c.kind, c.names = subscribe, take(w.joins, together)
	case len(w.leaves) > 0:
		c.kind, c.names = unsubscribe, take(w.leaves, together)
	case w.beats:
		w.serial++
		c.kind, c.names, w.beats = ping, []string{strconv.Itoa(w.serial)}, false
	default:
		return nil
	}
	w.awaited = append(w.awaited, c)
	return c
}

// take removes up to n channels.
func take(channels map[string]bool, n int) (taken []string) {
	for channel := range channels {
		if len(taken) == n {
			break
		}
		taken = append(taken, channel)
		delete(channels, channel)
	}
	return taken
}

// write writes commands, as long as there is one to write now. One goroutine
// does so at a time.
func (w *wire) write(c *command) {
	for c != nil {
		err := w.send(c)
		w.feed.mu.Lock()
		c.written = clock.Now()
		if err != nil {
			w.kill()
		}
		c = w.next()
		w.writing = c != nil
		w.feed.mu.Unlock()
	}
}

func (w *wire) send(c *command) error {
	ctx := w.feed.link.hub.ctx
	sharded := w.feed.link.hub.Sharded()
	switch {
	case c.kind == ping:
		return w.ps.Ping(ctx, c.names...)
	case c.kind == unsubscribe && sharded:
		return w.ps.SUnsubscribe(ctx, c.names...)
	case c.kind == unsubscribe:
		return w.ps.Unsubscribe(ctx, c.names...)
	case sharded:
		return w.ps.SSubscribe(ctx, c.names...)
	}
	return w.ps.Subscribe(ctx, c.names...)
}

// tick sends the next PING, or gives the connection up if the oldest command is
// unanswered for too long.
func (w *wire) tick() {
	w.feed.mu.Lock()
	if w.dead {
		w.feed.mu.Unlock()
		return
	}
	if len(w.awaited) == 0 {
		w.beats = true
		w.wake()
	} else if c := w.awaited[0]; !c.written.IsZero() && clock.Since(c.written) >= silence-beat {
		w.kill()
		w.feed.mu.Unlock()
		return
	}
	w.timer.Reset(beat)
	w.feed.mu.Unlock()
	w.feed.tellIfClosed()
}

// read hands on what comes until the connection ends. It reports whether
// anything came.
func (w *wire) read() (answered bool) {
	for {
		w.feed.mu.Lock()
		dead := w.dead
		w.feed.mu.Unlock()
		if dead {
			return answered
		}
		m, err := w.ps.Receive(w.feed.link.hub.ctx)
		if err != nil {
			return answered
		}
		answered = true
		switch m := m.(type) {
		case *redis.Pong:
			w.feed.mu.Lock()
			w.answer(ping, m.Payload)
			w.feed.mu.Unlock()
		case *redis.Message:
			w.feed.mu.Lock()
			t, after := w.feed.topics[m.Channel], w.after
			w.feed.mu.Unlock()
			if t != nil {
				t.message(m.Payload, after)
			}
		case *redis.Subscription:
			if !w.subscription(m) {
				return answered
			}
		}
	}
}

// answer takes note of an answer, and reports whether it was awaited. Called with
// feed.mu.
func (w *wire) answer(k kind, name string) bool {
	if len(w.awaited) == 0 {
		return false
	}
	c := w.awaited[0]
	if c.kind != k || c.names[c.answered] != name {
		return false
	}
	if k != unsubscribe { // a server that ends a subscription by itself says the same
		w.after = c.sent
	}
	if c.answered++; c.answered == len(c.names) {
		w.awaited = w.awaited[1:]
		w.wake()
	}
	return true
}

// subscription takes note of a confirmation. It reports false when the server
// has ended a subscription that nobody asked it to end: the slot has moved.
func (w *wire) subscription(m *redis.Subscription) bool {
	w.feed.mu.Lock()
	t := w.feed.topics[m.Channel]
	if m.Kind != "subscribe" && m.Kind != "ssubscribe" {
		asked := w.answer(unsubscribe, m.Channel)
		w.feed.mu.Unlock()
		return asked || t == nil
	}
	w.answer(subscribe, m.Channel)
	if t == nil {
		w.feed.mu.Unlock()
		return true
	}
	again := t.before
	t.confirmed, t.before = true, true
	w.feed.mu.Unlock()
	t.ready(again)
	return true
}
