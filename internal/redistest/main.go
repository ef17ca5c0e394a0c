package redistest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// mainRuns tells Each that somebody will stop the shared servers.
var mainRuns atomic.Bool

// atOnce is how many tests run at the same time. They wait for the linger, for TTLs
// and for servers, and hardly for the processor.
const atOnce = "4"

// Main runs the tests of a package, fails when goroutines of the library are left
// then, and stops the shared servers. A package that calls Each needs it:
//
//	func TestMain(m *testing.M) { redistest.Main(m) }
//
// A test that panics ends the binary without coming back here. On Linux the
// kernel then ends the servers; directories that they leave are removed by
// the next run.
func Main(m *testing.M) {
	mainRuns.Store(true)
	flag.Parse() // for testing.Verbose
	if !testing.Verbose() {
		// Servers are stopped and connections cut on purpose here, and
		// go-redis would write a line for each attempt.
		redis.SetLogger(silent{})
	}
	if !given("test.parallel") {
		_ = flag.Set("test.parallel", atOnce)
	}
	sweepDirs()
	code := m.Run()
	if code == 0 {
		if err := Within(leaksWithin, leakedGoroutines); err != nil {
			fmt.Fprintln(os.Stderr, "redistest:", err)
			code = 1
		}
	}
	shared.stop()
	os.Exit(code)
}

// given reports that a flag is on the command line.
func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// shared holds what Main has to stop.
var shared stopper

// stopper runs what it was given to undo, the latest first.
type stopper struct {
	mu      sync.Mutex
	stopped bool
	undo    []func()
}

// add registers undo, or runs it at once when everything was stopped already:
// a cluster may still be starting in the background when the tests are over.
func (s *stopper) add(undo func()) {
	s.mu.Lock()
	stopped := s.stopped
	if !stopped {
		s.undo = append(s.undo, undo)
	}
	s.mu.Unlock()
	if stopped {
		undo()
	}
}

func (s *stopper) stop() {
	s.mu.Lock()
	s.stopped = true
	undo := s.undo
	s.undo = nil
	s.mu.Unlock()
	for i := len(undo) - 1; i >= 0; i-- {
		undo[i]()
	}
}

// silent is a logger for go-redis.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
