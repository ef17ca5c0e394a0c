package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redisevent"
	"github.com/multihost/multihost/redislock"
)

// A Worker is what one process of a scenario has at hand.
// It is safe for concurrent use.
type Worker struct {
	Index     int                   // its number within its role, from 0
	Who       string                // its process id; with the host's name before it if it was started by hand
	Client    redis.UniversalClient // to the Redis that the run shares
	Namespace string                // for the names of the run's locks and events

	setting Setting
	role    string
	out     io.Writer
	fail    context.CancelCauseFunc // ends the worker's ctx

	mu     sync.Mutex // guards what follows, and keeps journal and output in one order
	random *rand.Rand
	facts  int
}

// A Post is the place of one worker in a run.
type Post struct {
	Role   string
	Index  int  // negative: the next free number of the role
	Parent bool // it was started by the parent of a demo
}

// Work does the work of one process of a run and returns when it is done.
// Its lines go to out.
func Work(ctx context.Context, s Scenario, set Setting, post Post, out io.Writer) error {
	cast := s.Cast()
	role, err := cast.role(post.Role)
	if err != nil {
		return err
	}
	var c *crew
	if !post.Parent {
		if c, err = joinCrew(ctx, cast, set); err != nil {
			return err
		}
		set = c.Setting
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w, err := newWorker(ctx, set, post, out, cancel)
	if err != nil {
		return err
	}
	if c != nil {
		err = c.work(ctx, w, role, func() error { return s.Work(ctx, w) })
	} else {
		err = s.Work(ctx, w)
	}
	// What went wrong in Say or Note ended the ctx and is the reason for whatever followed.
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if post.Parent && errors.Is(err, ErrInterrupted) {
		// Its parent may have been killed, and then nobody else deletes what the run left:
		// the last worker to end finds no other that still adds to it.
		clean, stop := context.WithTimeout(context.WithoutCancel(ctx), grace/2)
		defer stop()
		_ = Clean(clean, s, set) // a parent that lives does it again
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.name(), err)
	}
	return nil
}

func newWorker(ctx context.Context, set Setting, post Post, out io.Writer, fail context.CancelCauseFunc) (*Worker, error) {
	who := fmt.Sprint(os.Getpid())
	if !post.Parent {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		who = host + " " + who
	}
	if post.Index < 0 {
		counter := set.key("next:" + post.Role)
		n, err := set.Client.Incr(ctx, counter).Result()
		if err != nil {
			return nil, fmt.Errorf("number of the worker: %w", err)
		}
		set.Client.Expire(ctx, counter, lapse)
		post.Index = int(n) - 1
	}
	return &Worker{
		Index:     post.Index,
		Who:       who,
		Client:    set.Client,
		Namespace: set.Namespace,
		setting:   set,
		role:      post.Role,
		out:       out,
		fail:      fail,
		random:    set.random(post.Role, post.Index),
	}, nil
}

// Role is what the worker does in the scenario.
func (w *Worker) Role() string { return w.role }

func (w *Worker) name() string { return fmt.Sprint(w.role, " ", w.Index) }

// Key is the name of a plain Redis key that belongs to the run.
func (w *Worker) Key(name string) string { return w.setting.key(name) }

// Say prints a line and notes it in the journal. It has no error to look after:
// a worker that cannot be heard is ended, through its ctx.
func (w *Worker) Say(ctx context.Context, p phrase, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.note(ctx, p.key, args) {
		return
	}
	line := p.colour.paint(p.in(w.setting.Lang, args...), w.setting.Colour)
	if !p.named {
		line = faint.paint("["+w.Who+"]", w.setting.Colour) + " " + line
	}
	// One write per line: the processes of a demo share the pipe to their parent.
	if _, err := io.WriteString(w.out, line+"\n"); err != nil {
		w.fail(err)
	}
}

// Note notes something in the journal that is not said.
func (w *Worker) Note(ctx context.Context, what string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(ctx, what, args)
}

func (w *Worker) note(ctx context.Context, what string, args []any) bool {
	f := Fact{Worker: w.name(), Number: w.Index, Seq: w.facts, What: what}
	w.facts++
	for _, a := range args {
		f.Args = append(f.Args, fmt.Sprint(a))
	}
	if err := w.setting.journal().add(ctx, f); err != nil {
		w.fail(err)
		return false
	}
	return true
}

// Pause waits for a random time between least and most, at the run's speed.
func (w *Worker) Pause(ctx context.Context, least, most time.Duration) error {
	w.mu.Lock()
	d := w.setting.scale(least + time.Duration(w.random.Float64()*float64(most-least)))
	w.mu.Unlock()
	return sleep(ctx, d)
}

// Within is a ctx that ends after d, at the run's speed.
func (w *Worker) Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, w.setting.scale(d))
}

// Until is a ctx that ends when somebody sets event. The function that it returns ends
// it too, and the wait for event.
func (w *Worker) Until(ctx context.Context, event *redisevent.Event) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		if event.Wait(ctx) == nil {
			cancel()
		}
	})
	return ctx, func() {
		cancel()
		wait.Wait()
	}
}

// Together waits until as many workers as count have come to this place, so
// that they go on at the same moment: the last to arrive sets an event.
func (w *Worker) Together(ctx context.Context, place string, count int) error {
	gate, err := redisevent.New(w.Client, place, &redisevent.Options{Namespace: w.Namespace, TTL: lapse})
	if err != nil {
		return err
	}
	last, err := w.Last(ctx, place, count)
	if err != nil {
		return err
	}
	if last {
		return gate.Set(ctx)
	}
	return gate.Wait(ctx)
}

// Last notes that this worker has come to a place and tells whether all, as
// many as count, have come by now.
func (w *Worker) Last(ctx context.Context, place string, count int) (bool, error) {
	// A set, not a counter: the client may send a command twice.
	pipe := w.Client.TxPipeline()
	pipe.SAdd(ctx, w.Key(place), w.name())
	pipe.Expire(ctx, w.Key(place), lapse)
	arrived := pipe.SCard(ctx, w.Key(place))
	if _, err := pipe.Exec(ctx); err != nil {
		return false, fmt.Errorf("meeting at %q: %w", place, err)
	}
	return int(arrived.Val()) >= count, nil
}

// holding does work within do, the Do of a lock or a semaphore, and is fine with a release
// that is overdue if the work has succeeded.
func holding[T any](
	ctx context.Context, do func(context.Context, func(context.Context, T) error) error, work func(context.Context, T) error,
) error {
	var failed error
	err := do(ctx, func(ctx context.Context, held T) error {
		failed = work(ctx, held)
		return failed
	})
	if failed != nil {
		return err
	}
	return overdue(err)
}

// overdue forgives that the answer to a release or an acknowledgement has not come within the
// second for which they wait, on a machine that has other things to do. They go on by
// themselves; and if they fail a lease lapses, an item comes again, and the verdict sees it.
func overdue(err error) error {
	if errors.Is(err, redislock.ErrUnknownOutcome) {
		return nil
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
