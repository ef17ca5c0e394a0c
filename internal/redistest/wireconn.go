package redistest

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"time"
)

// lastReplies is how long a connection without a half-close stays open for the
// replies to what was sent after its client had gone.
const lastReplies = 100 * time.Millisecond

// A wireConn is one connection through a Wire. Four goroutines carry it: two
// read, so that whatever is sent is accepted at once, as by the buffers of a kernel,
// and two write, which the faults may hold up.
type wireConn struct {
	wire           *Wire
	number         int
	client, server net.Conn

	commands *queue[Command]
	frames   *queue[delivery]

	cut       chan struct{} // closed by cutBoth: nothing is delivered any more
	cutOnce   sync.Once
	gone      chan struct{} // closed when the client's end is closed, by either side
	goneOnce  sync.Once
	serverEnd chan struct{} // closed when nothing more comes from the server

	mu      sync.Mutex
	pubsub  bool       // the client has subscribed
	waiting []expected // sent and not yet answered, in order
}

// expected is a command that was sent, and the fault of its reply.
type expected struct {
	command Command
	fault   *Fault
}

// delivery is a frame on its way to the client, and the fault that holds it.
type delivery struct {
	raw  []byte
	hold *Fault
}

func newWireConn(w *Wire, number int, client, server net.Conn) *wireConn {
	return &wireConn{
		wire: w, number: number, client: client, server: server,
		commands: newQueue[Command](), frames: newQueue[delivery](),
		cut: make(chan struct{}), gone: make(chan struct{}), serverEnd: make(chan struct{}),
	}
}

// fromClient takes what the client sends, at once.
func (c *wireConn) fromClient() {
	r := bufio.NewReader(c.client)
	for {
		command, err := readCommand(r)
		if err != nil {
			c.closeClient()
			c.commands.end()
			return
		}
		command.Conn = c.number
		c.wire.count(command)
		if command.subscribes() {
			c.mu.Lock()
			c.pubsub = true
			c.mu.Unlock()
		}
		c.commands.push(command)
	}
}

// toServer sends commands when their time has come.
func (c *wireConn) toServer() {
	for {
		command, ok := c.commands.pop(c.cut)
		if !ok {
			break
		}
		if !c.send(command) {
			c.cutBoth()
			return
		}
	}
	c.closeServer()
}

// send delivers one command; false: the connection has come to its end.
func (c *wireConn) send(command Command) bool {
	if !c.wire.open.wait(c.cut) {
		return false
	}
	f := c.wire.pick(command)
	if f != nil {
		switch f.kind {
		case dropCommand:
			c.cutBoth()
			f.strike(c, command)
			return false
		case holdCommand:
			f.strike(c, command)
			if !f.wait(c.cut) || !c.wire.open.wait(c.cut) {
				return false
			}
		}
	}
	c.mu.Lock()
	c.waiting = append(c.waiting, expected{command, f})
	c.mu.Unlock()
	if _, err := c.server.Write(command.raw); err != nil {
		return false
	}
	if f != nil && f.kind == watch {
		f.strike(c, command)
	}
	return true
}

// fromServer takes what the server sends, at once.
func (c *wireConn) fromServer() {
	defer close(c.serverEnd)
	r := bufio.NewReader(c.server)
	for {
		fr, err := readFrame(r)
		if err != nil {
			c.frames.end()
			return
		}
		d, ok := c.judge(fr)
		if !ok {
			c.cutBoth()
			return
		}
		if d.raw != nil {
			c.frames.push(d)
		}
	}
}

// judge finds the command that a frame answers and what is to happen to the
// frame; false: the connection is to be cut instead of delivering it.
func (c *wireConn) judge(fr frame) (delivery, bool) {
	word := fr.pubsub(c.isPubSub())
	if strings.HasSuffix(word, "message") {
		f, lost := c.wire.pickMessage(fr.raw)
		if lost {
			return delivery{}, true
		}
		if f != nil {
			f.strike(c, Command{Name: strings.ToUpper(word), Args: fr.first, Conn: c.number})
		}
		return delivery{fr.raw, f}, true
	}
	e := c.answered(fr, word)
	if e.fault == nil {
		return delivery{fr.raw, nil}, true
	}
	e.fault.sawAnswer()
	switch e.fault.kind {
	case dropReply:
		c.cutBoth() // before the test hears of it
		e.fault.strike(c, e.command)
		return delivery{}, false
	case holdReply:
		e.fault.strike(c, e.command)
		return delivery{fr.raw, e.fault}, true
	default:
		return delivery{fr.raw, nil}, true
	}
}

// answered removes the command that a frame answers from those waiting.
// Pushes answer none, but for the first confirmation of a subscription.
func (c *wireConn) answered(fr frame, word string) expected {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return expected{}
	}
	e := c.waiting[0]
	switch {
	case word != "":
		if e.command.Name != strings.ToUpper(word) {
			return expected{} // another channel of the same command, or unasked
		}
	case fr.kind == '>':
		return expected{} // some other push of RESP3
	}
	c.waiting = c.waiting[1:]
	return e
}

// toClient delivers frames when their time has come.
func (c *wireConn) toClient() {
	defer c.closeClient()
	for {
		d, ok := c.frames.pop(c.cut)
		if !ok {
			return
		}
		if !c.wire.open.wait(c.cut) {
			return
		}
		if d.hold != nil && (!d.hold.wait(c.cut) || !c.wire.open.wait(c.cut)) {
			c.cutBoth()
			return
		}
		if _, err := c.client.Write(d.raw); err != nil {
			// The client is gone, its commands are not: whatever the
			// server says to them is read on, for AwaitReply.
			return
		}
	}
}

// closeServer tells the server that the client will send no more, and waits
// for its last words. A server on a socket answers what it has read and then
// closes; one in memory knows no half-closing and gets a moment for its answers.
func (c *wireConn) closeServer() {
	defer c.cutBoth()
	if half, ok := c.server.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails when it is closed already
		select {
		case <-c.serverEnd:
		case <-c.cut:
		}
		return
	}
	if !c.owed() {
		return
	}
	timer := time.NewTimer(lastReplies)
	defer timer.Stop()
	select {
	case <-c.serverEnd:
	case <-c.cut:
	case <-timer.C:
	}
}

// owed reports that the server has not answered everything yet.
func (c *wireConn) owed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 0
}

// closeClient ends the client's side only.
func (c *wireConn) closeClient() {
	c.goneOnce.Do(func() {
		close(c.gone)
		_ = c.client.Close()
	})
}

// cutBoth ends the connection; what is in it is lost.
func (c *wireConn) cutBoth() {
	c.cutOnce.Do(func() {
		close(c.cut)
		c.closeClient()
		_ = c.server.Close()
		c.wire.forget(c)
	})
}

func (c *wireConn) isPubSub() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pubsub
}

func (c *wireConn) clientGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}
