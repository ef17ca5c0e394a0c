//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

// A program is the command while it runs.
type program struct {
	cmd    *exec.Cmd
	lines  chan string // of standard output
	seen   []string    // those that until has read
	stderr bytes.Buffer
	ended  func() error
}

// patience is for what takes milliseconds on an idle machine.
const patience = 30 * time.Second

// start starts the command. It is killed at the end of the test, if it still runs.
func start(t *testing.T, stdin *os.File, args ...string) *program {
	t.Helper()
	p := &program{lines: make(chan string, 1000)}
	p.cmd = exec.Command(filepath.Join(command(t), "multihost"), args...)
	p.cmd.Stderr = &p.stderr
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 1<<20) // more than a message of chat
		for scanner.Scan() {
			p.lines <- scanner.Text()
		}
	}()
	p.ended = sync.OnceValue(func() error {
		<-read // Wait closes the pipe
		return p.cmd.Wait()
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most often it has ended
		_ = p.ended()
	})
	return p
}

// until reads lines until one matches, if none has yet, and gives its groups.
func (p *program) until(t *testing.T, pattern string) []string {
	t.Helper()
	wanted := regexp.MustCompile(pattern)
	for _, line := range p.seen {
		if groups := wanted.FindStringSubmatch(line); groups != nil {
			return groups
		}
	}
	late := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("the command ended (%v) without a line like %q\n%s", p.ended(), pattern, p.stderr.String())
			}
			p.seen = append(p.seen, line)
			if groups := wanted.FindStringSubmatch(line); groups != nil {
				return groups
			}
		case <-late:
			t.Fatalf("no line like %q within %v", pattern, patience)
		}
	}
}

// end waits for the end of the command, and gives its exit code and the lines that
// were still to read.
func (p *program) end(t *testing.T) (code int, rest []string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				var exit *exec.ExitError
				if err := p.ended(); err != nil && !errors.As(err, &exit) {
					t.Fatal(err)
				}
				return p.cmd.ProcessState.ExitCode(), rest
			}
			rest = append(rest, line)
		case <-late:
			t.Fatalf("the command has not ended within %v", patience)
		}
	}
}

func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func pid(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gone says whether a process has ended. An orphan that has ended may stay in the
// table for ever where nobody collects it, as in a container without init.
func gone(pid int) error {
	if syscall.Kill(pid, 0) != nil {
		return nil
	}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		if _, state, found := strings.Cut(string(stat), ") "); found && strings.HasPrefix(state, "Z") {
			return nil
		}
	}
	return fmt.Errorf("process %d still runs", pid)
}

// traffic starts the traffic demo and gives the process ids of its light and first car,
// once both are at work.
func traffic(t *testing.T, args ...string) (p *program, light, car int) {
	t.Helper()
	p = start(t, nil, append([]string{"demo", "traffic", "--seed=1"}, args...)...)
	light = pid(t, p.until(t, `^\[(\d+)\] the light is red`)[1])
	car = pid(t, p.until(t, `^\[(\d+)\] car 0 waits`)[1])
	return p, light, car
}

func TestInterruptEndsEveryWorkerAndCleansUp(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
			run := "interrupted-" + strconv.Itoa(os.Getpid())
			p, light, car := traffic(t, "--redis", url(s), "--run", run)
			p.signal(t, sig)
			code, _ := p.end(t)
			if code != 130 {
				t.Errorf("%v: exit code %d, want 130\n%s", sig, code, p.stderr.String())
			}
			if want := "multihost: interrupted, and every worker has ended\n"; p.stderr.String() != want {
				t.Errorf("%v: it said %q, want %q", sig, p.stderr.String(), want)
			}
			if err := errors.Join(gone(light), gone(car)); err != nil {
				t.Errorf("%v: %v", sig, err)
			}
			if left := keys(t, s, run); len(left) > 0 {
				t.Errorf("%v: keys are left: %q", sig, left)
			}
		}
	})
}

// Ctrl-C reaches the workers too, and they may end first.
func TestInterruptedWorkerIsNoCrash(t *testing.T) {
	t.Parallel()
	p, light, car := traffic(t)
	if err := syscall.Kill(car, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code, _ := p.end(t); code != 130 {
		t.Errorf("exit code %d, want 130\n%s", code, p.stderr.String())
	}
	if err := errors.Join(gone(light), gone(car)); err != nil {
		t.Error(err)
	}
}

func TestKilledParentLeavesNoWorker(t *testing.T) {
	t.Parallel()
	p, light, car := traffic(t)
	p.signal(t, os.Kill)
	p.end(t)
	redistest.Eventually(t, patience, func() error { return errors.Join(gone(light), gone(car)) })
}

// A queue's keys have no end of their own: its items stayed for ever. Here the run dies with
// an item in the queue, one claimed, and consumers that are known.
func TestKilledParentLeavesNoKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		run := "killed-" + strconv.Itoa(os.Getpid())
		p := start(t, nil, "demo", "buns", "--consumers=2", "--producers=10", "--seed=1", "--speed=10", "--redis="+url(s), "--run="+run)
		p.until(t, ` ate bun `)
		if len(keys(t, s, run)) == 0 {
			t.Fatal("the run has no keys")
		}
		p.signal(t, os.Kill)
		p.end(t)
		redistest.Eventually(t, patience, func() error {
			if left := keys(t, s, run); len(left) > 0 {
				return fmt.Errorf("keys are left: %q", left)
			}
			return nil
		})
	})
}

// A terminal that is closed tells all of them at once.
func TestAClosedTerminalLeavesNoKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		run := "hung-up-" + strconv.Itoa(os.Getpid())
		p, light, car := traffic(t, "--redis", url(s), "--run", run)
		for _, pid := range []int{light, car, p.cmd.Process.Pid} {
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		if code, _ := p.end(t); code != 130 {
			t.Errorf("exit code %d, want 130\n%s", code, p.stderr.String())
		}
		if left := keys(t, s, run); len(left) > 0 {
			t.Errorf("keys are left: %q", left)
		}
	})
}

// A worker that is stuck does not keep the others, or the demo, from ending.
func TestStoppedWorkerIsKilled(t *testing.T) {
	t.Parallel()
	p, light, car := traffic(t)
	if err := syscall.Kill(car, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.signal(t, os.Interrupt)
	if code, _ := p.end(t); code != 130 {
		t.Errorf("exit code %d, want 130\n%s", code, p.stderr.String())
	}
	if err := errors.Join(gone(light), gone(car)); err != nil {
		t.Error(err)
	}
}

func TestCrashedWorkerFailsTheDemoWithItsOutput(t *testing.T) {
	t.Parallel()
	for _, crash := range []struct {
		signal syscall.Signal
		says   string // Go programs say what hit them, unless they cannot
	}{
		{syscall.SIGABRT, "SIGABRT: abort"},
		{syscall.SIGKILL, "signal: killed"},
	} {
		p, light, car := traffic(t)
		if err := syscall.Kill(car, crash.signal); err != nil {
			t.Fatal(err)
		}
		code, rest := p.end(t)
		if code != 1 {
			t.Errorf("%v: exit code %d, want 1", crash.signal, code)
		}
		said := p.stderr.String()
		if want := fmt.Sprintf("car 0 (process %d) failed: ", car); !strings.Contains(said, want) || !strings.Contains(said, crash.says) {
			t.Errorf("%v: it said %q, want %q and %q", crash.signal, said, want, crash.says)
		}
		if last := rest[len(rest)-1]; !strings.HasPrefix(last, "traffic: failed: car 0") {
			t.Errorf("%v: the last line is %q", crash.signal, last)
		}
		if err := errors.Join(gone(light), gone(car)); err != nil {
			t.Errorf("%v: %v", crash.signal, err)
		}
	}
}

func TestServerThatEndsFailsTheDemo(t *testing.T) {
	t.Parallel()
	s := redistest.StartOwn(t)
	p, light, car := traffic(t, "--redis", s.URL(), "--speed", "4")
	s.Kill(t)
	code, _ := p.end(t)
	if code != 1 || !strings.Contains(p.stderr.String(), "failed: exit status 1") {
		t.Errorf("exit code %d, want 1; it said %q", code, p.stderr.String())
	}
	if err := errors.Join(gone(light), gone(car)); err != nil {
		t.Error(err)
	}
}

func TestDemoDeletesWhatItMade(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		run := "clean-" + strconv.Itoa(os.Getpid())
		for _, demo := range [][]string{
			{"chat", "--addr=127.0.0.1:0", "--servers=2"}, {"print", "--lock"}, {"tickets"}, {"tickets", "--queue"}, {"ktv"}, {"event"},
			{"traffic", "--cars=2"}, {"queue"}, {"queue", "--both-ways"}, {"buns"}, {"buns", "--shutdown"}, {"pipe"},
		} {
			args := append([]string{"demo"}, demo...)
			p := start(t, nil, append(args, "--speed=50", "--redis="+url(s), "--run="+run)...)
			if code, rest := p.end(t); code != 0 {
				t.Fatalf("%s: exit code %d\n%s\n%s", demo[0], code, strings.Join(rest, "\n"), p.stderr.String())
			}
			if left := keys(t, s, run); len(left) > 0 {
				t.Errorf("%s: keys are left: %q", demo[0], left)
			}
		}
	})
}

// A deleted queue remembers for an hour at most who has put and taken something, and what was
// asked of it.
var memory = regexp.MustCompile(`:queue:\{[^}]*\}:(asked|refused|[\w-]+:(producer|wake|taken))$`)

// keys are the keys of a server that have the name of a run in them.
func keys(t *testing.T, s *redistest.Server, run string) []string {
	t.Helper()
	var mu sync.Mutex
	var found []string
	scan := func(ctx context.Context, node *redis.Client) error {
		keys := node.Scan(ctx, 0, "*"+run+"*", 1000).Iterator()
		for keys.Next(ctx) {
			if memory.MatchString(keys.Val()) {
				ttl, err := node.PTTL(ctx, keys.Val()).Result()
				if err != nil {
					return err
				}
				if ttl > 0 && ttl <= time.Hour || ttl == -2 { // -2: gone meanwhile
					continue
				}
			}
			mu.Lock()
			found = append(found, keys.Val())
			mu.Unlock()
		}
		return keys.Err()
	}
	var err error
	switch client := s.Client(t).(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(t.Context(), scan)
	case *redis.Client:
		err = scan(t.Context(), client)
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}
