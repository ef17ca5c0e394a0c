package quorum

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	votes "github.com/go-redsync/redsync/v4/redis"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/turnstile"
)

// attempt is one try to take a majority, under a ticket of its own.
type attempt struct {
	q      *Quorum
	ticket string
	terms  *turnstile.Terms
	since  time.Time // when its caller began to wait
	split  int       // attempts in a row before it that found nobody with a majority

	start  time.Time // of taking
	giveUp func()    // ends taking

	mu      sync.Mutex
	answers map[*member]answer    // to take
	takes   map[*member]*hub.Call // that were sent, or are about to be
	keeps   []*hub.Call           // likewise, with the token
	grace   *clock.Alarm          // ends taking
	over    bool                  // nothing more is to be taken
}

// answer is one member's answer to take.
type answer struct {
	taking
	err  error
	once bool // the member has seen the command, once only

	unseen bool // it has not, and will not
}

func (q *Quorum) attempt(terms *turnstile.Terms, since time.Time, split int) *attempt {
	return &attempt{
		q: q, ticket: q.members[0].hub.NewID(), terms: terms, since: since, split: split,
		answers: map[*member]answer{}, takes: map[*member]*hub.Call{},
	}
}

// run takes a majority and has a token accepted by it. When it fails, whatever was
// taken is given back in the background; so is what may still be.
func (a *attempt) run(ctx context.Context) (*Hold, error) {
	a.q.use()
	hold, err := a.take(ctx)
	if err == nil {
		return hold, nil // keeps the use
	}
	a.giveBack(a.q, false, 0, func(reply) bool { return true })
	a.q.Close()
	return nil, err
}

func (a *attempt) take(ctx context.Context) (*Hold, error) {
	a.start = clock.Now()
	ttl := a.terms.TTL
	pools := make([]votes.Pool, len(a.q.members))
	for i, m := range a.q.members {
		pools[i] = voter{attempt: a, member: m}
	}
	mutex := redsync.New(pools...).NewMutex(a.q.object.Key(),
		redsync.WithGenValueFunc(func() (string, error) { return a.ticket, nil }),
		redsync.WithExpiry(ttl),
		redsync.WithDriftFactor(float64(a.terms.Margin)/float64(ttl)),
		redsync.WithTimeoutFactor(float64(patience(ttl))/float64(ttl)),
		redsync.WithFailFast(true))
	taking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	a.giveUp = giveUp
	err := mutex.TryLockContext(taking)
	a.taken()
	switch {
	case ctx.Err() != nil:
		if clock.Since(a.start) > silent && errors.Is(a.verdict(), hub.ErrUnavailable) {
			return nil, hub.Join(hub.ErrUnavailable, ctx.Err())
		}
		return nil, ctx.Err()
	case err != nil:
		err = a.verdict()
		a.tell(err)
		return nil, err
	}
	a.q.mu.Lock()
	a.q.trip = clock.Since(a.start)
	a.q.mu.Unlock()
	hold, err := a.number(ctx)
	if ctx.Err() == nil {
		a.tell(err)
	}
	return hold, err
}

// taken ends taking: with a majority, or without.
func (a *attempt) taken() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.grace != nil {
		a.grace.Stop()
	}
}

const (
	// silent is how long members may be silent before an attempt that ends by its ctx
	// looks whether a majority had answered.
	silent = 50 * time.Millisecond
	// leastGrace is how long members have that answer later than a majority.
	leastGrace = 10 * time.Millisecond
	// leastCleanup is for how long at least members are asked to give back.
	leastCleanup = 5 * time.Second

	manyAttempts = 1 << 20 // bounded by time instead
)

// tell keeps what the outcome says of the members.
func (a *attempt) tell(err error) {
	q := a.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed = (time.Time{}); errors.Is(err, hub.ErrUnavailable) {
		q.failed, q.why = clock.Now(), err
	}
}

// heard takes in an answer to take. When a majority has answered and is not of one
// mind, it is for the others to decide; but if they are dead, hung or slow, contenders
// who wait for them keep each other from what there is. So they get a few times what the
// majority took, and more after several attempts that found nobody with a majority: a
// key that somebody dead has left may be in the way.
func (a *attempt) heard(m *member, x answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[m] = x
	answered := 0
	for _, x := range a.answers {
		if x.err == nil {
			answered++
		}
	}
	if x.err == nil && answered == a.q.need && !a.over {
		grace := max(3*clock.Since(a.start), leastGrace)
		a.grace = m.hub.AfterFunc(grace<<min(a.split/4, 10), a.giveUp)
	}
}

// verdict says why a majority could not be taken.
func (a *attempt) verdict() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	answered, refusals := 0, 0
	var why, permanent error
	for _, x := range a.answers {
		switch {
		case x.err == nil:
			answered++
		case hub.Permanent(x.err):
			refusals++
			permanent = x.err
		default:
			why = x.err
		}
	}
	switch {
	case answered >= a.q.need:
		return turnstile.ErrNotAcquired
	case refusals > len(a.q.members)-a.q.need:
		return permanent
	}
	return a.q.unavailable(answered, why)
}

// propose is the token to have accepted: greater than every counter that was read, and
// not behind the clocks.
func (a *attempt) propose() (token uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.answers {
		if x.err == nil && x.taken {
			token = max(token, x.counter+1, x.clock)
		}
	}
	return token
}

// number has a token accepted by a majority, which extends the lease, and begins the
// turn.
func (a *attempt) number(ctx context.Context) (*Hold, error) {
	start := clock.Now()
	for token := a.propose(); ; {
		var round round
		var seen uint64
		err := a.q.ask(ctx, func(*member) *hub.Call {
			p := patience(a.terms.TTL)
			c := &hub.Call{
				Script: keepScript, Args: []any{a.ticket, ms(a.terms.TTL), strconv.FormatUint(token, 10)},
				Attempts: 2, Patience: p, Until: clock.Now().Add(p), Lapses: true,
			}
			a.mu.Lock()
			a.keeps = append(a.keeps, c)
			a.mu.Unlock()
			return c
		}, func(r reply) bool {
			round.count(r)
			if k, n := decodeKeep(r.Value); r.Err == nil && k == surpass {
				seen = max(seen, n)
			}
			return round.kept == a.q.need || round.gone > len(a.q.members)-a.q.need ||
				seen > 0 && round.kept+round.surpassed >= a.q.need
		})
		switch {
		case err != nil:
			return nil, err
		case round.kept >= a.q.need:
			deadline := a.terms.Deadline(round.sent, a.terms.TTL)
			if clock.Until(deadline) <= 0 {
				return nil, a.q.unavailable(round.kept, nil)
			}
			return newHold(a, token, deadline), nil
		case seen >= token && clock.Since(start) < patience(a.terms.TTL):
			token = seen + 1
		case round.kept+round.gone+round.surpassed >= a.q.need:
			return nil, turnstile.ErrNotAcquired // lost, or broken, or numbered too late
		default:
			return nil, a.q.unavailable(round.kept+round.gone+round.surpassed, round.err)
		}
	}
}

// round counts the answers of the members to one keep.
type round struct {
	kept, surpassed, gone int
	broken                bool
	sent                  time.Time // when the earliest of the kept was sent
	err                   error     // of those that did not answer
}

// has is how many members have the key, for the whole TTL again: it does not matter to a
// turn that has begun whether all of them have accepted its token.
func (o *round) has() int { return o.kept + o.surpassed }

func (o *round) count(r reply) {
	if r.Err != nil {
		o.err = r.Err
		return
	}
	k, _ := decodeKeep(r.Value)
	if (k == kept || k == surpass) && (o.sent.IsZero() || r.Sent.Before(o.sent)) {
		o.sent = r.Sent
	}
	switch k {
	case kept:
		o.kept++
	case surpass:
		o.surpassed++
	case broken:
		o.broken = true
		o.gone++
	case gone:
		o.gone++
	case mistaken:
		o.err = errReply
	}
}

// pause is how long to wait until the next attempt, and whether somebody has a
// majority. Then that is until enough of the keys have lapsed, as far as they
// told; else a time by chance, longer with each such attempt.
func (a *attempt) pause(split int) (d time.Duration, decided bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	owners := map[string]int{}
	var ends []time.Duration
	foreign := false
	for _, x := range a.answers {
		switch {
		case x.err != nil:
		case x.taken:
			ends = append(ends, 0)
		case x.left < 0:
			ends = append(ends, fallback)
		default:
			ends = append(ends, x.left+time.Millisecond)
		}
		if x.err == nil && !x.taken {
			owners[x.owner]++
			decided = decided || owners[x.owner] >= a.q.need
			foreign = foreign || x.foreign
		}
	}
	slices.Sort(ends)
	d = fallback
	if len(ends) >= a.q.need {
		d = min(d, ends[a.q.need-1])
	}
	if foreign {
		d = min(d, foreignCheck)
	}
	spread := a.q.spread(split)
	if !decided {
		return spread/2 + rand.N(spread), false
	}
	return d + rand.N(a.q.spread(0)), true
}

// giveBack sends release, again and again until each member has answered or the lease
// would have lapsed by itself. A failed attempt spares those that have refused it; a
// turn that was held tells all. heard hears the answers, one at a time, until it returns true.
func (a *attempt) giveBack(q *Quorum, held bool, rest time.Duration, heard func(reply) (enough bool)) {
	var mu sync.Mutex
	enough := false
	a.mu.Lock()
	a.over = true
	answers, takes := maps.Clone(a.answers), maps.Clone(a.takes)
	for _, c := range a.keeps {
		c.Withdraw() // from the queue of a member that is slow or hangs
	}
	a.mu.Unlock()
	for i, m := range q.members {
		x := answers[a.q.members[i]]
		if x.once && !x.taken && !held {
			continue
		}
		done := func(r hub.Reply) {
			mu.Lock()
			defer mu.Unlock()
			if !enough {
				enough = heard(reply{m, r})
			}
		}
		if c := takes[a.q.members[i]]; c == nil || c.Withdraw() {
			done(hub.Reply{Value: int64(0), Attempts: 1}) // it has seen nothing of this attempt, and will not
			continue
		}
		remember := !x.once // a take with this ticket may still arrive
		m.hub.Go(&hub.Call{
			Script: releaseScript, Keys: q.keys, Private: true, AfterClose: true,
			Args:     []any{a.ticket, ms(rest), flag(remember), m.channel, flag(held)},
			Attempts: manyAttempts, Until: clock.Now().Add(max(a.terms.TTL, leastCleanup)), Lapses: true,
			Patience: patience(a.terms.TTL), // as the others': they travel together
			Done:     done,
		})
	}
}
