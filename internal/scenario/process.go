package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// grace is how long a worker that was told to end may take before it is killed.
const grace = 2 * time.Second

// A process is a worker as its parent sees it.
type process struct {
	name   string
	cmd    *exec.Cmd
	stderr tail
}

// startProcess starts a worker that says its lines into out. All workers of a run
// share out, so their lines come in the order in which they were said.
//
// The worker lives no longer than its standard input stays open, which is a pipe
// from here. To end the worker the pipe is closed; and if this process dies, even by
// SIGKILL, the system closes it. That works everywhere, unlike process groups,
// and no worker has to look for its parent from time to time.
func startProcess(ctx context.Context, name, program string, args, env []string, out *os.File) (*process, error) {
	p := &process{name: name, cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout = out
	p.cmd.Stderr = &p.stderr
	leash, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Cancel = leash.Close
	p.cmd.WaitDelay = grace
	return p, p.cmd.Start()
}

// wait returns when the process has ended; the error says how, with what it
// printed on standard error.
func (p *process) wait() error {
	err := p.cmd.Wait()
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == ExitInterrupted {
		return ErrInterrupted
	}
	return fmt.Errorf("%s (process %d) failed: %w\n%s", p.name, p.cmd.Process.Pid, err, p.stderr.String())
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
	cut  bool
}

var _ io.Writer = (*tail)(nil)

const tailSize = 64 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, b...)
	if len(t.data) > tailSize {
		t.data = append([]byte(nil), t.data[len(t.data)-tailSize:]...)
		t.cut = true
	}
	return len(b), nil
}

// String is what was kept, each line indented.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.TrimRight(string(t.data), "\n")
	if s == "" {
		return "  (it printed no error)"
	}
	if t.cut {
		s = "…" + s
	}
	return "  " + strings.ReplaceAll(s, "\n", "\n  ")
}
