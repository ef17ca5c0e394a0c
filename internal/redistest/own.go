package redistest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// An Own is a server that one test has for itself and may stop, kill, pause
// and start again on the same port. It ends with the test.
type Own struct {
	*Server
	argv []string
	args []string
	port int
	proc *process // nil while it is stopped
}

// Persist are arguments for StartOwn: what was written survives the end of the
// server, however it comes, though not that of the machine. A server that
// runs in a root directory of its own (chroot) cannot have it: the test is skipped.
func Persist(t testing.TB) []string {
	t.Helper()
	return []string{"--dir", t.TempDir(), "--appendonly", "yes", "--appendfsync", "no"}
}

// StartOwn starts a server for this test alone: redis-server, or valkey-server where
// there is no other. It skips the test where there is neither. The arguments are those of
// redis-server ("--maxmemory", "1mb").
func StartOwn(t testing.TB, args ...string) *Own {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal("redistest: ", err)
	}
	for _, src := range all {
		if src.argv != nil && !src.cluster {
			return startOwn(t, src.name, src.argv, args)
		}
	}
	all[1].demand(t) // skips, or fails where redis-server is required
	return nil
}

// StartOwn starts a server of the same kind as s for this test alone. It
// skips the test when s is not a single server that the tests can start.
func (s *Server) StartOwn(t testing.TB, args ...string) *Own {
	t.Helper()
	s.SkipOn(t, s.in.argv == nil || s.Cluster, "the tests cannot start a single server of this kind")
	return startOwn(t, s.Name, s.in.argv, args)
}

func startOwn(t testing.TB, name string, argv, args []string) *Own {
	t.Helper()
	in, err := startAlone(argv, func(int) []string { return args })
	if err != nil && slices.Contains(args, "--dir") && strings.Contains(err.Error(), "No such file or directory") {
		Lacks(t, "redistest: %s runs where it cannot see the files of this machine", name)
	}
	if err != nil {
		t.Fatalf("redistest: %s: %v", name, err)
	}
	o := &Own{Server: newServer(name, in), argv: argv, args: args, port: in.port, proc: in.procs[0]}
	t.Cleanup(func() {
		if o.proc != nil {
			o.proc.kill()
		}
	})
	return o
}

// Stop ends the server as an operator would: it says goodbye to its replicas
// and closes its files.
func (o *Own) Stop(t testing.TB) {
	t.Helper()
	c := o.in.client(func(u *redis.UniversalOptions) { u.MaxRetries = -1 })
	defer c.Close()
	// The answer is the end of the connection, or nothing at all.
	_ = c.(*redis.Client).Do(context.Background(), "SHUTDOWN", "NOSAVE").Err()
	select {
	case <-o.proc.done:
		o.proc = nil
	case <-time.After(startWithin):
		t.Fatalf("redistest: %s does not stop", o.Name)
	}
}

// Kill ends the server without warning, paused or not.
func (o *Own) Kill(t testing.TB) {
	t.Helper()
	o.proc.kill()
	o.proc = nil
}

// Start starts the server again after Stop or Kill, on the same port: empty,
// unless it was started with Persist. Scripts and subscriptions are gone.
func (o *Own) Start(t testing.TB) {
	t.Helper()
	if o.proc != nil {
		t.Fatal("redistest: the server runs already")
	}
	// The port may be taken for a moment, by another test that looks for
	// a free one.
	err := Within(startWithin, func() (err error) {
		o.proc, err = startServer(o.argv, o.port, o.args)
		return err
	})
	if err != nil {
		t.Fatalf("redistest: %s does not start again: %v", o.Name, err)
	}
	o.in.procs = []*process{o.proc}
}

// Restart is Kill and Start.
func (o *Own) Restart(t testing.TB) {
	t.Helper()
	o.Kill(t)
	o.Start(t)
}

// Pause stops the server without closing its connections: it accepts what is
// sent and answers nothing until Resume, as a machine that hangs. It skips the test
// on systems that cannot do this.
func (o *Own) Pause(t testing.TB) {
	t.Helper()
	PauseProcess(t, o.proc.cmd.Process)
}

// Resume lets a paused server go on.
func (o *Own) Resume(t testing.TB) {
	t.Helper()
	ResumeProcess(t, o.proc.cmd.Process)
}

// String names the server in messages.
func (o *Own) String() string { return fmt.Sprintf("%s at %s", o.Name, o.Addr) }
