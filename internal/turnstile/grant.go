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
	next      uint64    // the token of the next turn
	last      uint64    // the last token reserved
	passes    int       // how often it may still be passed on while others stand in line,
	since     time.Time // and since when that counts
	ambiguous bool      // a join with this ticket may still arrive
	keeper    *lease.Keeper
	hold      *Hold // the present turn
	dismissed string

	replicated bool // enough replicas have it
}

// take starts keeping a grant. Called with mu.
func (l *Line) take(ticket string, terms *Terms, s standing, deadline time.Time, ambiguous bool) *grant {
	g := &grant{
		line: l, ticket: ticket, terms: terms, next: s.first, last: s.last,
		passes: min(terms.Handoffs, l.waiters.Len()), since: clock.Now(), ambiguous: ambiguous,
	}
	l.grants.add(g)
	l.use() // until it is given back or lost
	g.keeper = lease.Keep(l.hub.Alarms(), terms.Terms, deadline, g.renew, g.lost)
	return g
}

// give makes the waiter the holder of the next turn. Called with mu.
func (l *Line) give(g *grant, w *waiter, how How) {
	h := newHold(g, w.terms, g.next)
	g.next++
	g.hold = h
	l.observe(w.terms, Observation{Kind: Acquired, How: how, Duration: clock.Since(w.since), Token: h.token, Ticket: g.ticket})
	w.outcome <- outcome{hold: h}
}

// passing says whether the process holds what may be passed on. Called with mu.
func (l *Line) passing() bool {
	for g := range l.grants.all() {
		if g.terms.Handoffs > 0 {
			return true
		}
	}
	return false
}

// crowd takes note of whether another process stands in line. While none does, the
// process passes on as long as it likes; from when one does, as if it had just been
// granted what it holds. Called with mu.
func (l *Line) crowd(others bool) {
	if l.alone && others {
		for g := range l.grants.all() {
			g.passes, g.since = min(g.terms.Handoffs, l.waiters.Len()), clock.Now()
		}
	}
	l.alone = !others
}

// pass gives the next turn to a waiter of the same process, if that is allowed
// by now. Called with mu.
func (l *Line) pass(g *grant) bool {
	w := l.first()
	if w == nil || g.next > g.last || g.terms.Handoffs == 0 || w.terms.Handoffs == 0 || !w.terms.alike(g.terms) || !w.terms.Limit.agreed() {
		return false
	}
	if !l.alone {
		if g.passes == 0 || clock.Since(g.since) > max(passFor, passTrips*l.trip) {
			return false
		}
		g.passes--
	}
	if clock.Until(g.keeper.Deadline()) < min(g.terms.TTL, offer)/10 {
		return false
	}
	l.remove(w)
	l.give(g, w, HowPassed)
	l.step()
	return true
}

// handBack has the grant released in Redis, by the call that it returns. rest is
// for how long the lock stays taken all the same. done, which may be nil, hears the
// outcome. Called with mu.
func (l *Line) handBack(g *grant, rest time.Duration, done func(error)) *hub.Call {
	l.grants.remove(g)
	l.leaving.add(g)
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
		Script: l.releaseScript, Keys: l.keys, Boxed: l.boxed, Attempts: manyAttempts, Until: deadline,
		Args: []any{g.ticket, number(g.next - 1), ms(rest), flag(g.ambiguous), own, l.channel},
	}
	c.Done = func(r hub.Reply) {
		if hub.Permanent(r.Err) && !c.AfterClose {
			// The user has closed the client, but what was taken is given back.
			again := *c
			again.Private, again.AfterClose = true, true
			again.Done = func(r hub.Reply) { l.handedBack(g, p, r, done) }
			l.hub.Go(&again)
			return
		}
		l.handedBack(g, p, r, done)
	}
	return c
}

func (l *Line) handedBack(g *grant, p *place, r hub.Reply, done func(error)) {
	defer l.unuse()
	mine, s, err := decodeRelease(r.Value)
	l.mu.Lock()
	l.leaving.remove(g)
	if r.Err != nil {
		err = r.Err
		if r.Ambiguous {
			err = hub.Join(hub.ErrUnknownOutcome, err)
		}
	} else {
		l.trip = clock.Since(r.Sent)
	}
	if p != nil {
		p.calling = false
		if err != nil || s == nil {
			l.settle(p, standing{}, hub.Join(hub.ErrUnavailable, err), r.Sent)
		} else {
			l.settle(p, *s, nil, r.Sent)
		}
	}
	l.mu.Unlock()
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
	if g.hold == nil || !l.grants.has(g) {
		return
	}
	ttl := ms(g.terms.TTL)
	if g.terms.NoRenew {
		ttl = 0 // only asks whether it still stands
	}
	// If this one is not answered, there must be time for another.
	left := clock.Until(g.keeper.Deadline())
	patience := min(g.terms.TTL/3, left/2)
	if g.terms.Replicas > 0 {
		patience /= 2 // the replicas get the other half
	}
	l.use()
	l.hub.Go(&hub.Call{
		Script: l.renewScript, Keys: l.keys, Boxed: l.boxed, Private: true, AfterClose: true, Patience: max(patience, 10*time.Millisecond),
		Args:        []any{g.ticket, ttl, number(g.hold.token), g.dismissed},
		Replication: l.replication(g.terms, patience),
		Done: func(r hub.Reply) {
			defer l.unuse()
			g.renewed(r)
		},
	})
}

func (g *grant) renewed(r hub.Reply) {
	v, err := decodeRenew(r.Value)
	if v.crowd {
		g.line.mu.Lock()
		g.line.crowd(true)
		g.line.mu.Unlock()
	}
	switch {
	case r.Err != nil && hub.Permanent(r.Err):
		g.keeper.Lose() // the key is of another type now
	case r.Err != nil || err != nil:
		g.keeper.Failed()
	case v.ok && r.Replicas < g.terms.Replicas:
		g.keeper.Failed() // it is extended, but a fail-over may forget that
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
	l.mu.Lock()
	defer l.mu.Unlock()
	g.renewNow()
}

// renewNow has the next renewal sent at once. Called with mu.
func (g *grant) renewNow() {
	g.keeper.Again()
}

// lost ends the present turn and, in case the key is still there, gives it back.
func (g *grant) lost() {
	l := g.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.grants.has(g) {
		return
	}
	l.grants.remove(g)
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
	if g := l.grants.get(ticket); g != nil {
		g.renewNow()
	}
}
