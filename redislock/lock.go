package redislock

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
	"github.com/multihost/multihost/internal/quorum"
	"github.com/multihost/multihost/internal/turnstile"
)

var (
	// ErrNotAcquired is the "no" of TryAcquire, TryDo and Delete: the lock is
	// taken. Do something else, or wait with Acquire.
	ErrNotAcquired = turnstile.ErrNotAcquired

	// ErrLost says that the lease ended before it was released: it was not
	// renewed in time, was broken, outlived MaxHold, or its key is gone.
	// Somebody else may hold the lock now; stop what it protected.
	ErrLost = lease.ErrLost

	// ErrReleased is what a lease says of itself after Release, and what a
	// second Release returns.
	ErrReleased = lease.ErrReleased

	// ErrMismatch says that what lies under the lock's name in Redis is not a
	// lock of this layout. Choose another name, or delete it.
	ErrMismatch = hub.ErrMismatch

	// ErrUnavailable says that Redis could not be reached, or too few of the servers
	// or replicas that the lock needs. It comes with the cause.
	ErrUnavailable = hub.ErrUnavailable

	// ErrUnknownOutcome says that Release was sent and not answered. If it did
	// not arrive, the lease ends by itself.
	ErrUnknownOutcome = hub.ErrUnknownOutcome
)

// Defaults of Options.
const (
	DefaultTTL           = turnstile.DefaultTTL
	DefaultLocalHandoffs = turnstile.DefaultLocalHandoffs

	DefaultReplicaTimeout = turnstile.DefaultReplicaTimeout // or a third of TTL, if that is less
)

// Options are the settings of a Lock. The zero value of a field means its
// default.
type Options struct {
	// Namespace separates locks of the same name, of different programs or
	// environments, say. Up to 512 bytes of UTF-8 without control characters;
	// default none.
	Namespace string

	// TTL is how long the lock stays taken when its holder dies. A living
	// holder renews it after a third of that. At least 10 ms, at most a year;
	// default 10 s.
	TTL time.Duration

	// Margin is how long before the TTL's end the holder stops trusting its
	// lease. Less than TTL; default a hundredth of TTL, at least 5 ms.
	Margin time.Duration

	// MinHold keeps the lock taken until so long after it was acquired, even if
	// it is released earlier: a job that every machine starts each minute runs
	// once. Default 0.
	MinHold time.Duration

	// MaxHold ends a lease so long after it was acquired: Done closes, renewal
	// stops, and the key ends within TTL. Default 0: no end.
	MaxHold time.Duration

	// NoRenew leaves the lease to end after TTL.
	NoRenew bool

	// LocalHandoffs is how often one process may pass the lock on among its own
	// goroutines, without Redis, while another process waits; no more often than
	// goroutines waited when it was granted or when the other came. Alone it passes on
	// without limit. At most 10,000; default 64; negative: never.
	LocalHandoffs int

	// Replicas is how many replicas of the server must have a grant before it
	// counts, whether the lock was free or handed over, and a renewal before it moves
	// the deadline (WAIT). With as many as there are, a fail-over to any of them
	// finds the lock taken, as long as their clocks agree with the server's. Default 0:
	// a fail-over may forget a grant. Without enough of them nobody gets the lock:
	// Acquire and TryAcquire give back what they got and say ErrUnavailable.
	Replicas int

	// ReplicaTimeout is how long replicas may take. Less than TTL; default 1 s, or
	// a third of TTL if that is less. Of a lock that was handed over, half of what is
	// left of its first 3 s is the limit, and with a ControlClient that client's ReadTimeout.
	ReplicaTimeout time.Duration

	// Metadata describes the holder in State. Up to 4 KiB as JSON; default the
	// host's name, the process id and the program's name, under "host", "pid"
	// and "program".
	Metadata map[string]string

	// ControlClient, when set, carries renewals, waits and subscriptions in
	// place of the private connection that is otherwise made from the client's
	// own options.
	ControlClient redis.UniversalClient

	// Observe hears what happens to this lock in this process, in order and
	// apart from the lock's own work. If it falls more than 16,384 observations
	// behind, it misses the oldest.
	Observe func(Observation)
}

// Lock is a lock in Redis, known by its name. It has no state of its own: any
// number of Locks of one name, in any number of processes, are the same lock.
// All methods are safe for concurrent use.
type Lock struct {
	client, control redis.UniversalClient
	members         []redis.UniversalClient // of NewQuorum, in place of client
	object          keyspace.Object
	terms           *turnstile.Terms
}

// New returns the lock with this name. It does no I/O and costs about a
// microsecond. The name has 1 to 512 bytes of UTF-8 without control
// characters; a nil opts means the defaults. The client is a *redis.Client
// (of one server or of Sentinel) or a *redis.ClusterClient; a type of the
// program's own works too, on its own connections. An error says what is
// allowed.
func New(client redis.UniversalClient, name string, opts *Options) (*Lock, error) {
	l, err := newLock(name, opts)
	if err == nil {
		l.client = client
		err = hub.Validate(client, l.control)
	}
	if err != nil {
		return nil, fmt.Errorf("redislock: new %q: %w", name, err)
	}
	return l, nil
}

// newLock returns a lock without a client.
func newLock(name string, opts *Options) (*Lock, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	terms, err := turnstile.Settings{
		TTL: o.TTL, Margin: o.Margin, MinHold: o.MinHold, MaxHold: o.MaxHold, NoRenew: o.NoRenew,
		LocalHandoffs: o.LocalHandoffs, Metadata: o.Metadata,
		Replicas: o.Replicas, ReplicaTimeout: o.ReplicaTimeout,
	}.Terms()
	if err != nil {
		return nil, err
	}
	object, err := keyspace.New(keyspace.Lock, o.Namespace, name)
	if err != nil {
		return nil, err
	}
	if observe := o.Observe; observe != nil {
		terms.Observe = func(t turnstile.Observation) {
			observe(Observation{Name: name, Kind: Kind(t.Kind), How: How(t.How), Duration: t.Duration, Token: t.Token})
		}
	}
	return &Lock{control: o.ControlClient, object: object, terms: terms}, nil
}

// wrap names the operation and the lock in an error.
func (l *Lock) wrap(op string, err *error) {
	if *err != nil {
		*err = fmt.Errorf("redislock: %s %q: %w", op, l.object.Name(), *err)
	}
}

// way leads to the lock: a line at one server, or a majority of several.
type way interface {
	acquire(context.Context, *turnstile.Terms) (turn, error)
	try(context.Context, *turnstile.Terms) (turn, error)
	Break(ctx context.Context, token uint64) error
	State(context.Context) (turnstile.State, error)
	Delete(context.Context) error
}

// line is the way to a lock at one server.
type line struct{ *turnstile.Line }

func (l line) acquire(ctx context.Context, terms *turnstile.Terms) (turn, error) {
	return held(l.Acquire(ctx, terms))
}

func (l line) try(ctx context.Context, terms *turnstile.Terms) (turn, error) {
	return held(l.TryAcquire(ctx, terms))
}

// held keeps a nil pointer from becoming a turn.
func held[T turn](t T, err error) (turn, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}

// open opens the process's way to the lock; done ends its use.
func (l *Lock) open() (w way, done func()) {
	if l.members != nil {
		q := quorum.Open(l.members, l.object)
		return majority{q}, q.Close
	}
	h := hub.Use(l.client, l.control)
	t := turnstile.Open(h, l.object)
	return line{t}, func() {
		t.Close()
		h.Done()
	}
}

// Acquire waits until the lock is the caller's, and returns the lease. The ctx
// bounds the wait only, not the holding; when it ends, Acquire returns its
// error within milliseconds, even while Redis is silent, and what it had asked
// for is withdrawn in the background. If Redis could not be reached by then,
// the error also matches ErrUnavailable. A first attempt that finds Redis
// unreachable fails with ErrUnavailable; a wait that stands in line already
// survives an outage. ErrMismatch: the name is used for something else.
// After an error nothing is held.
func (l *Lock) Acquire(ctx context.Context) (_ *Lease, err error) {
	defer l.wrap("acquire", &err)
	way, done := l.open()
	defer done()
	turn, err := way.acquire(ctx, l.terms)
	if err != nil {
		return nil, err
	}
	return newLease(l, turn), nil
}

// TryAcquire makes one attempt and does not wait in line: ErrNotAcquired says
// that the lock is taken. Other errors are those of Acquire.
func (l *Lock) TryAcquire(ctx context.Context) (_ *Lease, err error) {
	defer l.wrap("try to acquire", &err)
	way, done := l.open()
	defer done()
	turn, err := way.try(ctx, l.terms)
	if err != nil {
		return nil, err
	}
	return newLease(l, turn), nil
}

// Do acquires the lock, runs fn and releases the lock, also when fn panics. The
// ctx given to fn ends with the caller's or with the lease; its cause is then
// ErrLost. Do returns fn's error, joined with ErrLost if the lease was lost
// before fn returned, and with the error of the release; nil means that fn
// succeeded and the lease was trusted to its end.
func (l *Lock) Do(ctx context.Context, fn func(ctx context.Context, lease *Lease) error) error {
	h, err := l.Acquire(ctx)
	if err != nil {
		return err
	}
	return h.do(ctx, fn)
}

// TryDo is Do with TryAcquire: ErrNotAcquired says that fn was not run because
// the lock is taken.
func (l *Lock) TryDo(ctx context.Context, fn func(ctx context.Context, lease *Lease) error) error {
	h, err := l.TryAcquire(ctx)
	if err != nil {
		return err
	}
	return h.do(ctx, fn)
}

// Break takes the lock from the holder whose turn has this token, 0 for whoever
// holds it, and returns when that turn is over: at once if it is over already,
// within a third of the holder's TTL if the holder lives, at the end of its
// lease if not. The holder is told by its Done; two holders never arise from
// it. ErrMismatch: the holder is a program that took the key by itself. When
// ctx ends before, Break returns its error, and the revocation stands.
func (l *Lock) Break(ctx context.Context, token uint64) (err error) {
	defer l.wrap("break", &err)
	way, done := l.open()
	defer done()
	return way.Break(ctx, token)
}

// State is a snapshot of a lock in Redis.
type State struct {
	// Held says that somebody holds the lock.
	Held bool
	// Foreign says that the holder is a program that took the key by itself,
	// with SET NX; it is waited for like any other.
	Foreign bool
	// Owner is the holder's ticket, or the value a foreign holder put there.
	Owner string
	// Token is the fencing token of the holder's turn; while its process passes
	// the lock on inside, that of its latest renewal.
	Token uint64
	// TTL is what is left of the holder's lease; -1: it has no end, as a foreign
	// holder may have it.
	TTL time.Duration
	// Metadata describes the holder.
	Metadata map[string]string
	// Waiters is how many wait in all processes, as they last told.
	Waiters int
}

// State returns a snapshot of the lock. Errors: ErrMismatch, ErrUnavailable,
// ctx.Err().
func (l *Lock) State(ctx context.Context) (_ State, err error) {
	defer l.wrap("state of", &err)
	way, done := l.open()
	defer done()
	s, err := way.State(ctx)
	if err != nil {
		return State{}, err
	}
	state := State{
		Held: s.Owner != "", Foreign: s.Foreign, Owner: s.Owner, Token: s.Token, TTL: s.TTL, Waiters: s.Waiters,
	}
	if s.Metadata != "" {
		if err := json.Unmarshal([]byte(s.Metadata), &state.Metadata); err != nil {
			return State{}, errors.Join(ErrMismatch, err)
		}
	}
	return state, nil
}

// Delete removes what a free lock keeps in Redis: its fencing counter, which
// otherwise lapses after a day of disuse. ErrNotAcquired: the lock is held.
func (l *Lock) Delete(ctx context.Context) (err error) {
	defer l.wrap("delete", &err)
	way, done := l.open()
	defer done()
	return way.Delete(ctx)
}
