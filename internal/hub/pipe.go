package hub

import (
	"context"
	"net"
	"sync"
	"time"
)

// unblocked has the connections that are net.Pipes take at once what is written, as
// a socket does. A pipe, the way to a server in memory, keeps its writer until
// the other side reads: over one a pipeline stops both sides, the client with the
// rest of its commands and the server with its first answers.
func unblocked(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err == nil && c.RemoteAddr() != nil && c.RemoteAddr().Network() == "pipe" {
			c = &pipe{Conn: c}
		}
		return c, err
	}
}

// pipe is one end of a net.Pipe, with a buffer for what is written.
type pipe struct {
	net.Conn

	mu      sync.Mutex
	data    []byte
	passing bool
	err     error // why nothing more is passed on
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	p.data = append(p.data, b...)
	if !p.passing {
		p.passing = true
		go p.pass()
	}
	return len(b), nil
}

// pass hands on what was written; closing the connection ends it.
func (p *pipe) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.data) > 0 && p.err == nil {
		data := p.data
		p.data = nil
		p.mu.Unlock()
		_, err := p.Conn.Write(data)
		p.mu.Lock()
		p.err = err
	}
	p.passing = false
}

// SetWriteDeadline does nothing: Write never waits.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }
