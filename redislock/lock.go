package redislock

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
	"github.com/multihost/multihost/internal/lease"
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

	// ErrUnavailable says that Redis could not be reached. It comes with the
	// cause.
	ErrUnavailable = hub.ErrUnavailable

	// ErrUnknownOutcome says that Release was sent and not answered. If it did
	// not arrive, the lease ends by itself.
	ErrUnknownOutcome = hub.ErrUnknownOutcome
)

// Defaults of Options.
const (
	DefaultTTL           = 10 * time.Second
	DefaultLocalHandoffs = 64
	minTTL               = 10 * time.Millisecond
	minMargin            = 5 * time.Millisecond
	maxTTL               = 365 * 24 * time.Hour
	maxMetadata          = 4096
	// A grant reserves as many tokens; they must not run far ahead of the clock.
	maxLocalHandoffs = 10_000
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
	// goroutines, without Redis, before another process gets it. At most 10,000;
	// default 64; negative: never.
	LocalHandoffs int

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
	object          keyspace.Object
	terms           turnstile.Terms
}

// New returns the lock with this name. It does no I/O and costs about a
// microsecond. The name has 1 to 512 bytes of UTF-8 without control
// characters; a nil opts means the defaults. The client is a *redis.Client
// (of one server or of Sentinel) or a *redis.ClusterClient; a type of the
// program's own works too, on its own connections. An error says what is
// allowed.
func New(client redis.UniversalClient, name string, opts *Options) (*Lock, error) {
	fail := func(err error) (*Lock, error) { return nil, fmt.Errorf("redislock: new %q: %w", name, err) }
	o, err := opts.withDefaults()
	if err != nil {
		return fail(err)
	}
	if err := hub.Validate(client, o.ControlClient); err != nil {
		return fail(err)
	}
	object, err := keyspace.New(keyspace.Lock, o.Namespace, name)
	if err != nil {
		return fail(err)
	}
	metadata, err := o.metadata()
	if err != nil {
		return fail(err)
	}
	l := &Lock{client: client, control: o.ControlClient, object: object}
	l.terms = turnstile.Terms{
		Terms:    lease.Terms{TTL: o.TTL, Margin: o.Margin, NoRenew: o.NoRenew},
		MinHold:  o.MinHold,
		MaxHold:  o.MaxHold,
		Handoffs: max(o.LocalHandoffs, 0),
		Metadata: metadata,
	}
	if observe := o.Observe; observe != nil {
		l.terms.Observe = func(t turnstile.Observation) {
			observe(Observation{Name: name, Kind: Kind(t.Kind), How: How(t.How), Duration: t.Duration, Token: t.Token})
		}
	}
	return l, nil
}

func (opts *Options) withDefaults() (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.TTL = cmp.Or(o.TTL, DefaultTTL)
	if o.TTL < minTTL || o.TTL > maxTTL {
		return o, fmt.Errorf("TTL is %v; allowed are %v to %v", o.TTL, minTTL, maxTTL)
	}
	o.TTL = wholeMillis(o.TTL)
	o.Margin = cmp.Or(o.Margin, max(o.TTL/100, minMargin))
	if o.Margin < 0 || o.Margin >= o.TTL {
		return o, fmt.Errorf("Margin is %v; allowed is more than 0 and less than TTL, %v", o.Margin, o.TTL)
	}
	if o.MinHold < 0 || o.MinHold > maxTTL {
		return o, fmt.Errorf("MinHold is %v; allowed are 0 to %v", o.MinHold, maxTTL)
	}
	if o.MaxHold < 0 {
		return o, fmt.Errorf("MaxHold is %v; allowed is 0, for no end, or more", o.MaxHold)
	}
	o.LocalHandoffs = cmp.Or(o.LocalHandoffs, DefaultLocalHandoffs)
	if o.LocalHandoffs > maxLocalHandoffs {
		return o, fmt.Errorf("LocalHandoffs is %d; allowed are at most %d, or a negative number for none", o.LocalHandoffs, maxLocalHandoffs)
	}
	return o, nil
}

func wholeMillis(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1) / time.Millisecond * time.Millisecond
}

var processMetadata = sync.OnceValue(func() string {
	host, _ := os.Hostname()
	b, _ := json.Marshal(map[string]string{
		"host": host, "pid": strconv.Itoa(os.Getpid()), "program": filepath.Base(os.Args[0]),
	})
	return string(b)
})

func (opts *Options) metadata() (string, error) {
	if opts.Metadata == nil {
		return processMetadata(), nil
	}
	b, err := json.Marshal(opts.Metadata)
	if err != nil {
		return "", fmt.Errorf("Metadata: %w", err)
	}
	if len(b) > maxMetadata {
		return "", fmt.Errorf("Metadata has %d bytes as JSON; allowed are at most %d", len(b), maxMetadata)
	}
	return string(b), nil
}

// wrap names the operation and the lock in an error.
func (l *Lock) wrap(op string, err *error) {
	if *err != nil {
		*err = fmt.Errorf("redislock: %s %q: %w", op, l.object.Name(), *err)
	}
}

// line opens the process's line for the lock; close ends its use.
func (l *Lock) line() (line *turnstile.Line, done func()) {
	h := hub.Use(l.client, l.control)
	line = turnstile.Open(h, l.object)
	return line, func() {
		line.Close()
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
	line, done := l.line()
	defer done()
	hold, err := line.Acquire(ctx, &l.terms)
	if err != nil {
		return nil, err
	}
	return newLease(l, hold), nil
}

// TryAcquire makes one attempt and does not wait in line: ErrNotAcquired says
// that the lock is taken. Other errors are those of Acquire.
func (l *Lock) TryAcquire(ctx context.Context) (_ *Lease, err error) {
	defer l.wrap("try to acquire", &err)
	line, done := l.line()
	defer done()
	hold, err := line.TryAcquire(ctx, &l.terms)
	if err != nil {
		return nil, err
	}
	return newLease(l, hold), nil
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
	line, done := l.line()
	defer done()
	return line.Break(ctx, token)
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
	line, done := l.line()
	defer done()
	s, err := line.State(ctx)
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
	line, done := l.line()
	defer done()
	return line.Delete(ctx)
}
