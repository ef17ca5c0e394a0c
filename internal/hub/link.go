package hub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch bounds one pipeline.
	maxBatch = 512
	// overlap is how many calls have to wait for a pipeline that is under way before
	// another is sent beside it, one of them on the lane: so the server has something
	// to do while this process reads its answers.
	overlap = 24
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
	waiter  *redis.Client // likewise, for calls that wait for replicas
	alone   bool          // a call is under way on the user's client
	senders int           // goroutines that send the queue: one or two, one more while they are stuck
	queue   []*Call
	stuck   *clock.Alarm // starts the second one
	seen    bool         // the user's client has had a connection
	lane    *lane        // nil until calls often come alone
	opening *lane        // that is not open yet
	lone    int          // calls that came alone while there was none
	resting bool         // the other private connection is soon put away

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
	if c.Replication.Replicas > 0 {
		go l.replicated(c)
		return
	}
	if !c.Private && c.attempts == 0 && l.quiet() {
		go l.direct(c)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, c)
	if l.senders == 0 {
		l.single()
		l.senders++
		go l.drain()
		return
	}
	if len(l.queue) == 1 {
		l.expect()
	}
	if len(l.queue) >= overlap && l.senders == 1 {
		if l.lane == nil {
			l.open()
			return
		}
		l.senders++
		go l.drain()
	}
}

// expect has a pipeline that is under way overtaken if it goes on for long. Called
// with mu.
func (l *link) expect() {
	// A pipeline on a connection that has gone silent is given up when its least
	// patient call would; what comes now may have less time.
	if l.stuck == nil {
		l.stuck = l.hub.AfterFunc(overtake, l.second)
	} else {
		l.stuck.Reset(overtake, 0)
	}
}

// second sends the queue past a pipeline that is not answered, on another
// connection.
func (l *link) second() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 && l.senders < 3 {
		l.senders++
		go l.drain()
	}
}

// quiet claims the way over the user's client.
func (l *link) quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone || l.senders > 0 || l.private != nil || l.lane != nil || l.hub.id.control != nil || !l.roomy() {
		return false
	}
	l.single()
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
	if len(leave([]*Call{c})) == 0 {
		l.mu.Lock()
		l.alone = false
		l.mu.Unlock()
		return
	}
	cmd := c.command(l.hub)
	c.attempts++
	c.sent, c.wasPrivate = clock.Now(), false
	var over atomic.Bool
	timer := l.hub.AfterFunc(c.Patience, func() {
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
		var batch []*Call
		batch, l.queue = pipeline(l.queue)
		if len(batch) == 0 {
			l.senders--
			l.rest()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.exec(batch, l.claimLane(), batch[0].Patience, nil)
	}
}

// pipeline picks the calls of the queue that go together: those whose patience is
// like that of the first, because the least patient one ends the wait for all.
func pipeline(queue []*Call) (batch, rest []*Call) {
	for i, c := range queue {
		if len(batch) == maxBatch {
			return batch, append(rest, queue[i:]...)
		}
		if first := queue[0].Patience; c.Patience < first/2 || c.Patience > 2*first {
			rest = append(rest, c)
		} else {
			batch = append(batch, c)
		}
	}
	return batch, rest
}

// sender is what a pipeline is sent on: a client, or a lane's connection.
type sender interface {
	Process(ctx context.Context, cmd redis.Cmder) error
	Pipeline() redis.Pipeliner
}

// exec sends a pipeline, on the lane if it was claimed. wait bounds how long it
// waits for the answer, where that is less than any call's patience. stop, if not nil,
// keeps the end of a ctx from cutting the lane from now on; false: it has, or will.
func (l *link) exec(batch []*Call, n *lane, wait time.Duration, stop func() bool) {
	batch = leave(batch)
	if len(batch) > 0 && l.closedByUser(batch[0].Keys[0]) {
		batch = refuse(batch)
	}
	for _, c := range batch {
		wait = min(wait, c.Patience)
	}
	var cmds []*redis.Cmd
	verdicts := make([]verdict, len(batch))
	if len(batch) > 0 {
		cmds = l.try(batch, n, wait, verdicts)
	}
	if n != nil {
		broken := func(v verdict) bool { return v == unknown || v == unsent || v == notWritable }
		cut := stop != nil && !stop()
		l.leaveLane(n, cut || slices.ContainsFunc(verdicts, broken))
	}
	for i, c := range batch {
		l.hub.outcome(c, l, cmds[i].Val(), cmds[i].Err(), verdicts[i])
	}
}

// try sends the calls once.
func (l *link) try(batch []*Call, n *lane, wait time.Duration, verdicts []verdict) []*redis.Cmd {
	var client sender
	ctx, users := l.hub.ctx, false
	if n != nil {
		client = n.sticky
		n.conn.until(clock.Wall(clock.Now().Add(wait)))
	} else {
		c := l.client()
		client, users = c, c == l.hub.id.client || c == l.hub.id.control
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	cmds := make([]*redis.Cmd, len(batch))
	now := clock.Now()
	for i, c := range batch {
		cmds[i] = c.command(l.hub)
		c.attempts++
		c.sent, c.wasPrivate = now, true
	}
	if len(batch) == 1 {
		cmds[0].SetErr(client.Process(ctx, once{cmds[0]}))
	} else {
		pipe := client.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, once{cmd})
		}
		_, _ = pipe.Exec(ctx)
	}
	for i, cmd := range cmds {
		verdicts[i] = judge(cmd.Err())
		if !users && errors.Is(cmd.Err(), redis.ErrClosed) {
			verdicts[i] = unsent // discarded meanwhile; it is not the user's
		}
	}
	return cmds
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
	old, n := []*redis.Client{l.private, l.waiter}, l.lane
	l.private, l.waiter, l.lane = nil, nil, nil
	idle := n != nil && !n.busy // else whoever uses it closes it
	if n != nil {
		n.conn.end()
	}
	if o := l.opening; o != nil && o.conn != nil {
		o.conn.end()
	}
	l.mu.Unlock()
	for _, c := range old {
		if c != nil {
			_ = c.Close()
		}
	}
	if idle {
		n.close()
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.discard()
	l.feed.close()
}

// errRedial is the answer to go-redis's own attempt to reconnect a pub/sub
// connection, which would lose messages without a word.
var errRedial = errors.New("the connection is dialled only once")
