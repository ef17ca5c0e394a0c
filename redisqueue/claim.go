package redisqueue

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/lease"
)

// releaseWait bounds the wait for the answer to Ack and Nack.
const releaseWait = time.Second

// claim is one delivery.
type claim struct {
	session *session
	keeper  *lease.Keeper
	set     *settings
	env     envelope
	since   time.Time
	ending  *lease.Ending
}

// state is nil while the delivery stands.
func (c *claim) state() error {
	if err := c.ending.Err(); err != nil {
		return err
	}
	if clock.Until(c.keeper.Deadline()) <= 0 {
		return ErrLost // the timer has not run yet
	}
	return nil
}

func (c *claim) context(parent context.Context) (context.Context, context.CancelFunc) {
	if err := c.state(); err != nil {
		ctx, cancel := context.WithCancelCause(parent)
		cancel(err)
		return ctx, func() {}
	}
	return c.ending.Context(parent)
}

func (c *claim) ack() error { return c.finish(Acked, ackScript, string(c.env)) }

func (c *claim) nack(delay time.Duration) error {
	if most := c.set.maxDeliveries; most > 0 && c.env.attempt()+1 >= most {
		return c.bury()
	}
	err := c.finish(Nacked, nackScript, string(c.env), string(c.env.again()), strconv.FormatInt(ms(delay), 10))
	if delay > 0 && !errors.Is(err, ErrReleased) {
		c.wakeLater(delay)
	}
	return err
}

// bury gives the item up.
func (c *claim) bury() error {
	return c.finish(Buried, nackScript, string(c.env), string(c.env.again()), "dead")
}

// wakeLater has the queue looked after when a delayed item is due. Consumers do so
// too, but only when they look.
func (c *claim) wakeLater(delay time.Duration) {
	old, set := c.session.f.s, c.set
	time.AfterFunc(min(delay, maxTTL)+time.Millisecond, func() {
		h := old.hub.Reuse() // it may have been forgotten since
		s := openStation(h, old.object)
		s.send(s.look(set), func(answer, hub.Reply) {})
		s.unuse()
	})
}

// abandon takes note of a delivery that nobody can finish any more. It may be
// called by the garbage collector, outside of every synctest bubble: the next
// heartbeat sees to it.
func (c *claim) abandon() {
	x := c.session
	x.mu.Lock()
	defer x.mu.Unlock()
	x.abandoned = append(x.abandoned, c)
}

// finish ends the delivery, and waits for the answer of the script that does.
func (c *claim) finish(kind Kind, script *hub.Script, args ...any) error {
	x, s := c.session, c.session.f.s
	left := clock.Until(c.keeper.Deadline())
	if left <= 0 {
		c.keeper.Lose() // or the timer does so just now, and has not got to this claim
		if c.ending.End(ErrLost) {
			s.observe(c.set, Lost, 1, clock.Since(c.since))
		}
	}
	if !c.ending.End(ErrReleased) {
		return c.ending.Err()
	}
	s.observe(c.set, kind, 1, clock.Since(c.since))
	call := s.forSure()
	outcome := make(chan error, 1)
	s.send(&command{script: script, set: c.set, own: x.key, args: args, call: call}, func(a answer, r hub.Reply) {
		n, err := 0, r.Err
		if err == nil {
			n, err = a.count()
		}
		// Sent once and not there: it was lost. Sent again and not there: the first
		// one did it.
		if err == nil && n == 0 && r.Attempts == 1 {
			err = ErrLost
		}
		c.finished(err != nil && r.Ambiguous)
		if err != nil && r.Ambiguous {
			err = hub.Join(hub.ErrUnknownOutcome, err)
		}
		outcome <- err
	})
	timer := time.NewTimer(min(releaseWait, left))
	defer timer.Stop()
	select {
	case err := <-outcome:
		return err
	case <-timer.C:
		return hub.Join(hub.ErrUnknownOutcome, errors.New("no answer in time; if it did not arrive, the item comes again"))
	}
}

// finished forgets the claim.
func (c *claim) finished(unknown bool) {
	x, s := c.session, c.session.f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.over {
		return
	}
	delete(x.claims, c.env)
	if x.ended != nil {
		x.ended[c.env] = true
	}
	if unknown {
		x.again[c.env], x.stale = true, true
	}
	if len(x.claims) == 0 && !x.f.running {
		x.f.restSoon()
	}
}
