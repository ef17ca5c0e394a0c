package redisqueue_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// roleVariable tells a process of the test binary that it is a child, and what
// to do.
const roleVariable = "MULTIHOST_QUEUE_TEST_CHILD"

// A role is what a child does.
type role struct {
	Do            string
	Addr          string
	Cluster       bool
	Name          string
	TTL           time.Duration
	MaxSize       int
	MaxDeliveries int
	Goroutines    int
	Work          time.Duration // on one item, at most
}

// A member is a child process, as its parent sees it.
type member struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string   // what it prints
	over  chan struct{} // closed when it is gone
	err   error
}

// start starts a child, which ends with the test at the latest.
func start(t testing.TB, s *redistest.Server, r role) *member {
	t.Helper()
	r.Addr, r.Cluster = s.Addr, s.Cluster
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{cmd: exec.Command(program), lines: make(chan string, 1<<16), over: make(chan struct{})}
	m.cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	m.cmd.Stderr = os.Stderr
	if r.Do == "panic" {
		m.cmd.Stderr = nil
	}
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			m.lines <- in.Text()
		}
		m.err = m.cmd.Wait()
		close(m.lines)
		close(m.over)
	}()
	t.Cleanup(m.kill)
	return m
}

// kill ends the child without warning.
func (m *member) kill() {
	_ = m.cmd.Process.Kill() // fails only when it has ended
	<-m.over
}

// line returns the next line that the child prints.
func (m *member) line(t testing.TB) string {
	t.Helper()
	return await(t, m.lines, "a line of a child")
}

// tell writes a line to the child.
func (m *member) tell(t testing.TB, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(m.stdin, line); err != nil {
		t.Fatal(err)
	}
}

// child is what main does in a child.
func child() int {
	var r role
	if err := json.Unmarshal([]byte(os.Getenv(roleVariable)), &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var client redis.UniversalClient
	if r.Cluster {
		client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{r.Addr}})
	} else {
		client = redis.NewClient(&redis.Options{Addr: r.Addr})
	}
	defer client.Close()
	q, err := redisqueue.New[redistest.QueueItem](client, r.Name, &redisqueue.Options{
		TTL: r.TTL, MaxSize: r.MaxSize, MaxDeliveries: r.MaxDeliveries,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in := bufio.NewScanner(os.Stdin)
	run := map[string]func(context.Context, *redisqueue.Queue[redistest.QueueItem], role, *bufio.Scanner) error{
		"hold": hold, "park": park, "panic": workAndPanic, "consume": consume, "get": getAll,
	}[r.Do]
	if r.Do == "consume" || r.Do == "get" {
		go func() { // until the parent is gone, or has had enough
			for in.Scan() {
			}
			cancel()
		}()
	}
	if err := run(ctx, q, r, in); err != nil {
		fmt.Fprintln(os.Stderr, r.Do, err)
		return 1
	}
	return 0
}

// say prints a line in one write.
func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// outcome is a word for an error of Ack.
func outcome(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, redisqueue.ErrLost):
		return "lost"
	case errors.Is(err, redisqueue.ErrUnknownOutcome):
		return "unknown"
	}
	return strings.ReplaceAll(err.Error(), " ", "_")
}

// hold receives an item and does with it what it is told.
func hold(ctx context.Context, q *redisqueue.Queue[redistest.QueueItem], _ role, in *bufio.Scanner) error {
	d, err := q.Receive(ctx)
	if err != nil {
		return err
	}
	say("%d %d", d.Value().Number, d.Attempt())
	for in.Scan() {
		switch in.Text() {
		case "err":
			say("%s", outcome(d.Err()))
		case "done":
			<-d.Done()
			say("over")
		case "ack":
			say("%s", outcome(d.Ack(ctx)))
		}
	}
	return nil
}

// park puts an item into a queue that is full.
func park(ctx context.Context, q *redisqueue.Queue[redistest.QueueItem], r role, _ *bufio.Scanner) error {
	return q.Put(ctx, redistest.QueueItem{Producer: r.Goroutines})
}

// workAndPanic panics at the first item.
func workAndPanic(ctx context.Context, q *redisqueue.Queue[redistest.QueueItem], _ role, _ *bufio.Scanner) error {
	// Alone, lest another take the item again before the process is gone.
	return q.Work(ctx, 1, func(_ context.Context, d *redisqueue.Delivery[redistest.QueueItem]) error {
		say("%d %d", d.Value().Number, d.Attempt())
		panic("at work")
	})
}

// A diary is what one goroutine of a child prints about its calls: the time
// before each call and after its return.
type diary struct{ goroutine int }

func (d diary) note(format string, args ...any) {
	say("%d %d %s", time.Now().UnixNano(), d.goroutine, fmt.Sprintf(format, args...))
}

// all runs fn on so many goroutines.
func all(r role, fn func(diary) error) error {
	errs := make(chan error, r.Goroutines)
	var group sync.WaitGroup
	for g := range r.Goroutines {
		group.Go(func() { errs <- fn(diary{g}) })
	}
	group.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// consume receives and acknowledges until it is told to end.
func consume(ctx context.Context, q *redisqueue.Queue[redistest.QueueItem], r role, _ *bufio.Scanner) error {
	return all(r, func(say diary) error {
		for ctx.Err() == nil {
			say.note("receive")
			d, err := q.Receive(ctx)
			if errors.Is(err, context.Canceled) {
				say.note("nothing")
				return nil
			}
			if err != nil {
				return err
			}
			say.note("received %d %d %d", d.Value().Producer, d.Value().Number, d.Attempt())
			pause(rand.N(cmp.Or(r.Work, 1)), nil)
			say.note("look")
			say.note("saw %v", d.Err() == nil)
			say.note("ack")
			say.note("acked %s", outcome(d.Ack(ctx)))
		}
		return nil
	})
}

// getAll gets until it is told to end.
func getAll(ctx context.Context, q *redisqueue.Queue[redistest.QueueItem], r role, _ *bufio.Scanner) error {
	return all(r, func(say diary) error {
		for ctx.Err() == nil {
			say.note("get")
			v, err := q.Get(ctx)
			if errors.Is(err, context.Canceled) {
				say.note("nothing")
				return nil
			}
			if err != nil {
				return err
			}
			say.note("got %d %d", v.Producer, v.Number)
		}
		return nil
	})
}
