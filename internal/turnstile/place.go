package turnstile

import (
	"fmt"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// place is the process's place in the line in Redis, under one ticket. All of
// it is guarded by Line.mu.
type place struct {
	ticket string
	terms  *Terms // of the latest command
	since  time.Time

	standing  bool // Redis has answered "waiting"
	own       bool // a command of its own has, or may have, got it the lock
	calling   bool // a command is on its way
	called    time.Time
	again     bool // something happened meanwhile: check once more
	holds     bool // the latest command said that the process holds already
	wanted    bool // another process has come to stand in line behind it
	ambiguous bool // the join was sent twice, or its outcome is unknown
	gone      bool
	opener    *Limit // that the join compares; nil: it was compared before

	// floor is the latest moment known to be before any grant to this ticket
	// that comes as a message from now on: the sending of the join, or of a
	// check that was answered "waiting".
	floor time.Time

	listening bool         // holds the inbox
	timer     *clock.Alarm // the next check
	due       time.Time    // when it fires
	giveUp    *clock.Alarm
}

// answering says whether Redis answered the latest commands, as far as is known.
// Called with mu.
func (l *Line) answering() bool {
	p := l.place
	return l.failures == 0 && (p == nil || !p.calling || clock.Since(p.called) <= silent)
}

// healthy says whether Redis answers and tells. Called with mu.
func (l *Line) healthy() bool {
	return l.answering() && (l.place == nil || !l.place.listening || l.inbox.topic.Alive())
}

func (l *Line) abandonTimer(p *place, d time.Duration, f func()) {
	if p.giveUp == nil {
		p.giveUp = l.hub.AfterFunc(d, f)
		return
	}
	p.giveUp.Reset(d, 0)
}

// join has the process stand in line under a new ticket, with the call that it
// returns. Called with mu.
func (l *Line) join() *hub.Call {
	w := l.first()
	p := &place{ticket: l.hub.NewID(), terms: w.terms, since: clock.Now(), calling: true, holds: l.passing()}
	p.called, p.floor = p.since, p.since
	if !w.terms.Limit.agreed() {
		p.opener = w.terms.Limit
	}
	l.place = p
	l.use() // until the place is gone
	return &hub.Call{
		Script: l.joinScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts,
		Args: append(l.standArgs(p.ticket, p.terms, l.waiters.Len(), p.holds), "0"),
		Done: func(r hub.Reply) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if r.Attempts > 1 {
				p.ambiguous = true
			} else if g := l.grants.get(p.ticket); g != nil && r.Err == nil {
				g.ambiguous = false // overtaken by its grant, but sent only once
			}
			l.answered(p, r)
		},
	}
}

// check asks how the place stands. Called with mu.
func (l *Line) check(p *place) {
	if p.calling {
		p.again = true
		return
	}
	if w := l.first(); w != nil {
		p.terms = w.terms
	}
	p.calling, p.again, p.called, p.holds = true, false, clock.Now(), l.passing()
	l.hub.Go(&hub.Call{
		Script: l.checkScript, Keys: l.keys, Boxed: l.boxed, Private: true, Patience: checkPatience,
		Args: l.standArgs(p.ticket, p.terms, l.waiters.Len(), p.holds),
		Done: func(r hub.Reply) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.answered(p, r)
		},
	})
}

// answered takes in the answer to a join or check. Called with mu.
func (l *Line) answered(p *place, r hub.Reply) {
	p.calling = false
	s, err := decodeStanding(r.Value)
	if r.Err != nil {
		err = r.Err
		// Only a join that comes late does harm.
		p.ambiguous = p.ambiguous || r.Ambiguous && !p.standing
	} else {
		l.trip = clock.Since(r.Sent)
	}
	l.settle(p, s, err, r.Sent)
}

// settle acts on what is known of the place now. Called with mu.
func (l *Line) settle(p *place, s standing, err error, sent time.Time) {
	if p.gone {
		// Withdrawn, or granted by a message that was faster than the answer.
		if g := l.grants.get(p.ticket); g != nil && err == nil && s.status == granted {
			g.keeper.Renewed(sent, s.ttl)
		}
		return
	}
	if err != nil {
		p.own = true
		l.settleError(p, err)
		return
	}
	l.failures = 0
	switch s.status {
	case granted:
		how := HowFree
		if s.handed && !p.own {
			how = HowHanded
		}
		p.own = how == HowFree
		l.settleGrant(p, s, sent, how)
		return
	case waiting:
		l.settleWaiting(p, s, sent)
	case mismatched:
		if m := p.opener; m != nil {
			l.failIf(m.mismatch(s), func(w *waiter) bool { return w.terms.Limit == m })
		}
		l.drop(p, p.ambiguous)
	default:
		// The place was removed, perhaps with all of Redis. Stand in line anew.
		l.drop(p, p.ambiguous)
	}
	l.step()
}

func (l *Line) settleError(p *place, err error) {
	l.failures++
	if hub.Permanent(err) {
		l.fail(err, true)
		l.drop(p, true)
		return
	}
	l.fail(err, false)
	if l.waiters.Len() == 0 {
		l.drop(p, p.standing || p.ambiguous)
		return
	}
	if !p.standing {
		// Waiters of an earlier place, and a join whose outcome may be unknown.
		l.drop(p, p.ambiguous)
		time.AfterFunc(backoff(l.failures), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.step()
		})
		return
	}
	l.checkIn(p, backoff(l.failures))
}

func (l *Line) settleWaiting(p *place, s standing, sent time.Time) {
	p.terms.Limit.agree()
	l.crowd(s.crowd || p.wanted || !p.holds) // only who holds is told of others
	if sent.After(p.floor) {
		p.floor = sent
	}
	if !p.standing {
		p.standing = true
		for e := l.waiters.Front(); e != nil; e = e.Next() {
			l.observe(e.Value.(*waiter).terms, Observation{Kind: Waiting})
		}
	}
	for e := l.waiters.Front(); e != nil; e = e.Next() {
		e.Value.(*waiter).standing = true
	}
	if l.waiters.Len() == 0 {
		return // step leaves
	}
	delay := fallback
	switch {
	case s.ttl >= 0:
		// The owner's end tells nobody: look just after it.
		delay = min(delay, s.ttl+time.Millisecond)
	case s.ttl == -2:
		delay = 10 * time.Millisecond
	}
	if s.foreign {
		delay = min(delay, foreignCheck)
	}
	l.checkIn(p, delay)
	if !p.listening {
		p.listening = true
		if !l.inbox.hold(l) {
			return // ready comes
		}
	}
	switch {
	case p.again:
		l.check(p)
	case !s.subscribed && l.inbox.unheard(sent):
		l.check(p)
	}
}

func (l *Line) settleGrant(p *place, s standing, sent time.Time, how How) {
	p.terms.Limit.agree()
	if p.calling && !p.standing {
		p.ambiguous = true // a message was faster than the join's answer, and the join may be repeated
	}
	w := l.first()
	deadline := p.terms.Deadline(sent, s.ttl)
	if w != nil && clock.Until(deadline) <= 0 {
		l.tooLate(p, sent)
		return
	}
	l.late = 0
	if w != nil && w.terms != p.terms && !w.terms.alike(p.terms) {
		p.standing = true
		l.check(p) // extends, on the terms of whoever is first now
		return
	}
	terms := p.terms
	l.removePlace(p)
	g := l.take(p.ticket, terms, s, deadline, p.ambiguous)
	if w == nil {
		l.hub.Go(l.handBack(g, 0, nil))
	} else {
		l.remove(w)
		l.give(g, w, how)
	}
	l.step()
}

// tooLate gives back a grant whose trust had ended before its answer came, and
// stands in line again, at its end: trying to extend it would keep it from
// those who could use it. Called with mu.
func (l *Line) tooLate(p *place, sent time.Time) {
	l.late++
	if l.late == lateGrants {
		l.late = 0
		took := clock.Since(sent)
		l.failIf(fmt.Errorf("%w: it takes %v to answer, which leaves nothing of a TTL of %v with a Margin of %v",
			hub.ErrUnavailable, took.Round(time.Millisecond), p.terms.TTL, p.terms.Margin),
			func(w *waiter) bool { return w.terms.TTL-w.terms.Margin <= took })
	}
	l.drop(p, true)
	l.step()
}

// offered takes in a grant that came as a message. after is a moment before
// which it was not sent. Called with mu.
func (l *Line) offered(p *place, s standing, after time.Time) {
	floor := p.floor
	if after.After(floor) {
		floor = after
	}
	p.own = false
	// A join that was sent twice may have been granted between the two: then the
	// message can be older than the floor, and only an answer tells.
	left := clock.Until(p.terms.Deadline(floor, s.ttl))
	if w := l.first(); w != nil && (p.ambiguous || left < s.ttl/3 || w.terms.NoRenew) {
		l.check(p) // extends it, and then it is known since when
		return
	}
	l.settleGrant(p, s, floor, HowHanded)
}

// checkIn has the place checked after d. Called with mu.
func (l *Line) checkIn(p *place, d time.Duration) {
	p.due = clock.Now().Add(d)
	if p.timer != nil {
		p.timer.Reset(d, 0)
		return
	}
	p.timer = l.hub.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !p.gone {
			if w := l.first(); w != nil {
				l.observe(w.terms, Observation{Kind: Fallback})
			}
			l.check(p)
		}
	})
}

// drop gives the place up, and withdraws it from Redis if it may be there.
// Called with mu.
func (l *Line) drop(p *place, withdraw bool) {
	l.removePlace(p)
	if withdraw {
		l.withdraw(p.ticket, p.ambiguous, p.terms.TTL)
	}
}

// removePlace forgets the place. Called with mu.
func (l *Line) removePlace(p *place) {
	p.gone = true
	if l.place == p {
		l.place = nil
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.giveUp != nil {
		p.giveUp.Stop()
	}
	if p.listening {
		l.inbox.drop(l)
	}
	l.unuse()
}

// backoff is the pause after so many failures: 10 ms, doubling to half a second.
func backoff(failures int) time.Duration {
	return min(10*time.Millisecond<<min(failures-1, 6), 500*time.Millisecond)
}
