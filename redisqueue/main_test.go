package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(child())
	}
	redistest.Main(m)
}

var (
	// soon bounds the wait for what should happen at once, on a machine that
	// has other things to do.
	soon = redistest.Scale(10 * time.Second)

	// short is a TTL whose end can be waited for.
	short = redistest.Scale(900 * time.Millisecond)
)

// unhurried is a TTL in which nothing comes back by itself while a test runs:
// what is received again was given back.
var unhurried = &redisqueue.Options{TTL: time.Minute}

// late are the ends of the keys that keep what arrives late from doing harm: they
// outlive the queue by some minutes. lasting are those that outlive its use.
var (
	late    = []string{":asked", ":refused", ":producer", ":taken"}
	lasting = append([]string{":about", ":ids"}, late...)
)

// noLeaks says that nothing is left of a queue that was deleted.
func noLeaks(t testing.TB, s *redistest.Server, name string) {
	t.Helper()
	redistest.NoLeaks(t, s, name, late...)
}

func newQueue[T any](t testing.TB, client redis.UniversalClient, name string, opts *redisqueue.Options) *redisqueue.Queue[T] {
	t.Helper()
	q, err := redisqueue.New[T](client, name, opts)
	if err != nil {
		t.Fatalf("New(%q) should succeed, got %v", name, err)
	}
	return q
}

// bounded are options with room for n items.
func bounded(n int) *redisqueue.Options {
	return &redisqueue.Options{TTL: time.Minute, MaxSize: n}
}

// soonCtx is a ctx for a call that should be over soon.
func soonCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ctx
}

func put[T any](t testing.TB, q *redisqueue.Queue[T], values ...T) {
	t.Helper()
	for _, v := range values {
		if err := q.Put(soonCtx(t), v); err != nil {
			t.Fatalf("Put(%v) should succeed, got %v", v, err)
		}
	}
}

func get[T any](t testing.TB, q *redisqueue.Queue[T]) T {
	t.Helper()
	v, err := q.Get(soonCtx(t))
	if err != nil {
		t.Fatalf("Get should succeed, got %v", err)
	}
	return v
}

// wantGot takes as many items as there should be, in this order.
func wantGot[T comparable](t testing.TB, q *redisqueue.Queue[T], want ...T) {
	t.Helper()
	for i := range want {
		if v := get(t, q); v != want[i] {
			t.Fatalf("of %v the item %d should come, got %v", want, i, v)
		}
	}
}

func wantEmpty[T any](t testing.TB, q *redisqueue.Queue[T]) {
	t.Helper()
	if v, err := q.TryGet(soonCtx(t)); !errors.Is(err, redisqueue.ErrEmpty) {
		t.Fatalf("TryGet of an empty queue should say ErrEmpty, got %v, %v", v, err)
	}
}

// drain takes what is there.
func drain[T any](t testing.TB, q *redisqueue.Queue[T]) (all []T) {
	t.Helper()
	for {
		switch v, err := q.TryGet(soonCtx(t)); {
		case err == nil:
			all = append(all, v)
		case errors.Is(err, redisqueue.ErrEmpty), errors.Is(err, redisqueue.ErrShutdown):
			return all
		default:
			t.Fatalf("TryGet should succeed or say ErrEmpty, got %v", err)
		}
	}
}

// receive takes an item, which should be there soon.
func receive[T any](t testing.TB, q *redisqueue.Queue[T]) *redisqueue.Delivery[T] {
	t.Helper()
	d, err := q.Receive(soonCtx(t))
	if err != nil {
		t.Fatalf("Receive should succeed, got %v", err)
	}
	tidy(t, d)
	return d
}

// tidy gives back at the test's end what the test has not: a claim that is
// held on would be renewed during other tests.
func tidy[T any](t testing.TB, d *redisqueue.Delivery[T]) {
	t.Cleanup(func() { _ = d.Nack(context.Background(), 0) })
}

// wantReceived receives this item, at its attempt-th delivery.
func wantReceived[T comparable](t testing.TB, q *redisqueue.Queue[T], v T, attempt int) *redisqueue.Delivery[T] {
	t.Helper()
	d := receive(t, q)
	if d.Value() != v || d.Attempt() != attempt {
		t.Fatalf("%v should be delivered for the %d. time, got %v for the %d.", v, attempt, d.Value(), d.Attempt())
	}
	wantHeld(t, d)
	return d
}

func ack[T any](t testing.TB, d *redisqueue.Delivery[T]) {
	t.Helper()
	if err := d.Ack(soonCtx(t)); err != nil {
		t.Fatalf("Ack should return nil, got %v", err)
	}
}

func nack[T any](t testing.TB, d *redisqueue.Delivery[T], delay time.Duration) {
	t.Helper()
	if err := d.Nack(soonCtx(t), delay); err != nil {
		t.Fatalf("Nack should return nil, got %v", err)
	}
}

// wantHeld says that the delivery should stand.
func wantHeld[T any](t testing.TB, d *redisqueue.Delivery[T]) {
	t.Helper()
	if err := d.Err(); err != nil {
		t.Fatalf("the delivery should stand, its Err is %v", err)
	}
	select {
	case <-d.Done():
		t.Fatal("Done of a delivery that stands should be open")
	default:
	}
}

// wantLost waits for Done, which a loss should close soon.
func wantLost[T any](t testing.TB, d *redisqueue.Delivery[T]) {
	t.Helper()
	await(t, d.Done(), "Done of a lost delivery")
	wantErr(t, "Err of a lost delivery", d.Err(), redisqueue.ErrLost)
	wantErr(t, "Ack of a lost delivery", d.Ack(soonCtx(t)), redisqueue.ErrLost)
	wantErr(t, "Nack of a lost delivery", d.Nack(soonCtx(t), 0), redisqueue.ErrLost)
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

// wantOnly says that err should match want and tell of no doubt.
func wantOnly(t testing.TB, what string, err, want error) {
	t.Helper()
	wantErr(t, what, err, want)
	for _, doubt := range []error{redisqueue.ErrUnavailable, redisqueue.ErrUnknownOutcome} {
		if errors.Is(err, doubt) {
			t.Fatalf("%s should not say %q, got %v", what, doubt, err)
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

// pause waits for d, or until stop is closed.
func pause(d time.Duration, stop <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
	}
}

// A call is a call that may block, on a goroutine of its own.
type call[T any] struct {
	cancel context.CancelFunc
	over   chan struct{} // closed when it has returned
	v      T
	err    error
	took   time.Duration
}

// begin calls fn. The test's end cancels it.
func begin[T any](t testing.TB, fn func(ctx context.Context) (T, error)) *call[T] {
	ctx, cancel := context.WithCancel(context.Background())
	c := &call[T]{cancel: cancel, over: make(chan struct{})}
	t.Cleanup(func() {
		cancel()
		<-c.over
	})
	start := time.Now()
	go func() {
		defer close(c.over)
		c.v, c.err = fn(ctx)
		c.took = time.Since(start)
	}()
	return c
}

// beginErr is begin for a call that returns an error only.
func beginErr(t testing.TB, fn func(ctx context.Context) error) *call[struct{}] {
	return begin(t, func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) })
}

func beginPut[T any](t testing.TB, q *redisqueue.Queue[T], v T) *call[struct{}] {
	return beginErr(t, func(ctx context.Context) error { return q.Put(ctx, v) })
}

// beginReceive calls Receive. At the test's end the item is given back.
func beginReceive[T any](t testing.TB, q interface {
	Receive(context.Context) (*redisqueue.Delivery[T], error)
}) *call[*redisqueue.Delivery[T]] {
	var c *call[*redisqueue.Delivery[T]]
	t.Cleanup(func() {
		<-c.over
		if c.err == nil {
			_ = c.v.Nack(context.Background(), 0)
		}
	})
	c = begin(t, q.Receive)
	return c
}

// returns says that the call should succeed soon.
func (c *call[T]) returns(t testing.TB, what string) T {
	t.Helper()
	await(t, c.over, "the end of "+what)
	if c.err != nil {
		t.Fatalf("%s should succeed, got %v", what, c.err)
	}
	return c.v
}

// fails says that the call should fail soon, and returns its error.
func (c *call[T]) fails(t testing.TB, what string) error {
	t.Helper()
	await(t, c.over, "the end of "+what)
	if c.err == nil {
		t.Fatalf("%s should fail, got %v", what, c.v)
	}
	return c.err
}

// wantWaiting says that the call should not have returned.
func (c *call[T]) wantWaiting(t testing.TB, what string) {
	t.Helper()
	select {
	case <-c.over:
		t.Fatalf("%s should still wait, it returned %v, %v", what, c.v, c.err)
	default:
	}
}

func state[T any](t testing.TB, q *redisqueue.Queue[T]) redisqueue.State {
	t.Helper()
	s, err := q.State(soonCtx(t))
	if err != nil {
		t.Fatalf("State should succeed, got %v", err)
	}
	return s
}

// counts are the numbers of a State.
type counts struct{ waiting, parked, delayed, claimed, dead int }

func countsOf(s redisqueue.State) counts {
	return counts{s.Waiting, s.Parked, s.Delayed, s.Claimed, s.Dead}
}

// wantCounts says that State should tell these numbers now.
func wantCounts[T any](t testing.TB, q *redisqueue.Queue[T], want counts) {
	t.Helper()
	if got := countsOf(state(t, q)); got != want {
		t.Fatalf("State should tell %+v, got %+v", want, got)
	}
}

// awaitCounts says that State should tell these numbers soon.
func awaitCounts[T any](t testing.TB, q *redisqueue.Queue[T], want counts) {
	t.Helper()
	redistest.Eventually(t, soon, func() error {
		if got := countsOf(state(t, q)); got != want {
			return fmt.Errorf("State should tell %+v, got %+v", want, got)
		}
		return nil
	})
}

// remove deletes the queue: nothing of it should be left then.
func remove[T any](t testing.TB, q *redisqueue.Queue[T]) {
	t.Helper()
	if err := q.Delete(soonCtx(t)); err != nil {
		t.Fatalf("Delete should succeed, got %v", err)
	}
}

// fast fails the test unless the quickest half of what was measured is within
// limit. A machine with other work to do may slow some calls down, but a call that
// waits for something is slow each time.
func fast(t *testing.T, what string, limit time.Duration, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	if median := took[len(took)/2]; median > limit {
		t.Errorf("%s should return within %v, of %d half took longer than %v: %v", what, limit, len(took), median, took)
	}
}

// calls are all the ways to ask Redis something about a queue.
func calls() map[string]func(context.Context, *redisqueue.Queue[int]) error {
	return map[string]func(context.Context, *redisqueue.Queue[int]) error{
		"Put":    func(ctx context.Context, q *redisqueue.Queue[int]) error { return q.Put(ctx, 1) },
		"TryPut": func(ctx context.Context, q *redisqueue.Queue[int]) error { return q.TryPut(ctx, 1) },
		"PutMany": func(ctx context.Context, q *redisqueue.Queue[int]) error {
			_, err := q.PutMany(ctx, []int{1, 2})
			return err
		},
		"Get":     func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.Get(ctx); return err },
		"TryGet":  func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.TryGet(ctx); return err },
		"GetMany": func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.GetMany(ctx, 2); return err },
		"All": func(ctx context.Context, q *redisqueue.Queue[int]) error {
			for _, err := range q.All(ctx) {
				return err
			}
			return nil
		},
		"Receive": func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.Receive(ctx); return err },
		"Work": func(ctx context.Context, q *redisqueue.Queue[int]) error {
			return q.Work(ctx, 1, func(context.Context, *redisqueue.Delivery[int]) error { return nil })
		},
		"Join":     func(ctx context.Context, q *redisqueue.Queue[int]) error { return q.Join(ctx) },
		"State":    func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.State(ctx); return err },
		"Len":      func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.Len(ctx); return err },
		"Empty":    func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.Empty(ctx); return err },
		"Full":     func(ctx context.Context, q *redisqueue.Queue[int]) error { _, err := q.Full(ctx); return err },
		"Shutdown": func(ctx context.Context, q *redisqueue.Queue[int]) error { return q.Shutdown(ctx) },
		"Delete":   func(ctx context.Context, q *redisqueue.Queue[int]) error { return q.Delete(ctx) },
	}
}

// A journal keeps what Options.Observe hears.
type journal struct {
	mu  sync.Mutex
	all []redisqueue.Observation
}

func (j *journal) note(o redisqueue.Observation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, o)
}

// count says how many observations of a kind there are, and of how many items.
func (j *journal) count(kind redisqueue.Kind) (n, items int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range j.all {
		if o.Kind == kind {
			n++
			items += o.Items
		}
	}
	return n, items
}

// awaitKind waits until so many observations of a kind were heard.
func (j *journal) awaitKind(t testing.TB, kind redisqueue.Kind, n int) {
	t.Helper()
	redistest.Eventually(t, soon, func() error {
		if got, _ := j.count(kind); got < n {
			return fmt.Errorf("%s should be observed %d times, it was %d times", kind, n, got)
		}
		return nil
	})
}
