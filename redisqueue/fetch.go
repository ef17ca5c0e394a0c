package redisqueue

import (
	"context"
	"slices"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// fetcher fetches for all goroutines of a process that wait for an item: as many
// as they want, no more. It blocks in Redis on one connection however many wait.
// One fetcher serves Get; one for each TTL serves Receive, and claims what it
// fetches.
//
// All of it is guarded by station.mu; pop is used without it by the goroutine
// that runs.
type fetcher struct {
	s     *station
	terms *terms // of claims; nil: Get

	takers   []*taker
	running  bool
	blocks   bool      // in Redis: who comes now has to wait
	kept     bool      // the station is in use for it
	called   time.Time // when the script under way was sent, zero: there is none
	failures int
	listens  bool
	asking   bool // whether the queue was shut down
	askAgain bool
	pop      *hub.Blocker    // nil: none is open
	pushes   bool            // it is ended by an item, not by Unblock
	pushed   bool            // such an item may lie there
	alone    chan struct{}   // of one: nobody waits any more
	emptied  int             // grows when what a look found is out of date: nobody waited any more, or the queue was shut down
	idle     *time.Timer     // puts pop and session away
	session  *session        // of claims; nil: none yet
	settling []chan struct{} // closed when nothing is on its way any more

	// Of the goroutine that runs alone.
	taking  *taking // not answered yet
	refused int     // how often in a row the command that blocks has failed: full memory refuses BLMOVE, not the scripts
}

// taker is one goroutine that waits. Guarded by station.mu.
type taker struct {
	set      *settings
	want     int
	since    time.Time
	standing bool // Redis has answered since it came: an outage does not end it
	told     bool // observers, that it waits
	given    bool
	outcome  chan catch // of one
}

// catch is what a taker gets.
type catch struct {
	items []envelope
	claim *claim
	err   error
}

func newFetcher(s *station) *fetcher {
	return &fetcher{s: s, alone: make(chan struct{}, 1)}
}

// get waits for items and takes them for good.
func (s *station) get(ctx context.Context, set *settings, want int) ([]envelope, error) {
	c, err := s.getter.fetch(ctx, set, want)
	if err == nil {
		return c.items, nil
	}
	return nil, err
}

// receive waits for an item and claims it.
func (s *station) receive(ctx context.Context, set *settings) (*claim, error) {
	c, err := s.receiver(set).fetch(ctx, set, 1)
	return c.claim, err
}

// receiver fetches for deliveries on these terms.
func (s *station) receiver(set *settings) *fetcher {
	t := terms{set.ttl, set.metadata}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.receivers[t]
	if f == nil {
		f = newFetcher(s)
		f.terms = &t
		s.receivers[t] = f
	}
	return f
}

// fetch waits for up to want items, at least one.
func (f *fetcher) fetch(ctx context.Context, set *settings, want int) (catch, error) {
	s := f.s
	if err := s.compare(ctx, set); err != nil {
		return catch{}, err
	}
	t := &taker{set: set, want: want, since: clock.Now(), outcome: make(chan catch, 1)}
	s.mu.Lock()
	t.standing = f.running && f.healthy()
	f.takers = append(f.takers, t)
	f.tellSettled()
	if f.blocks {
		f.tell()
	}
	f.start()
	s.mu.Unlock()
	select {
	case c := <-t.outcome:
		return c, c.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.given { // it came at the same moment
		c := <-t.outcome
		return c, c.err
	}
	f.remove(t)
	if len(f.takers) == 0 {
		select {
		case f.alone <- struct{}{}:
		default:
		}
		f.nudge()
	}
	if !f.healthy() {
		return catch{}, hub.Join(hub.ErrUnavailable, ctx.Err())
	}
	return catch{}, ctx.Err()
}

// healthy says whether Redis answered lately. Called with mu.
func (f *fetcher) healthy() bool {
	return f.failures == 0 && (f.called.IsZero() || clock.Since(f.called) < silent) && (!f.listens || f.s.all.Alive())
}

// start has the fetcher run. Called with mu.
func (f *fetcher) start() {
	if f.running {
		return
	}
	f.running = true
	if !f.kept {
		f.kept = true
		f.s.use()
	}
	go f.run()
}

// remove takes a taker out of the line. Called with mu.
func (f *fetcher) remove(t *taker) {
	for i, other := range f.takers {
		if other == t {
			f.takers = append(f.takers[:i], f.takers[i+1:]...)
			if len(f.takers) == 0 {
				f.emptied++
			}
			return
		}
	}
}

// give ends the wait of a taker. Called with mu.
func (f *fetcher) give(t *taker, c catch) {
	f.remove(t)
	t.given = true
	t.outcome <- c
}

// maxHaul is how many items are taken at once.
const maxHaul = 10_000

// wanted is how many items the takers want. Called with mu.
func (f *fetcher) wanted() (n int) {
	for _, t := range f.takers {
		n = min(n+min(t.want, maxHaul), maxHaul)
	}
	return n
}

// run fetches until nobody waits, and nothing is on its way.
func (f *fetcher) run() {
	s := f.s
	for {
		s.mu.Lock()
		n, emptied := f.wanted(), f.emptied
		var set *settings
		switch {
		case n > 0:
			set = f.takers[0].set
		case f.taking != nil:
			set = f.taking.set
		default:
			f.stop()
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		h, err := f.pull(set, n, false)
		if err != nil {
			f.failed(err)
			continue
		}
		if f.deal(set, h) {
			continue
		}
		popped, err := f.block(h, emptied)
		s.mu.Lock()
		f.blocks = false
		s.mu.Unlock()
		if err != nil {
			f.refused++
			f.failed(err)
			continue
		}
		f.refused = 0
		if len(popped.items) > 0 {
			f.popped(set, popped)
		}
	}
}

// stop ends a run. The connection that blocks, and the session of the claims, stay
// for a moment. Called with mu.
func (f *fetcher) stop() {
	f.running = false
	if f.listens {
		f.listens = false
		f.s.all.Drop()
	}
	if f.session != nil {
		f.session.reclaim()
	}
	f.restSoon()
	f.tellSettled()
}

// rests is how long an idle fetcher keeps its connection.
const rests = 100 * time.Millisecond

// restSoon puts away what an idle fetcher has kept. Called with mu.
func (f *fetcher) restSoon() {
	if f.idle == nil {
		f.idle = time.AfterFunc(rests, f.rest)
	} else {
		f.idle.Reset(rests)
	}
}

func (f *fetcher) rest() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.running {
		return
	}
	if f.pop != nil {
		f.pop.Close()
		f.pop = nil
	}
	if x := f.session; x != nil && len(x.claims) == 0 && len(x.back) == 0 {
		x.reclaim()
		if !x.reclaiming {
			x.leave()
		}
	}
	if f.kept {
		f.kept = false
		f.s.unuse()
	}
}

// failed ends the waits that an error ends: all, or those which Redis has not yet
// answered; then it pauses. What may have been taken is asked for once more before
// they end.
func (f *fetcher) failed(err error) {
	s := f.s
	s.mu.Lock()
	f.failures++
	enough := f.taking == nil || f.taking.tries >= attempts
	for _, t := range slices.Clone(f.takers) {
		if !t.standing && enough || hub.Permanent(err) {
			f.give(t, catch{err: err})
		}
	}
	wait := backoff(max(f.failures, f.refused))
	if len(f.takers) == 0 && f.taking == nil {
		wait = 0
	}
	s.mu.Unlock()
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-f.alone:
		}
	}
}

// deal hands out what came, and says whether anything did. What nobody wants any
// more goes back to the head of the queue.
func (f *fetcher) deal(set *settings, h haul) bool {
	s := f.s
	s.sweep(set, h.dead)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.failures = 0
	if h.shutdown {
		f.endAll(ErrShutdown)
		return true
	}
	for _, t := range f.takers {
		t.standing = true
	}
	if len(h.items) > 0 {
		f.hand(set, h)
		return true
	}
	f.blocks = true
	f.tell()
	if !f.listens && len(f.takers) > 0 {
		f.listens = true
		s.all.Hold() // if that does not stand yet, it tells when it does
	}
	return false
}

// tell tells observers who waits. Called with mu.
func (f *fetcher) tell() {
	for _, t := range f.takers {
		if !t.told {
			t.told = true
			f.s.observe(t.set, Waiting, 0, 0)
		}
	}
}

// hand gives items to those who wait, in order. Called with mu.
func (f *fetcher) hand(set *settings, h haul) {
	s, items := f.s, h.items
	if h.from != nil {
		h.from.hand(items)
		return
	}
	for len(items) > 0 && len(f.takers) > 0 {
		t := f.takers[0]
		n := min(t.want, len(items))
		s.observe(t.set, Got, n, clock.Since(t.since))
		f.give(t, catch{items: items[:n:n]})
		items = items[n:]
	}
	if len(items) > 0 {
		s.back(set, "", items, func() {})
	}
}

// back puts items that nobody has seen back to the head of the queue. claims is
// the key of the list that they are in, if any.
func (s *station) back(set *settings, claims string, items []envelope, done func()) {
	args := []any{s.hub.NewID(), "0"}
	if claims != "" {
		args[1] = "1"
	}
	for _, env := range items {
		args = append(args, string(env))
	}
	s.send(&command{script: backScript, set: set, own: claims, args: args, call: s.forSure()},
		func(answer, hub.Reply) { done() })
}

// endAll ends all waits. Called with mu.
func (f *fetcher) endAll(err error) {
	for len(f.takers) > 0 {
		f.give(f.takers[0], catch{err: err})
	}
}
