package hub

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// maxBatch bounds one pipeline.
	maxBatch = 512
	// overtake is how long calls wait behind a pipeline that is not answered.
	overtake = 250 * time.Millisecond
)

// link is the way to one Redis node.
type link struct {
	hub  *Hub
	node *redis.Client // the user's client for this node; in a cluster nil: whichever is responsible

	mu      sync.Mutex
	closed  bool
	private *redis.Client // nil until something needs it
	alone   bool          // a call is under way on the user's client
	senders int           // goroutines that send the queue: one, or two while the first is stuck
	queue   []*Call
	stuck   *time.Timer // starts the second one
	seen    bool        // the user's client has had a connection

	feed *feed
}

// link returns the way to a node: outside a cluster, where there is but one,
// nil stands for it.
func (h *Hub) link(node *redis.Client) *link {
	addr := ""
	if node != nil {
		addr = node.Options().Addr
	} else if c, ok := h.id.client.(*redis.Client); ok {
		node = c
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.links[addr]
	if l == nil {
		l = &link{hub: h, node: node}
		l.feed = newFeed(l)
		if h.links == nil { // closed: a link that nobody keeps
			l.closed = true
			return l
		}
		h.links[addr] = l
	}
	return l
}

// enqueue sends the call: alone on the user's client if all is quiet, else with
// the next pipeline of the private connection.
func (l *link) enqueue(c *Call) {
	if !c.Private && c.attempts == 0 && l.quiet() {
		go l.direct(c)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, c)
	if l.senders == 0 {
		l.senders++
		go l.drain()
		return
	}
	if len(l.queue) > 1 {
		return
	}
	// A pipeline on a connection that has gone silent is given up when its least
	// patient call would; what comes now may have less time.
	if l.stuck == nil {
		l.stuck = time.AfterFunc(overtake, l.second)
	} else {
		l.stuck.Reset(overtake)
	}
}

// second sends the queue past a pipeline that is not answered, on another
// connection.
func (l *link) second() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 && l.senders == 1 {
		l.senders++
		go l.drain()
	}
}

// quiet claims the way over the user's client.
func (l *link) quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone || l.senders > 0 || l.private != nil || l.hub.id.control != nil || !l.roomy() {
		return false
	}
	l.alone = true
	return true
}

// roomy says whether the user's pool has a connection to spare.
func (l *link) roomy() bool {
	if l.node == nil {
		return true
	}
	s := l.node.PoolStats()
	return s.IdleConns > 0 || int(s.TotalConns) < l.node.Options().PoolSize
}

// direct sends the call on the user's client. That client's timeouts are the
// user's: an attempt that outlasts the call's patience is given up here, and goes
// on by itself.
func (l *link) direct(c *Call) {
	cmd := c.command(l.hub)
	c.attempts++
	c.sent, c.wasPrivate = clock.Now(), false
	var over atomic.Bool
	timer := time.AfterFunc(c.Patience, func() {
		if over.CompareAndSwap(false, true) {
			l.hub.outcome(c, l, nil, context.DeadlineExceeded, unknown)
		}
	})
	err := l.hub.id.client.Process(l.hub.ctx, once{cmd})
	timer.Stop()
	l.mu.Lock()
	l.alone = false
	l.seen = l.seen || judge(err) == final
	l.mu.Unlock()
	if over.CompareAndSwap(false, true) {
		l.hub.outcome(c, l, cmd.Val(), err, judge(err))
	}
}

// drain sends pipelines until the queue is empty.
func (l *link) drain() {
	for {
		l.mu.Lock()
		n := pipeline(l.queue)
		if n == 0 {
			l.senders--
			l.mu.Unlock()
			return
		}
		batch := l.queue[:n:n]
		l.queue = l.queue[n:]
		if len(l.queue) == 0 {
			l.queue = nil
		}
		l.mu.Unlock()
		l.exec(batch)
	}
}

// pipeline is how many calls of the queue go together: those whose patience is
// alike, because the least patient one ends the wait for all.
func pipeline(queue []*Call) int {
	n := 0
	for n < min(len(queue), maxBatch) {
		if least := queue[0].Patience; queue[n].Patience < least/2 || queue[n].Patience > 2*least {
			break
		}
		n++
	}
	return n
}

func (l *link) exec(batch []*Call) {
	if l.closedByUser(batch[0].Keys[0]) {
		batch = refuse(batch)
	}
	if len(batch) == 0 {
		return
	}
	patience := batch[0].Patience
	for _, c := range batch {
		patience = min(patience, c.Patience)
	}
	ctx, cancel := context.WithTimeout(l.hub.ctx, patience)
	defer cancel()
	client := l.client()
	pipe := client.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	now := clock.Now()
	for i, c := range batch {
		cmds[i] = c.command(l.hub)
		c.attempts++
		c.sent, c.wasPrivate = now, true
		_ = pipe.Process(ctx, once{cmds[i]})
	}
	if len(batch) == 1 {
		cmds[0].SetErr(client.Process(ctx, once{cmds[0]}))
	} else {
		_, _ = pipe.Exec(ctx)
	}
	for i, c := range batch {
		err := cmds[i].Err()
		v := judge(err)
		if errors.Is(err, redis.ErrClosed) && client != l.hub.id.client && client != l.hub.id.control {
			v = unsent // discarded meanwhile; it is not the user's
		}
		l.hub.outcome(c, l, cmds[i].Val(), err, v)
	}
}

// refuse answers the calls of a client that its user has closed, but for those
// that are sent all the same.
func refuse(batch []*Call) (rest []*Call) {
	for _, c := range batch {
		if c.AfterClose {
			rest = append(rest, c)
		} else {
			c.finish(nil, redis.ErrClosed)
		}
	}
	return rest
}

// client returns the private connection's client, or what stands in for it.
func (l *link) client() redis.UniversalClient {
	if l.hub.id.control != nil {
		return l.hub.id.control
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.private != nil {
		return l.private
	}
	o := l.options()
	if o == nil || l.closed {
		return l.hub.id.client
	}
	l.private = redis.NewClient(o)
	return l.private
}

// discard drops the private connection, so that the next call dials anew. After
// a fail-over the old primary answers, but only reads; and after as many failed
// attempts to dial as its size a go-redis pool gives up for a second.
func (l *link) discard() {
	l.mu.Lock()
	old := l.private
	l.private = nil
	l.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.discard()
	l.feed.close()
}

// options returns the settings of a private connection to the link's node, nil
// if the user's client is of a type that does not tell them.
func (l *link) options() *redis.Options {
	if l.node == nil {
		return nil
	}
	o := *l.node.Options()
	o.PoolSize = 4 // at most two are used; the others are there while broken ones are put away
	o.PipelinePoolSize = -1
	o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns, o.MaxConcurrentDials = 0, 0, 0, 0
	o.MaxRetries, o.DialerRetries = -1, 1
	o.ContextTimeoutEnabled = true
	o.Limiter, o.AutoPipelineOptions = nil, nil
	o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	// An Options that a client has taken over has 0 for "no timeout", which a
	// new client would read as "the default": a private connection always has
	// a timeout.
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = 5 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 5 * time.Second
	}
	o.PoolTimeout = 0
	return &o
}

// errRedial is the answer to go-redis's own attempt to reconnect a pub/sub
// connection, which would lose messages without a word.
var errRedial = errors.New("the connection is dialled only once")
