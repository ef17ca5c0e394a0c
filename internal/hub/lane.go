package hub

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// often is how many calls have to come alone, one after another, before a
// private connection is opened for them.
const often = 8

// lane is a private connection on which a call that comes alone travels on the
// goroutine of its caller: to hand it to another and back takes as long as the
// round trip. The caller may give up waiting all the same, because the
// connection can be cut.
type lane struct {
	client *redis.Client
	sticky *redis.Conn // its one connection

	// Guarded by link.mu.
	conn *cuttable
	busy bool
}

// openLane connects. Nobody waits for it.
func (l *link) openLane(n *lane) {
	o := l.options()
	dial := o.Dialer
	o.PoolSize = 1
	o.Protocol = 2 // nothing is pushed on it, and go-redis need not look
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn := &cuttable{Conn: c}
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.conn = conn; l.closed {
			conn.end()
		}
		return conn, nil
	}
	n.client = redis.NewClient(o)
	n.sticky = n.client.Conn()
	ctx, cancel := context.WithTimeout(l.hub.ctx, l.hub.ReadTimeout())
	defer cancel()
	err := n.sticky.Ping(ctx).Err()
	l.mu.Lock()
	l.opening, l.lone = nil, 0
	if err != nil || l.closed || n.conn.cut() {
		l.mu.Unlock()
		n.close()
		return
	}
	l.lane = n
	l.rest()
	l.mu.Unlock()
}

// rest has the other private connection put away, unless somebody uses it by
// then: for calls that come alone the lane will do. Called with mu.
func (l *link) rest() {
	if l.lane != nil && l.private != nil && l.senders == 0 && !l.resting {
		l.resting = true
		l.hub.AfterFunc(Linger, l.putAway)
	}
}

func (l *link) putAway() {
	l.mu.Lock()
	l.resting = false
	if l.lane == nil || l.senders > 0 {
		l.mu.Unlock()
		return
	}
	old := l.private
	l.private = nil
	l.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
}

func (n *lane) close() {
	_ = n.sticky.Close()
	_ = n.client.Close()
}

// single takes note that a call came alone, and has a lane opened if that is
// often so. Called with mu.
func (l *link) single() {
	if l.lane != nil {
		return
	}
	if l.lone++; l.lone >= often {
		l.open()
	}
}

// open has a lane opened, if there can be one. Called with mu.
func (l *link) open() {
	if l.lane != nil || l.opening != nil || l.closed || l.node == nil || l.hub.id.control != nil || l.hub.cluster != nil {
		return
	}
	l.opening = &lane{}
	go l.openLane(l.opening)
}

// inline sends the call on the caller's goroutine, which it gives back when the
// answer is there, patience or the wait is over, or ctx ends. It reports whether
// it did: without a lane, and while anything else is under way, it does not.
func (l *link) inline(ctx context.Context, c *Call, wait time.Duration) bool {
	l.mu.Lock()
	n := l.lane
	if n == nil || n.busy || l.senders > 0 || c.Replication.Replicas > 0 {
		l.mu.Unlock()
		return false
	}
	n.busy = true
	l.senders++ // whoever comes meanwhile waits for the next pipeline
	l.mu.Unlock()
	var stop func() bool
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, n.conn.end)
	}
	l.exec([]*Call{c}, n, wait, stop)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		go l.drain()
	} else {
		l.senders--
	}
	return true
}

// claimLane takes the lane for a pipeline, if it is there and idle.
func (l *link) claimLane() *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.lane; n != nil && !n.busy {
		n.busy = true
		return n
	}
	return nil
}

// leaveLane ends a use of the lane. Cut or broken, it is of no more use.
func (l *link) leaveLane(n *lane, broken bool) {
	l.mu.Lock()
	n.busy = false
	broken = broken || n.conn.cut()
	if broken && l.lane == n {
		l.lane = nil
	}
	l.mu.Unlock()
	if broken {
		n.close()
	}
}

// cuttable is a connection on which nothing is read or written beyond a limit,
// or after its end.
type cuttable struct {
	net.Conn

	mu    sync.Mutex
	limit time.Time
	ended bool
}

// past is before any now, and not zero, which would be no deadline.
var past = time.Time{}.Add(1)

// until sets the limit for what comes next.
func (c *cuttable) until(limit time.Time) {
	c.mu.Lock()
	c.limit = limit
	c.mu.Unlock()
}

// end has what is read or written now fail, and everything after it.
func (c *cuttable) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	_ = c.Conn.SetDeadline(past)
}

func (c *cuttable) cut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

func (c *cuttable) SetReadDeadline(t time.Time) error { return c.set(t, c.Conn.SetReadDeadline) }

func (c *cuttable) SetWriteDeadline(t time.Time) error { return c.set(t, c.Conn.SetWriteDeadline) }

func (c *cuttable) SetDeadline(t time.Time) error { return c.set(t, c.Conn.SetDeadline) }

func (c *cuttable) set(t time.Time, on func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		t = past
	case !c.limit.IsZero() && (t.IsZero() || t.After(c.limit)):
		t = c.limit
	}
	return on(t)
}
