package redistest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A Child is a process of the test binary itself, to be paused or killed.
// TestMain asks for the variable before it runs any test, and plays the part.
type Child struct {
	Process *os.Process

	cmd   *exec.Cmd
	stdin io.Writer
	lines chan string
}

// StartChild starts a child, which ends with the test at the latest.
func StartChild(t testing.TB, variable, part string) *Child {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal("redistest: ", err)
	}
	c := &Child{cmd: exec.Command(program), lines: make(chan string, 1000)}
	c.cmd.Env = append(os.Environ(), variable+"="+part)
	c.cmd.Stderr = os.Stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal("redistest: ", err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal("redistest: ", err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal("redistest: ", err)
	}
	c.Process, c.stdin = c.cmd.Process, stdin
	over := make(chan struct{})
	go func() {
		defer close(over)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			c.lines <- in.Text()
		}
		_ = c.cmd.Wait()
		close(c.lines)
	}()
	t.Cleanup(func() {
		c.Kill()
		<-over
	})
	return c
}

// Kill ends the child without warning, paused or not.
func (c *Child) Kill() { _ = c.Process.Kill() } // fails only when it has ended

// Tell writes a line to the child.
func (c *Child) Tell(t testing.TB, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(c.stdin, line); err != nil {
		t.Fatal("redistest: ", err)
	}
}

// Line returns the next line that the child prints; "" if it has ended.
func (c *Child) Line(t testing.TB, within time.Duration) string {
	t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case line := <-c.lines:
		return line
	case <-timer.C:
		t.Fatalf("redistest: a child should print a line within %v", within)
		return ""
	}
}

// Silent says that the child has printed nothing that was not read yet.
func (c *Child) Silent() bool { return len(c.lines) == 0 }
