package redisevent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/keyspace"
	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	redistest.Main(m)
}

// soon bounds the wait for what should happen at once, on a machine that
// has other things to do.
var soon = redistest.Scale(10 * time.Second)

// fallback is the longest pause between two looks of somebody who waits.
const fallback = 30 * time.Second

func newEvent(t testing.TB, client redis.UniversalClient, name string, opts *redisevent.Options) *redisevent.Event {
	t.Helper()
	e, err := redisevent.New(client, name, opts)
	if err != nil {
		t.Fatalf("New(%q) should succeed, got %v", name, err)
	}
	return e
}

// key is the event's key, or one of its parts: "count", "asked".
func key(name, part string) string {
	k := "mh1:event:{" + name + "}"
	if part != "" {
		k += ":" + part
	}
	return k
}

// channel is where changes of the event are published that this client makes.
func channel(t testing.TB, client redis.UniversalClient, name string) string {
	t.Helper()
	o, err := keyspace.New(keyspace.Event, "", name)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := client.(*redis.Client); ok {
		return o.Channel(c.Options().DB)
	}
	return o.Channel(0)
}

// soonCtx is a ctx for a call that should be over soon.
func soonCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ctx
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

// change calls Set, Clear, Pulse or Delete, which should succeed.
func change(t testing.TB, e *redisevent.Event, ops ...string) {
	t.Helper()
	for _, op := range ops {
		if err := call(e, soonCtx(t), op); err != nil {
			t.Fatalf("%s should succeed, got %v", op, err)
		}
	}
}

// call calls a method by its name and drops what it returns beside the error.
func call(e *redisevent.Event, ctx context.Context, op string) (err error) {
	switch op {
	case "Set":
		err = e.Set(ctx)
	case "Clear":
		err = e.Clear(ctx)
	case "Pulse":
		err = e.Pulse(ctx)
	case "Delete":
		err = e.Delete(ctx)
	case "IsSet":
		_, err = e.IsSet(ctx)
	case "State":
		_, err = e.State(ctx)
	case "Wait":
		err = e.Wait(ctx)
	case "Watch":
		for _, err = range e.Watch(ctx) {
			break
		}
	default:
		panic("no method " + op)
	}
	return err
}

// The methods, and those of them that change something.
var (
	allMethods = []string{"Set", "Clear", "Pulse", "Delete", "IsSet", "State", "Wait", "Watch"}
	changes    = []string{"Set", "Clear", "Pulse"}
)

// releases are the ways to release everyone who waits.
var releases = map[string][]string{
	"Set":           {"Set"},
	"Set and Clear": {"Set", "Clear"},
	"Pulse":         {"Pulse"},
}

func wantState(t testing.TB, e *redisevent.Event, want redisevent.State) {
	t.Helper()
	if s, err := e.State(soonCtx(t)); s != want || err != nil {
		t.Fatalf("State should be %+v, got %+v, %v", want, s, err)
	}
	if set, err := e.IsSet(soonCtx(t)); set != want.Set || err != nil {
		t.Fatalf("IsSet should be %v, got %v, %v", want.Set, set, err)
	}
}

// wantErr says that err should match all of these.
func wantErr(t testing.TB, what string, err error, all ...error) {
	t.Helper()
	for _, want := range all {
		if !errors.Is(err, want) {
			t.Errorf("%s should say %q, got %v", what, want, err)
		}
	}
}

// wantNot says that err should match none of these.
func wantNot(t testing.TB, what string, err error, all ...error) {
	t.Helper()
	for _, unwanted := range all {
		if errors.Is(err, unwanted) {
			t.Errorf("%s should not say %q, got %v", what, unwanted, err)
		}
	}
}

// A waiter is a call of Wait on a goroutine of its own.
type waiter struct {
	cancel context.CancelFunc
	over   chan struct{} // closed when the call has returned
	err    error
}

// begin calls Wait and returns when the event was found clear: from then on
// every Set and Pulse must release it. The test's end cancels it.
func begin(t testing.TB, client redis.UniversalClient, name string, opts ...redisevent.Options) *waiter {
	t.Helper()
	var o redisevent.Options
	if len(opts) > 0 {
		o = opts[0]
	}
	waits := make(chan struct{}, 1)
	heard := o.Observe
	o.Observe = func(seen redisevent.Observation) {
		if seen.Kind == redisevent.Waiting {
			waits <- struct{}{}
		}
		if heard != nil {
			heard(seen)
		}
	}
	e := newEvent(t, client, name, &o)
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiter{cancel: cancel, over: make(chan struct{})}
	go func() {
		defer close(w.over)
		w.err = e.Wait(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-w.over
	})
	select {
	case <-waits:
	case <-w.over:
		t.Fatalf("Wait should wait, it returned %v", w.err)
	case <-soonCtx(t).Done():
		t.Fatalf("Wait should have looked at the event within %v", soon)
	}
	return w
}

// released says that the call should return nil soon.
func (w *waiter) released(t testing.TB) {
	t.Helper()
	await(t, w.over, "the end of Wait")
	if w.err != nil {
		t.Fatalf("Wait should return nil, got %v", w.err)
	}
}

// stillWaits says that the call should not have returned.
func (w *waiter) stillWaits(t testing.TB, why string) {
	t.Helper()
	select {
	case <-w.over:
		t.Fatalf("%s, so Wait should still wait; it returned %v", why, w.err)
	default:
	}
}

// ended cancels the call and returns its error.
func (w *waiter) ended(t testing.TB) error {
	t.Helper()
	w.cancel()
	await(t, w.over, "the end of a cancelled Wait")
	return w.err
}

// A bubble is a test in fake time: clients behind a wire, and one beside it.
type bubble struct {
	m      *miniredis.Miniredis
	wire   *redistest.Wire
	client *redis.Client // through the wire
	direct *redis.Client // beside it
	name   string
}

// inBubble runs a test in fake time. "In a bubble" behind a sleep says so.
func inBubble(t *testing.T, test func(t *testing.T, b bubble)) {
	t.Helper()
	redistest.Bubble(t, func(t *testing.T, direct *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		test(t, bubble{m, w, redistest.BubbleClient(t, m, w.ThroughBubble), direct, redistest.Name(t)})
	})
}

// subscribed waits until so many connections through the wire have subscribed
// and were answered: the server counts them.
func subscribed(t testing.TB, client redis.UniversalClient, name string, n int) {
	t.Helper()
	redistest.Eventually(t, soon, func() error {
		got, err := subscribers(soonCtx(t), client, channel(t, client, name))
		if err == nil && got != n {
			err = fmt.Errorf("%d processes should listen, %d do", n, got)
		}
		return err
	})
}

// subscribers counts who listens to the channel.
func subscribers(ctx context.Context, client redis.UniversalClient, channel string) (int, error) {
	c, ok := client.(*redis.ClusterClient)
	if !ok {
		counts, err := client.PubSubNumSub(ctx, channel).Result()
		return int(counts[channel]), err
	}
	node, err := c.MasterForKey(ctx, channel)
	if err != nil {
		return 0, err
	}
	counts, err := node.PubSubShardNumSub(ctx, channel).Result()
	return int(counts[channel]), err
}

// publish sends a message as another program could.
func publish(t testing.TB, client redis.UniversalClient, name, payload string) {
	t.Helper()
	send := client.Publish
	if _, sharded := client.(*redis.ClusterClient); sharded {
		send = client.SPublish
	}
	if err := send(soonCtx(t), channel(t, client, name), payload).Err(); err != nil {
		t.Fatalf("publishing should succeed, got %v", err)
	}
}

// warm has the server learn the scripts, so that a test can count on what is
// sent next: with fewer calls in full.
func warm(t testing.TB, client redis.UniversalClient) {
	t.Helper()
	e := newEvent(t, client, redistest.Name(t), nil)
	change(t, e, "Set", "Delete")
	wantState(t, e, redisevent.State{})
}

// does picks the calls of change.lua for the event that ask for op.
func does(name, op string) redistest.Match {
	return func(c redistest.Command) bool {
		return strings.HasPrefix(c.Name, "EVAL") && slices.Contains(c.Args, key(name, "")) && slices.Contains(c.Args, op)
	}
}

// looks picks the calls of look.lua and delete.lua for the event: they have no
// arguments beside the keys.
func looks(name string) redistest.Match {
	return func(c redistest.Command) bool {
		return strings.HasPrefix(c.Name, "EVAL") && len(c.Args) == 6 && c.Args[3] == key(name, "")
	}
}

// hasty makes a client report a refused connection at once, and not after
// seconds of trying again.
func hasty(o *redis.UniversalOptions) { o.DialerRetries, o.MaxRetries = 1, -1 }
