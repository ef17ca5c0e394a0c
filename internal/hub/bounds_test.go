package hub

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
)

func TestPatienceBoundsTheWaitForAReply(t *testing.T) {
	const patience = 100 * time.Millisecond
	for _, private := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b bubble) {
			send(t, b.hub, &Call{Args: []any{"PING"}, Private: private})
			b.wire.HoldReply(redistest.Is("echo"))
			start := clock.Now()
			r := await(t, begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Patience: patience, Private: private}), "the outcome")
			wantErr(t, "a call without an answer", r.Err, ErrUnavailable)
			wantNoCtx(t, r.Err)
			if d := clock.Since(start); d > patience+10*time.Millisecond {
				t.Errorf("a call (private: %v) should wait %v for its answer, it waited %v", private, patience, d)
			}
			if !r.Ambiguous || r.Attempts != 1 {
				t.Errorf("it should be ambiguous, at its first attempt, got %+v", r)
			}
		})
	}
}

// A renewal of a short lease gives up after milliseconds; whoever travels with
// it has more time.
func TestAnImpatientCallDoesNotCutShortTheOthersOfItsPipeline(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		send(t, b.hub, &Call{Args: []any{"PING"}, Private: true})
		first := b.wire.HoldReply(redistest.Is("get"))
		busy := begin(b.hub, &Call{Args: []any{"GET", b.key}, Private: true})
		first.Await(t)
		slow := b.wire.HoldReply(redistest.Is("echo"))
		patient := begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Private: true, Patience: time.Second})
		impatient := begin(b.hub, &Call{Args: []any{"ECHO", "y"}, Private: true, Patience: 20 * time.Millisecond})
		time.Sleep(time.Millisecond)
		first.Release() // each goes in a pipeline of its own
		slow.Await(t)
		time.Sleep(100 * time.Millisecond)
		slow.Release()
		if r := await(t, busy, "the outcome"); r.Err != nil {
			t.Errorf("the call before them should succeed, got %+v", r)
		}
		if r := await(t, impatient, "the outcome"); r.Err != nil {
			t.Errorf("the patience of a call should count from when it is sent, got %+v", r)
		}
		if r := await(t, patient, "the outcome"); r.Err != nil {
			t.Errorf("a call that waits up to a second should be answered after 100 ms, got %+v", r)
		}
	})
}

// A client may have been told to wait for ever; the hub does not.
func TestAnAttemptEndsWhateverTheClientsTimeouts(t *testing.T) {
	for _, private := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b bubble) {
			send(t, b.hub, &Call{Args: []any{"PING"}, Private: private})
			b.wire.Partition()
			outcome := begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Private: private})
			time.Sleep(10 * time.Second)
			select {
			case r := <-outcome:
				wantErr(t, "a call without an answer", r.Err, ErrUnavailable)
			default:
				t.Errorf("a call (private: %v) should be given up within seconds, it is not", private)
			}
			b.wire.CutAll()
			b.wire.Heal()
			time.Sleep(10 * time.Second)
		}, func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = -1, -1 })
	}
}

func TestUntilBoundsTheAttempts(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		send(t, b.hub, &Call{Args: []any{"PING"}, Private: true})
		b.wire.Down()
		start := clock.Now()
		r := await(t, begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Private: true, Attempts: 1 << 30, Until: start.Add(2 * time.Second)}), "the outcome")
		wantErr(t, "a call without a server", r.Err, ErrUnavailable)
		if d := clock.Since(start); d > 2*time.Second || d < time.Second {
			t.Errorf("attempts should go on for 2 s and no longer, they went on for %v", d)
		}
	})
}

func TestAttemptsBoundHowOftenACallIsSent(t *testing.T) {
	for _, attempts := range []int{0, 1, 2, 5} {
		inBubble(t, func(t *testing.T, b bubble) {
			for range 10 {
				b.wire.DropReply(redistest.Is("echo"))
			}
			r := await(t, begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Attempts: attempts}), "the outcome")
			want := max(attempts, 1)
			if n := b.wire.Counts()["ECHO"]; n != want || r.Attempts != want {
				t.Errorf("a call with %d attempts should be sent %d times, it was %d times and says %d", attempts, want, n, r.Attempts)
			}
		})
	}
}

func TestABusyPoolOfTheUsersIsNotWaitedFor(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "the pool of one node stands for all")
		client := s.Client(t, func(o *redis.UniversalOptions) { o.PoolSize = 1 })
		h := hubOf(t, client)
		conn := client.(*redis.Client).Conn()
		defer conn.Close()
		if err := conn.Ping(soonCtx(t)).Err(); err != nil { // it has the one connection now
			t.Fatal(err)
		}
		start := time.Now()
		send(t, h, &Call{Args: []any{"ECHO", "x"}, Attempts: 3})
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("a call should go past the user's pool at once, it took %v", d)
		}
	})
}

func TestDoReturnsWithItsCtxAndTheCallGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		send(t, b.hub, &Call{Args: []any{"PING"}})
		held := b.wire.HoldCommand(redistest.Is("incr"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		start := clock.Now()
		r, err := b.hub.Do(ctx, &Call{Keys: []string{b.key}, Args: []any{"INCR", b.key}})
		wantErr(t, "Do with a cancelled ctx", err, context.Canceled)
		if d := clock.Since(start); d != 10*time.Millisecond || !r.Ambiguous {
			t.Errorf("Do should return with its ctx, after 10 ms, and be ambiguous, got %+v after %v", r, d)
		}
		if Permanent(err) {
			t.Errorf("a cancelled Do should not be permanent, got %v", err)
		}
		held.Release()
		held.AwaitReply(t)
		if n, _ := b.direct.Get(t.Context(), b.key).Int(); n != 1 {
			t.Errorf("the call should be carried out all the same, the server counts %d", n)
		}

		b.wire.ResetCounts()
		r, err = b.hub.Do(ctx, &Call{Keys: []string{b.key}, Args: []any{"INCR", b.key}})
		wantErr(t, "Do with an ended ctx", err, context.Canceled)
		time.Sleep(time.Second)
		if n := b.wire.Total(); n != 0 || r.Ambiguous {
			t.Errorf("Do with an ended ctx should send nothing, sent was %v", b.wire.Counts())
		}
	})
}

// After 50 ms of silence, a wait that ends says so too.
func TestDoSaysUnavailableWhenTheServerWasSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		send(t, b.hub, &Call{Args: []any{"PING"}})
		b.wire.Partition()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.hub.Do(ctx, &Call{Keys: []string{b.key}, Args: []any{"ECHO", "x"}})
		wantErr(t, "Do whose deadline passes in silence", err, context.DeadlineExceeded, ErrUnavailable)
		b.wire.Heal()
	})
}

func TestAClosedClientIsToldAndOnlyWhatMustBeIsSent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		t.Cleanup(func() { s.Client(t).Del(context.Background(), name) })
		h := hubOf(t, client)
		keys := []string{name}
		send(t, h, &Call{Script: incr, Keys: keys})
		send(t, h, &Call{Script: incr, Keys: keys, Private: true})
		_ = client.Close()
		for _, private := range []bool{false, true} {
			r := await(t, begin(h, &Call{Script: incr, Keys: keys, Private: private, Attempts: 3}), "the outcome")
			wantErr(t, "a call on a closed client", r.Err, redis.ErrClosed)
			if r.Ambiguous || !Permanent(r.Err) {
				t.Errorf("a call on a closed client should be refused for good, got %+v", r)
			}
		}
		r := send(t, h, &Call{Script: incr, Keys: keys, Private: true, AfterClose: true, Attempts: 3})
		if r.Value != int64(3) {
			t.Errorf("only what must be sent should be, the third INCR, got %+v", r)
		}
	})
}

func TestAServerThatOnlyReadsIsDialledAnew(t *testing.T) {
	own := redistest.StartOwn(t)
	wire := redistest.NewWire(t)
	client, direct := own.Client(t, wire.Through), own.Client(t)
	h := hubOf(t, client)
	e := listen(h, redistest.Name(t))
	e.Hold()
	defer e.Drop()
	e.ready(t, false)
	key := redistest.Name(t)
	calls := newTap(wire, scripts(key))
	send(t, h, &Call{Script: incr, Keys: []string{key}, Private: true})
	// As a primary that was demoted, but answers.
	if err := direct.Do(soonCtx(t), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]*Call{
		"a script": {Script: incr, Keys: []string{key}, Private: true},
		"a SET":    {Args: []any{"SET", key, 1}, Private: true},
	} {
		r := await(t, begin(h, c), "the outcome")
		wantErr(t, what+" on a replica", r.Err, ErrUnavailable)
		if r.Ambiguous {
			t.Errorf("%s that was refused should not be ambiguous, got %+v", what, r)
		}
	}
	e.ready(t, true) // subscribed anew, perhaps elsewhere
	outcome := begin(h, &Call{Script: incr, Keys: []string{key}, Private: true, Attempts: 1000})
	redistest.EventuallyTrue(t, soon, "each refusal has the next attempt dial anew", func() bool {
		conns, commands := calls.counts()
		return commands >= 5 && conns >= commands/2 // each is sent by digest and perhaps in full
	})
	if err := direct.Do(soonCtx(t), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if r := await(t, outcome, "the outcome"); r.Err != nil || r.Value != int64(2) || r.Attempts != 0 && r.Attempts != 1 {
		t.Errorf("the call should be carried out once, when the server writes again, got %+v", r)
	}
}

// A quiet call that is told READONLY drops the private connection, while
// somebody else's call is dialling it.
func TestACallSurvivesThatItsConnectionIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		send(t, b.hub, &Call{Args: []any{"PING"}})
		readonly := b.wire.HoldReply(redistest.Is("get"))
		quiet := begin(b.hub, &Call{Args: []any{"GET", b.key}, Attempts: 3})
		readonly.Await(t)
		hello := b.wire.HoldReply(redistest.Is("hello")) // of the private connection
		other := begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Attempts: 3})
		hello.Await(t)
		b.hub.link(nil).discard() // what the quiet call would do
		readonly.Release()
		hello.Release()
		for _, o := range []<-chan Reply{quiet, other} {
			if r := await(t, o, "the outcome"); r.Err != nil {
				t.Errorf("a call should survive that, got %+v", r)
			}
		}
	})
}
