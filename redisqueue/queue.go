package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
)

// Queue is a queue of values of type T in Redis, known by its name. It has no
// state of its own: any number of Queues of one name, in any number of
// processes, are the same queue. All methods are safe for concurrent use.
type Queue[T any] struct {
	client, control redis.UniversalClient
	object          keyspace.Object
	settings        *settings
	codec           Codec
	maxItem         int
	id              func(v any) string
	retryDelay      func(attempt int) time.Duration
}

// New returns the queue with this name. It does no I/O and costs about a
// microsecond. The name has 1 to 512 bytes of UTF-8 without control
// characters; a nil opts means the defaults. The client is a *redis.Client (of
// one server or of Sentinel) or a *redis.ClusterClient; a type of the program's
// own works too, on its own connections. An error says what is allowed.
func New[T any](client redis.UniversalClient, name string, opts *Options) (*Queue[T], error) {
	fail := func(err error) (*Queue[T], error) { return nil, fmt.Errorf("redisqueue: new %q: %w", name, err) }
	o, err := opts.withDefaults()
	if err != nil {
		return fail(err)
	}
	if err := hub.Validate(client, o.ControlClient); err != nil {
		return fail(err)
	}
	object, err := keyspace.New(keyspace.Queue, o.Namespace, name)
	if err != nil {
		return fail(err)
	}
	metadata, err := o.metadata()
	if err != nil {
		return fail(err)
	}
	if o.Codec == nil {
		o.Codec = defaultCodec[T]()
	}
	return &Queue[T]{
		client: client, control: o.ControlClient, object: object,
		codec: o.Codec, maxItem: o.MaxItem, id: o.ID, retryDelay: o.RetryDelay,
		settings: &settings{
			name: name, maxSize: o.MaxSize, codec: o.Codec.Name(), policy: o.OnMismatch,
			ttl: o.TTL, maxDeliveries: o.MaxDeliveries, metadata: metadata, observe: o.Observe,
		},
	}, nil
}

// wrap names the operation and the queue in an error.
func (q *Queue[T]) wrap(op string, err *error) {
	if *err != nil {
		*err = fmt.Errorf("redisqueue: %s %q: %w", op, q.object.Name(), *err)
	}
}

// station opens the process's station for the queue; done ends its use.
func (q *Queue[T]) station() (s *station, done func()) {
	h := hub.Use(q.client, q.control)
	s = openStation(h, q.object)
	return s, func() {
		s.close()
		h.Done()
	}
}

// encode makes an item of a value.
func (q *Queue[T]) encode(v T) (*item, error) {
	data, err := q.codec.Encode(v)
	if err != nil {
		return nil, fmt.Errorf("the value cannot be encoded, and nothing was put: %w", err)
	}
	if len(data) > q.maxItem {
		return nil, fmt.Errorf("the item has %d bytes, and nothing was put; allowed are at most %d (MaxItem)", len(data), q.maxItem)
	}
	it := &item{data: data}
	if q.id != nil {
		it.user = q.id(v)
	}
	return it, nil
}

// Put puts a value at the end of the queue. While the queue is full it waits,
// in the order of arrival across all processes. When ctx ends before there was
// room, the value is taken back and Put returns ctx's error within
// milliseconds; the error also matches ErrUnknownOutcome if Redis did not
// answer by then, so that the value may have been put. ErrShutdown: the queue
// takes no more. ErrUnavailable: Redis could not be reached and nothing was
// put; together with ErrUnknownOutcome: it may have been put. ErrMismatch: see
// Options.OnMismatch. A value that cannot be encoded, or is larger than MaxItem,
// is refused at once.
func (q *Queue[T]) Put(ctx context.Context, v T) (err error) {
	defer q.wrap("put", &err)
	_, err = q.put(ctx, []T{v}, true)
	return err
}

// TryPut puts a value, if there is room for it: ErrFull says that there is
// none. It does not wait. Other errors are those of Put.
func (q *Queue[T]) TryPut(ctx context.Context, v T) (err error) {
	defer q.wrap("try to put", &err)
	_, err = q.put(ctx, []T{v}, false)
	return err
}

// PutMany puts values in order, as Put does, many in one command, and returns
// how many of them, from the first, were put; fewer than all only with an
// error. If one cannot be encoded or is too large, none is put.
func (q *Queue[T]) PutMany(ctx context.Context, values []T) (n int, err error) {
	defer q.wrap("put", &err)
	return q.put(ctx, values, true)
}

func (q *Queue[T]) put(ctx context.Context, values []T, wait bool) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	items := make([]*item, len(values))
	for i, v := range values {
		it, err := q.encode(v)
		if err != nil {
			return 0, err
		}
		items[i] = it
	}
	if len(items) == 0 {
		return 0, nil
	}
	s, done := q.station()
	defer done()
	return s.put(ctx, q.settings, items, wait)
}

// Get takes the first item for good, and waits while there is none. The item is
// gone from Redis then, and lost if this process dies, or had to wait and its
// connection breaks just then; use Receive for what must not be lost. When ctx ends, Get returns
// its error within milliseconds and takes nothing; what was on its way goes to
// another Get or back to the head of the queue. A first attempt that finds
// Redis unreachable fails with ErrUnavailable; a wait that has begun survives an
// outage. ErrShutdown: the queue was shut down and is drained. ErrUndecodable:
// the item is among the dead letters now. ErrMismatch: see Options.OnMismatch.
func (q *Queue[T]) Get(ctx context.Context) (v T, err error) {
	defer q.wrap("get from", &err)
	s, done := q.station()
	defer done()
	taken, err := s.get(ctx, q.settings, 1)
	if err != nil {
		return v, err
	}
	return q.decode(s, taken[0])
}

// TryGet is Get without waiting: ErrEmpty says that nothing is waiting. If it is
// not answered, or ctx ends before, an item may have been taken: ErrUnknownOutcome.
// That goes back to the head of the queue as soon as Redis answers, if it does
// within four minutes.
func (q *Queue[T]) TryGet(ctx context.Context) (v T, err error) {
	defer q.wrap("try to get from", &err)
	s, done := q.station()
	defer done()
	taken, err := s.tryGet(ctx, q.settings, 1)
	if err != nil {
		return v, err
	}
	return q.decode(s, taken[0])
}

// GetMany waits for an item, like Get, and takes up to max that are there, at most
// 10,000 at a time, and no more when they have 8 MiB. Items
// that cannot be decoded are left out of the values and named in the error,
// which then matches ErrUndecodable; the values that come with it are taken
// all the same. Other errors are those of Get, without values.
func (q *Queue[T]) GetMany(ctx context.Context, max int) (values []T, err error) {
	defer q.wrap("get from", &err)
	if max < 1 {
		return nil, fmt.Errorf("max is %d; allowed is 1 or more", max)
	}
	s, done := q.station()
	defer done()
	taken, err := s.get(ctx, q.settings, max)
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, env := range taken {
		v, err := q.decode(s, env)
		if err != nil {
			failed = append(failed, err)
		} else {
			values = append(values, v)
		}
	}
	return values, errors.Join(failed...)
}

// All yields what Get returns, until the queue was shut down and is drained,
// which ends it without an error, or ctx ends, whose error is yielded last. An
// item that cannot be decoded is yielded as its error, and the next follows;
// any other error ends it.
func (q *Queue[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			v, err := q.Get(ctx)
			switch {
			case errors.Is(err, ErrShutdown):
				return
			case !yield(v, err), err != nil && !errors.Is(err, ErrUndecodable):
				return
			}
		}
	}
}

// decode makes a value of what was taken. What cannot be decoded goes to the
// dead letters.
func (q *Queue[T]) decode(s *station, env envelope) (v T, err error) {
	if err := q.codec.Decode(env.payload(), &v); err != nil {
		var zero T
		s.bury(q.settings, env)
		return zero, undecodable(env, err)
	}
	return v, nil
}

func undecodable(env envelope, err error) error {
	return fmt.Errorf("%w: %s is among the dead letters now: %w", ErrUndecodable, env.id(), err)
}

// Receive takes the first item and claims it: it comes back to the head of the
// queue when it is given back with Nack, or this process dies, and is gone only
// when it was acknowledged with Ack. So it is delivered at least once. Receive
// waits while there is none; ctx bounds the wait only. ErrShutdown: the queue
// was shut down, and nothing is waiting, delayed or claimed any more. Other
// errors are those of Get.
func (q *Queue[T]) Receive(ctx context.Context) (d *Delivery[T], err error) {
	defer q.wrap("receive from", &err)
	s, done := q.station()
	defer done()
	c, err := s.receive(ctx, q.settings)
	if err != nil {
		return nil, err
	}
	defer func() {
		if d == nil { // Decode or ID panicked: it comes again. Else it is buried already
			_ = c.nack(0)
		}
	}()
	var v T
	if err := q.codec.Decode(c.env.payload(), &v); err != nil {
		_ = c.bury() // if that fails the item comes again, and is buried then
		return nil, undecodable(c.env, err)
	}
	return newDelivery(q, c, v), nil
}

// Join waits until every item that was put is finished: nothing is waiting,
// waiting for room, delayed or claimed. It returns also when that was so for a
// moment while it waited. Get finishes an item by taking it, Receive by Ack;
// dead letters are finished. Items in a Writer's buffer are not yet put. What was
// on its way to a Get whose ctx ended counts as finished until it is back in the
// queue, so Join may return without it. Errors are those of Get, but for
// ErrShutdown.
func (q *Queue[T]) Join(ctx context.Context) (err error) {
	defer q.wrap("join", &err)
	s, done := q.station()
	defer done()
	return s.join(ctx, q.settings)
}

// State is a snapshot of a queue in Redis.
type State struct {
	Waiting int // items that can be taken
	Parked  int // items of Puts that wait for room
	Delayed int // items that wait until they are due again
	Claimed int // items that were received and not yet acknowledged
	Dead    int // dead letters

	MaxSize  int    // 0: no bound
	Codec    string // "" as long as nobody has put anything
	Shutdown bool   // Shutdown was called

	Consumers []Consumer // processes that hold or wait for deliveries
}

// Consumer is a process that receives.
type Consumer struct {
	ID       string
	Metadata map[string]string
	Claimed  int           // items it has not acknowledged
	TTL      time.Duration // left until its claims end; 0 or less: they have
}

// State returns a snapshot of the queue. It does not compare MaxSize and Codec.
// Errors: ErrMismatch, when something else has the queue's name, ErrUnavailable,
// ctx.Err().
func (q *Queue[T]) State(ctx context.Context) (_ State, err error) {
	defer q.wrap("state of", &err)
	return q.glance(ctx)
}

// Len is how many items are waiting. Others may be putting and taking, so it
// is out of date when it returns. Errors are those of State.
func (q *Queue[T]) Len(ctx context.Context) (n int, err error) {
	defer q.wrap("length of", &err)
	s, err := q.glance(ctx)
	return s.Waiting, err
}

// Empty says whether nothing is waiting; like Len it is out of date at once.
func (q *Queue[T]) Empty(ctx context.Context) (empty bool, err error) {
	defer q.wrap("look at", &err)
	s, err := q.glance(ctx)
	return s.Waiting == 0, err
}

// Full says whether MaxSize items are waiting; like Len it is out of date at
// once. A queue without a MaxSize is never full.
func (q *Queue[T]) Full(ctx context.Context) (full bool, err error) {
	defer q.wrap("look at", &err)
	s, err := q.glance(ctx)
	return s.MaxSize > 0 && s.Waiting >= s.MaxSize, err
}

func (q *Queue[T]) glance(ctx context.Context) (State, error) {
	s, done := q.station()
	defer done()
	return s.state(ctx, q.settings)
}

// Shutdown ends the queue for every host: from now on Put and TryPut fail with
// ErrShutdown, also those that wait for room; Get and Receive go on until the
// queue is drained, then they fail with ErrShutdown. What was on its way to a Get
// whose ctx ended may come back when all others have heard that; it stays in the
// queue, where the next call takes it. The mark stays until Delete. Shutting down
// twice is harmless. Errors: ErrMismatch, ErrUnavailable,
// ErrUnknownOutcome, ctx.Err(); after the last two it may have happened.
func (q *Queue[T]) Shutdown(ctx context.Context) (err error) {
	defer q.wrap("shut down", &err)
	s, done := q.station()
	defer done()
	return s.shutdown(ctx, q.settings)
}

// Delete removes the queue with everything in it, dead letters and the mark of
// Shutdown included: the name is new then. Deliveries of the old queue are
// lost; who holds them hears it at once, or if the message is lost at the next
// heartbeat, after a third of TTL. Delete is sent once only, lest a repeat remove what was put in between. It
// does not compare MaxSize and Codec. Errors are those of Shutdown.
func (q *Queue[T]) Delete(ctx context.Context) (err error) {
	defer q.wrap("delete", &err)
	s, done := q.station()
	defer done()
	return s.delete(ctx, q.settings)
}
