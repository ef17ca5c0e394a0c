package redistest

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// awaitWithin bounds the waits for what a test expects to happen.
const awaitWithin = 30 * time.Second

// A Match picks commands. It is asked once for each command, in the order in
// which they are sent, from the moment when the fault is set up.
type Match func(Command) bool

// Is picks commands by name, whatever their case.
func Is(name string) Match {
	name = strings.ToUpper(name)
	return func(c Command) bool { return c.Name == name }
}

// Has picks commands that have text in one of their arguments: a key, a
// ticket, the digest of a script.
func Has(text string) Match {
	return func(c Command) bool {
		for _, arg := range c.Args {
			if strings.Contains(arg, text) {
				return true
			}
		}
		return false
	}
}

// All picks what each of the others picks.
func All(matches ...Match) Match {
	return func(c Command) bool {
		for _, m := range matches {
			if !m(c) {
				return false
			}
		}
		return true
	}
}

// Nth picks the n-th (from 1) of what m picks.
func Nth(n int, m Match) Match {
	return func(c Command) bool {
		if m(c) {
			n--
			return n == 0
		}
		return false
	}
}

type faultKind int

const (
	watch faultKind = iota
	dropCommand
	holdCommand
	dropReply
	holdReply
	holdMessage
)

// A Fault happens to one command: the first that its Match picks. Its methods
// may be called from any goroutine but for Await and AwaitReply, which belong
// in the test's.
type Fault struct {
	kind  faultKind
	match Match
	text  string // of holdMessage

	once sync.Once // guards command, conn and the closing of struck
	// struck is closed when it has happened, answered when the server's reply was
	// read by the wire, released by Release, dropped by Drop.
	struck, answered, released, dropped chan struct{}

	command Command
	conn    *wireConn

	release, answer, drop sync.Once
}

func newFault(kind faultKind, m Match) *Fault {
	return &Fault{
		kind: kind, match: m,
		struck: make(chan struct{}), answered: make(chan struct{}),
		released: make(chan struct{}), dropped: make(chan struct{}),
	}
}

// Await blocks until the fault has happened, fails the test when it does not,
// and returns the command it happened to. For a held command that is when
// it would have been sent, for a reply when the server has answered, for Watch when
// the command was sent.
func (f *Fault) Await(t testing.TB) Command {
	t.Helper()
	await(t, f.struck, "no command came that the fault is for")
	return f.command
}

// AwaitReply blocks until the server has answered the command, whether the
// client will ever see the answer or not. After Release of a held command it
// tells that the command was executed.
func (f *Fault) AwaitReply(t testing.TB) {
	t.Helper()
	await(t, f.answered, "the server did not answer the command")
}

func await(t testing.TB, happened <-chan struct{}, otherwise string) {
	t.Helper()
	limit := time.NewTimer(awaitWithin)
	defer limit.Stop()
	select {
	case <-happened:
	case <-limit.C:
		t.Fatalf("redistest: within %v: %s", awaitWithin, otherwise)
	}
}

// Struck reports whether the fault has happened.
func (f *Fault) Struck() bool {
	select {
	case <-f.struck:
		return true
	default:
		return false
	}
}

// Release lets go what is held, and with it what queued up behind it on the
// same connection: a command reaches the server even if the client has
// closed the connection long ago.
func (f *Fault) Release() { f.release.Do(func() { close(f.released) }) }

// Hangup closes the connection towards the client, which sees its end. What it has sent
// stays in the wire: a held command can still be released, as old bytes
// arrive late from a connection that is dying. To be called after Await.
func (f *Fault) Hangup() { f.conn.closeClient() }

// Drop cuts the connection of what is held, which is lost. To be called after
// Await.
func (f *Fault) Drop() { f.drop.Do(func() { close(f.dropped) }) }

// strike notes that the fault has happened.
func (f *Fault) strike(conn *wireConn, c Command) {
	f.once.Do(func() {
		f.conn, f.command = conn, c
		close(f.struck)
	})
}

func (f *Fault) sawAnswer() { f.answer.Do(func() { close(f.answered) }) }

// wait blocks until what is held may go on; false: it is lost.
func (f *Fault) wait(cut <-chan struct{}) bool {
	select {
	case <-f.released:
		return true
	case <-f.dropped:
		return false
	case <-cut:
		return false
	}
}
