package turnstile

import (
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/lease"
)

// grant is what the process was granted: the lock, for its goroutines to hold
// one after another. Guarded by Line.mu.
type grant struct {
	line      *Line
	ticket    string
	terms     *Terms
	next      uint64 // the token of the next turn
	last      uint64 // the last token reserved
	passes    int    // how often it may still be passed on
	since     time.Time
	ambiguous bool // a join with this ticket may still arrive
	keeper    *lease.Keeper
	hold      *Hold // the present turn
	dismissed string
}

// take starts keeping a grant. Called with mu.
func (l *Line) take(ticket string, terms *Terms, s standing, deadline time.Time, ambiguous bool) *grant {
	g := &grant{
		line: l, ticket: ticket, terms: terms, next: s.first, last: s.last,
		passes: min(terms.Handoffs, l.waiters.Len()), since: clock.Now(), ambiguous: ambiguous,
	}
	l.grants[ticket] = g
	l.use() // until it is given back or lost
	g.keeper = lease.Keep(terms.Terms, deadline, g.renew, g.lost)
	return g
}

// give makes the waiter the holder of the next turn. Called with mu.
func (l *Line) give(g *grant, w *waiter, how How) {
	h := newHold(g, w.terms, g.next)
	g.next++
	g.hold = h
	l.observe(w.terms, Observation{Kind: Acquired, How: how, Duration: clock.Since(w.since), Token: h.token})
	w.outcome <- outcome{hold: h}
}

// pass gives the next turn to a waiter of the same process, if that is allowed
// by now. Called with mu.
func (l *Line) pass(g *grant) bool {
	w := l.first()
	if w == nil || g.passes == 0 || g.next > g.last || !w.terms.alike(g.terms) {
		return false
	}
	if clock.Since(g.since) > max(passFor, passTrips*l.trip) || clock.Until(g.keeper.Deadline()) < min(g.terms.TTL, offer)/10 {
		return false
	}
	g.passes--
	l.remove(w)
	l.give(g, w, HowPassed)
	l.step()
	return true
}

// handBack releases the grant in Redis. rest is for how long the lock stays
// taken all the same. done, which may be nil, hears the outcome. Called with mu.
func (l *Line) handBack(g *grant, rest time.Duration, done func(error)) {
	delete(l.grants, g.ticket)
	deadline := g.keeper.Deadline()
	g.keeper.End()
	// The process's own place may be the first in line: its standing comes with
	// the same answer.
	p := l.place
	own := ""
	if p != nil && p.standing && !p.calling {
		own = p.ticket
		p.calling, p.again, p.called = true, false, clock.Now()
	} else {
		p = nil
	}
	c := &hub.Call{
		Script: releaseScript, Keys: l.keys, Attempts: manyAttempts, Until: deadline,
		Args: []any{g.ticket, number(g.next - 1), ms(rest), flag(g.ambiguous), own, l.channel},
	}
	c.Done = func(r hub.Reply) {
		if hub.Permanent(r.Err) && !c.AfterClose {
			// The user has closed the client, but what was taken is given back.
			again := *c
			again.Private, again.AfterClose = true, true
			again.Done = func(r hub.Reply) { l.handedBack(p, r, done) }
			l.hub.Go(&again)
			return
		}
		l.handedBack(p, r, done)
	}
	l.hub.Go(c)
}

func (l *Line) handedBack(p *place, r hub.Reply, done func(error)) {
	defer l.unuse()
	mine, s, err := decodeRelease(r.Value)
	if r.Err != nil {
		err = r.Err
		if r.Ambiguous {
			err = hub.Join(hub.ErrUnknownOutcome, err)
		}
	} else {
		l.mu.Lock()
		l.trip = clock.Since(r.Sent)
		l.mu.Unlock()
	}
	if p != nil {
		l.mu.Lock()
		p.calling = false
		if err != nil || s == nil {
			l.settle(p, standing{}, hub.Join(hub.ErrUnavailable, err), r.Sent)
		} else {
			l.settle(p, *s, nil, r.Sent)
		}
		l.mu.Unlock()
	}
	// Sent once and not ours: it was lost. Sent again and not ours: the first
	// one did it.
	if err == nil && !mine && r.Attempts == 1 {
		err = lease.ErrLost
	}
	if done != nil {
		done(err)
	}
}

// renew sends a renewal.
func (g *grant) renew() {
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.hold == nil || l.grants[g.ticket] != g {
		return
	}
	ttl := ms(g.terms.TTL)
	if g.terms.NoRenew {
		ttl = 0 // only asks whether it still stands
	}
	l.use()
	l.hub.Go(&hub.Call{
		Script: renewScript, Keys: l.keys, Private: true, AfterClose: true, Patience: max(g.terms.TTL/3, 10*time.Millisecond),
		Args: []any{g.ticket, ttl, number(g.hold.token), g.dismissed},
		Done: func(r hub.Reply) {
			defer l.unuse()
			g.renewed(r)
		},
	})
}

func (g *grant) renewed(r hub.Reply) {
	v, err := decodeRenew(r.Value)
	switch {
	case r.Err != nil && hub.Permanent(r.Err):
		g.keeper.Lose() // the key is of another type now
	case r.Err != nil || err != nil:
		g.keeper.Failed()
	case v.ok:
		g.keeper.Renewed(r.Sent, g.terms.TTL)
	case v.revoked:
		g.revoked(v.token)
	default:
		g.keeper.Lose()
	}
}

// revoked ends the present turn if it is the one that was meant.
func (g *grant) revoked(token uint64) {
	l := g.line
	l.mu.Lock()
	over := token != 0 && g.hold != nil && g.hold.token != token
	if over {
		g.dismissed = number(token)
	}
	l.mu.Unlock()
	if !over {
		g.keeper.Lose()
		return
	}
	g.keeper.Failed()
	g.keeper.Again()
}

// lost ends the present turn and, in case the key is still there, gives it back.
func (g *grant) lost() {
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grants[g.ticket] != g {
		return
	}
	delete(l.grants, g.ticket)
	if h := g.hold; h != nil {
		h.end(lease.ErrLost)
	}
	// A renewal that is still on its way may keep the key for another TTL.
	if clock.Until(g.keeper.Deadline()) > 0 {
		l.withdraw(g.ticket, true, g.terms.TTL) // revoked, or gone
		l.unuse()
	} else {
		// The margin is the holder's, to notice and stop.
		time.AfterFunc(g.terms.Margin, func() {
			l.withdraw(g.ticket, true, g.terms.TTL)
			l.unuse()
		})
	}
	l.step()
}

// revoke hears that the ticket was revoked: the renewal tells more.
func (l *Line) revoke(ticket string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.grants[ticket]; g != nil {
		g.keeper.Again()
	}
}
