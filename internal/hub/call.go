package hub

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/redis/go-redis/v9"
)

// Script is a Lua script and its digest.
type Script struct {
	Source string
	digest string
}

// NewScript returns the script with this source.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source))
	return &Script{Source: source, digest: hex.EncodeToString(sum[:])}
}

// Call is one command or script call on its way.
type Call struct {
	Script *Script  // nil: Args is a plain command
	Keys   []string // of the script; for a plain command the key that routes it
	Boxed  []any    // all keys of a script that is called often: made once, and of Keys only the first is needed then
	Args   []any

	// Patience bounds the wait for one attempt's reply. 0: the client's
	// ReadTimeout.
	Patience time.Duration
	// Attempts bounds how often the call is sent. 0: once.
	Attempts int
	// Until, when set, is the moment after which no further attempt begins.
	Until time.Time
	// Lapses has a first attempt not sent either that has lain in a queue until then.
	Lapses bool
	// Private calls never use the user's pool.
	Private bool
	// AfterClose calls are sent even when the user has closed the client: they
	// keep, or give back, what was taken before.
	AfterClose bool

	// Replication, when set, has replicas waited for.
	Replication Replication

	// Done hears the outcome, once, on a goroutine of the hub: it must not
	// block.
	Done func(Reply)

	fate     int32 // waiting, under way or withdrawn; atomic
	attempts int
	reached  int  // attempts that the server may have seen
	maybe    bool // an attempt was sent and not answered
	sent     time.Time
	inFull   bool // send the script's source
	replicas int  // that have acknowledged the answered attempt

	wasPrivate bool // the last attempt went over the private connection
}

// Reply is the outcome of a call.
type Reply struct {
	Value any
	Err   error
	// Sent is when the attempt that was answered was sent: not earlier than
	// the user's call, not later than the moment the server saw it.
	Sent time.Time
	// Attempts is how often the call may have reached the server.
	Attempts int
	// Ambiguous says that Err is set although the server may have carried out
	// the call, or may do so later.
	Ambiguous bool
	// Replicas is how many replicas have what the call did, as far as it asked.
	Replicas int
}

// once is a command that go-redis must not repeat by itself.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

func (c *Call) command(h *Hub) *redis.Cmd {
	if c.Script == nil {
		return redis.NewCmd(h.ctx, c.Args...)
	}
	keys := c.Boxed
	if keys == nil {
		keys = Box(c.Keys)
	}
	args := make([]any, 0, 3+len(keys)+len(c.Args))
	if c.inFull {
		args = append(args, "eval", c.Script.Source)
	} else {
		args = append(args, "evalsha", c.Script.digest)
	}
	args = append(args, len(keys))
	args = append(args, keys...)
	return redis.NewCmd(h.ctx, append(args, c.Args...)...)
}

// Box makes a [Call]'s Boxed of keys.
func Box(keys []string) []any {
	boxed := make([]any, len(keys))
	for i, k := range keys {
		boxed[i] = k
	}
	return boxed
}

// A call is waiting to be sent for the first time, under way, or withdrawn before.
const (
	waitingToLeave = iota
	underWay
	withdrawn
)

var errWithdrawn = errors.New("the call was withdrawn before it was sent")

// Withdraw has the call not sent, and reports whether that was in time: the server
// has not seen it, and will not. Its outcome is told as an error, when its turn in the queue
// has come.
func (c *Call) Withdraw() bool {
	return atomic.CompareAndSwapInt32(&c.fate, waitingToLeave, withdrawn) || atomic.LoadInt32(&c.fate) == withdrawn
}

// leave returns the calls that are to be sent, and tells the outcome of those that are
// not: withdrawn, or too late.
func leave(batch []*Call) []*Call {
	return slices.DeleteFunc(batch, func(c *Call) bool {
		switch {
		case c.Lapses && clock.Until(c.Until) <= 0 && c.Withdraw():
			c.finish(nil, context.DeadlineExceeded)
		case !atomic.CompareAndSwapInt32(&c.fate, waitingToLeave, underWay) && atomic.LoadInt32(&c.fate) == withdrawn:
			c.finish(nil, errWithdrawn)
		default:
			return false
		}
		return true
	})
}

// finish tells the outcome.
func (c *Call) finish(value any, err error) {
	r := Reply{Value: value, Sent: c.sent, Attempts: c.reached, Replicas: c.replicas}
	if err != nil && !errors.Is(err, redis.Nil) {
		r.Err = explain(err)
		r.Ambiguous = c.maybe
	}
	c.Done(r)
}

// Go sends the call. It returns at once.
func (h *Hub) Go(c *Call) {
	h.prepare(c)
	h.send(c)
}

// Run sends the call, and may wait for its outcome: for so long at most, and not
// beyond the end of ctx; the call then goes on by itself. It is the quick way for a
// caller who has nothing else to do, and who must hold nothing that Done needs.
func (h *Hub) Run(ctx context.Context, c *Call, wait time.Duration) {
	h.prepare(c)
	if h.cluster != nil || !h.link(nil).inline(ctx, c, wait) {
		h.send(c)
	}
}

func (h *Hub) prepare(c *Call) {
	if c.Attempts == 0 {
		c.Attempts = 1
	}
	if c.Patience == 0 {
		c.Patience = h.ReadTimeout()
	}
	h.Again() // until it is answered, so that its connection stays
	done := c.Done
	c.Done = func(r Reply) {
		done(r)
		h.Done()
	}
}

func (h *Hub) send(c *Call) {
	if h.cluster == nil {
		h.link(nil).enqueue(c)
		return
	}
	h.routing.Lock()
	defer h.routing.Unlock()
	if h.routed {
		h.route(c)
		return
	}
	h.unrouted = append(h.unrouted, c)
	go h.look(c)
}

// route has the call go to its node. The cluster client knows its nodes, so nothing is
// waited for, and the calls of a shard stay in the order in which they came. Called with
// routing.
func (h *Hub) route(c *Call) {
	node, err := h.cluster.MasterForKey(h.ctx, c.Keys[0])
	if err != nil {
		go h.lost(c, err) // Done may need what the caller holds
		return
	}
	h.link(node).enqueue(c)
}

// look has the cluster client get to know its nodes, for the first time. Each call that
// comes before does this by itself: a look that hangs holds up nobody. The first one that
// succeeds serves all.
func (h *Hub) look(c *Call) {
	_, err := h.cluster.MasterForKey(h.ctx, c.Keys[0])
	h.routing.Lock()
	if err == nil {
		h.routed = true
		for _, u := range h.unrouted {
			h.route(u)
		}
		h.unrouted = nil
	}
	i := slices.Index(h.unrouted, c)
	if i >= 0 {
		h.unrouted = slices.Delete(h.unrouted, i, i+1)
	}
	h.routing.Unlock()
	if i >= 0 {
		h.lost(c, err)
	}
}

// lost takes in that the cluster does not tell who is responsible.
func (h *Hub) lost(c *Call, err error) {
	c.attempts++
	v := judge(err)
	if v == unknown {
		v = unsent // asking failed
	}
	h.outcome(c, h.link(nil), nil, err, v)
}

// outcome decides, after one attempt, whether the call is done or sent again.
func (h *Hub) outcome(c *Call, l *link, value any, err error, v verdict) {
	switch v {
	case final:
		c.reached++
		c.finish(value, err)
		return
	case noScript:
		c.attempts--
		c.inFull = true
		l.enqueue(c)
		return
	case unknown:
		c.reached++
		c.maybe = true
	case unsent:
		if c.wasPrivate {
			l.discard()
		}
	case notWritable:
		l.discard()
		l.feed.redial()
	}
	if c.attempts >= c.Attempts || h.ctx.Err() != nil {
		c.finish(nil, err)
		return
	}
	pause := pause(c.attempts)
	if !c.Until.IsZero() && clock.Until(c.Until) < pause {
		c.finish(nil, err)
		return
	}
	if v == elsewhere {
		// The cluster client knows how to follow ASK and MOVED.
		h.cluster.ReloadState(h.ctx)
		time.AfterFunc(pause, func() { h.link(nil).direct(c) })
		return
	}
	if h.cluster != nil && v != unsent {
		h.cluster.ReloadState(h.ctx)
	}
	time.AfterFunc(pause, func() { h.send(c) })
}

// pause is the wait before the next attempt: 10 ms, doubling to half a second.
func pause(attempts int) time.Duration {
	return min(10*time.Millisecond<<min(attempts-1, 6), 500*time.Millisecond)
}

// silent is how long a command may be unanswered before a wait for it that ends
// says that Redis was unavailable.
const silent = 50 * time.Millisecond

// Do sends the call and waits for its outcome or the end of ctx; the call then
// goes on by itself.
func (h *Hub) Do(ctx context.Context, c *Call) (Reply, error) {
	if err := ctx.Err(); err != nil {
		return Reply{}, err
	}
	start := clock.Now()
	outcome := make(chan Reply, 1)
	c.Done = func(r Reply) { outcome <- r }
	h.Run(ctx, c, h.ReadTimeout())
	select {
	case r := <-outcome:
		return r, r.Err
	case <-ctx.Done():
	}
	err := ctx.Err()
	if clock.Since(start) > silent {
		err = Join(ErrUnavailable, err)
	}
	return Reply{Ambiguous: true}, err
}
