package redistest

import (
	"bytes"
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A Wire carries the connections of one or several clients to their server
// and knows where commands and replies begin and end. It works in bubbles and on
// real servers alike. By itself it changes nothing.
//
//	w := redistest.NewWire(t)
//	client := s.Client(t, w.Through)                          // any server
//	client := redistest.BubbleClient(t, m, w.ThroughBubble)  // in a bubble
//	lost := w.DropReply(redistest.Is("evalsha"))
//	…
//	lost.Await(t)
type Wire struct {
	goroutines sync.WaitGroup
	open       *gate // closed during a partition

	mu       sync.Mutex
	refusing bool
	dialled  int
	conns    map[*wireConn]bool
	faults   []*Fault // that have no command yet
	counts   map[string]int
	dropping [][]byte // messages with one of these are lost
}

// NewWire makes a wire, whose connections are cut at the end of the test. It
// is made before the clients that use it, so that they are closed first.
func NewWire(t testing.TB) *Wire {
	t.Helper()
	w := &Wire{open: newGate(), conns: map[*wireConn]bool{}, counts: map[string]int{}}
	w.open.set(true)
	t.Cleanup(func() {
		w.Down()
		w.goroutines.Wait()
	})
	return w
}

// Through makes a client of Server.Client use the wire.
func (w *Wire) Through(o *redis.UniversalOptions) {
	d := net.Dialer{Timeout: o.DialTimeout}
	next := d.DialContext
	if o.Dialer != nil {
		next = o.Dialer
	}
	o.Dialer = w.Dialer(next)
}

// ThroughBubble makes a client of BubbleClient use the wire.
func (w *Wire) ThroughBubble(o *redis.Options) { o.Dialer = w.Dialer(o.Dialer) }

// Dialer wraps a dialer so that its connections run through the wire.
func (w *Wire) Dialer(next Dialer) Dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		w.mu.Lock()
		refusing := w.refusing
		w.mu.Unlock()
		if refusing {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		server, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return w.connect(server), nil
	}
}

// connect starts carrying a connection and returns the client's end. One that
// was dialled while the wire went down is cut at once.
func (w *Wire) connect(server net.Conn) net.Conn {
	outer, inner := net.Pipe()
	w.mu.Lock()
	w.dialled++
	c := newWireConn(w, w.dialled, inner, server)
	refusing := w.refusing
	if !refusing {
		w.conns[c] = true
		for _, run := range []func(){c.fromClient, c.toServer, c.fromServer, c.toClient} {
			w.goroutines.Go(run)
		}
	}
	w.mu.Unlock()
	if refusing {
		c.cutBoth() // takes mu
	}
	return &socket{Conn: outer}
}

func (w *Wire) add(f *Fault) *Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, f)
	return f
}

// Watch does nothing to the command; Await tells when it was sent.
func (w *Wire) Watch(m Match) *Fault { return w.add(newFault(watch, m)) }

// DropCommand cuts the connection before the command is sent: it is never
// executed.
func (w *Wire) DropCommand(m Match) *Fault { return w.add(newFault(dropCommand, m)) }

// HoldCommand keeps the command, and what follows it on its connection, until
// Release.
func (w *Wire) HoldCommand(m Match) *Fault { return w.add(newFault(holdCommand, m)) }

// DropReply cuts the connection when the server has answered the command: it
// was executed, and the client cannot know.
func (w *Wire) DropReply(m Match) *Fault { return w.add(newFault(dropReply, m)) }

// HoldReply keeps the reply, and what follows it on its connection, until
// Release.
func (w *Wire) HoldReply(m Match) *Fault { return w.add(newFault(holdReply, m)) }

// HoldMessage keeps the next pub/sub message that contains text (in its
// channel or payload), and what follows it on its connection, until Release.
func (w *Wire) HoldMessage(text string) *Fault {
	f := newFault(holdMessage, func(Command) bool { return false })
	f.text = text
	return w.add(f)
}

// DropMessages loses all pub/sub messages that contain text (in their channel
// or payload; empty: all) from now on. Confirmations still arrive.
func (w *Wire) DropMessages(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropping = append(w.dropping, []byte(text))
}

// KeepMessages ends what DropMessages began.
func (w *Wire) KeepMessages() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropping = nil
}

// Partition lets nothing through in either direction, silently: connections
// stay open, new ones are accepted, what is sent waits in the wire.
func (w *Wire) Partition() { w.open.set(false) }

// Heal ends a partition. What waited in the wire arrives now, that of
// connections closed meanwhile included. CutAll before Heal loses it.
func (w *Wire) Heal() { w.open.set(true) }

// Down refuses new connections and cuts those there are, as a server that
// is gone. Up accepts again.
func (w *Wire) Down() {
	w.mu.Lock()
	w.refusing = true
	w.mu.Unlock()
	w.CutAll()
}

// Up ends what Down began.
func (w *Wire) Up() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusing = false
}

// CutAll cuts all connections; what is in them is lost.
func (w *Wire) CutAll() { w.cut(func(*wireConn) bool { return true }) }

// CutPubSub cuts the connections on which a client has subscribed.
func (w *Wire) CutPubSub() { w.cut((*wireConn).isPubSub) }

// CutConn cuts one connection, by the number that Command.Conn has.
func (w *Wire) CutConn(n int) { w.cut(func(c *wireConn) bool { return c.number == n }) }

func (w *Wire) cut(which func(*wireConn) bool) {
	w.mu.Lock()
	all := slices.Collect(maps.Keys(w.conns))
	w.mu.Unlock()
	for _, c := range all {
		if which(c) {
			c.cutBoth()
		}
	}
}

// Conns returns how many connections clients have open.
func (w *Wire) Conns() int { return w.countConns(func(*wireConn) bool { return true }) }

// PubSubConns returns on how many of them a client has subscribed.
func (w *Wire) PubSubConns() int { return w.countConns((*wireConn).isPubSub) }

func (w *Wire) countConns(which func(*wireConn) bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for c := range w.conns {
		if !c.clientGone() && which(c) {
			n++
		}
	}
	return n
}

// Dialled returns how many connections were made so far.
func (w *Wire) Dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialled
}

// Counts returns how often clients sent each command since the wire was made
// or ResetCounts was called, by name in upper case, delivered or not.
func (w *Wire) Counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.counts)
}

// Total is the sum of Counts.
func (w *Wire) Total() int {
	sum := 0
	for _, n := range w.Counts() {
		sum += n
	}
	return sum
}

// ResetCounts begins counting anew.
func (w *Wire) ResetCounts() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.counts)
}

func (w *Wire) count(c Command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[c.Name]++
}

// pick returns the fault that c is for, if there is one.
func (w *Wire) pick(c Command) *Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	picked := -1
	for i, f := range w.faults {
		// Every one is asked, so that Nth counts what others take.
		if f.match(c) && picked < 0 {
			picked = i
		}
	}
	return w.take(picked)
}

// pickMessage returns the fault that a pub/sub message is for, if there is
// one, and whether the message is to be lost.
func (w *Wire) pickMessage(raw []byte) (f *Fault, lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.dropping, func(text []byte) bool { return bytes.Contains(raw, text) }) {
		return nil, true
	}
	return w.take(slices.IndexFunc(w.faults, func(f *Fault) bool {
		return f.kind == holdMessage && bytes.Contains(raw, []byte(f.text))
	})), false
}

// take removes and returns fault i; nil for a negative i. The caller holds mu.
func (w *Wire) take(i int) *Fault {
	if i < 0 {
		return nil
	}
	f := w.faults[i]
	w.faults = slices.Delete(w.faults, i, i+1)
	return f
}

func (w *Wire) forget(c *wireConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}
