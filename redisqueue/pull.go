package redisqueue

import (
	"context"
	"strconv"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// pull takes, or claims, up to n items that are there; or asks once more for what it
// may have taken.
func (f *fetcher) pull(set *settings, n int, popped bool) (h haul, err error) {
	s := f.s
	var c *command
	var claims *session
	if f.terms != nil {
		claims = f.open(set)
		if again, err := claims.reread(); err != nil || len(again) > 0 {
			return haul{outlook: outlook{due: -1, ends: -1}, items: again, from: claims}, err
		}
		c = claims.claim(n)
		c.call.Patience = patience
	} else {
		if f.taking == nil {
			f.taking = s.taking(set, n, popped)
		}
		c = f.taking.command(f.taking.patiently())
	}
	s.mu.Lock()
	f.called = clock.Now()
	s.mu.Unlock()
	a, r, err := s.do(context.Background(), c)
	s.mu.Lock()
	f.called = time.Time{}
	s.mu.Unlock()
	if err == nil {
		h, err = a.haul()
	}
	if claims != nil {
		claims.answered(r, err)
		h.from = claims
	} else if f.taking.over(r) {
		f.taking = nil
	}
	return h, err
}

// askShutdown asks whether the queue was shut down and is drained, for the
// command that blocks does not tell. Called with mu.
func (f *fetcher) askShutdown() {
	if f.asking || len(f.takers) == 0 {
		f.askAgain = f.asking
		return
	}
	f.asking, f.askAgain = true, false
	c := f.s.look(f.takers[0].set)
	c.call = hub.Call{Private: true, Patience: patience}
	f.s.send(c, func(a answer, r hub.Reply) {
		var h haul
		err := r.Err
		if err == nil {
			h, err = a.haul()
		}
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		f.asking = false
		switch {
		case err == nil && h.shutdown && f.terms == nil:
			// BLPOP may have taken the last item, which is on its way here: only when it
			// has returned is nothing left to come.
			f.emptied++
			f.nudge()
		case err == nil && h.shutdown:
			f.endAll(ErrShutdown) // an item on its way here would be claimed
		case err != nil && hub.Permanent(err):
			f.endAll(err) // the client was closed
		}
		if len(f.takers) == 0 {
			f.nudge()
		}
		if f.askAgain {
			f.askShutdown()
		}
	})
}

// block waits in Redis for an item, until it is time to look again: at once when
// those who wait are others than at the last look, and know nothing.
func (f *fetcher) block(seen haul, emptied int) (haul, error) {
	s := f.s
	wait := hub.Slice
	for _, d := range []time.Duration{seen.due, seen.ends} {
		if d >= 0 {
			wait = min(wait, d+time.Millisecond)
		}
	}
	s.mu.Lock()
	if f.pop == nil {
		f.pop = s.hub.Blocker(s.keys[waitingKey])
	}
	pop := f.pop
	s.mu.Unlock()
	wanted := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(f.takers) > 0 && f.emptied == emptied && f.session == seen.from
	}
	for end := after(wait); wanted(); {
		slice, err := pop.Dial()
		if err != nil {
			return haul{}, err
		}
		s.mu.Lock()
		f.pushes = f.terms == nil && slice < hub.Slice
		if f.pushes {
			slice = hub.Slice
		}
		s.mu.Unlock()
		left := clock.Until(end)
		if left <= 0 {
			break
		}
		h, err := f.slice(pop, seen.from, min(slice, left), wanted)
		if err != nil || len(h.items) > 0 {
			return h, err
		}
	}
	return haul{}, nil
}

// nudge has the command that blocks return. Where the server does not let us, an
// item in a list of this process's own does it for BLPOP; a BLMOVE returns at the
// end of its slice, which is short there. Called with mu.
func (f *fetcher) nudge() {
	switch {
	case f.pop == nil:
	case f.pushes:
		f.pushed = true
		f.s.hub.Go(&hub.Call{
			Script: wakeScript, Keys: []string{f.s.wakeKey()}, Private: true, AfterClose: true, Attempts: attempts,
			Done: func(hub.Reply) {},
		})
	default:
		f.pop.Unblock()
	}
}

// wakeKey is the list that has this process's BLPOP return.
func (s *station) wakeKey() string { return s.object.Part(s.hub.Process() + ":wake") }

// slice waits in Redis once.
func (f *fetcher) slice(pop *hub.Blocker, claims *session, slice time.Duration, wanted func() bool) (haul, error) {
	if claims != nil {
		return claims.block(pop, slice, wanted)
	}
	waiting, wake := f.s.keys[waitingKey], f.s.wakeKey()
	calls := []*hub.Call{{Keys: []string{waiting}, Args: []any{"BLPOP", waiting, wake, seconds(slice)}}}
	f.s.mu.Lock()
	if f.pushed { // and perhaps an item of the queue was faster
		f.pushed = false
		calls = append([]*hub.Call{{Keys: []string{wake}, Args: []any{"DEL", wake}}}, calls...)
	}
	f.s.mu.Unlock()
	r := pop.Do(slice, wanted, calls...)
	if r.Err != nil || r.Value == nil {
		return haul{}, r.Err
	}
	pair, ok := r.Value.([]any)
	if !ok || len(pair) != 2 {
		return haul{}, errReply
	}
	text, ok := pair[1].(string)
	if !ok {
		return haul{}, errReply
	}
	if pair[0] == wake {
		return haul{}, nil
	}
	return haul{items: []envelope{envelope(text)}}, nil
}

// seconds is a timeout of a blocking command. 0 would be none at all.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(max(d, time.Millisecond).Seconds(), 'f', 3, 64)
}

// popped takes in an item that came to the command that blocked. No script saw it
// go: one follows, with what else is wanted.
func (f *fetcher) popped(set *settings, first haul) {
	s := f.s
	s.mu.Lock()
	n := f.wanted()
	s.mu.Unlock()
	if n <= 1 {
		c := s.look(set)
		if f.terms == nil {
			c.args[1] = "1"
		} else {
			// The queue may have been deleted, and the consumer with it, since the
			// command began to wait: have it known again.
			c = first.from.claim(0)
			c.call.Attempts = attempts
		}
		s.send(c, func(answer, hub.Reply) {})
		s.mu.Lock()
		f.hand(set, first) // not before: a heartbeat must not come first
		s.mu.Unlock()
		return
	}
	h, err := f.pull(set, n-1, true)
	if h.from != first.from { // another session began meanwhile
		s.mu.Lock()
		f.hand(set, first)
		s.mu.Unlock()
	} else {
		h.items = append(first.items, h.items...)
	}
	h.shutdown = false // the next look says so again
	f.deal(set, h)
	if err != nil {
		f.failed(err)
	}
}
