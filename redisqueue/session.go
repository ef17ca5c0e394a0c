package redisqueue

import (
	"context"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/lease"
)

// session is a consumer as Redis knows it: a list of claims that stand while its
// heart beats. When it is lost, another one begins, under another name, so that
// what comes late for the old one cannot get in among the new claims. Guarded by
// station.mu, but for what says otherwise.
type session struct {
	f     *fetcher
	set   *settings // of who began it
	id    string
	key   string // of the list
	over  bool
	late  bool // a command that claims may come late
	stale bool // the list may have what nobody here knows of

	reclaiming bool // that goes back

	keeper *lease.Keeper // nil: Redis has not answered yet
	claims map[envelope]*claim
	again  map[envelope]bool // neither acknowledged nor given back, as far as is known
	back   map[envelope]bool // on their way back to the queue, unseen

	readers int               // of the list, just now
	ended   map[envelope]bool // finished while they read

	mu        sync.Mutex
	abandoned []*claim // dropped without Ack or Nack; guarded by session.mu
}

// open returns the present session, a new one if there is none.
func (f *fetcher) open(set *settings) *session {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.session == nil {
		id := f.s.hub.NewID()
		f.session = &session{
			f: f, set: set, id: id, key: f.s.claimsOf(id),
			claims: map[envelope]*claim{}, again: map[envelope]bool{}, back: map[envelope]bool{},
		}
		f.s.use() // until it is over
	}
	return f.session
}

// claim is the command that claims up to n items and has the claims stand.
func (x *session) claim(n int) *command {
	terms := x.f.terms
	return &command{
		script: claimScript, set: x.set, own: x.key, args: []any{x.id, ms(terms.ttl), n, terms.metadata},
		call: hub.Call{Private: true},
	}
}

// answered takes in the outcome of a command that claims.
func (x *session) answered(r hub.Reply, err error) {
	s := x.f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.over {
		return
	}
	if err != nil {
		if r.Ambiguous {
			x.late, x.stale = true, true
		}
		return
	}
	ttl := x.f.terms.ttl
	if x.keeper == nil {
		terms := lease.Terms{TTL: ttl, Margin: max(ttl/100, 5*time.Millisecond)}
		x.keeper = lease.Keep(s.hub.Alarms(), terms, terms.Deadline(r.Sent, ttl), x.beat, x.lost)
		s.all.Hold() // to hear when the queue is deleted
		return
	}
	x.keeper.Renewed(r.Sent, ttl)
}

// block waits in Redis for an item and claims it.
func (x *session) block(pop *hub.Blocker, slice time.Duration, wanted func() bool) (haul, error) {
	s, ttl := x.f.s, x.f.terms.ttl
	waiting, id := s.keys[waitingKey], x.id
	slice = min(slice, ttl/2)
	r := pop.Do(slice, wanted,
		&hub.Call{Script: registerScript, Keys: []string{s.keys[consumersKey], s.keys[goneKey], s.keys[aboutKey]}, Args: []any{id, ms(ttl)}},
		&hub.Call{Keys: []string{waiting}, Args: []any{"BLMOVE", waiting, x.key, "LEFT", "RIGHT", seconds(slice)}},
	)
	if r.Attempts == 0 {
		return haul{}, nil // nobody wants it any more
	}
	x.answered(r, r.Err)
	if r.Err != nil || r.Value == nil {
		return haul{}, r.Err
	}
	text, ok := r.Value.(string)
	if !ok {
		return haul{}, errReply
	}
	h := haul{items: []envelope{envelope(text)}, from: x}
	if h.items[0].id() == "" {
		// Another program has pushed it. On its way back it gets an id, and comes again.
		s.mu.Lock()
		defer s.mu.Unlock()
		x.giveBack(h.items)
		h.items = nil
	}
	return h, nil
}

// reread returns what is in the list and nobody here knows of, if that may be: the
// answer to a claim was lost.
func (x *session) reread() ([]envelope, error) {
	s := x.f.s
	s.mu.Lock()
	if !x.stale {
		s.mu.Unlock()
		return nil, nil
	}
	call := x.reading(hub.Call{Private: true, Patience: patience})
	s.mu.Unlock()
	r, _ := s.hub.Do(context.Background(), &call)
	s.mu.Lock()
	defer s.mu.Unlock()
	return x.unknown(r)
}

// reading begins to read the list; unknown takes in the answer. Called with mu.
func (x *session) reading(call hub.Call) hub.Call {
	x.stale = false
	if x.readers++; x.readers == 1 {
		x.ended = map[envelope]bool{}
	}
	call.Keys, call.Args = []string{x.key}, []any{"LRANGE", x.key, 0, -1}
	return call
}

// unknown tells what of the list nobody here knows of. Called with mu.
func (x *session) unknown(r hub.Reply) ([]envelope, error) {
	list, ok := r.Value.([]any)
	err := r.Err
	if err == nil && !ok {
		err = errReply
	}
	ended := x.ended
	if x.readers--; x.readers == 0 {
		x.ended = nil
	}
	if err != nil {
		x.stale = true
		return nil, err
	}
	all, err := texts(list)
	if err != nil {
		return nil, err
	}
	var found []envelope
	for _, text := range all {
		env := envelope(text)
		switch {
		case x.claims[env] != nil || x.back[env]:
		case ended[env]: // it may have been in the list when that was read
		case x.again[env]:
			// It is not known whether it was acknowledged or given back.
			delete(x.again, env)
			x.giveUp(env, env.again(), "0")
		default:
			found = append(found, env)
		}
	}
	return found, nil
}

// hand gives claimed items to those who wait. Called with mu.
func (x *session) hand(items []envelope) {
	f, s := x.f, x.f.s
	if x.keeper == nil || x.over {
		x.giveBack(items)
		return
	}
	var rest []envelope
	for _, env := range items {
		if x.claims[env] != nil {
			continue // it came, and was read in the list too
		}
		if len(f.takers) == 0 {
			rest = append(rest, env)
			continue
		}
		t := f.takers[0]
		if most := t.set.maxDeliveries; most > 0 && env.attempt() >= most {
			s.observe(t.set, Buried, 1, 0)
			x.giveUp(env, env, "dead")
			continue
		}
		c := &claim{session: x, keeper: x.keeper, set: t.set, env: env, since: clock.Now(), ending: lease.NewEnding()}
		x.claims[env] = c
		s.observe(t.set, Received, 1, clock.Since(t.since))
		f.give(t, catch{claim: c})
	}
	if len(rest) > 0 {
		x.giveBack(rest)
	}
}

// giveBack puts claimed items that nobody has seen back to the head of the queue.
// Called with mu.
func (x *session) giveBack(items []envelope) {
	s := x.f.s
	for _, env := range items {
		x.back[env] = true
	}
	s.back(x.set, x.key, items, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, env := range items {
			x.isBack(env)
		}
	})
}

// isBack hears that an item is back in the queue, or will be found in the list.
// Called with mu.
func (x *session) isBack(env envelope) {
	delete(x.back, env)
	if x.ended != nil {
		x.ended[env] = true
	}
	if len(x.back) == 0 && !x.f.running && !x.over {
		x.f.restSoon()
	}
	x.f.tellSettled()
}

// beat tells Redis that the consumer lives.
func (x *session) beat() {
	s := x.f.s
	x.mu.Lock()
	abandoned := x.abandoned
	x.abandoned = nil
	x.mu.Unlock()
	for _, c := range abandoned {
		go func() { _ = c.nack(0) }()
	}
	s.mu.Lock()
	keeper := x.keeper // its timer may be faster than who has just made it
	s.mu.Unlock()
	ttl := x.f.terms.ttl
	s.send(&command{
		script: beatScript, set: x.set, own: x.key, args: []any{x.id, ms(ttl)},
		call: hub.Call{Private: true, AfterClose: true, Patience: max(ttl/3, 10*time.Millisecond)},
	}, func(a answer, r hub.Reply) {
		var b beat
		err := r.Err
		if err == nil {
			b, err = a.beat()
		}
		switch {
		case err != nil && hub.Permanent(err):
			keeper.Lose()
		case err != nil:
			keeper.Failed()
		case !b.alive:
			keeper.Lose()
			// Swept, or the queue was deleted. What came into the list since then nobody
			// else knows of.
			s.sweep(x.set, []string{x.id})
		default:
			keeper.Renewed(r.Sent, ttl)
			x.compare(b)
		}
	})
}

// compare looks whether the list has what nobody here knows of.
func (x *session) compare(b beat) {
	f, s := x.f, x.f.s
	s.sweep(x.set, b.dead)
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.over || b.claims <= len(x.claims) {
		return
	}
	x.stale = true
	if !f.running { // else it reads the list before it asks for more, or stops
		x.reclaim()
	}
}

// reclaim puts back what is in the list and nobody here knows of, now that nobody
// waits. Called with mu.
func (x *session) reclaim() {
	if x.reclaiming || x.over || !x.stale {
		return
	}
	x.reclaiming = true
	f, s := x.f, x.f.s
	call := x.reading(s.forSure())
	call.Done = func(r hub.Reply) {
		s.mu.Lock()
		defer s.mu.Unlock()
		// With mu until it goes back: or the answer to a claim may come, and be handed out.
		found, err := x.unknown(r)
		x.reclaiming = false
		switch {
		case x.over: // swept by others
		case err != nil:
			x.stale = false // a minute has passed: its claims come back when it is swept
			f.restSoon()
		case f.running:
			x.stale = x.stale || len(found) > 0 // it may be the answer to a claim that is on its way
		default:
			if len(found) > 0 {
				x.giveBack(found)
			}
			f.restSoon()
		}
		f.tellSettled()
	}
	s.hub.Go(&call)
}

// lost ends all deliveries: their claims have ended, or will before anybody else
// gets them.
func (x *session) lost() {
	f, s := x.f, x.f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.over {
		return
	}
	x.end()
	for _, c := range x.claims {
		if c.ending.End(ErrLost) {
			s.observe(c.set, Lost, 1, clock.Since(c.since))
		}
	}
	clear(x.claims)
	f.nudge() // what blocks claims for this session
}

// leave ends a session without claims. Called with mu.
func (x *session) leave() {
	s := x.f.s
	late := "0"
	if x.late {
		late = "1"
	}
	if x.keeper != nil {
		x.keeper.End()
	}
	s.send(&command{
		script: leaveScript, set: x.set, own: x.key, args: []any{x.id, late}, call: s.forSure(),
	}, func(answer, hub.Reply) {})
	x.end()
}

// end forgets the session. Called with mu.
func (x *session) end() {
	x.over = true
	if x.keeper != nil {
		x.f.s.all.Drop()
	}
	if x.f.session == x {
		x.f.session = nil
		x.f.tellSettled()
	}
	x.f.s.unuse()
}

// giveUp puts an item back to the queue, or with "dead" to the dead letters, as next.
// Called with mu.
func (x *session) giveUp(env, next envelope, to string) {
	s := x.f.s
	x.back[env] = true
	s.send(&command{
		script: nackScript, set: x.set, own: x.key, args: []any{string(env), string(next), to}, call: s.forSure(),
	}, func(answer, hub.Reply) {
		s.mu.Lock()
		defer s.mu.Unlock()
		x.isBack(env)
	})
}
