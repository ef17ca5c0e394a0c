package scenario

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multihost/multihost/redisevent"
)

// A crew is the workers of a run that has no parent: each was started by hand, or
// as a container. What the parent does for others they do through Redis. Each
// waits for its time to begin, notes that it has ended, and ends when another has
// failed; the verdict waits until all have ended.
//
// The crew that plays a run has a namespace of its own within the run's, so that
// whatever a crew left, a next one under the same name begins anew.
type crew struct {
	Setting // with the namespace of this crew
	cast    Cast
	entry   string            // the key that names the crew which plays the run
	over    *redisevent.Event // everybody has ended, or one has failed, or the verdict has given up
}

// errOver ends a worker whose crew plays no longer.
var errOver = errors.New("the run is over: another of its processes failed, or its verdict gave up")

const (
	workerFailed = "failed"     // noted by a worker, with the error
	endedKey     = "crew:ended" // the set of those who have ended; no scenario has a place of this name
)

// joinCrew finds the crew that plays the run, or begins one.
func joinCrew(ctx context.Context, cast Cast, set Setting) (*crew, error) {
	c := &crew{Setting: set, cast: cast, entry: set.key("crew")}
	pipe := set.Client.TxPipeline()
	pipe.SetNX(ctx, c.entry, strings.ToLower(rand.Text()[:8]), lapse)
	name := pipe.Get(ctx, c.entry) // not what SetNX answers: the client may send it twice
	_, err := pipe.Exec(ctx)
	if err == nil {
		c.Namespace += "." + name.Val()
		c.over, err = c.event("over")
	}
	if err != nil {
		return nil, fmt.Errorf("crew of the run: %w", err)
	}
	return c, nil
}

func (c *crew) event(name string) (*redisevent.Event, error) {
	return redisevent.New(c.Client, name, &redisevent.Options{Namespace: c.Namespace, TTL: lapse})
}

// names are all who take part: "light 0", "car 0", "car 1".
func (c *crew) names() []string {
	var names []string
	for _, role := range c.cast.Roles {
		for i := range role.Count {
			names = append(names, fmt.Sprint(role.Name, " ", i))
		}
	}
	return names
}

// work has a worker begin at its time and end with the crew.
func (c *crew) work(ctx context.Context, w *Worker, role Role, do func() error) error {
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if c.over.Wait(watch) == nil {
			w.fail(errOver)
		}
	})
	err := c.begin(ctx, w, role)
	if err == nil {
		err = do()
	}
	// No longer watched: the last to end is told by its own leave that all is over.
	stop()
	watching.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return c.leave(ctx, w, role, err)
}

// begin returns when the time of a worker has come: where a parent would start the
// workers of a role one after another, each lets the next begin.
func (c *crew) begin(ctx context.Context, w *Worker, role Role) error {
	if w.Index >= role.Count {
		return fmt.Errorf("the run has %d of this role already: give the same number to all of its processes", role.Count)
	}
	if role.inOrder() && w.Index > 0 {
		turn, err := c.event(turnName(role, w.Index))
		if err != nil {
			return err
		}
		if err := turn.Wait(ctx); err != nil {
			return err
		}
	}
	if role.Gap == nil {
		return nil
	}
	if w.Index > 0 {
		var gap time.Duration
		gaps := c.random(role.Name, -1) // those that a parent would draw
		for range w.Index {
			gap = role.Gap(gaps)
		}
		if err := sleep(ctx, c.scale(gap)); err != nil {
			return err
		}
	}
	if role.InTurn {
		return nil
	}
	return c.next(ctx, w, role)
}

// next lets the next worker of the role begin.
func (c *crew) next(ctx context.Context, w *Worker, role Role) error {
	if w.Index+1 >= role.Count {
		return nil
	}
	turn, err := c.event(turnName(role, w.Index+1))
	if err != nil {
		return err
	}
	return turn.Set(ctx)
}

func turnName(role Role, index int) string { return fmt.Sprint("turn of ", role.Name, " ", index) }

// leave notes the end of a worker, also when a signal has ended it.
func (c *crew) leave(ctx context.Context, w *Worker, role Role, err error) error {
	if errors.Is(err, errOver) {
		return err // they know
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err != nil {
		w.Note(ctx, workerFailed, err)
		return errors.Join(err, c.over.Set(ctx))
	}
	if role.InTurn {
		if err := c.next(ctx, w, role); err != nil {
			return err
		}
	}
	last, err := w.Last(ctx, endedKey, len(c.names()))
	if err != nil || !last {
		return err
	}
	return c.over.Set(ctx)
}

// Conclude is the part of the verdict in a run without a parent: it waits until
// every worker has ended, judges what they did and deletes what they left. The
// error says why there is no verdict: a worker failed, or has not ended within
// patience (0: as long as a demo may take); those that still run are ended then.
func Conclude(ctx context.Context, s Scenario, set Setting, patience time.Duration) (v Verdict, err error) {
	c, err := joinCrew(ctx, s.Cast(), set)
	if err != nil {
		return Verdict{}, err
	}
	defer func() {
		if disbandErr := c.disband(ctx, s, err); err == nil {
			err = disbandErr
		}
	}()
	if patience == 0 {
		patience = c.limit(c.cast)
	}
	if err := c.wait(ctx, patience); err != nil {
		return Verdict{}, err
	}
	return Audit(ctx, s, c.Setting)
}

// wait returns when everybody has ended.
func (c *crew) wait(ctx context.Context, patience time.Duration) error {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := c.over.Wait(within)
	if within.Err() != nil && ctx.Err() == nil {
		return c.missing(ctx, patience)
	}
	if err != nil {
		return err
	}
	facts, err := c.journal().read(ctx)
	if err != nil {
		return err
	}
	if failed := notes(facts, workerFailed); len(failed) > 0 {
		return fmt.Errorf("%s failed: %s", failed[0].Worker, failed[0].arg(0))
	}
	return nil
}

// missing names those who have not ended.
func (c *crew) missing(ctx context.Context, patience time.Duration) error {
	ended, err := c.Client.SMembers(ctx, c.key(endedKey)).Result()
	if err != nil {
		return fmt.Errorf("crew of the run: %w", err)
	}
	left := slices.DeleteFunc(c.names(), func(name string) bool { return slices.Contains(ended, name) })
	return fmt.Errorf("not ended within %v: %s", patience, strings.Join(left, ", "))
}

// disband deletes what the crew left. If the run failed, the event that says so
// stays until it lapses, for those who have not heard of it yet.
func (c *crew) disband(ctx context.Context, s Scenario, failed error) error {
	// Also after a signal, therefore without its ctx.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	events := []string{"over"}
	if failed != nil {
		errs = append(errs, c.over.Set(ctx))
		events = nil
	}
	for _, role := range c.cast.Roles {
		for i := 1; role.inOrder() && i < role.Count; i++ {
			events = append(events, turnName(role, i))
		}
	}
	for _, name := range events {
		event, err := c.event(name)
		if err == nil {
			err = event.Delete(ctx)
		}
		errs = append(errs, err)
	}
	errs = append(errs, c.Client.Del(ctx, c.key(endedKey)).Err(), c.Client.Del(ctx, c.entry).Err())
	return errors.Join(append(errs, Clean(ctx, s, c.Setting))...)
}
