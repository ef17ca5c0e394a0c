//go:build unix

package redissem_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

// childEnv has what a holder needs that is a process of its own, started from
// this test binary: address, name, limit, TTL.
const childEnv = "MULTIHOST_SEM_HOLDER"

func init() {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(holdForEver(job))
	}
}

// holdForEver acquires, says so, and holds until it is killed or its input ends.
// Then it says what became of the permit.
func holdForEver(job string) int {
	var addr, name string
	var limit int
	var ttl time.Duration
	if _, err := fmt.Sscan(job, &addr, &name, &limit, (*int64)(&ttl)); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	sem, err := redissem.New(client, name, limit, &redissem.Options{TTL: ttl})
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	h, err := sem.Acquire(context.Background())
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	fmt.Println("held", h.ID())
	go func() {
		<-h.Done()
		fmt.Println("done", h.Err())
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println("err", errors.Is(h.Err(), redissem.ErrLost))
	return 0
}

// A child is a holder in a process of its own.
type child struct {
	cmd   *exec.Cmd
	in    io.Closer
	lines *bufio.Scanner
}

func startChild(t *testing.T, s *redistest.Own, name string, limit int, ttl time.Duration) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", childEnv, s.Addr, name, limit, int64(ttl)))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// says waits for a line that begins with word, and returns the rest of it.
func (c *child) says(word string) (string, error) {
	for c.lines.Scan() {
		if rest, ok := strings.CutPrefix(c.lines.Text(), word+" "); ok {
			return rest, nil
		} else if strings.HasPrefix(c.lines.Text(), "failed ") {
			return "", errors.New(c.lines.Text())
		}
	}
	return "", fmt.Errorf("the process ended without %q", word)
}

// Holders are killed one after another, in the middle of holding and of being
// handed to: nothing is lost of the value.
func TestTheValueIsWholeATTLAfterTheLastOfAHundredHoldersWasKilled(t *testing.T) {
	const processes, limit, ttl = 100, 10, time.Second
	s := redistest.StartOwn(t)
	name := redistest.Name(t)
	sem := newSem(t, s.Client(t), name, limit, &redissem.Options{TTL: ttl})
	var all []*child
	held := make(chan *child, processes)
	var readers sync.WaitGroup
	start := func() {
		c := startChild(t, s, name, limit, ttl)
		all = append(all, c)
		readers.Go(func() {
			if _, err := c.says("held"); err == nil { // else it was killed while it waited
				held <- c
			}
		})
	}
	for range 2 * limit { // ten hold, ten wait
		start()
	}
	most, killed := 0, 0
	var handed time.Duration
	for killed < processes {
		var c *child
		before := time.Now()
		select {
		case c = <-held:
			handed = max(handed, time.Since(before))
		case <-time.After(soon):
			t.Fatalf("after %d of %d were killed nobody comes any more: %+v", killed, processes, state(t, sem))
		}
		most = max(most, state(t, sem).Held)
		c.kill()
		killed++
		if len(all) < processes {
			start()
		} else if killed+limit >= processes && len(held) == 0 {
			// Those that still wait are killed as they are.
			for _, c := range all {
				c.kill()
			}
			killed = processes
		}
	}
	last := time.Now()
	readers.Wait()
	redistest.Eventually(t, soon, func() error {
		if got := state(t, sem); got.Held != 0 {
			return fmt.Errorf("all should be free, got %+v", got)
		}
		return nil
	})
	whole := time.Since(last)
	t.Logf("%d processes, a limit of %d, a TTL of %v: %d killed, at most %d held at a time, the next came at most %v later; all free %v after the last",
		len(all), limit, ttl, killed, most, handed.Round(time.Millisecond), whole.Round(time.Millisecond))
	if most > limit {
		t.Errorf("no more than %d should ever be held, %d were", limit, most)
	}
	if slack := time.Second; whole > ttl+slack {
		t.Errorf("all should be free a TTL of %v after the last was killed, it took %v", ttl, whole)
	}
	wantFree(t, sem, limit)
}

// A process that is stopped for longer than its TTL finds out, and the next has
// the permit meanwhile.
func TestAPausedHolderIsToldOfItsLoss(t *testing.T) {
	t.Parallel()
	const ttl = 600 * time.Millisecond
	s := redistest.StartOwn(t)
	name := redistest.Name(t)
	sem := newSem(t, s.Client(t), name, 1, unhurried)
	c := startChild(t, s, name, 1, ttl)
	if _, err := c.says("held"); err != nil {
		t.Fatal(err)
	}
	redistest.PauseProcess(t, c.cmd.Process)
	start := time.Now()
	h := acquire(t, sem)
	t.Logf("the next has the permit %v after the holder was stopped", time.Since(start).Round(time.Millisecond))
	redistest.ResumeProcess(t, c.cmd.Process)
	if got, err := c.says("done"); err != nil || !strings.Contains(got, redissem.ErrLost.Error()) {
		t.Errorf("Done should close with ErrLost, got %q, %v", got, err)
	}
	_ = c.in.Close()
	if got, err := c.says("err"); err != nil || got != "true" {
		t.Errorf("Err should say ErrLost, got %q, %v", got, err)
	}
	wantHeld(t, h)
	if got := state(t, sem); got.Held != 1 || got.Permits[0].ID != h.ID() {
		t.Errorf("only %s should be held, got %+v", h.ID(), got)
	}
	release(t, h)
}
