package hub

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
)

// Replication asks for more than an answer: how many replicas have what the call
// did, and all that came before it.
type Replication struct {
	Replicas int // to wait for; 0: none, and the call is an ordinary one
	// Timeout is how long, in ms, they have, beyond the call's own patience.
	Timeout int64
	// Mark is a command that surely writes and answers 1. WAIT counts for the writes
	// of its own connection: after a script that found nothing to write it would
	// answer at once and prove nothing.
	Mark []any
}

// replicated sends the call, the mark and WAIT in one pipeline, on a connection that
// others need not wait for.
func (l *link) replicated(c *Call) {
	if len(leave([]*Call{c})) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(l.hub.ctx, c.Patience+time.Duration(c.Replication.Timeout)*time.Millisecond)
	defer cancel()
	cmd := c.command(l.hub)
	mark := redis.NewCmd(ctx, c.Replication.Mark...)
	wait := redis.NewCmd(ctx, "wait", c.Replication.Replicas, c.Replication.Timeout)
	c.attempts++
	c.sent, c.wasPrivate, c.replicas = clock.Now(), true, 0
	pipe := l.waiting().Pipeline()
	for _, each := range []*redis.Cmd{cmd, mark, wait} {
		_ = pipe.Process(ctx, once{each})
	}
	_, _ = pipe.Exec(ctx)
	if n, ok := wait.Val().(int64); ok && mark.Val() == int64(1) {
		c.replicas = int(n)
	}
	err, v := cmd.Err(), judge(cmd.Err())
	for _, lost := range []*redis.Cmd{mark, wait} {
		if v == final && judge(lost.Err()) == unknown {
			err, v = lost.Err(), unknown // the same again does no harm
		}
	}
	l.hub.outcome(c, l, cmd.Val(), err, v)
}

// waiting returns the client for calls that wait for replicas, or what stands in for it.
func (l *link) waiting() redis.UniversalClient {
	if l.hub.id.control != nil {
		return l.hub.id.control
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiter != nil {
		return l.waiter
	}
	o := l.options()
	if o == nil || l.closed {
		return l.hub.id.client
	}
	o.PoolSize = 64    // as many may wait at once
	o.ReadTimeout = -1 // the deadline of each call instead
	l.waiter = redis.NewClient(o)
	return l.waiter
}
