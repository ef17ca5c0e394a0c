package redissem_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

func TestMain(m *testing.M) {
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
var unhurried = &redissem.Options{TTL: time.Minute}

// key is the semaphore's key, or one of its parts.
func key(name, part string) string {
	k := "mh1:sem:{" + name + "}"
	if part != "" {
		k += ":" + part
	}
	return k
}

func newSem(t testing.TB, client redis.UniversalClient, name string, limit int, opts *redissem.Options) *redissem.Semaphore {
	t.Helper()
	s, err := redissem.New(client, name, limit, opts)
	if err != nil {
		t.Fatalf("New(%q) should succeed, got %v", name, err)
	}
	return s
}

// soonCtx is a ctx for a call that should be over soon.
func soonCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ctx
}

// acquire takes a permit, which should be possible soon.
func acquire(t testing.TB, s *redissem.Semaphore) *redissem.Permit {
	t.Helper()
	h, err := s.Acquire(soonCtx(t))
	if err != nil {
		t.Fatalf("Acquire should succeed, got %v", err)
	}
	tidy(t, h)
	return h
}

// tidy releases at the test's end what the test has not: a permit that is held
// on would be renewed during other tests.
func tidy(t testing.TB, h *redissem.Permit) {
	t.Cleanup(func() { _ = h.Release(context.Background()) })
}

// take is acquire with TryAcquire: there should be a free permit.
func take(t testing.TB, s *redissem.Semaphore) *redissem.Permit {
	t.Helper()
	h, err := s.TryAcquire(soonCtx(t))
	if err != nil {
		t.Fatalf("TryAcquire with a free permit should succeed, got %v", err)
	}
	tidy(t, h)
	return h
}

func release(t testing.TB, h *redissem.Permit) {
	t.Helper()
	if err := h.Release(soonCtx(t)); err != nil {
		t.Fatalf("Release should return nil, got %v", err)
	}
}

// wantTaken asks for a permit; all should be taken.
func wantTaken(t testing.TB, s *redissem.Semaphore) {
	t.Helper()
	h, err := s.TryAcquire(soonCtx(t))
	if err == nil {
		_ = h.Release(soonCtx(t))
	}
	if !errors.Is(err, redissem.ErrNotAcquired) {
		t.Fatalf("TryAcquire without a free permit should say ErrNotAcquired, got %v", err)
	}
}

// wantFree takes so many permits, which should be all, and gives them back.
func wantFree(t testing.TB, s *redissem.Semaphore, n int) {
	t.Helper()
	var all []*redissem.Permit
	for range n {
		all = append(all, take(t, s))
	}
	wantTaken(t, s)
	for _, h := range all {
		release(t, h)
	}
}

// wantHeld says that the permit should stand.
func wantHeld(t testing.TB, h *redissem.Permit) {
	t.Helper()
	if err := h.Err(); err != nil {
		t.Fatalf("the permit should stand, its Err is %v", err)
	}
}

// wantLost waits for Done, which a loss should close soon.
func wantLost(t testing.TB, h *redissem.Permit) {
	t.Helper()
	await(t, h.Done(), "Done of a lost permit")
	if err := h.Err(); !errors.Is(err, redissem.ErrLost) {
		t.Fatalf("Err of a lost permit should be ErrLost, got %v", err)
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

// use holds the permit for a while, or until it ends.
func use(h *redissem.Permit, d time.Duration) {
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
	permit *redissem.Permit
	err    error
}

// begin calls Acquire. The test's end cancels it, or releases the permit.
func begin(t testing.TB, s *redissem.Semaphore) *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{cancel: cancel, over: make(chan struct{})}
	t.Cleanup(func() {
		cancel()
		<-a.over
		if a.permit != nil {
			_ = a.permit.Release(context.Background())
		}
	})
	go func() {
		defer close(a.over)
		a.permit, a.err = s.Acquire(ctx)
	}()
	return a
}

// granted returns the permit, which should come soon.
func (a *attempt) granted(t testing.TB) *redissem.Permit {
	t.Helper()
	await(t, a.over, "a permit for somebody who waits")
	if a.err != nil {
		t.Fatalf("Acquire should succeed, got %v", a.err)
	}
	return a.permit
}

// ended returns the error of a call that should return soon, without a permit.
func (a *attempt) ended(t testing.TB) error {
	t.Helper()
	await(t, a.over, "the end of Acquire")
	if a.err == nil {
		t.Fatal("Acquire should fail, got a permit")
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

// calls are all the ways to ask Redis something about a semaphore of which
// no permit should be acquired: of any permit that comes nevertheless only the error is returned.
func calls(t testing.TB) map[string]func(context.Context, *redissem.Semaphore) error {
	never := func(context.Context, *redissem.Permit) error {
		t.Error("fn should not run")
		return nil
	}
	return map[string]func(context.Context, *redissem.Semaphore) error{
		"Acquire":    func(ctx context.Context, s *redissem.Semaphore) error { _, err := s.Acquire(ctx); return err },
		"TryAcquire": func(ctx context.Context, s *redissem.Semaphore) error { _, err := s.TryAcquire(ctx); return err },
		"Do":         func(ctx context.Context, s *redissem.Semaphore) error { return s.Do(ctx, never) },
		"TryDo":      func(ctx context.Context, s *redissem.Semaphore) error { return s.TryDo(ctx, never) },
		"State":      func(ctx context.Context, s *redissem.Semaphore) error { _, err := s.State(ctx); return err },
		"Break":      func(ctx context.Context, s *redissem.Semaphore) error { return s.Break(ctx, "nobody-1.1") },
		"Resize":     func(ctx context.Context, s *redissem.Semaphore) error { return s.Resize(ctx, 1) },
		"Delete":     func(ctx context.Context, s *redissem.Semaphore) error { return s.Delete(ctx) },
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

// wantNoKeys waits until no permit is taken and nobody stands in line. NoLeaks
// looks for more, and takes the half second for which connections linger.
func wantNoKeys(t testing.TB, client redis.UniversalClient, name string) {
	t.Helper()
	redistest.Eventually(t, soon, func() error {
		for _, part := range []string{"", "holders", "line", "places"} {
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
	all []redissem.Observation
}

func (j *journal) note(o redissem.Observation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, o)
}

// count says how many observations match.
func (j *journal) count(match func(redissem.Observation) bool) int {
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
func (j *journal) awaitKind(t testing.TB, kind redissem.Kind, n int) {
	t.Helper()
	redistest.EventuallyTrue(t, soon, string(kind)+" is observed often enough", func() bool { return j.count(is(kind)) >= n })
}

func is(kind redissem.Kind) func(redissem.Observation) bool {
	return func(o redissem.Observation) bool { return o.Kind == kind }
}

func by(how redissem.How) func(redissem.Observation) bool {
	return func(o redissem.Observation) bool { return o.Kind == redissem.Acquired && o.How == how }
}
