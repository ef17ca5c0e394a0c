package turnstile

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/lease"
)

// turn is what is held.
type turn interface {
	Context(parent context.Context) (context.Context, context.CancelFunc)
}

// releaseWait bounds the wait for the answer to a release.
const releaseWait = time.Second

// Hold is one turn of the lock. All its methods are safe for concurrent use.
type Hold struct {
	grant *grant
	terms *Terms
	token uint64
	since time.Time
	done  chan struct{}

	mu      sync.Mutex
	err     error // lease.ErrLost or lease.ErrReleased, once it is over
	cancels map[*context.CancelCauseFunc]struct{}
	timer   *time.Timer // MaxHold
	resting bool        // MaxHold has ended it, and the key is left to its TTL
}

func newHold(g *grant, terms *Terms, token uint64) *Hold {
	h := &Hold{grant: g, terms: terms, token: token, since: clock.Now(), done: make(chan struct{})}
	if terms.MaxHold > 0 {
		h.mu.Lock() // the timer may fire before it is kept
		defer h.mu.Unlock()
		h.timer = time.AfterFunc(terms.MaxHold, h.outlived)
	}
	return h
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// Deadline is the end of trust as it stands now.
func (h *Hold) Deadline() time.Time {
	d := h.grant.keeper.Deadline()
	if h.terms.MaxHold > 0 {
		if end := h.since.Add(h.terms.MaxHold); end.Before(d) {
			d = end
		}
	}
	return d
}

// Done is closed when the turn is over.
func (h *Hold) Done() <-chan struct{} { return h.done }

// Err says whether and how the turn is over, by the clock if need be.
func (h *Hold) Err() error {
	h.mu.Lock()
	err := h.err
	h.mu.Unlock()
	if err == nil && clock.Until(h.Deadline()) <= 0 {
		return lease.ErrLost // the timer has not run yet
	}
	return err
}

// Token is the fencing token while the turn lasts, then 0.
func (h *Hold) Token() uint64 {
	if h.Err() != nil {
		return 0
	}
	return h.token
}

// ID names the turn: a semaphore's permits have no order, but an id each.
func (h *Hold) ID() string { return turnID(h.grant.ticket, h.token) }

// Context returns a context that ends with the turn.
func (h *Hold) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	if err := h.Err(); err != nil {
		cancel(err)
		return ctx, func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		cancel(h.err)
		return ctx, func() {}
	}
	if h.cancels == nil {
		h.cancels = map[*context.CancelCauseFunc]struct{}{}
	}
	h.cancels[&cancel] = struct{}{}
	return ctx, func() {
		h.mu.Lock()
		delete(h.cancels, &cancel)
		h.mu.Unlock()
		cancel(context.Canceled)
	}
}

// end closes the turn, and reports whether it was open.
func (h *Hold) end(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return false
	}
	h.err = err
	if h.timer != nil {
		h.timer.Stop()
	}
	close(h.done)
	for c := range h.cancels {
		(*c)(err)
	}
	h.cancels = nil
	o := Observation{Kind: Released, Duration: clock.Since(h.since), Token: h.token, Ticket: h.grant.ticket}
	if errors.Is(err, lease.ErrLost) {
		o.Kind = Lost
	}
	h.grant.line.observe(h.terms, o)
	return true
}

// outlived ends a turn that has reached its MaxHold. The key is left to end at
// its TTL, or until the holder calls Release: what it still does has that long
// to stop.
func (h *Hold) outlived() {
	h.setResting(true)
	if !h.end(lease.ErrLost) {
		h.setResting(false) // it was over
		return
	}
	g := h.grant
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.grants.has(g) {
		return
	}
	g.keeper.End()
	l.grants.remove(g)
	l.unuse()
	l.step()
}

func (h *Hold) setResting(resting bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resting = resting && h.err == nil
}

// Abandon stops the renewal of a turn that nobody can give back any more.
func (h *Hold) Abandon() {
	h.mu.Lock()
	over := h.err != nil
	h.mu.Unlock()
	if !over {
		h.grant.keeper.Freeze()
	}
}

// Release gives the turn to the next. It waits for the answer, up to a second
// or the end of trust; the values of ctx are kept, its end is not.
func (h *Hold) Release(context.Context) error {
	left := clock.Until(h.Deadline())
	if left <= 0 {
		h.grant.keeper.Lose()
		h.end(lease.ErrLost)
	}
	if !h.end(lease.ErrReleased) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.resting {
			h.resting = false
			// The hub may have been forgotten since.
			old := h.grant.line
			l := Open(old.hub.Reuse(), old.object)
			l.withdrawFor(h.grant.ticket, true, h.terms.TTL, max(h.terms.MinHold-clock.Since(h.since), 0))
			l.unuse()
		}
		return h.err
	}
	start, wait := clock.Now(), min(releaseWait, left)
	answer := make(chan error, 1)
	call := h.hand(max(h.terms.MinHold-clock.Since(h.since), 0), func(err error) { answer <- err })
	if call != nil {
		h.grant.line.hub.Run(context.Background(), call, wait)
	}
	select {
	case err := <-answer:
		return err
	default:
	}
	timer := time.NewTimer(wait - clock.Since(start))
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-timer.C:
		return hub.Join(hub.ErrUnknownOutcome, errors.New("no answer to the release in time; the lease lapses"))
	}
}

// Do runs fn with a context that ends with the turn, and then release, also when
// fn panics. It returns fn's error and that of the release.
func (h *Hold) Do(parent context.Context, release func(context.Context) error, fn func(context.Context) error) error {
	return Do(parent, h, release, fn)
}

// Do is [Hold.Do] of any turn.
func Do(parent context.Context, h turn, release func(context.Context) error, fn func(context.Context) error) error {
	finished := false
	defer func() {
		if !finished {
			_ = release(parent) // fn panicked; there is no one to tell
		}
	}()
	ctx, cancel := h.Context(parent)
	defer cancel()
	err := fn(ctx)
	finished = true
	released := release(parent)
	if errors.Is(released, lease.ErrReleased) {
		released = nil // fn did it
	}
	switch {
	case err == nil:
		return released
	case released == nil:
		return err
	}
	return fmt.Errorf("%w; %w", err, released)
}

// giveBack gives a turn that nobody has had to the next, without waiting for an
// answer: MinHold does not count.
func (h *Hold) giveBack() {
	if h.end(lease.ErrReleased) {
		if call := h.hand(0, func(error) {}); call != nil {
			h.grant.line.hub.Go(call)
		}
	}
}

// hand passes the turn on inside the process, or returns the call that gives the
// lock back in Redis, where it rests for so long. done hears the outcome.
func (h *Hold) hand(rest time.Duration, done func(error)) *hub.Call {
	g := h.grant
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.grants.has(g) {
		done(lease.ErrLost) // at this very moment
		return nil
	}
	g.hold = nil
	if rest == 0 && h.terms.Handoffs > 0 && l.pass(g) {
		done(nil)
		return nil
	}
	return l.handBack(g, rest, done)
}
