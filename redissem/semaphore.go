package redissem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
	"github.com/multihost/multihost/internal/lease"
	"github.com/multihost/multihost/internal/turnstile"
)

var (
	// ErrNotAcquired is the "no" of TryAcquire, TryDo and Delete: all permits are
	// taken, or for Delete one is. Do something else, or wait with Acquire.
	ErrNotAcquired = turnstile.ErrNotAcquired

	// ErrLost says that the permit ended before it was released: it was not
	// renewed in time, was broken, outlived MaxHold, or its key is gone.
	// Somebody else may have it now; stop what it was for.
	ErrLost = lease.ErrLost

	// ErrReleased is what a permit says of itself after Release, and what a
	// second Release returns.
	ErrReleased = lease.ErrReleased

	// ErrMismatch says that the semaphore was opened with another limit than the
	// one in Redis, or that what lies under its name is not a semaphore of this
	// layout. Use the same limit, set OnMismatch, or choose another name.
	ErrMismatch = hub.ErrMismatch

	// ErrUnavailable says that Redis could not be reached. It comes with the
	// cause.
	ErrUnavailable = hub.ErrUnavailable

	// ErrUnknownOutcome says that Release or Resize was sent and not answered. If
	// the Release did not arrive, the permit ends by itself.
	ErrUnknownOutcome = hub.ErrUnknownOutcome
)

// Defaults of Options.
const (
	DefaultTTL           = turnstile.DefaultTTL
	DefaultLocalHandoffs = turnstile.DefaultLocalHandoffs
)

// MaxLimit is the largest limit.
const MaxLimit = 1_000_000

// OnMismatch says what becomes of a semaphore that is opened with another limit
// than the one that is declared in Redis.
type OnMismatch int

// What Options.OnMismatch may be.
const (
	Refuse  OnMismatch = iota // its calls fail with ErrMismatch, which names both limits
	Adopt                     // it goes by the limit in Redis
	Replace                   // its own limit becomes the declared and the present one
)

var policies = map[OnMismatch]turnstile.Policy{
	Refuse: turnstile.Refuse, Adopt: turnstile.Adopt, Replace: turnstile.Replace,
}

// Options are the settings of a Semaphore. The zero value of a field means its
// default.
type Options struct {
	// Namespace separates semaphores of the same name, of different programs or
	// environments, say. Up to 512 bytes of UTF-8 without control characters;
	// default none.
	Namespace string

	// TTL is how long a permit stays taken when its holder dies. A living
	// holder renews it after a third of that. At least 10 ms, at most a year;
	// default 10 s.
	TTL time.Duration

	// Margin is how long before the TTL's end the holder stops trusting its
	// permit. Less than TTL; default a hundredth of TTL, at least 5 ms.
	Margin time.Duration

	// MinHold keeps a permit taken until so long after it was acquired, even if
	// it is released earlier: with a MinHold of a second at most limit permits
	// are granted in any second. Default 0.
	MinHold time.Duration

	// MaxHold ends a permit so long after it was acquired: Done closes, renewal
	// stops, and the permit is free within TTL. Default 0: no end.
	MaxHold time.Duration

	// NoRenew leaves the permit to end after TTL.
	NoRenew bool

	// LocalHandoffs is how often one process may pass a permit on among its own
	// goroutines, without Redis, while another process waits; no more often than
	// goroutines waited when it was granted or when the other came. Alone it passes on
	// without limit. At most 10,000; default 64; negative: never.
	LocalHandoffs int

	// Metadata describes the holder in State. Up to 4 KiB as JSON; default the
	// host's name, the process id and the program's name, under "host", "pid"
	// and "program".
	Metadata map[string]string

	// OnMismatch says what happens when another limit is declared in Redis.
	// Default Refuse.
	OnMismatch OnMismatch

	// ControlClient, when set, carries renewals, waits and subscriptions in
	// place of the private connection that is otherwise made from the client's
	// own options.
	ControlClient redis.UniversalClient

	// Observe hears what happens to this semaphore in this process, in order and
	// apart from the semaphore's own work. If it falls more than 16,384
	// observations behind, it misses the oldest.
	Observe func(Observation)
}

// Semaphore is a counting semaphore in Redis, known by its name. Any number of
// Semaphores of one name, in any number of processes, are the same semaphore. It
// remembers that its limit was compared, and nothing else. All methods are safe
// for concurrent use.
type Semaphore struct {
	client, control redis.UniversalClient
	object          keyspace.Object
	terms           *turnstile.Terms
	limit           int
}

// New returns the semaphore with this name and limit: how many permits can be
// taken at a time, 0 to 1,000,000. It does no I/O and costs about a
// microsecond. The name has 1 to 512 bytes of UTF-8 without control
// characters; a nil opts means the defaults. The client is a *redis.Client
// (of one server or of Sentinel) or a *redis.ClusterClient; a type of the
// program's own works too, on its own connections. An error says what is
// allowed.
func New(client redis.UniversalClient, name string, limit int, opts *Options) (*Semaphore, error) {
	fail := func(err error) (*Semaphore, error) { return nil, fmt.Errorf("redissem: new %q: %w", name, err) }
	if err := validLimit(limit); err != nil {
		return fail(err)
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	policy, ok := policies[o.OnMismatch]
	if !ok {
		return fail(fmt.Errorf("OnMismatch is %d; allowed are Refuse, Adopt and Replace", o.OnMismatch))
	}
	terms, err := turnstile.Settings{
		TTL: o.TTL, Margin: o.Margin, MinHold: o.MinHold, MaxHold: o.MaxHold, NoRenew: o.NoRenew,
		LocalHandoffs: o.LocalHandoffs, Metadata: o.Metadata,
	}.Terms()
	if err != nil {
		return fail(err)
	}
	if err := hub.Validate(client, o.ControlClient); err != nil {
		return fail(err)
	}
	object, err := keyspace.New(keyspace.Semaphore, o.Namespace, name)
	if err != nil {
		return fail(err)
	}
	terms.Limit = turnstile.NewLimit(limit, policy)
	if observe := o.Observe; observe != nil {
		terms.Observe = func(t turnstile.Observation) {
			observe(Observation{Name: name, Kind: Kind(t.Kind), How: How(t.How), Duration: t.Duration, ID: t.ID()})
		}
	}
	return &Semaphore{client: client, control: o.ControlClient, object: object, terms: terms, limit: limit}, nil
}

func validLimit(limit int) error {
	if limit < 0 || limit > MaxLimit {
		return fmt.Errorf("the limit is %d; allowed are 0 to %d", limit, MaxLimit)
	}
	return nil
}

// wrap names the operation and the semaphore in an error.
func (s *Semaphore) wrap(op string, err *error) {
	if *err != nil {
		*err = fmt.Errorf("redissem: %s %q: %w", op, s.object.Name(), *err)
	}
}

// line opens the process's line for the semaphore; close ends its use.
func (s *Semaphore) line() (line *turnstile.Line, done func()) {
	h := hub.Use(s.client, s.control)
	line = turnstile.Open(h, s.object)
	return line, func() {
		line.Close()
		h.Done()
	}
}

// Acquire waits until there is a permit for the caller, and returns it. The ctx
// bounds the wait only, not the holding; when it ends, Acquire returns its
// error within milliseconds, even while Redis is silent, and what it had asked
// for is withdrawn in the background. If Redis could not be reached by then,
// the error also matches ErrUnavailable. A first attempt that finds Redis
// unreachable fails with ErrUnavailable; a wait that stands in line already
// survives an outage. ErrMismatch: another limit is declared in Redis, or the
// name is used for something else. After an error nothing is held.
func (s *Semaphore) Acquire(ctx context.Context) (_ *Permit, err error) {
	defer s.wrap("acquire", &err)
	line, done := s.line()
	defer done()
	hold, err := line.Acquire(ctx, s.terms)
	if err != nil {
		return nil, err
	}
	return newPermit(s, hold), nil
}

// TryAcquire makes one attempt and does not wait in line: ErrNotAcquired says
// that all permits are taken. Other errors are those of Acquire.
func (s *Semaphore) TryAcquire(ctx context.Context) (_ *Permit, err error) {
	defer s.wrap("try to acquire", &err)
	line, done := s.line()
	defer done()
	hold, err := line.TryAcquire(ctx, s.terms)
	if err != nil {
		return nil, err
	}
	return newPermit(s, hold), nil
}

// Do acquires a permit, runs fn and releases the permit, also when fn panics. The
// ctx given to fn ends with the caller's or with the permit; its cause is then
// ErrLost. Do returns fn's error, joined with ErrLost if the permit was lost
// before fn returned, and with the error of the release; nil means that fn
// succeeded and the permit was trusted to its end.
func (s *Semaphore) Do(ctx context.Context, fn func(ctx context.Context, permit *Permit) error) error {
	h, err := s.Acquire(ctx)
	if err != nil {
		return err
	}
	return h.do(ctx, fn)
}

// TryDo is Do with TryAcquire: ErrNotAcquired says that fn was not run because
// all permits are taken.
func (s *Semaphore) TryDo(ctx context.Context, fn func(ctx context.Context, permit *Permit) error) error {
	h, err := s.TryAcquire(ctx)
	if err != nil {
		return err
	}
	return h.do(ctx, fn)
}

// Break takes the permit with this id from its holder, and returns when that is
// over: at once if it is over already, within a third of the holder's TTL if
// the holder lives, at the end of its lease if not. The holder is told by its
// Done; more than limit holders never arise from it. The id of a permit that
// rests, as State gives it, ends the rest. When ctx ends before, Break returns
// its error, and the revocation stands.
func (s *Semaphore) Break(ctx context.Context, id string) (err error) {
	defer s.wrap("break a permit of", &err)
	line, done := s.line()
	defer done()
	return line.BreakPermit(ctx, id)
}

// Resize changes how many permits can be taken at a time, 0 to 1,000,000, for
// all processes and until the next Resize; what semaphores are opened with stays
// as it was declared. A raised limit serves at once those who wait. A
// lowered one takes permits from nobody: none are granted until fewer are
// taken. A process may pass on what it has for as long as it might anyway, a few
// milliseconds (if the message is lost, until its next renewal), before it gives that back. Errors: ErrMismatch, ErrUnavailable, ctx.Err(), each with
// ErrUnknownOutcome if it was sent and not answered.
func (s *Semaphore) Resize(ctx context.Context, limit int) (err error) {
	defer s.wrap("resize", &err)
	if err := validLimit(limit); err != nil {
		return err
	}
	line, done := s.line()
	defer done()
	return line.Resize(ctx, s.terms.Limit, limit)
}

// State is a snapshot of a semaphore in Redis.
type State struct {
	// Limit is how many permits can be taken at a time: the declared limit, or
	// what Resize made of it. It is the semaphore's own where Redis knows of none.
	Limit int
	// Declared is the limit that semaphores are to be opened with.
	Declared int
	// Held is how many permits are taken, those that rest included. It is more
	// than Limit for a while after that was lowered.
	Held int
	// Waiters is how many wait in all processes, as they last told.
	Waiters int
	// Permits are those that are taken, the first to end first, at most 1,000.
	Permits []Holder
}

// Holder is a snapshot of a permit that is taken.
type Holder struct {
	// ID is the permit's id, to Break it; while its process passes the permit on
	// inside, that of its latest renewal.
	ID string
	// Resting says that the permit was released and stays taken for its MinHold.
	Resting bool
	// TTL is what is left of the lease.
	TTL time.Duration
	// Metadata describes the holder; nil of a permit that rests.
	Metadata map[string]string
}

// State returns a snapshot of the semaphore. It does not compare limits. Errors:
// ErrMismatch, ErrUnavailable, ctx.Err().
func (s *Semaphore) State(ctx context.Context) (_ State, err error) {
	defer s.wrap("state of", &err)
	line, done := s.line()
	defer done()
	t, err := line.Permits(ctx)
	if err != nil {
		return State{}, err
	}
	state := State{Limit: s.limit, Declared: s.limit, Held: t.Held, Waiters: t.Waiters}
	if t.Known {
		state.Limit, state.Declared = t.Present, t.Declared
	}
	for _, p := range t.Permits {
		h := Holder{ID: p.ID, Resting: p.Resting, TTL: p.TTL}
		if p.Metadata != "" {
			if err := json.Unmarshal([]byte(p.Metadata), &h.Metadata); err != nil {
				return State{}, errors.Join(ErrMismatch, err)
			}
		}
		state.Permits = append(state.Permits, h)
	}
	return state, nil
}

// Delete removes what a semaphore keeps in Redis: its limit, which otherwise
// lapses after a day or two of disuse. The name is new then.
// ErrNotAcquired: a permit is taken.
func (s *Semaphore) Delete(ctx context.Context) (err error) {
	defer s.wrap("delete", &err)
	line, done := s.line()
	defer done()
	return line.Delete(ctx)
}
