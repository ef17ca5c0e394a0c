package redisevent

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
)

var (
	// ErrMismatch says that what lies under the event's name in Redis is not an
	// event of this layout. Choose another name, or delete it.
	ErrMismatch = hub.ErrMismatch

	// ErrUnavailable says that Redis could not be reached. It comes with the
	// cause.
	ErrUnavailable = hub.ErrUnavailable

	// ErrUnknownOutcome says that a change was sent and not answered: it may
	// have happened or not. Sending it again is harmless: a change that is
	// there already is none.
	ErrUnknownOutcome = hub.ErrUnknownOutcome
)

const (
	minTTL = 10 * time.Millisecond
	maxTTL = 365 * 24 * time.Hour

	// attempts bounds how often a command whose reply is lost is sent.
	attempts = 3
)

// Options are the settings of an Event. The zero value of a field means its
// default.
type Options struct {
	// Namespace separates events of the same name, of different programs or
	// environments, say. Up to 512 bytes of UTF-8 without control characters;
	// default none.
	Namespace string

	// TTL is how long the event stays in Redis after the last Set, Clear or
	// Pulse by a handle with a TTL; an event that has ended is clear. At least
	// 10 ms, at most a year; default 0: it stays.
	TTL time.Duration

	// ControlClient, when set, carries waits and subscriptions in place of the
	// private connection that is otherwise made from the client's own options.
	ControlClient redis.UniversalClient

	// Observe hears what happens to this event in this process, in order and
	// apart from the event's own work. If it falls more than 16,384 observations
	// behind, it misses the oldest.
	Observe func(Observation)
}

// Event is a flag in Redis, known by its name. It has no state of its own: any
// number of Events of one name, in any number of processes, are the same
// event. All methods are safe for concurrent use.
type Event struct {
	client, control redis.UniversalClient
	object          keyspace.Object
	ttl             time.Duration
	observe         func(Observation)
}

// New returns the event with this name. It does no I/O and costs about a
// microsecond. The name has 1 to 512 bytes of UTF-8 without control
// characters; a nil opts means the defaults. The client is a *redis.Client
// (of one server or of Sentinel) or a *redis.ClusterClient; a type of the
// program's own works too, on its own connections. An error says what is
// allowed.
func New(client redis.UniversalClient, name string, opts *Options) (*Event, error) {
	fail := func(err error) (*Event, error) { return nil, fmt.Errorf("redisevent: new %q: %w", name, err) }
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.TTL != 0 && (o.TTL < minTTL || o.TTL > maxTTL) {
		return fail(fmt.Errorf("TTL is %v; allowed are 0, for no end, and %v to %v", o.TTL, minTTL, maxTTL))
	}
	if err := hub.Validate(client, o.ControlClient); err != nil {
		return fail(err)
	}
	object, err := keyspace.New(keyspace.Event, o.Namespace, name)
	if err != nil {
		return fail(err)
	}
	return &Event{client: client, control: o.ControlClient, object: object, ttl: o.TTL, observe: o.Observe}, nil
}

// wrap names the operation and the event in an error.
func (e *Event) wrap(op string, err *error) {
	if *err != nil {
		*err = fmt.Errorf("redisevent: %s %q: %w", op, e.object.Name(), *err)
	}
}

// watcher opens the process's watcher for the event; done ends its use.
func (e *Event) watcher() (w *watcher, done func()) {
	h := hub.Use(e.client, e.control)
	w = openWatcher(h, e.object)
	return w, func() {
		w.close()
		h.Done()
	}
}

// Set sets the event and wakes everyone who waits. If it is set already,
// nothing happens. Errors: ErrMismatch, ErrUnavailable, ErrUnknownOutcome,
// ctx.Err(); after the last two it may be set.
func (e *Event) Set(ctx context.Context) (err error) {
	defer e.wrap("set", &err)
	return e.change(ctx, "set")
}

// Clear clears the event: from now on Wait waits. If it is clear already,
// nothing happens. Errors are those of Set.
func (e *Event) Clear(ctx context.Context) (err error) {
	defer e.wrap("clear", &err)
	return e.change(ctx, "clear")
}

// Pulse wakes everyone who waits and leaves the event clear, like Set followed
// at once by Clear. Errors are those of Set.
func (e *Event) Pulse(ctx context.Context) (err error) {
	defer e.wrap("pulse", &err)
	return e.change(ctx, "pulse")
}

func (e *Event) change(ctx context.Context, op string) error {
	w, done := e.watcher()
	defer done()
	ttl := (e.ttl + time.Millisecond - 1) / time.Millisecond
	r, err := w.hub.Do(ctx, &hub.Call{
		Script: changeScript, Keys: w.keys, Attempts: attempts,
		Args: []any{op, w.hub.NewID(), int64(ttl), w.channel},
	})
	if err != nil && r.Ambiguous {
		return hub.Join(ErrUnknownOutcome, err)
	}
	return err
}

// IsSet says whether the event is set. Errors: ErrMismatch, ErrUnavailable,
// ctx.Err().
func (e *Event) IsSet(ctx context.Context) (set bool, err error) {
	defer e.wrap("look at", &err)
	s, err := e.look(ctx)
	return s.number.set(), err
}

// State is a snapshot of an event.
type State struct {
	// Set says whether the event is set.
	Set bool
	// Changes counts the changes since the event was made: Set, Clear and Pulse
	// count one each, if they change anything. An event that was deleted, has
	// ended, or was lost with its server begins anew.
	Changes uint64
}

// State returns a snapshot of the event. Errors are those of IsSet.
func (e *Event) State(ctx context.Context) (_ State, err error) {
	defer e.wrap("state of", &err)
	s, err := e.look(ctx)
	return s.state(), err
}

func (e *Event) look(ctx context.Context) (sight, error) {
	w, done := e.watcher()
	defer done()
	r, err := w.hub.Do(ctx, &hub.Call{Script: lookScript, Keys: w.keys, Attempts: attempts})
	if err != nil {
		return sight{}, err
	}
	return decodeSight(r.Value)
}

// Delete removes the event from Redis: it is clear then. It wakes nobody;
// those who wait wait for the next Set. Delete is sent once only, lest a repeat
// undo a Set in between. Errors are those of Set.
func (e *Event) Delete(ctx context.Context) (err error) {
	defer e.wrap("delete", &err)
	w, done := e.watcher()
	defer done()
	r, err := w.hub.Do(ctx, &hub.Call{Script: deleteScript, Keys: w.keys})
	if err != nil && r.Ambiguous {
		return hub.Join(ErrUnknownOutcome, err)
	}
	return err
}

// Wait returns nil as soon as the event is set, at once if it is set already,
// and also if it was set and cleared again, or pulsed, after Wait had begun to
// wait. When ctx ends, Wait returns its error within milliseconds, even while
// Redis is silent; if Redis could not be reached by then, the error also
// matches ErrUnavailable. A first look that finds Redis unreachable fails with
// ErrUnavailable; a wait that has begun survives an outage. However many
// goroutines of a process wait for one event, they cost one subscription.
func (e *Event) Wait(ctx context.Context) (err error) {
	defer e.wrap("wait for", &err)
	if err := ctx.Err(); err != nil {
		return err
	}
	w, done := e.watcher()
	defer done()
	return w.wait(ctx, e.observe)
}

// Watch yields the present state and then the state after each change, until
// ctx ends or the loop does; the last yield then has ctx's error. A watcher
// that is slower than the changes sees the latest; a jump in Changes shows how
// many it skipped. An error of the first look ends it; later ones are ridden
// out.
func (e *Event) Watch(ctx context.Context) iter.Seq2[State, error] {
	return func(yield func(State, error) bool) {
		if err := ctx.Err(); err != nil {
			e.wrap("watch", &err)
			yield(State{}, err)
			return
		}
		w, done := e.watcher()
		defer done()
		f := w.follow(true, e.observe)
		defer w.unfollow(f)
		for see := w.first; ; see = w.next {
			seen, err := see(ctx, f)
			e.wrap("watch", &err)
			if !yield(seen.state(), err) || err != nil {
				return
			}
		}
	}
}
