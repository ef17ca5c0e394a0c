package redisqueue

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

const (
	maxBatch      = 256     // items in one command
	maxBatchBytes = 1 << 20 // and their bytes, but for the last one
	// withdrawal is how long a cancelled Put waits to hear what became of its
	// item.
	withdrawal = 3 * time.Millisecond
	// repeatable is for how long after its first attempt a batch may be sent again:
	// Redis knows its number for an hour.
	repeatable = 50 * time.Minute
	// parkedCheck is the pause between two looks after parked items.
	parkedCheck = 10 * time.Second
)

// A place is where an item stands on its way.
type place int

const (
	here    place = iota // in the process, not sent
	sent                 // on its way
	parked               // in Redis, waiting for room
	taken                // put
	refused              // not put: full, shut down, failed, taken back
	unknown              // sent and not answered
)

// item is one value on its way into the queue. Guarded by station.mu.
type item struct {
	data []byte
	user string

	order *order
	id    string
	env   envelope
	place place
	early bool // admitted before the answer said that it was parked
}

// order is one call that puts items. Guarded by station.mu.
type order struct {
	set     *settings
	items   []*item
	wait    bool // for room
	patient bool // sent until it is answered
	since   time.Time
	open    int  // items whose fate is open
	gone    bool // the caller has given up: take back what is parked
	told    bool // of waiting
	err     error
	moved   chan struct{} // of one: an item of a patient order has come to its end
	closed  chan struct{} // when open is 0
}

// sender puts the items of a process in batches, one under way at a time: with
// the number of the batch a repeat is recognised exactly.
type sender struct {
	s       *station
	queue   []*item // here
	sending bool
	parked  map[string]*item // by id: sent and parked ones
	waiting int              // parked ones among them
	listens bool
	timer   *time.Timer
}

func (x *sender) init(s *station) {
	x.s, x.parked = s, map[string]*item{}
}

// put puts items in order, and returns how many of them, from the first, are in the
// queue.
func (s *station) put(ctx context.Context, set *settings, items []*item, wait bool) (int, error) {
	o := s.order(set, items, wait, false)
	select {
	case <-o.closed:
	case <-ctx.Done():
		s.withdraw(o)
		grace := time.NewTimer(withdrawal)
		defer grace.Stop()
		select {
		case <-o.closed:
		case <-grace.C:
		}
	}
	return s.result(ctx, o)
}

// order has items sent.
func (s *station) order(set *settings, items []*item, wait, patient bool) *order {
	o := &order{
		set: set, items: items, wait: wait, patient: patient, since: clock.Now(),
		open: len(items), closed: make(chan struct{}),
	}
	if patient {
		o.moved = make(chan struct{}, 1)
	}
	for _, it := range items { // without mu: they may be many, and nobody else knows them yet
		it.order, it.id = o, s.hub.NewID()
		it.env, it.data = newEnvelope(it.id, it.data), nil
		it.user = url.QueryEscape(it.user)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sender.queue = append(s.sender.queue, items...)
	s.use() // until all of it has come to its end
	s.sender.kick()
	return o
}

// settled is how many items of an order, from the first, are in the queue; 0 when
// all are at their end, which result tells.
func (s *station) settled(o *order) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.open == 0 {
		return 0
	}
	return o.put()
}

// put is how many items, from the first, are in the queue. Called with mu.
func (o *order) put() (n int) {
	for n < len(o.items) && o.items[n].place == taken {
		n++
	}
	return n
}

// result says how the order stands.
func (s *station) result(ctx context.Context, o *order) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = o.put()
	switch {
	case n == len(o.items):
		s.observe(o.set, Put, n, clock.Since(o.since))
		return n, nil
	case o.open > 0:
		err = hub.Join(hub.ErrUnknownOutcome, ctx.Err())
		if clock.Since(o.since) > silent && s.sender.quiet() {
			err = hub.Join(hub.ErrUnavailable, err)
		}
		return n, err
	case o.err != nil:
		return n, o.err
	}
	return n, ctx.Err()
}

// quiet says whether Redis does not answer. Called with mu.
func (x *sender) quiet() bool { return x.sending || x.listens && !x.s.own.Alive() }

// settle puts an item where it ends. Called with mu.
func (x *sender) settle(it *item, at place, err error) {
	if it.place == parked {
		x.waiting--
	}
	it.place = at
	delete(x.parked, it.id)
	o := it.order
	if err != nil && o.err == nil {
		o.err = err
	}
	select {
	case o.moved <- struct{}{}:
	default:
	}
	if o.open--; o.open == 0 {
		close(o.closed)
		x.s.unuse()
	}
	x.listen()
}

// kick sends the next batch, if none is under way. Called with mu.
func (x *sender) kick() {
	if x.sending || len(x.queue) == 0 {
		return
	}
	first := x.queue[0].order
	args := []any{x.s.hub.Serial(), x.s.inbox}
	var batch []*item
	for bytes := 0; len(x.queue) > 0 && len(batch) < maxBatch && bytes < maxBatchBytes; {
		it := x.queue[0]
		if it.order.set != first.set || it.order.patient != first.patient {
			break // they may differ in what they compare, and in how long they try
		}
		x.queue = x.queue[1:]
		it.place = sent
		x.parked[it.id] = it
		mode := "w"
		if !it.order.wait {
			mode = "t"
		}
		batch = append(batch, it)
		args = append(args, mode, it.user, it.id, string(it.env))
		bytes += len(it.env)
	}
	if len(x.queue) == 0 {
		x.queue = nil
	}
	x.sending = true
	x.send(&consignment{order: first, items: batch, args: args, since: clock.Now()})
}

// consignment is a batch on its way.
type consignment struct {
	order    *order // of its first item
	items    []*item
	args     []any
	failures int
	since    time.Time
	maybe    bool // it was sent and not answered
}

// wanted says whether somebody still waits for a part of it. Called with mu.
func (b *consignment) wanted() bool {
	return slices.ContainsFunc(b.items, func(it *item) bool { return !it.order.gone })
}

// send sends a batch, the first time or once more.
func (x *sender) send(b *consignment) {
	x.s.send(&command{
		script: putScript, set: b.order.set, own: x.s.object.Part(x.s.hub.Process() + ":producer"), args: b.args,
		call: hub.Call{Attempts: attempts, Until: b.since.Add(repeatable)},
	}, func(a answer, r hub.Reply) { x.answered(b, a, r) })
}

// answered takes in the answer to a batch.
func (x *sender) answered(b *consignment, a answer, r hub.Reply) {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	b.maybe = b.maybe || r.Ambiguous
	if !b.maybe {
		b.since = clock.Now()
	}
	late := b.maybe && clock.Since(b.since) > repeatable
	if r.Err != nil && b.order.patient && b.wanted() && !hub.Permanent(r.Err) && !late {
		b.failures++
		x.refuse(r.Err)
		time.AfterFunc(backoff(b.failures), func() { x.send(b) })
		return
	}
	x.sending = false
	batch := b.items
	letters, err := "", r.Err
	if err == nil {
		letters, err = a.letters("put")
	}
	if err == nil && len(letters) != len(batch) {
		err = hub.Join(hub.ErrUnknownOutcome, errReply)
	}
	if err != nil {
		x.failed(batch, err, b.maybe)
	} else {
		for i, it := range batch {
			x.landed(it, letters[i])
		}
		x.listen()
	}
	var last *order
	for _, it := range batch {
		if o := it.order; o != last && o.gone {
			x.takeBack(o)
		}
		last = it.order
	}
	x.kick()
}

// landed takes in what became of an item. Called with mu.
func (x *sender) landed(it *item, letter byte) {
	switch letter {
	case 'q', 'd':
		x.settle(it, taken, nil)
	case 'f':
		x.settle(it, refused, ErrFull)
	case 's':
		x.settle(it, refused, ErrShutdown)
		x.abort(it.order, ErrShutdown)
	case 'p':
		if it.early {
			x.settle(it, taken, nil)
			return
		}
		it.place = parked
		x.waiting++
		if o := it.order; !o.told {
			o.told = true
			x.s.observe(o.set, Waiting, 0, 0)
		}
	default:
		x.settle(it, unknown, errReply)
	}
}

// failed ends the items of a batch that was not answered, or refused. Called with
// mu.
func (x *sender) failed(batch []*item, err error, ambiguous bool) {
	at := refused
	if ambiguous {
		at, err = unknown, hub.Join(hub.ErrUnknownOutcome, err)
	}
	for _, it := range batch {
		if it.early {
			x.settle(it, taken, nil)
			continue
		}
		x.settle(it, at, err)
		x.abort(it.order, err)
	}
}

// refuse ends the orders that are not patient and wait behind a batch that is: what
// they would hear, had they come first. Called with mu.
func (x *sender) refuse(err error) {
	for _, it := range slices.Clone(x.queue) {
		if !it.order.patient {
			x.abort(it.order, err)
		}
	}
}

// abort ends the items of an order that are not sent yet, after an earlier one has
// failed. Called with mu.
func (x *sender) abort(o *order, err error) {
	keep := x.queue[:0]
	var drop []*item
	for _, it := range x.queue {
		if it.order == o {
			drop = append(drop, it)
		} else {
			keep = append(keep, it)
		}
	}
	x.queue = keep
	for _, it := range drop {
		x.settle(it, refused, err)
	}
}
