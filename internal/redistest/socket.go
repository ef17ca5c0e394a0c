package redistest

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// A socket makes a net.Pipe end as a TCP connection does, which clients know:
// when the other side has gone, deadlines may still be set, what is written is
// lost without a word, and reading says io.EOF. A pipe says io.ErrClosedPipe to
// all but the last, and go-redis takes that for an error of its user's and
// does not try again.
type socket struct {
	net.Conn
	closed atomic.Bool
}

func (s *socket) Close() error {
	s.closed.Store(true)
	return s.Conn.Close()
}

func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	return n, s.asSocket(err)
}

func (s *socket) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if err = s.asSocket(err); err == nil {
		n = len(b)
	}
	return n, err
}

func (s *socket) SetDeadline(t time.Time) error      { return s.asSocket(s.Conn.SetDeadline(t)) }
func (s *socket) SetReadDeadline(t time.Time) error  { return s.asSocket(s.Conn.SetReadDeadline(t)) }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.asSocket(s.Conn.SetWriteDeadline(t)) }

func (s *socket) asSocket(err error) error {
	switch {
	case !errors.Is(err, io.ErrClosedPipe):
		return err
	case s.closed.Load():
		return net.ErrClosed
	default:
		return nil
	}
}
