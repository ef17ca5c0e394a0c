package turnstile

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
	"github.com/multihost/multihost/internal/lease"
)

// ErrNotAcquired says that the one attempt found the lock taken.
var ErrNotAcquired = errors.New("not acquired: it is taken")

const (
	// fallback is the pause between two checks of a place whose owner has no
	// earlier end.
	fallback = 30 * time.Second
	// foreignCheck is the pause while the owner is a program that tells nobody
	// when it lets go.
	foreignCheck = time.Second
	// offer is the longest grant that is handed over.
	offer = 3 * time.Second
	// checkPatience is how long a check may take before it is sent again.
	checkPatience = 3 * time.Second
	// silent is how long a command may be unanswered before a wait that ends
	// says that Redis was unavailable.
	silent = 50 * time.Millisecond
	// abandon is how long a join may be unanswered before a place that nobody
	// wants any more is withdrawn without waiting for the answer.
	abandon = 20 * time.Millisecond
	// lateGrants is how many grants in a row may come too late to be trusted
	// before the waits end with an error.
	lateGrants = 5
	// passFor is the least time for which a process may pass a grant on, passTrips
	// the same in round trips.
	passFor   = 5 * time.Millisecond
	passTrips = 20
	// stock is how many tokens a grant reserves at least for a process in which
	// several wait: while no other stands in line it passes on without limit.
	stock = 1024
)

// Terms are what one acquisition asks for.
type Terms struct {
	lease.Terms
	MinHold, MaxHold time.Duration
	Handoffs         int // within the process; 0 none
	Metadata         string
	Observe          func(Observation) // may be nil
	Limit            *Limit            // of a semaphore

	Replicas       int // that must have the grant; 0: none
	ReplicaTimeout time.Duration
}

// alike says whether a grant made on these terms may be passed on to the other.
func (t *Terms) alike(o *Terms) bool {
	return t.Terms == o.Terms && t.Metadata == o.Metadata && t.Replicas == o.Replicas && !t.NoRenew
}

// Line is the process's line for one lock or semaphore. Get one with [Open].
//
// Lock order: Line.mu, Hold.mu; neither is held while a call to Redis runs.
type Line struct {
	*kind
	hub     *hub.Hub
	object  keyspace.Object
	keys    []string // the first one
	boxed   []any    // all
	channel string   // of the inbox, as the scripts want it
	inbox   *inbox

	mu       sync.Mutex
	waiters  list.List // of *waiter
	place    *place    // nil: the process does not stand in line
	failures int       // commands of places in a row
	late     int       // grants in a row whose trust had ended when they came
	grants   grants
	leaving  grants        // whose release is on its way
	trip     time.Duration // a recent round trip
	alone    bool          // no other process stood in line when last heard
	over     chan struct{} // closed when a break has come to its end; nil while nobody waits for that
}

// waiter is one goroutine that waits.
type waiter struct {
	terms    *Terms
	since    time.Time
	outcome  chan outcome // of one
	element  *list.Element
	standing bool // Redis has said "waiting" while it waited: an outage does not end it
}

type outcome struct {
	hold *Hold
	err  error
}

// Open returns the process's line for the lock, and counts one use; every Open
// needs one [Line.Close].
func Open(h *hub.Hub, o keyspace.Object) *Line {
	name, channel := inboxOf(h, o)
	b := hub.Object(h, name, func() *inbox { return newInbox(h, name) })
	main := o.Key()
	return hub.Object(h, main, func() *Line {
		k := kindOf(main)
		return &Line{
			kind: k, hub: h, object: o, keys: []string{main}, boxed: hub.Box(k.keysOf(main)), channel: channel, inbox: b,
		}
	})
}

// Close ends one use.
func (l *Line) Close() {
	l.hub.Leave(l.object.Key())
	l.hub.Leave(l.inbox.name)
}

// use counts one more use, for something that outlives the caller's.
func (l *Line) use() {
	l.hub.Again()
	hub.Object(l.hub, l.inbox.name, func() *inbox { return l.inbox })
	hub.Object(l.hub, l.object.Key(), func() *Line { return l })
}

func (l *Line) unuse() {
	l.Close()
	l.hub.Done()
}

// Acquire waits until the lock is the caller's or ctx ends.
func (l *Line) Acquire(ctx context.Context, terms *Terms) (*Hold, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &waiter{terms: terms, since: clock.Now(), outcome: make(chan outcome, 1)}
	l.mu.Lock()
	if !terms.Limit.agreed() && !l.compares(terms.Limit) {
		l.mu.Unlock()
		if err := l.compare(ctx, terms.Limit); err != nil {
			return nil, err
		}
		l.mu.Lock()
	}
	w.element = l.waiters.PushBack(w)
	if l.place == nil {
		join := l.join()
		l.mu.Unlock()
		l.hub.Run(ctx, join, l.hub.ReadTimeout())
		l.mu.Lock()
	} else if p := l.place; p.standing {
		w.standing = l.healthy()
		l.observe(terms, Observation{Kind: Waiting})
		if !w.standing {
			l.check(p)
		}
	}
	l.mu.Unlock()
	select {
	case o := <-w.outcome:
		return l.replicated(ctx, o)
	case <-ctx.Done():
	}
	l.mu.Lock()
	if w.element == nil {
		// It came at the same moment. The caller has given up: pretend it did
		// not come.
		l.mu.Unlock()
		if o := <-w.outcome; o.hold != nil {
			o.hold.giveBack()
		}
		return nil, ctx.Err()
	}
	l.remove(w)
	healthy, listening := l.answering(), l.place != nil && l.place.listening
	l.step()
	l.mu.Unlock()
	// Others are cancelled at the same moment: do not ask the topic under mu.
	if !healthy || listening && !l.inbox.topic.Alive() {
		return nil, hub.Join(hub.ErrUnavailable, ctx.Err())
	}
	return nil, ctx.Err()
}

// TryAcquire makes one attempt.
func (l *Line) TryAcquire(ctx context.Context, terms *Terms) (*Hold, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := &try{line: l, ticket: l.hub.NewID(), since: clock.Now(), terms: terms, outcome: make(chan outcome, 1)}
	l.use()
	l.hub.Run(ctx, &hub.Call{
		Script: l.joinScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts,
		Args: append(l.standArgs(t.ticket, terms, 1, false), "1"),
		Done: t.answered,
	}, l.hub.ReadTimeout())
	select {
	case o := <-t.outcome:
		return l.replicated(ctx, o)
	case <-ctx.Done():
	}
	t.mu.Lock()
	t.gone = true
	t.mu.Unlock()
	select {
	case o := <-t.outcome:
		if o.hold != nil {
			o.hold.giveBack()
		}
		return nil, ctx.Err()
	default:
	}
	l.withdraw(t.ticket, true, terms.TTL)
	err := ctx.Err()
	if clock.Since(t.since) > silent {
		err = hub.Join(hub.ErrUnavailable, err)
	}
	return nil, err
}

// try is one attempt on its way.
type try struct {
	line    *Line
	ticket  string
	since   time.Time
	terms   *Terms
	outcome chan outcome

	mu   sync.Mutex
	gone bool // the caller has given up; the ticket is withdrawn
}

func (t *try) answered(r hub.Reply) {
	l := t.line
	defer l.unuse()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return
	}
	s, err := decodeStanding(r.Value)
	switch {
	case r.Err != nil:
		if r.Ambiguous {
			l.withdraw(t.ticket, true, t.terms.TTL)
		}
		t.outcome <- outcome{err: r.Err}
	case err != nil || s.status != granted:
		if r.Attempts > 1 {
			l.withdraw(t.ticket, true, t.terms.TTL) // the first may still arrive
		}
		switch {
		case err != nil:
		case s.status == mismatched:
			err = t.terms.Limit.mismatch(s)
		default:
			t.terms.Limit.agree()
			err = ErrNotAcquired
		}
		t.outcome <- outcome{err: err}
	default:
		t.terms.Limit.agree()
		deadline := t.terms.Deadline(r.Sent, s.ttl)
		w := &waiter{terms: t.terms, since: t.since, outcome: t.outcome}
		l.mu.Lock()
		l.trip = clock.Since(r.Sent)
		g := l.take(t.ticket, t.terms, s, deadline, r.Attempts > 1)
		l.give(g, w, HowFree)
		l.mu.Unlock()
	}
}

// step brings the process's place in line with its waiters: with waiters it
// stands in line, without it leaves. Called with mu.
func (l *Line) step() {
	p := l.place
	if l.waiters.Len() == 0 {
		l.alone = false // without a place nobody tells when that changes
	}
	if l.waiters.Len() > 0 && p == nil {
		l.hub.Go(l.join())
		return
	}
	if l.waiters.Len() > 0 || p == nil {
		return
	}
	if p.standing || !p.calling {
		// A check that is still on its way finds nothing.
		l.drop(p, p.standing || p.ambiguous)
		return
	}
	// The join's answer says what there is to withdraw. Wait for it, but not
	// long.
	l.abandonTimer(p, abandon, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.place == p && p.calling && l.waiters.Len() == 0 {
			p.ambiguous = true
			l.drop(p, true)
		}
	})
}

// remove takes a waiter out of the line. Called with mu.
func (l *Line) remove(w *waiter) {
	if w.element != nil {
		l.waiters.Remove(w.element)
		w.element = nil
	}
}

// first returns the waiter whose turn it is next. Called with mu.
func (l *Line) first() *waiter {
	if e := l.waiters.Front(); e != nil {
		return e.Value.(*waiter)
	}
	return nil
}

// fail ends the waits that an error ends: all, or those which Redis has not
// yet put in line. Called with mu.
func (l *Line) fail(err error, all bool) {
	l.failIf(err, func(w *waiter) bool { return all || !w.standing })
}

func (l *Line) failIf(err error, ends func(*waiter) bool) {
	for e := l.waiters.Front(); e != nil; {
		w := e.Value.(*waiter)
		e = e.Next()
		if ends(w) {
			l.remove(w)
			w.outcome <- outcome{err: err}
		}
	}
}

// standArgs are the ARGV that join and check share.
func (l *Line) standArgs(ticket string, t *Terms, count int, holds bool) []any {
	reserve := t.Handoffs + 1
	if count > 1 && t.Handoffs > 0 {
		reserve = max(reserve, stock)
	}
	args := []any{ticket, l.channel, max(count, 1), ms(t.TTL), reserve, flag(holds), t.Metadata}
	if t.Limit != nil {
		args = append(args, t.Limit.n, t.Limit.policy())
	}
	return args
}

// withdraw leaves the line, or gives back what the ticket may have become, in
// the background. lapse is how long after that it would have ended by itself.
func (l *Line) withdraw(ticket string, ambiguous bool, lapse time.Duration) {
	l.withdrawFor(ticket, ambiguous, lapse, 0)
}

// withdrawFor is withdraw of a lock that rests before it is free.
func (l *Line) withdrawFor(ticket string, ambiguous bool, lapse, rest time.Duration) {
	l.use()
	l.hub.Go(&hub.Call{
		Script: l.releaseScript, Keys: l.keys, Boxed: l.boxed, Private: true, AfterClose: true,
		Attempts: manyAttempts, Until: clock.Now().Add(max(lapse, leastCleanup)),
		Args: []any{ticket, "", ms(rest), flag(ambiguous), "", l.channel},
		Done: func(hub.Reply) { l.unuse() },
	})
}

const (
	joinAttempts = 3
	manyAttempts = 1 << 20 // bounded by time instead
	leastCleanup = 5 * time.Second
)

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
