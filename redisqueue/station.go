package redisqueue

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
)

const (
	// attempts bounds how often a command whose reply is lost is sent.
	attempts = 3
	// manyAttempts is for what is bounded by time instead.
	manyAttempts = 1 << 20
	// patience is how long the answer to a command of a wait may take before it
	// is sent again.
	patience = 3 * time.Second
	// fallback is the pause between two looks of a wait while nothing is heard.
	fallback = 20 * time.Second
	// silent is how long a command may be unanswered before a wait that ends says
	// that Redis was unavailable.
	silent = 50 * time.Millisecond
	// cleanup is how long giving back goes on while Redis is away.
	cleanup = time.Minute
)

// settings are what a handle asks for.
type settings struct {
	name          string
	maxSize       int
	codec         string
	policy        Policy
	ttl           time.Duration
	maxDeliveries int
	metadata      string
	observe       func(Observation)

	compared atomic.Bool // with what is in Redis; from then on Redis is followed
}

// station is what the goroutines of one process that use one queue share.
//
// Lock order: station.mu, then those of a claim or a hub; none is held while a
// command runs.
type station struct {
	hub     *hub.Hub
	object  keyspace.Object
	keys    []string
	channel string // of all, as the scripts want it
	inbox   string // of this process, likewise
	all     *hub.Topic
	own     *hub.Topic

	consumers atomic.Pointer[[]string] // whose claims are counted, as last told

	mu        sync.Mutex
	sender    sender
	getter    *fetcher
	receivers map[terms]*fetcher
	joiners   map[*joiner]struct{}
	slots     int   // of takings, so far
	idle      []int // those of them that are free
}

// terms are what all deliveries of a session have in common.
type terms struct {
	ttl      time.Duration
	metadata string
}

func openStation(h *hub.Hub, o keyspace.Object) *station {
	return hub.Object(h, o.Key(), func() *station {
		s := &station{hub: h, object: o, keys: keysOf(o), receivers: map[terms]*fetcher{}, joiners: map[*joiner]struct{}{}}
		kind := "p:"
		if h.Sharded() {
			kind = "s:"
		}
		all := o.Channel(h.DB())
		own := o.Key() + ":inbox:" + h.Process() + ":" + strconv.Itoa(h.DB())
		s.channel, s.inbox = kind+all, kind+own
		s.all = h.Topic(all, func(payload string, _ time.Time) {
			s.news()
			if payload == "deleted" {
				s.renew()
			}
		}, s.ready)
		s.own = h.Topic(own, s.message, func(bool) { s.askParked() })
		s.sender.init(s)
		s.getter = newFetcher(s)
		return s
	})
}

func (s *station) close() { s.hub.Leave(s.object.Key()) }

// use counts one more use, for something that outlives the caller's.
func (s *station) use() {
	s.hub.Again()
	hub.Object(s.hub, s.object.Key(), func() *station { return s })
}

func (s *station) unuse() {
	s.close()
	s.hub.Done()
}

// claimsOf is the key of a consumer's claims.
func (s *station) claimsOf(consumer string) string { return s.object.Part(consumer + ":claims") }

// command is a script on its way.
type command struct {
	script *hub.Script
	set    *settings
	own    string // the key that it needs besides
	args   []any
	call   hub.Call // how it is sent
	asIs   bool     // whatever the queue was opened with
}

// send sends a command, again with the keys of all consumers if it needs them.
// done hears the outcome on a goroutine of the hub: it must not block.
func (s *station) send(c *command, done func(answer, hub.Reply)) {
	s.use()
	s.sendOnce(c, 0, func(a answer, r hub.Reply) {
		done(a, r)
		s.unuse()
	})
}

// most bounds how often the consumers may change under a command's hands.
const most = 100

func (s *station) sendOnce(c *command, times int, done func(answer, hub.Reply)) {
	var consumers []string
	if known := s.consumers.Load(); known != nil && times > 0 { // nearly always nobody asks
		consumers = *known
	}
	set, policy := c.set, "follow"
	if !set.compared.Load() && !c.asIs {
		policy = [...]string{"refuse", "adopt", "replace"}[set.policy]
	}
	own := c.own
	if own == "" {
		own = s.keys[waitingKey]
	}
	call := c.call
	call.Script = c.script
	call.Keys = append(slices.Clone(s.keys), own)
	call.Args = []any{strconv.Itoa(set.maxSize), set.codec, policy, s.channel, len(consumers)}
	for _, name := range consumers {
		call.Keys = append(call.Keys, s.claimsOf(name))
		call.Args = append(call.Args, name)
	}
	call.Args = append(call.Args, c.args...)
	call.Done = func(r hub.Reply) {
		if r.Err != nil {
			done(answer{}, r)
			return
		}
		a, err := decodeAnswer(r.Value)
		switch {
		case err != nil:
			r.Err = err
		case a.word == "mismatch":
			r.Err = a.mismatch(set)
		case a.word == "consumers" && times < most:
			names, err := texts(a.rest)
			if err == nil {
				s.consumers.Store(&names)
				s.sendOnce(c, times+1, done)
				return
			}
			r.Err = err
		case a.word == "consumers":
			r.Err = fmt.Errorf("%w: the consumers change too fast to be counted", hub.ErrUnavailable)
		case !c.asIs:
			set.compared.Store(true)
		}
		done(a, r)
	}
	s.hub.Go(&call)
}

// do sends a command and waits for its outcome or the end of ctx; the command
// then goes on by itself.
func (s *station) do(ctx context.Context, c *command) (answer, hub.Reply, error) {
	type outcome struct {
		a answer
		r hub.Reply
	}
	if err := ctx.Err(); err != nil {
		return answer{}, hub.Reply{}, err
	}
	o, err := await(ctx, func(done func(outcome)) {
		s.send(c, func(a answer, r hub.Reply) { done(outcome{a, r}) })
	}, func(outcome) {})
	if err != nil {
		return answer{}, hub.Reply{Ambiguous: true}, err
	}
	return o.a, o.r, o.r.Err
}

// await starts something, and waits for its outcome or the end of ctx. If that
// comes first, late hears the outcome.
func await[T any](ctx context.Context, start func(done func(T)), late func(T)) (v T, err error) {
	came := make(chan T)
	gone := make(chan struct{})
	slow := time.NewTimer(silent)
	defer slow.Stop()
	start(func(v T) {
		select {
		case came <- v: // the caller waits for nothing else
		case <-gone:
			late(v)
		}
	})
	select {
	case v = <-came:
		return v, nil
	case <-ctx.Done():
		close(gone)
	}
	err = ctx.Err()
	select {
	case <-slow.C:
		err = hub.Join(hub.ErrUnavailable, err)
	default:
	}
	return v, err
}

// write is do for what changes the queue: an outcome that is not known is
// reported as such.
func (s *station) write(ctx context.Context, c *command) error {
	a, r, err := s.do(ctx, c)
	if err != nil {
		if r.Ambiguous {
			err = hub.Join(hub.ErrUnknownOutcome, err)
		}
		return err
	}
	_, err = a.count()
	return err
}

// compare has a handle compare its settings with those in Redis, once, before it
// joins others who wait.
func (s *station) compare(ctx context.Context, set *settings) error {
	if set.compared.Load() {
		return ctx.Err()
	}
	_, _, err := s.do(ctx, s.look(set))
	return err
}

// look is a command that only looks after the queue: delayed items, room.
func (s *station) look(set *settings) *command {
	return &command{script: takeScript, set: set, args: []any{0, "0"}, call: hub.Call{Attempts: attempts}}
}

// observe tells what happened.
func (s *station) observe(set *settings, k Kind, items int, d time.Duration) {
	if set.observe != nil {
		s.hub.Note(func() { set.observe(Observation{Name: set.name, Kind: k, Items: items, Duration: d}) })
	}
}

// news hears that something happened that concerns all: the queue was shut down or
// deleted, everything is finished, the subscription stands (again). What it was is
// for Redis to say.
func (s *station) news() {
	s.mu.Lock()
	for j := range s.joiners {
		j.signal()
	}
	for _, f := range s.fetchers() {
		f.askShutdown()
	}
	s.mu.Unlock()
	s.askParked()
}

// ready hears that the subscription stands: messages before this were lost.
func (s *station) ready(again bool) {
	if again {
		s.mu.Lock()
		for _, set := range s.waits() {
			s.observe(set, Reconnected, 0, 0)
		}
		s.mu.Unlock()
	}
	s.news()
	s.renew()
}

// renew has those who hold deliveries look at once whether they still do: the queue
// was deleted, or may have been.
func (s *station) renew() {
	s.mu.Lock()
	var holders []*session
	for _, f := range s.receivers {
		if x := f.session; x != nil && len(x.claims) > 0 {
			holders = append(holders, x)
		}
	}
	s.mu.Unlock()
	for _, x := range holders {
		x.beat() // besides the keeper's own, which may have been answered before
	}
}

// waits lists the settings of those who wait. Called with mu.
func (s *station) waits() (all []*settings) {
	for _, f := range s.fetchers() {
		for _, t := range f.takers {
			all = append(all, t.set)
		}
	}
	for j := range s.joiners {
		all = append(all, j.set)
	}
	return all
}

func (s *station) fetchers() []*fetcher {
	all := []*fetcher{s.getter}
	for _, f := range s.receivers {
		all = append(all, f)
	}
	return all
}

// message hears that parked items of this process were admitted.
func (s *station) message(payload string, _ time.Time) {
	if ids, ok := strings.CutPrefix(payload, "admitted "); ok {
		s.admitted(strings.Fields(ids))
	}
}

// sweep returns the claims of dead consumers to the queue.
func (s *station) sweep(set *settings, dead []string) {
	for _, name := range dead {
		s.send(&command{
			script: sweepScript, set: set, own: s.claimsOf(name), args: []any{name},
			call: hub.Call{Private: true, Attempts: attempts},
		}, func(a answer, r hub.Reply) {
			if r.Err != nil {
				return // whoever looks next sees it too
			}
			if n, err := a.count(); err == nil && n > 0 {
				s.observe(set, Swept, n, 0)
			}
		})
	}
}

// bury puts an item that was taken, and cannot be decoded, among the dead letters.
func (s *station) bury(set *settings, env envelope) {
	s.observe(set, Buried, 1, 0)
	s.send(&command{
		script: buryScript, set: set, args: []any{s.hub.NewID(), string(env)},
		call: s.forSure(),
	}, func(answer, hub.Reply) {})
}

// forSure is how something is sent that must arrive, whatever happens.
func (s *station) forSure() hub.Call {
	return hub.Call{Private: true, AfterClose: true, Attempts: manyAttempts, Until: after(cleanup)}
}

func (s *station) state(ctx context.Context, set *settings) (State, error) {
	a, _, err := s.do(ctx, &command{script: stateScript, set: set, asIs: true, call: hub.Call{Attempts: attempts}})
	if err != nil {
		return State{}, err
	}
	return a.state()
}

func (s *station) shutdown(ctx context.Context, set *settings) error {
	return s.write(ctx, &command{
		script: shutdownScript, set: set, args: []any{s.hub.NewID()}, call: hub.Call{Attempts: attempts},
	})
}

func (s *station) delete(ctx context.Context, set *settings) error {
	return s.write(ctx, &command{script: deleteScript, set: set, asIs: true})
}
