package redislock_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-redsync/redsync/v4"
	votes "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// masters are independent servers of one test, each behind a wire of its own for
// the clients of through, and direct for all others.
type masters struct {
	t       *testing.T
	name    string
	servers []*redistest.Own
	wires   []*redistest.Wire
	through []redis.UniversalClient
}

func startMasters(t *testing.T, n int, args ...string) *masters {
	t.Helper()
	m := &masters{t: t, name: redistest.Name(t)}
	for range n {
		m.servers = append(m.servers, redistest.StartOwn(t, args...))
		m.wires = append(m.wires, redistest.NewWire(t))
	}
	for i, s := range m.servers {
		m.through = append(m.through, s.Client(t, m.wires[i].Through, once))
	}
	return m
}

// once has a client try once. It does not give up soon: where the machine is busy, a
// second is too little for servers that have just been started.
func once(o *redis.UniversalOptions) { o.MaxRetries = -1 }

// hasty has a client give up a silent server soon.
func hasty(o *redis.UniversalOptions) {
	o.ReadTimeout, o.WriteTimeout, o.DialTimeout = time.Second, time.Second, time.Second
	o.MaxRetries = -1
}

// direct are the clients of one more process.
func (m *masters) direct() (all []redis.UniversalClient) {
	for _, s := range m.servers {
		all = append(all, s.Client(m.t, once))
	}
	return all
}

// lock is the lock of a process with these clients.
func (m *masters) lock(clients []redis.UniversalClient, opts *redislock.Options) *redislock.Lock {
	return newQuorum(m.t, clients, m.name, opts)
}

func newQuorum(t testing.TB, clients []redis.UniversalClient, name string, opts *redislock.Options) *redislock.Lock {
	t.Helper()
	l, err := redislock.NewQuorum(clients, name, opts)
	if err != nil {
		t.Fatalf("NewQuorum(%q) should succeed, got %v", name, err)
	}
	return l
}

// wantNothing waits until no server that runs has a key of the lock but for its counter
// and ended tickets.
func (m *masters) wantNothing() {
	m.t.Helper()
	for _, c := range m.direct() {
		if c.Ping(soonCtx(m.t)).Err() == nil {
			wantNoKeys(m.t, c, m.name)
		}
	}
}

// load makes the scripts known, so that each call is one command.
func (m *masters) load() {
	m.t.Helper()
	for _, c := range m.direct() {
		for _, verb := range []string{"take", "keep", "release"} {
			if err := c.ScriptLoad(soonCtx(m.t), quorumSource(m.t, verb)).Err(); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// quorumSource is a script as it is sent.
func quorumSource(t testing.TB, verb string) string {
	t.Helper()
	all := ""
	for _, name := range []string{"shared", verb} {
		lua, err := os.ReadFile("../internal/quorum/lua/" + name + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		all += string(lua)
	}
	return all
}

// quorumScript picks the calls of a script that the server knows.
func quorumScript(t testing.TB, verb string) redistest.Match {
	return evalsha(quorumSource(t, verb))
}

// an ailment is what is wrong with a server.
type ailment struct {
	name  string
	befal func(*masters, int)
}

var ailments = []ailment{
	{"dead", func(m *masters, i int) { m.servers[i].Kill(m.t) }},
	{"hung", func(m *masters, i int) { m.servers[i].Pause(m.t) }},
	{"cut off", func(m *masters, i int) { m.wires[i].Partition() }},
	{"slow", func(m *masters, i int) {
		m.through[i] = m.servers[i].Client(m.t, redistest.WithDialer(slowly(m.wires[i], 700*time.Millisecond)), hasty)
	}},
}

func TestAMajorityHasTheLock(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 5} {
		for _, a := range append([]ailment{{"none", func(*masters, int) {}}}, ailments...) {
			t.Run(fmt.Sprintf("%d servers, a minority %s", n, a.name), func(t *testing.T) {
				t.Parallel()
				m := startMasters(t, n)
				for i := range (n - 1) / 2 {
					a.befal(m, i)
				}
				ours, theirs := m.lock(m.through, unhurried), m.lock(slices.Concat(m.through[:n/2], m.direct()[n/2:]), unhurried)
				start := time.Now()
				h := take(t, ours)
				wantTaken(t, theirs)
				first := h.Token()
				if s := state(t, ours); !s.Held || s.Foreign || s.Token != first || s.Metadata["host"] == "" || s.TTL <= 0 || s.TTL > unhurried.TTL {
					t.Errorf("State should tell of the holder with token %d, got %+v", first, s)
				}
				release(t, h)
				next := take(t, theirs)
				if next.Token() <= first {
					t.Errorf("the token after %d should be greater, it is %d", first, next.Token())
				}
				wantTaken(t, ours)
				release(t, next)
				// Eight rounds, each of which would take a second if it waited for all.
				if took := time.Since(start); took > 3*time.Second {
					t.Errorf("the fast majority should be enough, it took %v", took)
				}
				if s := state(t, ours); s.Held {
					t.Errorf("State should tell of a free lock, got %+v", s)
				}
			})
		}
	}
}

func TestAQuorumIsTakenInTwoRoundTrips(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.load()
	l := m.lock(m.through, unhurried)
	for range 2 { // the second is routine
		for _, w := range m.wires {
			w.ResetCounts()
		}
		h := take(t, l)
		m.awaitScripts(2)
		release(t, h)
		m.awaitScripts(3)
	}
}

// awaitScripts waits until each server was sent so many scripts, and no more.
func (m *masters) awaitScripts(n int) {
	m.t.Helper()
	for i, w := range m.wires {
		redistest.EventuallyTrue(m.t, soon, "the scripts are sent to all", func() bool { return w.Counts()["EVALSHA"] >= n })
		if c := w.Counts(); c["EVALSHA"] != n || c["EVAL"] != 0 {
			m.t.Errorf("server %d should have got %d scripts, it got %v", i, n, c)
		}
	}
}

func TestWithoutAMajorityTheLockIsUnavailable(t *testing.T) {
	t.Parallel()
	for _, a := range ailments[:3] {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			m := startMasters(t, 3)
			for i := range 2 {
				a.befal(m, i)
			}
			var clients []redis.UniversalClient
			for i, s := range m.servers {
				clients = append(clients, s.Client(t, m.wires[i].Through, hasty))
			}
			l := m.lock(clients, nil)
			for name, call := range calls(t) {
				start := time.Now()
				err := call(soonCtx(t), l)
				wantErr(t, name+" without a majority", err, redislock.ErrUnavailable)
				if took := time.Since(start); took > 4*time.Second {
					t.Errorf("%s should say so soon, it took %v", name, took)
				}
			}
			if a.name != "cut off" { // what is in the wire stays there
				wantNoKeys(t, m.servers[2].Client(t), m.name)
			}
		})
	}
}

func TestACancelledCallOfAQuorumReturnsAtOnceAndLeavesNothing(t *testing.T) {
	m := startMasters(t, 3)
	l := m.lock(m.through, unhurried)
	release(t, take(t, l)) // connected
	for name, call := range map[string]func(context.Context) error{
		"Acquire":    func(ctx context.Context) error { _, err := l.Acquire(ctx); return err },
		"TryAcquire": func(ctx context.Context) error { _, err := l.TryAcquire(ctx); return err },
	} {
		var sent []*redistest.Fault
		for _, w := range m.wires {
			sent = append(sent, w.HoldReply(quorumScript(t, "take")))
		}
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- call(ctx) }()
		for _, f := range sent {
			f.Await(t) // taken, and nobody knows
		}
		start := time.Now()
		cancel()
		err := await(t, over, "the end of "+name)
		if took := time.Since(start); took > time.Second/10 {
			t.Errorf("a cancelled %s should return at once, it took %v", name, took)
		}
		wantErr(t, "a cancelled "+name, err, context.Canceled)
		m.wantNothing()
		for _, f := range sent {
			f.Release()
		}
		m.wantNothing()
	}
}

func TestAWaitForAQuorumIsWokenByTheRelease(t *testing.T) {
	t.Parallel()
	for _, a := range append([]ailment{{"none", func(*masters, int) {}}}, ailments...) {
		t.Run("a minority "+a.name, func(t *testing.T) {
			t.Parallel()
			m := startMasters(t, 3)
			a.befal(m, 0)
			h := take(t, m.lock(slices.Concat(m.through[:1], m.direct()[1:]), unhurried))
			var j journal
			waiter := begin(t, m.lock(m.through, &redislock.Options{Observe: j.note}))
			j.awaitKind(t, redislock.Waiting, 1)
			for _, s := range m.servers[1:] {
				awaitListener(t, s, m.name)
			}
			waiter.wantWaiting(t)
			first := h.Token()
			release(t, h)
			if got := waiter.granted(t).Token(); got <= first { // soon, and not in a minute
				t.Errorf("the token after %d should be greater, it is %d", first, got)
			}
		})
	}
}

// awaitListener waits until somebody listens to the lock's channel.
func awaitListener(t *testing.T, s *redistest.Own, name string) {
	t.Helper()
	c := s.Client(t)
	channel := key(name, "channel:0")
	redistest.EventuallyTrue(t, soon, "somebody listens to the channel", func() bool {
		return c.PubSubNumSub(soonCtx(t), channel).Val()[channel] == 1
	})
}

func TestLostMessagesOfAQuorumCostAtMostTheTTL(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	for _, w := range m.wires {
		w.DropMessages("")
	}
	h := take(t, m.lock(m.direct(), &redislock.Options{TTL: 2 * time.Second}))
	waiter := begin(t, m.lock(m.through, nil))
	for _, s := range m.servers {
		awaitListener(t, s, m.name)
	}
	release(t, h)
	waiter.granted(t)
}

func TestAWaitForAQuorumSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	h := take(t, m.lock(m.direct(), unhurried))
	var j journal
	waiter := begin(t, m.lock(m.through, &redislock.Options{Observe: j.note}))
	j.awaitKind(t, redislock.Waiting, 1)
	for _, w := range m.wires {
		w.Down()
	}
	release(t, h) // which the waiter does not hear
	waiter.wantWaiting(t)
	for _, w := range m.wires {
		w.Up()
	}
	waiter.granted(t)
}

func TestALeaseOfAQuorumIsRenewed(t *testing.T) {
	t.Parallel()
	for _, a := range append([]ailment{{"none", func(*masters, int) {}}}, ailments...) {
		t.Run("a minority "+a.name, func(t *testing.T) {
			t.Parallel()
			m := startMasters(t, 3)
			const ttl = 3 * time.Second
			h := take(t, m.lock(m.through, &redislock.Options{TTL: ttl}))
			a.befal(m, 0)
			token, first := h.Token(), h.Deadline()
			redistest.EventuallyTrue(t, soon, "the deadline moves beyond a second TTL", func() bool {
				wantHeld(t, h)
				return h.Deadline().Sub(first) > ttl
			})
			if h.Token() != token {
				t.Errorf("the token should stay %d, it is %d", token, h.Token())
			}
			release(t, h)
		})
	}
}

// redsync itself, with another driver, and ours keep each other out: the key
// is the same on each server, and plain.
func TestRedsyncAndAQuorumKeepEachOtherOut(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	var pools []votes.Pool
	for _, c := range m.direct() {
		pools = append(pools, goredis.NewPool(c))
	}
	theirs := redsync.New(pools...).NewMutex(key(m.name, ""), redsync.WithTries(1), redsync.WithExpiry(time.Minute))
	ours := m.lock(m.through, unhurried)
	if err := theirs.Lock(); err != nil {
		t.Fatal(err)
	}
	wantTaken(t, ours)
	if s := state(t, ours); !s.Held || !s.Foreign || s.Owner != theirs.Value() {
		t.Errorf("State should tell of a foreign holder, got %+v", s)
	}
	wantErr(t, "Break of a foreign holder", ours.Break(soonCtx(t), 0), redislock.ErrMismatch)
	waiter := begin(t, ours)
	for _, s := range m.servers {
		awaitListener(t, s, m.name)
	}
	if ok, err := theirs.Unlock(); !ok {
		t.Fatal(err)
	}
	h := waiter.granted(t) // another program tells nobody: within a second
	var taken *redsync.ErrTaken
	if err := theirs.TryLock(); !errors.As(err, &taken) {
		t.Errorf("redsync should find the lock taken, got %v", err)
	}
	release(t, h)
	redistest.Eventually(t, soon, theirs.TryLock) // all three, not only the majority
}

func TestOneServerOfAQuorumHonoursItsPlainLock(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		plain, alone := newLock(t, s.Client(t), name, unhurried), newQuorum(t, []redis.UniversalClient{s.Client(t)}, name, unhurried)
		h := take(t, plain)
		wantTaken(t, alone)
		first := h.Token()
		release(t, h)
		h = take(t, alone)
		if h.Token() <= first {
			t.Errorf("the token after %d should be greater, it is %d", first, h.Token())
		}
		wantTaken(t, plain)
		first = h.Token()
		release(t, h)
		h = take(t, plain)
		if h.Token() <= first {
			t.Errorf("the token after %d should be greater, it is %d", first, h.Token())
		}
		release(t, h)
	})
}

func TestWhatNewQuorumRefuses(t *testing.T) {
	c := redis.NewClient(&redis.Options{})
	defer c.Close()
	for what, err := range map[string]error{
		"no client":       second(redislock.NewQuorum(nil, "x", nil)),
		"a nil client":    second(redislock.NewQuorum([]redis.UniversalClient{c, nil}, "x", nil)),
		"a client twice":  second(redislock.NewQuorum([]redis.UniversalClient{c, c}, "x", nil)),
		"a bad name":      second(redislock.NewQuorum([]redis.UniversalClient{c}, "", nil)),
		"Replicas":        second(redislock.NewQuorum([]redis.UniversalClient{c}, "x", &redislock.Options{Replicas: 1})),
		"a ControlClient": second(redislock.NewQuorum([]redis.UniversalClient{c}, "x", &redislock.Options{ControlClient: c})),
	} {
		if err == nil {
			t.Errorf("%s should be refused", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// inQuorum runs a test on several servers in fake time.
func inQuorum(t *testing.T, n int, fn func(t *testing.T, clients func() []redis.UniversalClient, servers []*miniredis.Miniredis)) {
	t.Helper()
	redistest.Bubble(t, func(t *testing.T, _ *redis.Client, m *miniredis.Miniredis) {
		servers := []*miniredis.Miniredis{m}
		for range n - 1 {
			servers = append(servers, redistest.BubbleServer(t))
		}
		fn(t, func() (all []redis.UniversalClient) {
			for _, s := range servers {
				all = append(all, redistest.BubbleClient(t, s))
			}
			return all
		}, servers)
	})
}
