package hub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// soon bounds the wait for what should happen at once, on a machine that has
// other things to do.
var soon = redistest.Scale(10 * time.Second)

var (
	incr = NewScript("return redis.call('INCR', KEYS[1])")
	echo = NewScript("return ARGV[1]")
)

// hubOf uses the client's hub until the end of the test.
func hubOf(t testing.TB, client redis.UniversalClient) *Hub {
	h := Use(client, nil)
	t.Cleanup(h.Done)
	return h
}

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

// begin sends a call and returns where its outcome will be. Plain commands need
// a key that routes them, though it is not sent.
func begin(h *Hub, c *Call) <-chan Reply {
	if c.Keys == nil {
		c.Keys = []string{"any"}
	}
	outcome := make(chan Reply, 1)
	c.Done = func(r Reply) { outcome <- r }
	h.Go(c)
	return outcome
}

// send sends a call, which should succeed.
func send(t testing.TB, h *Hub, c *Call) Reply {
	t.Helper()
	r := await(t, begin(h, c), "the outcome of a call")
	if r.Err != nil {
		t.Fatalf("the call should succeed, got %+v", r)
	}
	return r
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

// wantNoCtx says that the deadline of an attempt should not pass for the
// caller's.
func wantNoCtx(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Errorf("the error should not match that of a ctx, got %v", err)
	}
}

// hook writes down the commands that pass through a client.
type hook struct {
	mu   sync.Mutex
	seen []string
}

func (k *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (k *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		k.note(cmd)
		return next(ctx, cmd)
	}
}

func (k *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			k.note(cmd)
		}
		return next(ctx, cmds)
	}
}

func (k *hook) note(cmd redis.Cmder) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = append(k.seen, cmd.Name())
}

func (k *hook) names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.seen)
}

// tap counts the commands that m picks, by connection.
type tap struct {
	mu    sync.Mutex
	conns map[int]int
}

func newTap(w *redistest.Wire, m redistest.Match) *tap {
	tp := &tap{conns: map[int]int{}}
	w.Watch(func(c redistest.Command) bool {
		if m(c) {
			tp.mu.Lock()
			tp.conns[c.Conn]++
			tp.mu.Unlock()
		}
		return false // it stays
	})
	return tp
}

// counts returns how many connections carried how many commands.
func (tp *tap) counts() (conns, commands int) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, n := range tp.conns {
		commands += n
	}
	return len(tp.conns), commands
}

// scripts picks calls of scripts that have text in an argument.
func scripts(text string) redistest.Match {
	return func(c redistest.Command) bool {
		return (c.Name == "EVAL" || c.Name == "EVALSHA") && redistest.Has(text)(c)
	}
}

// A bubble is a test in fake time: a client behind a wire, and one beside it.
type bubble struct {
	m      *miniredis.Miniredis
	wire   *redistest.Wire
	client *redis.Client
	direct *redis.Client
	hub    *Hub // of client, used until the test's function returns
	key    string
}

func inBubble(t *testing.T, test func(t *testing.T, b bubble), change ...func(*redis.Options)) {
	t.Helper()
	redistest.Bubble(t, func(t *testing.T, direct *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		client := redistest.BubbleClient(t, m, append([]func(*redis.Options){w.ThroughBubble}, change...)...)
		h := Use(client, nil)
		defer h.Done()
		test(t, bubble{m, w, client, direct, h, redistest.Name(t)})
	})
}

// ear is a topic and what its functions heard.
type ear struct {
	*Topic
	messages chan heard
	readies  chan bool // what ready was told: again
}

type heard struct {
	payload string
	after   time.Time
}

func listen(h *Hub, channel string) *ear {
	e := &ear{messages: make(chan heard, 100), readies: make(chan bool, 100)}
	e.Topic = h.Topic(channel,
		func(payload string, after time.Time) { e.messages <- heard{payload, after} },
		func(again bool) { e.readies <- again })
	return e
}

// ready waits for a confirmation and says whether it should be one again.
func (e *ear) ready(t testing.TB, again bool) {
	t.Helper()
	if got := await(t, e.readies, "the confirmation of a subscription"); got != again {
		t.Fatalf("ready should be told again=%v, got %v", again, got)
	}
}

// hears waits for a message.
func (e *ear) hears(t testing.TB, want string) heard {
	t.Helper()
	got := await(t, e.messages, "a message")
	if got.payload != want {
		t.Fatalf("the message should be %q, got %q", want, got.payload)
	}
	return got
}
