package redisevent

import (
	"context"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
)

const (
	// fallback is the pause between two looks while nothing is heard.
	fallback = 30 * time.Second
	// lookPatience is how long a look of those who wait may take before it is sent
	// again.
	lookPatience = 3 * time.Second
	// silent is how long a look may be unanswered before a wait that ends says
	// that Redis was unavailable.
	silent = 50 * time.Millisecond
)

// watcher is what the goroutines of one process that wait for one event share.
//
// Nobody relies on a message having come. Everybody who waits has looked once,
// after the watcher knew of it; a look follows each confirmation of the
// subscription, each message that is not understood, and the fallback's timer.
type watcher struct {
	hub     *hub.Hub
	object  keyspace.Object
	keys    []string
	channel string // as the scripts want it
	topic   *hub.Topic

	mu        sync.Mutex
	latest    sight
	followers map[*follower]struct{}
	listening int // followers that listen; they hold the topic together
	looking   bool
	looked    time.Time
	known     number // the latest when the look under way was sent
	again     bool   // somebody came after the look under way was sent
	failures  int
	timer     *time.Timer
}

// follower is one Wait or Watch. Guarded by watcher.mu.
type follower struct {
	observe func(Observation)
	every   bool          // Watch: wants every change; Wait: one that sets, or did
	began   bool          // from is known
	from    sight         // what it saw last
	floor   number        // a message about a change since then has a greater number
	news    bool          // there is something it wants to know
	err     error         // of the first look, or one that will not pass
	wake    chan struct{} // of one
	listens bool          // counts among listening
}

func (f *follower) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func openWatcher(h *hub.Hub, o keyspace.Object) *watcher {
	return hub.Object(h, o.Key(), func() *watcher {
		w := &watcher{
			hub: h, object: o, followers: map[*follower]struct{}{},
			keys: []string{o.Key(), o.Part("count"), o.Part("asked")},
		}
		name := o.Channel(h.DB())
		w.channel = "p:" + name
		if h.Sharded() {
			w.channel = "s:" + name
		}
		w.topic = h.Topic(name, w.message, w.ready)
		return w
	})
}

func (w *watcher) close() { w.hub.Leave(w.object.Key()) }

// follow begins to follow the event; unfollow must end it.
func (w *watcher) follow(every bool, observe func(Observation)) *follower {
	f := &follower{every: every, observe: observe, wake: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.followers[f] = struct{}{}
	w.look()
	return f
}

func (w *watcher) unfollow(f *follower) {
	w.mu.Lock()
	delete(w.followers, f)
	if len(w.followers) == 0 && w.timer != nil {
		w.timer.Stop()
	}
	last := false
	if f.listens {
		w.listening--
		last = w.listening == 0
	}
	w.mu.Unlock()
	if last {
		w.topic.Drop()
	}
}

// wait returns when the event is set, or was since the first look.
func (w *watcher) wait(ctx context.Context, observe func(Observation)) error {
	f := w.follow(false, observe)
	defer w.unfollow(f)
	start := clock.Now()
	seen, err := w.first(ctx, f)
	if err != nil || seen.number.set() {
		return err
	}
	if _, err = w.next(ctx, f); err == nil {
		w.tell(f, Woken, clock.Since(start))
	}
	return err
}

// first returns what the follower sees at first, and has it listen from then on.
func (w *watcher) first(ctx context.Context, f *follower) (sight, error) {
	if err := w.await(ctx, f, func() bool { return f.began }); err != nil {
		return sight{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.every || !f.from.number.set() {
		w.tell(f, Waiting, 0)
		f.listens = true
		if w.listening++; w.listening == 1 {
			w.topic.Hold() // if that does not stand yet, ready comes and looks again
		}
	}
	return f.from, nil
}

// next returns what the follower sees when there is something new.
func (w *watcher) next(ctx context.Context, f *follower) (sight, error) {
	if err := w.await(ctx, f, func() bool { return f.news }); err != nil {
		return sight{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.news = false
	f.from, f.floor = w.latest, max(w.latest.number, w.latest.now)
	return f.from, nil
}

// await waits until the condition, which is asked under mu, holds.
func (w *watcher) await(ctx context.Context, f *follower, holds func() bool) error {
	for {
		w.mu.Lock()
		ok, err := holds(), f.err
		w.mu.Unlock()
		if err == nil && f.every {
			err = ctx.Err() // changes that keep coming must not hide its end
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			if !w.answered(f) {
				return hub.Join(hub.ErrUnavailable, ctx.Err())
			}
			return ctx.Err()
		}
	}
}

// answered says whether Redis answered lately. Many may ask at once, because
// their waits are cancelled together: it holds mu only to read.
func (w *watcher) answered(f *follower) bool {
	w.mu.Lock()
	failures, looking, looked, listens := w.failures, w.looking, w.looked, f.listens
	w.mu.Unlock()
	if failures > 0 || looking && clock.Since(looked) > silent {
		return false
	}
	return !listens || w.topic.Alive()
}

// look reads the event once for everybody who has come by now. Called with mu.
func (w *watcher) look() {
	if w.looking {
		w.again = true
		return
	}
	w.looking, w.again, w.looked, w.known = true, false, clock.Now(), w.latest.number
	// Those who come while the look is under way need another.
	var asked []*follower
	first := false
	for f := range w.followers {
		asked = append(asked, f)
		first = first || !f.began
	}
	w.hub.Again()
	hub.Object(w.hub, w.object.Key(), func() *watcher { return w })
	c := &hub.Call{
		Script: lookScript, Keys: w.keys, Attempts: attempts,
		Done: func(r hub.Reply) {
			w.seen(r, asked)
			w.close()
			w.hub.Done()
		},
	}
	if !first {
		c.Private, c.Patience, c.Attempts = true, lookPatience, 1
	}
	w.hub.Go(c)
}

// seen takes in the answer to a look.
func (w *watcher) seen(r hub.Reply, asked []*follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looking = false
	s, err := decodeSight(r.Value)
	if r.Err != nil {
		err = r.Err
	}
	if err != nil {
		w.failures++
		for _, f := range asked {
			if !f.began || hub.Permanent(err) {
				f.fail(err)
			}
		}
		w.lookIn(min(10*time.Millisecond<<min(w.failures-1, 6), 500*time.Millisecond))
		return
	}
	w.failures = 0
	for _, f := range asked {
		if !f.began {
			f.began, f.from, f.floor = true, s, max(s.number, s.now)
			f.signal()
		}
	}
	if w.known <= s.number && s.number < w.latest.number {
		// A message was faster than this answer, which is older. The next look
		// tells those who have just begun.
		w.again = true
	} else {
		w.latest = s
		for f := range w.followers {
			f.compare(s, true)
		}
	}
	delay := fallback
	if s.ttl >= 0 {
		delay = min(delay, s.ttl+time.Millisecond) // its end tells nobody
	}
	w.lookIn(delay)
	if w.again {
		w.look()
	}
}

func (f *follower) fail(err error) {
	if f.err == nil {
		f.err = err
		f.signal()
	}
}

// compare wakes the follower if there is something that it wants to know.
// Called with mu.
func (f *follower) compare(s sight, looked bool) {
	switch {
	case !f.began || f.news:
	case s.number > f.from.number,
		looked && s.number < f.from.number && (f.every || s.number.set()):
		f.news = true
		f.signal()
	case looked && s.number < f.from.number:
		f.from = s // the event began anew, and nobody has set it since
	}
}

// lookIn has the event looked at after d. Called with mu.
func (w *watcher) lookIn(d time.Duration) {
	if len(w.followers) == 0 {
		return
	}
	if w.timer != nil {
		w.timer.Reset(d)
		return
	}
	w.timer = time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.followers) == 0 {
			return
		}
		if w.failures == 0 {
			w.tellAll(Fallback)
		}
		w.look()
	})
}

// ready hears that the subscription stands: messages before this were lost.
func (w *watcher) ready(again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.followers) == 0 {
		return
	}
	if again {
		w.tellAll(Reconnected)
	}
	w.look()
}

func (w *watcher) message(payload string, _ time.Time) {
	s, ok := decodeMessage(payload)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.followers) == 0 {
		return
	}
	look := !ok || s.number < w.latest.number || !w.hub.KnowsDB()
	if !look {
		w.latest = s
		for f := range w.followers {
			if s.number > f.floor {
				f.compare(s, false)
			} else if s.number > f.from.number {
				look = true
			}
		}
		if s.ttl >= 0 {
			w.lookIn(min(fallback, s.ttl+time.Millisecond))
		}
	}
	if look {
		// Not from our script, or perhaps from before somebody began to wait or
		// from another database, or the event began anew with a smaller number.
		w.look()
	}
}

func (w *watcher) tell(f *follower, k Kind, d time.Duration) {
	if f.observe != nil {
		name := w.object.Name()
		w.hub.Note(func() { f.observe(Observation{Name: name, Kind: k, Duration: d}) })
	}
}

func (w *watcher) tellAll(k Kind) {
	for f := range w.followers {
		w.tell(f, k, 0)
	}
}
