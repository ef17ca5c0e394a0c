package redislock_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	// Tests that wait for the end of a lease run side by side: they need no
	// processor. Those that look for leaks run before, one after another.
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	redistest.Main(m)
}

// soon bounds the wait for what should happen at once, on a machine that has
// other things to do.
var soon = redistest.Scale(10 * time.Second)

// unhurried is a TTL in which nothing ends by itself while a test runs: what
// is acquired under it was given back.
var unhurried = &redislock.Options{TTL: time.Minute}

// key is the lock's key, or one of its parts.
func key(name, part string) string {
	k := "mh1:lock:{" + name + "}"
	if part != "" {
		k += ":" + part
	}
	return k
}

func newLock(t testing.TB, client redis.UniversalClient, name string, opts *redislock.Options) *redislock.Lock {
	t.Helper()
	l, err := redislock.New(client, name, opts)
	if err != nil {
		t.Fatalf("New(%q) should succeed, got %v", name, err)
	}
	return l
}

// soonCtx is a ctx for a call that should be over soon.
func soonCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ctx
}

// acquire takes the lock, which should be possible soon.
func acquire(t testing.TB, l *redislock.Lock) *redislock.Lease {
	t.Helper()
	h, err := l.Acquire(soonCtx(t))
	if err != nil {
		t.Fatalf("Acquire should succeed, got %v", err)
	}
	tidy(t, h)
	return h
}

// tidy releases at the test's end what the test has not: a lease that is held
// on would be renewed during other tests.
func tidy(t testing.TB, h *redislock.Lease) {
	t.Cleanup(func() { _ = h.Release(context.Background()) })
}

// take is acquire with TryAcquire: the lock should be free.
func take(t testing.TB, l *redislock.Lock) *redislock.Lease {
	t.Helper()
	h, err := l.TryAcquire(soonCtx(t))
	if err != nil {
		t.Fatalf("TryAcquire of a free lock should succeed, got %v", err)
	}
	tidy(t, h)
	return h
}

func release(t testing.TB, h *redislock.Lease) {
	t.Helper()
	if err := h.Release(soonCtx(t)); err != nil {
		t.Fatalf("Release should return nil, got %v", err)
	}
}

// wantTaken asks for the lock, which somebody should hold.
func wantTaken(t testing.TB, l *redislock.Lock) {
	t.Helper()
	h, err := l.TryAcquire(soonCtx(t))
	if err == nil {
		_ = h.Release(soonCtx(t))
	}
	if !errors.Is(err, redislock.ErrNotAcquired) {
		t.Fatalf("TryAcquire of a taken lock should say ErrNotAcquired, got %v", err)
	}
}

// wantFree takes the lock and gives it back.
func wantFree(t testing.TB, l *redislock.Lock) {
	t.Helper()
	release(t, take(t, l))
}

// wantHeld says that the lease should stand.
func wantHeld(t testing.TB, h *redislock.Lease) {
	t.Helper()
	if err := h.Err(); err != nil {
		t.Fatalf("the lease should stand, its Err is %v", err)
	}
}

// wantLost waits for Done, which a loss should close soon.
func wantLost(t testing.TB, h *redislock.Lease) {
	t.Helper()
	await(t, h.Done(), "Done of a lost lease")
	if err := h.Err(); !errors.Is(err, redislock.ErrLost) {
		t.Fatalf("Err of a lost lease should be ErrLost, got %v", err)
	}
	if token := h.Token(); token != 0 {
		t.Fatalf("Token of a lost lease should be 0, got %d", token)
	}
}

// wantErr says that err should match all of these.
func wantErr(t testing.TB, what string, err error, all ...error) {
	t.Helper()
	for _, want := range all {
		if !errors.Is(err, want) {
			t.Fatalf("%s should say %q, got %v", what, want, err)
		}
	}
}

// await receives from c, soon.
func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(soon)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("%s should come within %v", what, soon)
		panic("unreachable")
	}
}

// use holds the lease for a while, or until it ends.
func use(h *redislock.Lease, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-h.Done():
	case <-timer.C:
	}
}

// An attempt is a call of Acquire on a goroutine of its own.
type attempt struct {
	cancel context.CancelFunc
	over   chan struct{} // closed when the call has returned
	lease  *redislock.Lease
	err    error
}

// begin calls Acquire. The test's end cancels it, or releases the lease.
func begin(t testing.TB, l *redislock.Lock) *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{cancel: cancel, over: make(chan struct{})}
	t.Cleanup(func() {
		cancel()
		<-a.over
		if a.lease != nil {
			_ = a.lease.Release(context.Background())
		}
	})
	go func() {
		defer close(a.over)
		a.lease, a.err = l.Acquire(ctx)
	}()
	return a
}

// granted returns the lease, which should come soon.
func (a *attempt) granted(t testing.TB) *redislock.Lease {
	t.Helper()
	await(t, a.over, "the lock for somebody who waits")
	if a.err != nil {
		t.Fatalf("Acquire should succeed, got %v", a.err)
	}
	return a.lease
}

// ended returns the error of a call that should return soon, without the lock.
func (a *attempt) ended(t testing.TB) error {
	t.Helper()
	await(t, a.over, "the end of Acquire")
	if a.err == nil {
		t.Fatal("Acquire should fail, got a lease")
	}
	return a.err
}

// wantWaiting says that the call should not have returned.
func (a *attempt) wantWaiting(t testing.TB) {
	t.Helper()
	select {
	case <-a.over:
		t.Fatalf("Acquire should still wait, it returned %v", a.err)
	default:
	}
}

// calls are all the ways to ask Redis something about a lock that should not
// be acquired: of any lease that comes nevertheless only the error is returned.
func calls(t testing.TB) map[string]func(context.Context, *redislock.Lock) error {
	never := func(context.Context, *redislock.Lease) error {
		t.Error("fn should not run")
		return nil
	}
	return map[string]func(context.Context, *redislock.Lock) error{
		"Acquire":    func(ctx context.Context, l *redislock.Lock) error { _, err := l.Acquire(ctx); return err },
		"TryAcquire": func(ctx context.Context, l *redislock.Lock) error { _, err := l.TryAcquire(ctx); return err },
		"Do":         func(ctx context.Context, l *redislock.Lock) error { return l.Do(ctx, never) },
		"TryDo":      func(ctx context.Context, l *redislock.Lock) error { return l.TryDo(ctx, never) },
		"State":      func(ctx context.Context, l *redislock.Lock) error { _, err := l.State(ctx); return err },
		"Break":      func(ctx context.Context, l *redislock.Lock) error { return l.Break(ctx, 0) },
		"Delete":     func(ctx context.Context, l *redislock.Lock) error { return l.Delete(ctx) },
	}
}

// reachableLua counts the places in line whose channel has a subscriber.
const reachableLua = `
local n = 0
for _, record in ipairs(redis.call('HVALS', KEYS[1])) do
  local kind, channel = record:match('\n([ps]):(mh1:[^\n]*)\n')
  local count = kind == 's' and 'SHARDNUMSUB' or 'NUMSUB'
  if tonumber(redis.call('PUBSUB', count, channel)[2]) > 0 then n = n + 1 end
end
return n`

// awaitLine waits until so many processes stand in line and listen.
func awaitLine(t testing.TB, client redis.UniversalClient, name string, n int) {
	t.Helper()
	redistest.EventuallyTrue(t, soon, "so many processes stand in line and listen", func() bool {
		got, err := client.Eval(soonCtx(t), reachableLua, []string{key(name, "places")}).Int()
		return err == nil && got == n
	})
}

// wantNoKeys waits until the lock is free and nobody stands in line. NoLeaks
// looks for more, and takes the half second for which connections linger.
func wantNoKeys(t testing.TB, client redis.UniversalClient, name string) {
	t.Helper()
	redistest.Eventually(t, soon, func() error {
		for _, part := range []string{"", "line", "places"} {
			if n, err := client.Exists(soonCtx(t), key(name, part)).Result(); err != nil || n != 0 {
				return fmt.Errorf("the key %s should be gone, it is there %d times, %w", key(name, part), n, err)
			}
		}
		return nil
	})
}

// A journal keeps what Options.Observe hears.
type journal struct {
	mu  sync.Mutex
	all []redislock.Observation
}

func (j *journal) note(o redislock.Observation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, o)
}

// count says how many observations match.
func (j *journal) count(match func(redislock.Observation) bool) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, o := range j.all {
		if match(o) {
			n++
		}
	}
	return n
}

// awaitKind waits until so many observations of a kind were heard.
func (j *journal) awaitKind(t testing.TB, kind redislock.Kind, n int) {
	t.Helper()
	redistest.EventuallyTrue(t, soon, string(kind)+" is observed often enough", func() bool { return j.count(is(kind)) >= n })
}

func is(kind redislock.Kind) func(redislock.Observation) bool {
	return func(o redislock.Observation) bool { return o.Kind == kind }
}

func by(how redislock.How) func(redislock.Observation) bool {
	return func(o redislock.Observation) bool { return o.Kind == redislock.Acquired && o.How == how }
}
