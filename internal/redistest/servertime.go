package redistest

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// A ServerTime is the clock of a server in a bubble, which need not agree with
// that of the clients: they cannot tell which of the two is wrong.
type ServerTime struct {
	steps chan time.Duration
	done  chan struct{}
}

// NewServerTime makes the server's clock differ by so much from that of the
// bubble, until the test's end.
func NewServerTime(t testing.TB, m *miniredis.Miniredis, off time.Duration) *ServerTime {
	t.Helper()
	s := &ServerTime{steps: make(chan time.Duration), done: make(chan struct{})}
	m.SetTime(time.Now().Add(off))
	m.ClockTTL(true) // counts from now on
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case d := <-s.steps:
				off += d
			case <-s.done:
				m.SetTime(time.Time{})
				return
			}
			m.SetTime(time.Now().Add(off))
		}
	}()
	t.Cleanup(func() {
		close(s.done)
		<-over
	})
	return s
}

// Step has the server's clock jump. A jump back does not lengthen the TTLs of
// keys, which it does in Redis.
func (s *ServerTime) Step(d time.Duration) {
	s.steps <- d
	s.steps <- 0 // the first is done
}
