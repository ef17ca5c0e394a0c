package quorum

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/lease"
	"github.com/multihost/multihost/internal/turnstile"
)

// releaseWait bounds the wait for the answers to a release.
const releaseWait = time.Second

// Hold is one turn of the lock. All its methods are safe for concurrent use.
type Hold struct {
	*attempt
	token  uint64
	since  time.Time
	ending *lease.Ending

	turn    sync.Mutex // held until the turn has begun: its timers wait
	keeper  *lease.Keeper
	timer   *time.Timer // MaxHold
	resting bool        // MaxHold has ended it, and the keys are left to their TTL
}

// newHold begins a turn; the attempt's use of the quorum becomes the turn's.
func newHold(a *attempt, token uint64, deadline time.Time) *Hold {
	h := &Hold{attempt: a, token: token, since: clock.Now(), ending: lease.NewEnding()}
	h.turn.Lock()
	defer h.turn.Unlock()
	h.keeper = lease.Keep(a.q.members[0].hub.Alarms(), a.terms.Terms, deadline, h.renew, h.lost)
	if a.terms.MaxHold > 0 {
		h.timer = time.AfterFunc(a.terms.MaxHold, h.outlived)
	}
	h.q.observe(h.terms, turnstile.Observation{
		Kind: turnstile.Acquired, How: turnstile.HowFree, Duration: clock.Since(a.since), Token: token, Ticket: a.ticket,
	})
	return h
}

// Deadline is the end of trust as it stands now.
func (h *Hold) Deadline() time.Time {
	d := h.keeper.Deadline()
	if h.terms.MaxHold > 0 {
		if end := h.since.Add(h.terms.MaxHold); end.Before(d) {
			d = end
		}
	}
	return d
}

// Done is closed when the turn is over.
func (h *Hold) Done() <-chan struct{} { return h.ending.Done() }

// Err says whether and how the turn is over, by the clock if need be.
func (h *Hold) Err() error {
	err := h.ending.Err()
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

// Context returns a context that ends with the turn.
func (h *Hold) Context(parent context.Context) (context.Context, context.CancelFunc) {
	if err := h.Err(); err != nil {
		ctx, cancel := context.WithCancelCause(parent)
		cancel(err)
		return ctx, func() {}
	}
	return h.ending.Context(parent)
}

// Do runs fn with a context that ends with the turn, and then release.
func (h *Hold) Do(parent context.Context, release func(context.Context) error, fn func(context.Context) error) error {
	return turnstile.Do(parent, h, release, fn)
}

// Abandon stops the renewal of a turn that nobody can give back any more.
func (h *Hold) Abandon() {
	if h.ending.Err() == nil {
		h.keeper.Freeze()
	}
}

// end closes the turn, and reports whether it was open.
func (h *Hold) end(err error) bool {
	if !h.ending.End(err) {
		return false
	}
	h.turn.Lock()
	if h.timer != nil {
		h.timer.Stop()
	}
	h.turn.Unlock()
	o := turnstile.Observation{Kind: turnstile.Released, Duration: clock.Since(h.since), Token: h.token, Ticket: h.ticket}
	if errors.Is(err, lease.ErrLost) {
		o.Kind = turnstile.Lost
	}
	h.q.observe(h.terms, o)
	return true
}

// renew asks all members to keep the lease, and waits for a majority.
func (h *Hold) renew() {
	h.turn.Lock() // newHold is done
	k := h.keeper
	h.turn.Unlock()
	ttl := ms(h.terms.TTL)
	if h.terms.NoRenew {
		ttl = 0 // only asks whether it still stands
	}
	// If this one is not answered, there must be time for another.
	p := max(min(patience(h.terms.TTL), clock.Until(k.Deadline())/2), 10*time.Millisecond)
	if !h.terms.NoRenew {
		h.invite(p)
	}
	var o round
	_ = h.q.ask(context.Background(), func(*member) *hub.Call {
		return &hub.Call{
			Script: keepScript, Args: []any{h.ticket, ttl, strconv.FormatUint(h.token, 10)},
			Private: true, AfterClose: true, Patience: p, Until: clock.Now().Add(p), Lapses: true,
		}
	}, func(r reply) bool {
		o.count(r)
		return o.broken || o.has() >= h.q.need || h.q.minority(o.has(), o.gone)
	})
	switch {
	case o.broken, h.q.minority(o.has(), o.gone):
		k.Lose()
	case o.has() >= h.q.need:
		k.Renewed(o.sent, h.terms.TTL)
	default:
		k.Failed()
	}
}

// minority says that so many members have lost the key that no majority has it.
func (q *Quorum) minority(kept, gone int) bool {
	return kept < q.need && gone > len(q.members)-q.need
}

// lost ends the turn and, in case keys are still there, gives them back.
func (h *Hold) lost() {
	h.turn.Lock() // newHold is done
	k := h.keeper
	h.turn.Unlock()
	if !h.end(lease.ErrLost) {
		return
	}
	defer h.q.Close()
	if clock.Until(k.Deadline()) > 0 {
		h.giveBack(h.q, true, 0, func(reply) bool { return true }) // broken, or gone
		return
	}
	// The margin is the holder's, to notice and stop. A renewal that is still on
	// its way may keep the keys for another TTL.
	q := h.q
	q.use()
	time.AfterFunc(h.terms.Margin, func() {
		h.giveBack(q, true, 0, func(reply) bool { return true })
		q.Close()
	})
}

// outlived ends a turn that has reached its MaxHold. The keys are left to end at
// their TTL, or until the holder calls Release: what it still does has that long to
// stop.
func (h *Hold) outlived() {
	h.turn.Lock()
	h.resting = true
	h.turn.Unlock()
	if !h.end(lease.ErrLost) {
		h.turn.Lock()
		h.resting = false // it was over
		h.turn.Unlock()
		return
	}
	h.keeper.End()
	h.q.Close()
}

// Release gives the turn to the next. It waits for a majority of answers, up to a
// second or the end of trust; the end of ctx is ignored.
func (h *Hold) Release(context.Context) error {
	left := clock.Until(h.Deadline())
	if left <= 0 {
		h.keeper.Lose()
		<-h.ending.Done() // the timer may be faster, but not done
	}
	rest := max(h.terms.MinHold-clock.Since(h.since), 0)
	if !h.end(lease.ErrReleased) {
		h.turn.Lock()
		resting := h.resting
		h.resting = false
		h.turn.Unlock()
		if resting {
			q := h.q.reopen() // its turn has closed it
			defer q.Close()
			h.giveBack(q, true, rest, func(reply) bool { return true })
		}
		return h.ending.Err()
	}
	h.keeper.End()
	defer h.q.Close()
	return h.handBack(rest, min(releaseWait, left))
}

// handBack gives the keys back, and waits so long to hear that a majority had them.
func (h *Hold) handBack(rest, patience time.Duration) error {
	mine, others := 0, 0
	done := make(chan error, 1)
	h.giveBack(h.q, true, rest, func(r reply) bool {
		// Sent once and not ours: it was lost. Sent again and not ours: the first
		// one did it.
		switch {
		case r.Err != nil:
		case r.Value == int64(1), r.Attempts > 1:
			mine++
		default:
			others++
		}
		switch {
		case mine >= h.q.need:
			done <- nil
		case h.q.minority(mine, others):
			done <- lease.ErrLost
		default:
			return false
		}
		return true
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return hub.Join(hub.ErrUnknownOutcome, errors.New("no majority has answered the release in time; the lease lapses"))
	}
}
