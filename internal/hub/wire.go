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
type wire struct {
	feed   *feed
	ps     *redis.PubSub
	client *redis.Client // made for this connection alone; nil: the user's own
	timer  *time.Timer   // the next beat

	// Guarded by feed.mu.
	conn    net.Conn // client's one connection
	jobs    []job
	writing bool
	asked   map[string][]time.Time // when each unanswered SUBSCRIBE was sent
	leaving map[string]int         // how many UNSUBSCRIBE are unanswered
	pings   []ping                 // unanswered, oldest first
	serial  int
	after   time.Time // what is read now was not sent before this
	dead    bool
}

// job is a command to write: PING with this id, or (UN)SUBSCRIBE.
type job struct {
	ping    string
	channel string
	leave   bool
}

type ping struct {
	id   string
	sent time.Time
}

// dial makes the connection's client; the first command dials.
func (f *feed) dial() *wire {
	w := &wire{feed: f, asked: map[string][]time.Time{}, leaving: map[string]int{}}
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

// do writes a command, one channel per command, in order. Called with feed.mu.
func (w *wire) do(j job) {
	w.jobs = append(w.jobs, j)
	if !w.writing {
		w.writing = true
		go w.write()
	}
}

// write writes the jobs. One goroutine does so at a time.
func (w *wire) write() {
	for {
		w.feed.mu.Lock()
		if len(w.jobs) == 0 || w.dead {
			w.writing = false
			w.feed.mu.Unlock()
			return
		}
		j := w.jobs[0]
		w.jobs = w.jobs[1:]
		switch {
		case j.ping != "":
			w.pings = append(w.pings, ping{j.ping, clock.Now()})
		case j.leave:
			w.leaving[j.channel]++
		default:
			w.asked[j.channel] = append(w.asked[j.channel], clock.Now())
		}
		w.feed.mu.Unlock()
		if err := w.send(j); err != nil {
			w.feed.mu.Lock()
			w.kill()
			w.feed.mu.Unlock()
		}
	}
}

func (w *wire) send(j job) error {
	ctx := w.feed.link.hub.ctx
	sharded := w.feed.link.hub.Sharded()
	switch {
	case j.ping != "":
		return w.ps.Ping(ctx, j.ping)
	case j.leave && sharded:
		return w.ps.SUnsubscribe(ctx, j.channel)
	case j.leave:
		return w.ps.Unsubscribe(ctx, j.channel)
	case sharded:
		return w.ps.SSubscribe(ctx, j.channel)
	}
	return w.ps.Subscribe(ctx, j.channel)
}

// tick sends the next PING, or gives the connection up if the oldest is
// unanswered for too long.
func (w *wire) tick() {
	w.feed.mu.Lock()
	if w.dead {
		w.feed.mu.Unlock()
		return
	}
	if len(w.pings) > 0 && clock.Since(w.pings[0].sent) >= silence-beat {
		w.kill()
		w.feed.mu.Unlock()
		return
	}
	if !w.writing { // else it is dialling, or its writing is stuck
		w.serial++
		w.do(job{ping: strconv.Itoa(w.serial)})
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
			w.pong(m.Payload)
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

func (w *wire) pong(id string) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	for i, p := range w.pings {
		if p.id == id {
			w.hear(p.sent)
			w.pings = w.pings[i+1:]
			return
		}
	}
}

func (w *wire) hear(sent time.Time) {
	if sent.After(w.after) {
		w.after = sent
	}
}

// subscription takes note of a confirmation. It reports false when the server
// has ended a subscription that nobody asked it to end: the slot has moved.
func (w *wire) subscription(m *redis.Subscription) bool {
	w.feed.mu.Lock()
	t := w.feed.topics[m.Channel]
	if m.Kind != "subscribe" && m.Kind != "ssubscribe" {
		n := w.leaving[m.Channel]
		if n > 1 {
			w.leaving[m.Channel] = n - 1
		} else {
			delete(w.leaving, m.Channel)
		}
		w.feed.mu.Unlock()
		return n > 0 || t == nil
	}
	if asked := w.asked[m.Channel]; len(asked) > 0 {
		w.hear(asked[0])
		if asked = asked[1:]; len(asked) > 0 {
			w.asked[m.Channel] = asked
		} else {
			delete(w.asked, m.Channel)
		}
	}
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
