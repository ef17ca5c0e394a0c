package quorum

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
	"github.com/multihost/multihost/internal/turnstile"
)

const (
	// fallback is the longest pause between two attempts.
	fallback = 30 * time.Second
	// foreignCheck is the same while the owner is a program that tells nobody
	// when it lets go.
	foreignCheck = time.Second
	// longestBackoff is the same while nobody is known to have a majority.
	longestBackoff = time.Second
	// reach is how long members may take to answer, where their answer matters;
	// less for short leases.
	reach = time.Second
)

// Quorum is the process's way to one lock over several members. Get one with
// [Open].
type Quorum struct {
	id      string // among the first hub's objects
	object  keyspace.Object
	keys    []string
	members []*member
	need    int // the majority

	// first is full while one goroutine of the process contends for the lock.
	// Others would only get into its way: they queue up, in order.
	first chan struct{}
	wake  chan struct{} // of one: a majority has told of a release

	// stood says that who contended last knew that the lock is taken, or had it: those
	// who queued up behind it stand in line as well. It goes with first.
	stood bool

	mu     sync.Mutex
	told   map[*member]bool // of a release, since the latest attempt began
	trip   time.Duration    // a recent round trip of a majority
	failed time.Time        // when an attempt last found no majority to answer; zero: the latest did
	why    error            // that attempt's error
}

// member is one of the masters.
type member struct {
	hub     *hub.Hub
	channel string // where releases are told, as the scripts want it
	topic   *hub.Topic
}

// Open returns the process's quorum of these clients for the lock, and counts one
// use; every Open needs one [Quorum.Close].
func Open(clients []redis.UniversalClient, o keyspace.Object) *Quorum {
	hubs := make([]*hub.Hub, len(clients))
	for i, c := range clients {
		hubs[i] = hub.Use(c, nil)
	}
	return open(hubs, o)
}

func open(hubs []*hub.Hub, o keyspace.Object) *Quorum {
	id := o.Key()
	for _, h := range hubs {
		id += " " + h.Process()
	}
	return hub.Object(hubs[0], id, func() *Quorum { return newQuorum(id, hubs, o) })
}

// reopen is Open once more, for when the hubs may have been forgotten.
func (q *Quorum) reopen() *Quorum {
	hubs := make([]*hub.Hub, len(q.members))
	for i, m := range q.members {
		hubs[i] = m.hub.Reuse()
	}
	return open(hubs, q.object)
}

func newQuorum(id string, hubs []*hub.Hub, o keyspace.Object) *Quorum {
	q := &Quorum{
		id: id, object: o, keys: []string{o.Key()}, need: len(hubs)/2 + 1,
		first: make(chan struct{}, 1), wake: make(chan struct{}, 1), told: map[*member]bool{},
	}
	for _, part := range parts {
		q.keys = append(q.keys, o.Part(part))
	}
	for _, h := range hubs {
		name := o.Channel(h.DB())
		m := &member{hub: h, channel: "p:" + name}
		if h.Sharded() {
			m.channel = "s:" + name
		}
		m.topic = h.Topic(name,
			func(string, time.Time) { q.hear(m) },
			func(bool) { q.hear(m) }) // what was told before was told to nobody
		q.members = append(q.members, m)
	}
	return q
}

// Close ends one use.
func (q *Quorum) Close() {
	q.members[0].hub.Leave(q.id)
	for _, m := range q.members {
		m.hub.Done()
	}
}

// use counts one more use, for something that outlives the caller's.
func (q *Quorum) use() {
	for _, m := range q.members {
		m.hub.Again()
	}
	hub.Object(q.members[0].hub, q.id, func() *Quorum { return q })
}

// listen subscribes on every member until the returned function is called.
func (q *Quorum) listen() (stop func()) {
	for _, m := range q.members {
		m.topic.Hold()
	}
	return func() {
		for _, m := range q.members {
			m.topic.Drop()
		}
	}
}

// hear takes note that a member has told of a release, or that messages of it may
// have been missed. A release counts when a majority has told: before, an attempt
// would find too few members free.
func (q *Quorum) hear(m *member) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told[m] = true
	if len(q.told) >= q.need {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// forget begins an attempt: what was heard before is known by its answers.
func (q *Quorum) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.told)
	select {
	case <-q.wake:
	default:
	}
}

// reply is what one member answered.
type reply struct {
	member *member
	hub.Reply
}

// ask sends a call to every member, and hands the answers to heard as they come, until
// it returns true, all have come, or ctx ends. Members that have not answered go on.
func (q *Quorum) ask(ctx context.Context, call func(*member) *hub.Call, heard func(reply) (enough bool)) error {
	replies := make(chan reply, len(q.members))
	for _, m := range q.members {
		c := call(m)
		c.Keys = q.keys
		c.Done = func(r hub.Reply) { replies <- reply{m, r} }
		m.hub.Go(c)
	}
	for range q.members {
		select {
		case r := <-replies:
			if heard(r) {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// patience is how long members may take to answer a call on a lease with this TTL.
func patience(ttl time.Duration) time.Duration { return min(reach, ttl/3) }

// Acquire waits until the lock is the caller's or ctx ends.
func (q *Quorum) Acquire(ctx context.Context, terms *turnstile.Terms) (*Hold, error) {
	w := &wait{q: q, terms: terms, since: clock.Now()}
	if err := w.queue(ctx); err != nil {
		return nil, err
	}
	defer func() {
		q.stood = w.standing
		<-q.first
	}()
	defer w.end()
	for {
		q.forget()
		a := q.attempt(terms, w.since, w.split)
		hold, err := a.run(ctx)
		switch {
		case err == nil:
			w.standing = true
			return hold, nil
		case ctx.Err() != nil:
			return nil, err
		case hub.Permanent(err), errors.Is(err, hub.ErrUnavailable) && !w.standing:
			return nil, err
		}
		if err := w.pause(ctx, a); err != nil {
			return nil, err
		}
	}
}

// patient is for an attempt that is not repeated.
const patient = 40

// TryAcquire makes one attempt.
func (q *Quorum) TryAcquire(ctx context.Context, terms *turnstile.Terms) (*Hold, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return q.attempt(terms, clock.Now(), patient).run(ctx)
}

// wait is one call of Acquire.
type wait struct {
	q        *Quorum
	terms    *turnstile.Terms
	since    time.Time
	standing bool   // it was told that the lock is taken: an outage does not end it
	seen     bool   // by the observer
	split    int    // attempts in a row that found nobody with a majority
	stop     func() // listening
}

// queue waits for this goroutine's turn to contend.
func (w *wait) queue(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q := w.q
	select {
	case q.first <- struct{}{}:
		return nil
	default:
	}
	w.waits()
	select {
	case q.first <- struct{}{}:
	case <-ctx.Done():
		if why := q.failure(time.Time{}); why != nil {
			return hub.Join(hub.ErrUnavailable, ctx.Err())
		}
		return ctx.Err()
	}
	if w.standing = q.stood; w.standing {
		return nil
	}
	if why := q.failure(w.since); why != nil {
		<-q.first
		return why // of one that came before: do not ask again, each in its turn
	}
	return nil
}

// failure returns why the latest attempt found no majority to answer, if it did
// and ended after since.
func (q *Quorum) failure(since time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed.After(since) {
		return q.why
	}
	return nil
}

func (w *wait) waits() {
	if !w.seen {
		w.seen = true
		w.q.observe(w.terms, turnstile.Observation{Kind: turnstile.Waiting})
	}
}

func (w *wait) end() {
	if w.stop != nil {
		w.stop()
	}
}

// pause waits after a failed attempt until another is due, or ctx ends.
func (w *wait) pause(ctx context.Context, a *attempt) error {
	q := w.q
	if w.stop == nil {
		w.standing = true
		w.waits()
		// Before the next attempt, so that what is told after that is heard. Each
		// subscription that is confirmed counts as told, and has it made.
		w.stop = q.listen()
	}
	d, decided := a.pause(w.split)
	if w.split++; decided {
		w.split = 0
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-q.wake:
		// Others were told as well: not all at once.
		timer.Reset(rand.N(q.spread(w.split)))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	case <-timer.C:
		if decided {
			q.observe(w.terms, turnstile.Observation{Kind: turnstile.Fallback})
		}
	case <-ctx.Done():
	}
	if ctx.Err() != nil && q.failure(time.Time{}) != nil {
		return hub.Join(hub.ErrUnavailable, ctx.Err())
	}
	return ctx.Err()
}

// spread is the time over which contenders spread themselves: a few round trips,
// doubling with each attempt that found nobody with a majority.
func (q *Quorum) spread(split int) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return min(max(2*q.trip, time.Millisecond)<<min(split, 10), longestBackoff)
}

func (q *Quorum) observe(t *turnstile.Terms, o turnstile.Observation) {
	if t.Observe != nil {
		q.members[0].hub.Note(func() { t.Observe(o) })
	}
}

// unavailable says that too few members have answered; why is the error of one.
func (q *Quorum) unavailable(answered int, why error) error {
	if why == nil {
		why = errors.New("no answer in time")
	}
	return hub.Join(hub.ErrUnavailable, fmt.Errorf("%d of %d servers answered, %d are needed: %w",
		answered, len(q.members), q.need, why))
}
