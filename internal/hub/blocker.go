package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/redis/go-redis/v9"
)

const (
	// Slice is how long a blocking command waits in Redis at most; then it is
	// sent again. It bounds how long a connection that has died without a word
	// goes unnoticed.
	Slice = 5 * time.Second
	// shortSlice is the same where a command cannot be ended from outside.
	shortSlice = 400 * time.Millisecond
)

// Blocker is a connection of its own for commands that block in Redis. go-redis
// cannot cancel one without closing its connection, and with the connection an
// element that is on its way is lost. So nothing is closed: [Blocker.Unblock]
// has Redis answer at once, and whatever comes is handed to whoever called
// [Blocker.Do].
//
// One goroutine at a time calls Do and Close; Unblock may be called by any.
type Blocker struct {
	hub *Hub
	key string // what it works on; in a cluster it tells the node

	client *redis.Client // its own; nil: not dialled, or the user's is used
	conn   *redis.Conn

	mu      sync.Mutex
	id      int64         // of the connection at the server; 0: it cannot be unblocked
	over    chan struct{} // closed when the Do under way ends; nil: there is none
	ending  bool          // somebody unblocks it
	refused bool          // the server does not let us
}

// Blocker returns a connection for commands that block on the key. Nothing is
// dialled yet.
func (h *Hub) Blocker(key string) *Blocker { return &Blocker{hub: h, key: key} }

// Dial makes sure of a connection, and returns how long a command should block at
// most: less where Unblock has no effect.
func (b *Blocker) Dial() (slice time.Duration, err error) {
	if b.conn == nil {
		o, err := b.options()
		if err != nil {
			return 0, err
		}
		if o == nil {
			return shortSlice, nil // the user's client, which does not tell how to dial
		}
		b.client = redis.NewClient(o)
		b.conn = b.client.Conn()
		ctx, cancel := context.WithTimeout(b.hub.ctx, b.hub.ReadTimeout())
		defer cancel()
		id, err := b.conn.ClientID(ctx).Result()
		if v := judge(err); err != nil && v != final {
			b.Close()
			return 0, explain(err)
		}
		b.mu.Lock()
		b.id = id
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.id == 0 || b.refused {
		return shortSlice, nil
	}
	return Slice, nil
}

// options are those of the connection; nil if there can be none.
func (b *Blocker) options() (*redis.Options, error) {
	h := b.hub
	node := h.link(nil).node
	if c := h.id.control; c != nil {
		node, _ = c.(*redis.Client)
	}
	if h.cluster != nil {
		var err error
		if node, err = h.cluster.MasterForKey(h.ctx, b.key); err != nil {
			h.cluster.ReloadState(h.ctx)
			return nil, explain(err)
		}
	}
	if node == nil {
		return nil, nil
	}
	o := privateOptions(node)
	o.PoolSize = 1
	o.ReadTimeout += Slice
	return o, nil
}

// Do sends the calls in one pipeline and returns the outcome of the last, which
// may block for as long as wait. Scripts are sent in full: a pipeline has no
// second try. Nothing is sent twice. Before anything is sent Do asks wanted,
// once from then on Unblock has an effect; if it says no, nothing is sent.
func (b *Blocker) Do(wait time.Duration, wanted func() bool, calls ...*Call) Reply {
	b.mu.Lock()
	over := make(chan struct{})
	b.over, b.ending = over, false
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		close(over)
		b.over = nil
		b.mu.Unlock()
	}()
	if !wanted() {
		return Reply{}
	}
	ctx, cancel := context.WithTimeout(b.hub.ctx, wait+b.hub.ReadTimeout())
	var pipe redis.Pipeliner
	switch {
	case b.conn != nil:
		pipe = b.conn.Pipeline()
	case b.hub.id.control != nil:
		pipe = b.hub.id.control.Pipeline()
	default:
		pipe = b.hub.id.client.Pipeline()
	}
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		c.inFull = true
		cmds[i] = c.command(b.hub)
		_ = pipe.Process(ctx, once{cmds[i]})
	}
	r := Reply{Sent: clock.Now(), Attempts: 1}
	_, _ = pipe.Exec(ctx)
	cancel()
	last := cmds[len(cmds)-1]
	for _, c := range cmds {
		if err := c.Err(); err != nil && !errors.Is(err, redis.Nil) && r.Err == nil {
			r.Err, r.Ambiguous = explain(err), judge(last.Err()) == unknown
		}
	}
	if r.Err == nil && last.Err() == nil {
		r.Value = last.Val()
	}
	if r.Err != nil {
		b.Close() // and dial anew, perhaps elsewhere
		if b.hub.cluster != nil {
			b.hub.cluster.ReloadState(b.hub.ctx)
		}
	}
	return r
}

// Unblock has the Do under way return soon. What it is waiting for is not
// lost: either it returns that, or nothing. Where the server does not allow it,
// Do returns at the end of its wait.
func (b *Blocker) Unblock() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over == nil || b.ending || b.id == 0 || b.refused {
		return
	}
	b.ending = true
	go b.unblock(b.id, b.over)
}

// unblock repeats CLIENT UNBLOCK until the command has returned: it may come
// before the command that it is for.
func (b *Blocker) unblock(id int64, over chan struct{}) {
	for attempt := 0; ; attempt++ {
		r := make(chan Reply, 1)
		b.hub.Go(&Call{
			Keys: []string{b.key}, Args: []any{"CLIENT", "UNBLOCK", id}, Private: true, AfterClose: true,
			Done: func(reply Reply) { r <- reply },
		})
		reply := <-r
		var answer redis.Error
		if errors.As(reply.Err, &answer) && !errors.Is(reply.Err, ErrUnavailable) {
			b.mu.Lock()
			b.refused = true
			b.mu.Unlock()
			return
		}
		select {
		case <-over:
			return
		case <-time.After(min(time.Millisecond<<min(attempt, 6), 50*time.Millisecond)):
		}
	}
}

// Close gives the connection up. Do dials no more; Dial does.
func (b *Blocker) Close() {
	b.mu.Lock()
	b.id = 0
	b.mu.Unlock()
	if b.conn != nil {
		_ = b.conn.Close()
		_ = b.client.Close()
		b.conn, b.client = nil, nil
	}
}
