package redistest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
)

// A process is one server that the tests started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; err is set before
	err  error
	out  tail
}

// startProcess runs argv so that it ends with this process where the system
// can see to that.
func startProcess(argv []string) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir = os.TempDir() // never the package's: nobody may leave a file there
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1)
	go func() {
		// On Linux the kernel sends the death signal when the thread that
		// started the child ends, not the process. So this thread stays
		// until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// kill ends the process, paused or not, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended already
	<-p.done
}

// errEnded: it exited with 0, which a server that is needed should not.
var errEnded = errors.New("by itself")

// PauseProcess stops a process that the test started, without its noticing,
// until ResumeProcess. Systems that cannot do this lack it: see [Lacks].
func PauseProcess(t testing.TB, p *os.Process) {
	t.Helper()
	if err := pause(p); err != nil {
		Lacks(t, "redistest: pausing a process: %v", err)
	}
}

// ResumeProcess lets a paused process go on.
func ResumeProcess(t testing.TB, p *os.Process) {
	t.Helper()
	if err := resume(p); err != nil {
		t.Fatal("redistest: ", err)
	}
}

// ended says why the process is gone; nil while it runs.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%v ended: %w\n%s", p.cmd.Args, cmp.Or(p.err, errEnded), p.out.String())
	default:
		return nil
	}
}

// tail keeps the last few KiB of what a server prints, for the error message.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailSize = 8 << 10

func (o *tail) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(b)
	if extra := o.buf.Len() - tailSize; extra > 0 {
		o.buf.Next(extra)
	}
	return len(b), nil
}

func (o *tail) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// busOffset is added to a cluster node's port to get the port of its bus;
// Redis's own choice, 10000, would reach into the outgoing range.
const busOffset = 6000

// freePort proposes a port nobody listens on. It stays below the ranges from
// which systems take the ports of outgoing connections (Linux from 32768,
// others from 49152), for a client of a parallel test could take one of those between
// this look and the server's bind, or while a server is being restarted.
// Another test binary may still be faster; the caller then tries again.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := 20000 + rand.IntN(busOffset)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, last
}

// poll calls ready until it returns nil, the process ends or the time is up.
// A foreign server on the port is the end as well: ours cannot come up there.
func poll(within time.Duration, p *process, ready func() error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(within)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if errors.Is(err, errNotOurs) {
			return err
		}
		select {
		case <-p.done:
			return p.ended()
		case <-limit:
			return fmt.Errorf("not ready within %v: %w\n%s", within, err, p.out.String())
		case <-tick.C:
		}
	}
}
