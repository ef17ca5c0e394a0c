package redislock_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// slowly dials through a wire, and has what is read come so much later.
func slowly(w *redistest.Wire, by time.Duration) redistest.Dialer {
	dial := w.Dialer((&net.Dialer{}).DialContext)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &slowConn{Conn: c, by: by}, err
	}
}

type slowConn struct {
	net.Conn
	by time.Duration
}

func (c *slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		<-time.NewTimer(c.by).C
	}
	return n, err
}

// A reply that is lost, from one server or from all, at each step, changes nothing.
func TestALostReplyOfAQuorumChangesNothing(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"take", "keep", "release"} {
		for _, everywhere := range []bool{false, true} {
			name := verb + " from one"
			if everywhere {
				name = verb + " from all"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := startMasters(t, 3)
				m.load()
				l, other := m.lock(m.through, unhurried), m.lock(m.direct(), unhurried)
				release(t, take(t, l))
				var lost []*redistest.Fault
				for i, w := range m.wires {
					if everywhere || i == 0 {
						lost = append(lost, w.DropReply(quorumScript(t, verb)))
					}
				}
				// A majority is enough: where the others were fast the command to this one may
				// not have been sent at all.
				var first uint64
				redistest.EventuallyTrue(t, soon, "the command is sent to each", func() bool {
					h := take(t, l)
					wantTaken(t, other)
					first = h.Token()
					release(t, h)
					return !slices.ContainsFunc(lost, func(f *redistest.Fault) bool { return !f.Struck() })
				})
				h := take(t, other)
				if h.Token() <= first {
					t.Errorf("the token after %d should be greater, it is %d", first, h.Token())
				}
				release(t, h)
				m.wantNothing()
			})
		}
	}
}

// A renewal whose replies are lost does not end the lease.
func TestALostReplyToARenewalOfAQuorumChangesNothing(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.load()
	h := take(t, m.lock(m.through, &redislock.Options{TTL: 3 * time.Second}))
	deadline := h.Deadline()
	for _, w := range m.wires {
		w.DropReply(quorumScript(t, "keep")).Await(t)
	}
	redistest.EventuallyTrue(t, soon, "the next renewal moves the deadline", func() bool { return h.Deadline().After(deadline) })
	wantHeld(t, h)
	release(t, h)
}

// Of a server that answers nothing until the turn is over, what it was sent arrives then, and
// leaves nothing.
func TestACommandThatReachesAServerOfAQuorumLateTakesNothing(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"take", "keep"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			m := startMasters(t, 3)
			m.load()
			l := m.lock(m.through, unhurried)
			late := m.wires[0].HoldCommand(quorumScript(t, verb))
			h := take(t, l)
			late.Await(t)
			ended := m.wires[0].Watch(quorumScript(t, "release"))
			release(t, h)
			ended.Await(t)
			ended.AwaitReply(t)
			late.Release()
			late.AwaitReply(t)
			if n := m.direct()[0].Exists(soonCtx(t), key(m.name, "")).Val(); n != 0 {
				t.Error("a command that comes after the release should take nothing")
			}
		})
	}
}

// A server that hangs until the turn is over is given back what it then takes.
func TestAServerOfAQuorumThatWokeUpIsGivenBack(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	l := m.lock(m.through, unhurried)
	release(t, take(t, l)) // connected
	m.servers[0].Pause(t)
	release(t, acquire(t, l)) // the first release may still be on its way to one of the others
	m.servers[0].Resume(t)
	m.wantNothing()
}

// While the token is being accepted the keys lapse, and another has them: then there is
// no turn.
func TestATurnThatLapsesWhileItsTokenIsAcceptedIsNotGranted(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.load()
	var held []*redistest.Fault
	for _, w := range m.wires {
		held = append(held, w.HoldCommand(quorumScript(t, "keep")))
	}
	waiter := begin(t, m.lock(m.through, unhurried))
	for _, f := range held {
		f.Await(t)
	}
	others := m.direct()
	for _, c := range others {
		c.Del(soonCtx(t), key(m.name, ""))
	}
	next := acquire(t, m.lock(others, unhurried))
	for _, f := range held {
		f.Release()
		f.AwaitReply(t)
	}
	waiter.cancel()
	// The other was there within a second, or that was too late to be answered.
	if err := waiter.ended(t); !errors.Is(err, context.Canceled) && !errors.Is(err, redislock.ErrUnavailable) {
		t.Errorf("the wait should end by its ctx, or because nobody answered, got %v", err)
	}
	wantHeld(t, next)
	if s := state(t, m.lock(others, nil)); s.Token != next.Token() {
		t.Errorf("the holder should have token %d, State says %+v", next.Token(), s)
	}
	release(t, next)
}

// contend takes turns until it has had so many.
func (p *player) contend(turns int, hold func() time.Duration) {
	for range turns {
		if rand.N(4) == 0 {
			p.acquire(p.lock, rand.N(10*time.Millisecond), 0) // gives up
		}
		p.acquire(p.lock, 3*soon, hold())
	}
}

// match lets processes contend for the lock over these servers, and judges what they saw.
func (m *masters) match(processes [][]redis.UniversalClient, goroutines, turns int, opts redislock.Options, settled func()) {
	m.t.Helper()
	var history redistest.MutexHistory
	var wg sync.WaitGroup
	for i, clients := range processes {
		l := m.lock(clients, &opts)
		for j := range goroutines {
			p := &player{t: m.t, id: i*goroutines + j, history: &history, lock: l, rough: true}
			wg.Go(func() { p.contend(turns, func() time.Duration { return rand.N(3 * time.Millisecond) }) })
		}
	}
	wg.Wait()
	settled()
	history.Judge(m.t)
}

func TestOneHolderOfAQuorumAtATimeAndGrowingTokens(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 5} {
		m := startMasters(t, n)
		processes := [][]redis.UniversalClient{m.through, m.direct(), m.direct()}
		start := time.Now()
		m.match(processes, 3, 6, *unhurried, m.wantNothing)
		t.Logf("%d servers: 54 turns of 3 processes in %v", n, time.Since(start).Round(time.Millisecond))
	}
}

// The same while servers are killed and come back with their data, hang, and are cut
// off, one of three at a time, and replies get lost.
func TestOneHolderOfAQuorumAtATimeWhileServersFail(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	for i := range m.servers { // each with its data in a directory of its own
		m.servers[i] = redistest.StartOwn(t, redistest.Persist(t)...)
		m.through[i] = m.servers[i].Client(t, m.wires[i].Through, once)
	}
	m.load()
	second := make([]redis.UniversalClient, 3)
	for i := range second {
		second[i] = m.servers[i].Client(t, m.wires[i].Through, once)
	}
	processes := [][]redis.UniversalClient{m.through, second, m.direct()}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for step := 0; ; step++ {
			i := rand.N(3)
			s, w := m.servers[i], m.wires[i]
			heal := func() {}
			switch step % 6 {
			case 0:
				s.Kill(t)
				heal = func() { s.Start(t) }
			case 1:
				s.Pause(t)
				heal = func() { s.Resume(t) }
			case 2:
				w.Partition()
				heal = w.Heal
			case 3:
				w.Down()
				heal = w.Up
			case 4:
				w.DropReply(redistest.Has(m.name))
				w.DropCommand(redistest.Has(m.name))
			case 5:
				w.DropMessages("")
				heal = w.KeepMessages
			}
			timer := time.NewTimer(100*time.Millisecond + rand.N(200*time.Millisecond))
			select {
			case <-stop:
				heal()
				timer.Stop()
				return
			case <-timer.C:
				heal()
			}
		}
	}()
	m.match(processes, 2, 8, redislock.Options{TTL: 2 * time.Second}, func() {
		close(stop)
		<-stopped
		m.wantNothing()
	})
}

// Contenders that split the members between them must not each wait for the one that
// hangs: they would keep the others from what there is. They take about as long as with
// one that is dead, and refuses at once.
func TestContendersForAQuorumDoNotWaitForAServerThatHangs(t *testing.T) {
	m := startMasters(t, 3)
	m.servers[0].Kill(t)
	dead := m.contend(6, 10)
	m.servers[0].Start(t)
	m.servers[0].Pause(t)
	hung := m.contend(6, 10)
	t.Logf("60 turns of 6 processes with one of 3 servers dead: %v, hung: %v", dead, hung)
	// Waiting for it, up to a second each time, took 9 s in all.
	if hung > 3*dead+2*time.Second {
		t.Errorf("with one server dead it took %v, with one that hangs it should not take %v", dead, hung)
	}
	m.servers[0].Resume(t)
	m.wantNothing()
}

// contend lets processes take so many turns each, and says how long it took.
func (m *masters) contend(processes, turns int) time.Duration {
	m.t.Helper()
	var wg sync.WaitGroup
	start := time.Now()
	for range processes {
		l := m.lock(m.direct(), unhurried)
		wg.Go(func() {
			for range turns {
				h, err := l.Acquire(context.Background())
				if err != nil {
					m.t.Errorf("Acquire should succeed, got %v", err)
					return
				}
				_ = h.Release(context.Background())
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// Once nobody uses it, nothing is left of a quorum but counters and ended tickets.
func TestAQuorumLeavesNothingBehind(t *testing.T) {
	m := startMasters(t, 3)
	ours, theirs := m.lock(m.through, unhurried), m.lock(m.direct(), unhurried)
	h := take(t, ours)
	gaveUp, waiter := begin(t, theirs), begin(t, theirs)
	for _, s := range m.servers {
		awaitListener(t, s, m.name)
	}
	gaveUp.cancel()
	wantErr(t, "a cancelled wait", gaveUp.ended(t), context.Canceled)
	release(t, h)
	release(t, waiter.granted(t))
	for _, s := range m.servers {
		redistest.NoLeaks(t, s.Server, m.name, ":fence", ":ended")
	}
}

// A server that comes back empty has forgotten its vote: the others still have theirs.
func TestAQuorumOutlivesServersThatComeBackEmpty(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	ours, theirs := m.lock(m.through, &redislock.Options{TTL: 3 * time.Second}), m.lock(m.direct(), unhurried)
	h := take(t, ours)
	for _, c := range m.direct() { // not only the majority
		redistest.EventuallyTrue(t, soon, "each server has the key", func() bool {
			return c.Exists(soonCtx(t), key(m.name, "")).Val() == 1
		})
	}
	m.servers[0].Restart(t)
	wantTaken(t, theirs)
	first, token := h.Deadline(), h.Token()
	redistest.EventuallyTrue(t, soon, "the lease is renewed by the others", func() bool { return h.Deadline().After(first) })
	wantHeld(t, h)
	// When a majority has forgotten it, one after another, the lease is lost: its
	// holder hears so, and the next token is greater all the same.
	m.servers[1].Restart(t)
	wantLost(t, h)
	next := acquire(t, theirs)
	if next.Token() <= token {
		t.Errorf("the token after %d should be greater, it is %d", token, next.Token())
	}
	release(t, next)
}

// What is not promised: of a bare majority, one that comes back empty gives its vote
// to another. The first holder hears it at its next renewal, and its token is smaller.
func TestABareMajorityOfWhichOneComesBackEmptyHasTwoHoldersUntilTheRenewal(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.servers[2].Kill(t)
	h := take(t, m.lock(m.through, &redislock.Options{TTL: 24 * time.Second}))
	token, deadline := h.Token(), h.Deadline()
	<-time.NewTimer(1500 * time.Millisecond).C // for a second it goes on asking the dead one
	m.servers[1].Restart(t)
	m.servers[2].Start(t)
	next := acquire(t, m.lock(m.direct(), unhurried))
	if next.Token() <= token {
		t.Errorf("the token after %d should be greater, it is %d", token, next.Token())
	}
	wantLost(t, h)
	if left := time.Until(deadline); left <= 0 {
		t.Errorf("the first holder should be told at its renewal, it was %v after its deadline", -left)
	}
	wantHeld(t, next)
}

// A server that is slow gets no backlog of turns that are long over: when another dies, it
// is soon of use.
func TestASlowServerOfAQuorumIsOfUseWhenAnotherDies(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	release(t, take(t, m.lock(m.direct(), nil)))
	m.through[0] = m.servers[0].Client(t, redistest.WithDialer(slowly(m.wires[0], 50*time.Millisecond)), once)
	l := m.lock(m.through, nil)
	turns := redistest.Long(1000, 20_000)
	for range turns {
		release(t, acquire(t, l))
	}
	m.servers[1].Kill(t)
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	for failures := 0; ; failures++ {
		h, err := l.Acquire(ctx)
		if err == nil {
			release(t, h)
			t.Logf("%d turns, then %d failed attempts and %v until two of three servers were enough", turns, failures, time.Since(start))
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("two of three servers answer, but the lock is not to be had: %v", err)
		}
	}
}

// The same of one that hangs: what was meant for it is not kept for ever.
func TestAServerOfAQuorumThatHangsCostsLittle(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	l := m.lock(m.through, nil)
	release(t, take(t, l))
	m.servers[0].Pause(t)
	before := m.wires[0].Total()
	turns := redistest.Long(1000, 20_000)
	for range turns {
		release(t, acquire(t, l))
	}
	m.servers[0].Resume(t)
	m.wantNothing()
	n := m.wires[0].Total() - before
	t.Logf("of %d turns while a server hung it was sent %d commands", turns, n)
	if n > turns {
		t.Errorf("of %d turns a server that hung should see only some, it was sent %d commands", turns, n)
	}
}

// A member that knows a greater token, and keeps the lease, counts.
func TestAServerOfAQuorumThatKnowsAGreaterTokenCounts(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.load()
	ahead := time.Now().Add(time.Hour).UnixMicro()
	if err := m.direct()[0].Set(soonCtx(t), key(m.name, "fence"), ahead, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	late := m.wires[0].HoldCommand(quorumScript(t, "take")) // its counter is not heard of
	h := take(t, m.lock(m.through, &redislock.Options{TTL: 2 * time.Second}))
	late.Await(t)
	late.Release()
	deadline := h.Deadline()
	renewed := func() {
		t.Helper()
		redistest.EventuallyTrue(t, soon, "the lease is renewed", func() bool { return h.Deadline().After(deadline) })
		deadline = h.Deadline()
	}
	renewed()
	m.servers[1].Kill(t)
	for range 5 { // for longer than its TTL
		renewed()
	}
	wantHeld(t, h)
}

// Those who queue up in a process behind one that waits wait as well: an outage does not
// end that, nor does the end of the other's ctx.
func TestWhoQueuesUpForAQuorumSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	holder := take(t, m.lock(m.direct(), &redislock.Options{TTL: 2 * time.Second}))
	var heard journal
	l := m.lock(m.through, &redislock.Options{TTL: time.Minute, Observe: heard.note})
	first := begin(t, l)
	heard.awaitKind(t, redislock.Waiting, 1)
	var rest []*attempt
	for range 5 {
		rest = append(rest, begin(t, l))
	}
	heard.awaitKind(t, redislock.Waiting, 6)
	for _, w := range m.wires[:2] {
		w.Down()
	}
	lost := m.wires[2].Watch(quorumScript(t, "take"))
	release(t, holder)
	lost.Await(t) // it has tried since, and found no majority
	lost.AwaitReply(t)
	first.cancel()
	<-first.over
	for _, w := range m.wires[:2] {
		w.Up()
	}
	for range rest {
		i := -1
		redistest.EventuallyTrue(t, 2*soon, "the next has the lock", func() bool {
			i = slices.IndexFunc(rest, func(a *attempt) bool {
				select {
				case <-a.over:
					return true
				default:
					return false
				}
			})
			return i >= 0
		})
		release(t, rest[i].granted(t))
		rest = slices.Delete(rest, i, i+1)
	}
}

// A server that was away when the turn began has a part in it from the next renewal: then
// another may die.
func TestAServerThatComesBackJoinsTheTurnOfAQuorum(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.servers[2].Kill(t)
	h := take(t, m.lock(m.through, &redislock.Options{TTL: 6 * time.Second}))
	m.servers[2].Start(t)
	back := m.servers[2].Client(t)
	redistest.EventuallyTrue(t, 2*soon, "the third server has the key", func() bool {
		wantHeld(t, h)
		return back.Exists(soonCtx(t), key(m.name, "")).Val() == 1
	})
	deadline := h.Deadline()
	m.servers[0].Kill(t)
	for range 4 { // for longer than its TTL
		redistest.EventuallyTrue(t, soon, "the lease is renewed", func() bool { return h.Deadline().After(deadline) })
		deadline = h.Deadline()
	}
	wantHeld(t, h)
	release(t, h)
	m.wantNothing()
}

// What asks such a server and comes when the turn is over takes nothing.
func TestAServerOfAQuorumIsNotTakenAfterTheTurn(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.load()
	foreign := m.direct()[2]
	if err := foreign.Set(soonCtx(t), key(m.name, ""), "theirs", 0).Err(); err != nil {
		t.Fatal(err)
	}
	h := take(t, m.lock(m.through, &redislock.Options{TTL: 2 * time.Second}))
	late := m.wires[2].HoldCommand(quorumScript(t, "take"))
	late.Await(t)
	if err := foreign.Del(soonCtx(t), key(m.name, "")).Err(); err != nil {
		t.Fatal(err)
	}
	ended := m.wires[2].Watch(quorumScript(t, "release"))
	release(t, h)
	ended.Await(t)
	ended.AwaitReply(t)
	late.Release()
	late.AwaitReply(t)
	if foreign.Exists(soonCtx(t), key(m.name, "")).Val() != 0 {
		t.Error("a command that comes after the release should take nothing")
	}
}

// A server of which it is not known whether it gave its vote, and that has lost the key, is
// not asked again: somebody else may have held the lock in between.
func TestAServerOfAQuorumThatMayHaveVotedIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.load()
	first, second := m.wires[2].DropReply(quorumScript(t, "take")), m.wires[2].DropReply(quorumScript(t, "take"))
	h := take(t, m.lock(m.through, &redislock.Options{TTL: 3 * time.Second}))
	first.Await(t)
	second.Await(t)
	direct := m.direct()[2]
	redistest.EventuallyTrue(t, soon, "the key is there to be deleted", func() bool {
		return direct.Del(soonCtx(t), key(m.name, "")).Val() == 1
	})
	deadline := h.Deadline()
	for range 3 {
		redistest.EventuallyTrue(t, soon, "the lease is renewed", func() bool { return h.Deadline().After(deadline) })
		deadline = h.Deadline()
		if n := direct.Exists(soonCtx(t), key(m.name, "")).Val(); n != 0 {
			t.Fatal("a renewal should not make the key again")
		}
	}
	release(t, h)
}
