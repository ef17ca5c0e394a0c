package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
)

func TestAQuietCallGoesOutOnTheUsersClient(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		client := s.Client(t, wire.Through)
		var seen hook
		client.AddHook(&seen)
		name := redistest.Name(t)
		calls := newTap(wire, redistest.Has(name))
		h := hubOf(t, client)
		for range 5 {
			send(t, h, &Call{Script: echo, Keys: []string{name}, Args: []any{"x"}})
		}
		names := seen.names()
		if n := len(slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, "eval") })); n < 5 {
			t.Errorf("the hooks of the user's client should see 5 calls, they saw %v", names)
		}
		if conns, _ := calls.counts(); conns != 1 {
			t.Errorf("calls one after the other should take one connection, they took %d", conns)
		}
	})
}

func TestWhatTheHubDoesForItselfDoesNotShowInTheUsersHooks(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		var seen hook
		b.client.AddHook(&seen)
		for range 3 {
			send(t, b.hub, &Call{Args: []any{"GET", b.key}, Private: true})
		}
		e := listen(b.hub, b.key)
		e.Hold()
		time.Sleep(10 * time.Second)
		e.Drop()
		if names := seen.names(); names != nil {
			t.Errorf("hooks of the user's client should see nothing of private calls and subscriptions, they saw %v", names)
		}
	})
}

func TestCallsThatComeTogetherSharePipelinesOnOnePrivateConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		const n = overlap
		calls := newTap(b.wire, redistest.Has(b.key))
		want := func(when string, conns, commands int) {
			t.Helper()
			time.Sleep(time.Millisecond)
			if c, m := calls.counts(); c != conns || m != commands {
				t.Fatalf("%s %d commands should be on their way on %d connections, there are %d on %d", when, commands, conns, m, c)
			}
		}
		var held []*redistest.Fault
		for i := range 3 {
			held = append(held, b.wire.HoldReply(redistest.Nth(i+1, redistest.Has(b.key))))
		}
		var outcomes []<-chan Reply
		for i := range n {
			outcomes = append(outcomes, begin(b.hub, &Call{Args: []any{"ECHO", fmt.Sprint(b.key, i)}}))
			time.Sleep(time.Microsecond)
		}
		want("at first", 2, 2) // the first on the user's connection, the second on the private one
		held[1].Release()
		want("when the second was answered", 2, n) // without waiting for the third
		held[2].Release()
		held[0].Release()
		for i, o := range outcomes {
			if r := await(t, o, "the outcome"); r.Err != nil || r.Value != fmt.Sprint(b.key, i) {
				t.Errorf("call %d should be answered with its own value, got %+v", i, r)
			}
		}
		want("at the end", 2, n)
	})
}

func TestManyCallsDoNotWaitForAPipelineThatIsUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		laned(t, b)
		const n = 4 * overlap
		calls := newTap(b.wire, redistest.Has(b.key))
		var held []*redistest.Fault
		for i := range 2 {
			held = append(held, b.wire.HoldReply(redistest.Nth(i+1, redistest.Has(b.key))))
		}
		var outcomes []<-chan Reply
		for i := range n {
			outcomes = append(outcomes, begin(b.hub, &Call{Args: []any{"ECHO", fmt.Sprint(b.key, i)}}))
			time.Sleep(time.Microsecond)
		}
		time.Sleep(time.Millisecond)
		// The first on the lane, and beside it those who have waited for it; the others wait
		// for either.
		if c, m := calls.counts(); c != 2 || m != 1+overlap {
			t.Errorf("%d commands should be on their way on 2 connections, there are %d on %d", 1+overlap, m, c)
		}
		for _, h := range held {
			h.Release()
		}
		for i, o := range outcomes {
			if r := await(t, o, "the outcome"); r.Err != nil || r.Value != fmt.Sprint(b.key, i) {
				t.Errorf("call %d should be answered with its own value, got %+v", i, r)
			}
		}
	})
}

func TestAllOfManyCallsAreAnswered(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		// miniredis takes milliseconds for a script where the machine is busy.
		client, name := s.Client(t, func(o *redis.UniversalOptions) { o.ReadTimeout = time.Minute }), redistest.Name(t)
		t.Cleanup(func() { s.Client(t).Del(context.Background(), name) })
		h := hubOf(t, client)
		const n = 3 * maxBatch
		var outcomes []<-chan Reply
		for range n {
			outcomes = append(outcomes, begin(h, &Call{Script: incr, Keys: []string{name}}))
		}
		seen := map[any]bool{}
		for _, o := range outcomes {
			r := await(t, o, "the outcome")
			if r.Err != nil || r.Attempts != 1 {
				t.Fatalf("each call should succeed at its first attempt, got %+v", r)
			}
			seen[r.Value] = true
		}
		if len(seen) != n {
			t.Errorf("%d calls should be carried out once each, there are %d answers", n, len(seen))
		}
	})
}

func TestAStuckPipelineIsOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		stuck := b.wire.HoldReply(redistest.Has(b.key))
		first := begin(b.hub, &Call{Args: []any{"ECHO", b.key}, Private: true})
		stuck.Await(t)
		start := clock.Now()
		send(t, b.hub, &Call{Args: []any{"PING"}, Private: true})
		if d := clock.Since(start); d > overtake+10*time.Millisecond {
			t.Errorf("a call should wait at most %v for a pipeline that is not answered, it waited %v", overtake, d)
		}
		stuck.Release()
		if r := await(t, first, "the outcome of the stuck call"); r.Err != nil {
			t.Errorf("the stuck call should succeed when its answer comes, got %+v", r)
		}
	})
}

func TestScriptsThatTheServerDoesNotKnowAreSentAgainInFull(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, private := range []bool{false, true} {
			wire := redistest.NewWire(t)
			client, name := s.Client(t, wire.Through), redistest.Name(t)
			t.Cleanup(func() { s.Client(t).Del(context.Background(), name) })
			fresh := NewScript(incr.Source + " -- " + name)
			h := hubOf(t, client)
			var outcomes []<-chan Reply
			const n = 50
			for range n {
				outcomes = append(outcomes, begin(h, &Call{Script: fresh, Keys: []string{name}, Private: private}))
			}
			for _, o := range outcomes {
				if r := await(t, o, "the outcome"); r.Err != nil || r.Attempts != 1 || r.Ambiguous {
					t.Errorf("a call whose script was unknown should succeed and count as one attempt, got %+v", r)
				}
			}
			if got, err := s.Client(t).Get(soonCtx(t), name).Int(); got != n || err != nil {
				t.Errorf("%d calls should be carried out once each, the server counts %d, %v", n, got, err)
			}
			if sent := wire.Counts(); sent["EVAL"] == 0 || sent["EVALSHA"] == 0 || sent["EVAL"]+sent["EVALSHA"] > 2*n {
				t.Errorf("each call should be sent by its digest, and in full where that was refused, sent was %v", sent)
			}
		}
	})
}

func TestACallWhoseReplyIsLostIsRepeatedAndSaysSo(t *testing.T) {
	for _, private := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b bubble) {
			send(t, b.hub, &Call{Args: []any{"SET", b.key, 0}, Private: private})
			start := clock.Now()
			lost := b.wire.DropReply(redistest.Is("incr"))
			r := send(t, b.hub, &Call{Args: []any{"INCR", b.key}, Private: private, Attempts: 3})
			lost.Await(t)
			if r.Value != int64(2) || r.Attempts != 2 || r.Ambiguous {
				t.Errorf("the repeat should be answered with 2, as attempt 2, got %+v", r)
			}
			if d := r.Sent.Sub(start); d < 10*time.Millisecond || d > 50*time.Millisecond {
				t.Errorf("Sent should be that of the answered attempt, 10 ms after the first, got %v after it", d)
			}

			lost = b.wire.DropReply(redistest.Is("incr"))
			r = await(t, begin(b.hub, &Call{Args: []any{"INCR", b.key}, Private: private}), "the outcome")
			lost.Await(t)
			wantErr(t, "a single attempt without a reply", r.Err, ErrUnavailable)
			if r.Attempts != 1 || !r.Ambiguous {
				t.Errorf("a single attempt without a reply should be ambiguous, got %+v", r)
			}
			if n, err := b.direct.Get(t.Context(), b.key).Int(); n != 3 || err != nil {
				t.Errorf("there should be 3 attempts in all, the server counts %d, %v", n, err)
			}
		})
	}
}

func TestSentIsTheMomentOfTheAttemptThatWasAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		for _, private := range []bool{false, true} {
			// A slow way there is not counted: the server may have seen it at once.
			slow := b.wire.HoldCommand(redistest.Is("echo"))
			start := clock.Now()
			outcome := begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Private: private})
			slow.Await(t)
			time.Sleep(time.Second)
			slow.Release()
			if r := await(t, outcome, "the outcome"); r.Err != nil || !r.Sent.Equal(start) {
				t.Errorf("Sent should be the moment of the call, %v, got %+v", start, r)
			}
		}
	})
}

func TestWhatNeverLeftIsNotAmbiguousAndReachedNobody(t *testing.T) {
	for _, private := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b bubble) {
			b.wire.Down()
			r := await(t, begin(b.hub, &Call{Args: []any{"INCR", b.key}, Attempts: 3, Private: private}), "the outcome")
			wantErr(t, "a call without a server", r.Err, ErrUnavailable)
			wantNoCtx(t, r.Err)
			if r.Ambiguous || r.Attempts != 0 {
				t.Errorf("a call without a server should not be ambiguous, and reached nobody, got %+v", r)
			}
			outcome := begin(b.hub, &Call{Args: []any{"INCR", b.key}, Attempts: 1000, Private: private})
			time.Sleep(3 * time.Second)
			b.wire.Up()
			if r := await(t, outcome, "the outcome"); r.Err != nil || r.Attempts != 1 {
				t.Errorf("a call should succeed once there is a server, which it reached once, got %+v", r)
			}
		})
	}
}

func TestAnAnswerIsFinalWhateverItSays(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		b.direct.RPush(t.Context(), b.key, "a list")
		for what, c := range map[string]struct {
			call *Call
			want error
		}{
			"an INCR of a list":       {&Call{Args: []any{"INCR", b.key}}, ErrMismatch},
			"a script on a list":      {&Call{Script: incr, Keys: []string{b.key}}, ErrMismatch},
			"a script's own mismatch": {&Call{Script: NewScript("return redis.error_reply('MISMATCH of another kind')"), Keys: []string{b.key}}, ErrMismatch},
			"a command that is none":  {&Call{Args: []any{"NONSENSE"}}, nil},
		} {
			b.wire.ResetCounts()
			c.call.Attempts = 5
			r := await(t, begin(b.hub, c.call), "the outcome")
			if c.want != nil {
				wantErr(t, what, r.Err, c.want)
			}
			if r.Err == nil || r.Ambiguous || r.Attempts != 1 || errors.Is(r.Err, ErrUnavailable) {
				t.Errorf("%s should be refused at its first attempt, got %+v", what, r)
			}
			wantNoCtx(t, r.Err)
		}
		r := await(t, begin(b.hub, &Call{Args: []any{"GET", b.key + "none"}}), "the outcome")
		if r.Err != nil || r.Value != nil {
			t.Errorf("a key that is not there should be no error and no value, got %+v", r)
		}
	})
}

func TestAnErrorAfterALostReplyStaysAmbiguous(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		lost := b.wire.DropReply(redistest.Is("incr"))
		again := b.wire.HoldCommand(redistest.Nth(2, redistest.Is("incr")))
		outcome := begin(b.hub, &Call{Args: []any{"INCR", b.key}, Attempts: 2})
		lost.Await(t)
		again.Await(t)
		b.direct.Del(t.Context(), b.key)
		b.direct.RPush(t.Context(), b.key, "a list")
		again.Release()
		if r := await(t, outcome, "the outcome"); r.Err == nil || !r.Ambiguous || r.Attempts != 2 {
			t.Errorf("a call whose first attempt was carried out should be ambiguous, got %+v", r)
		}
	})
}

func TestErrorsAreToldApart(t *testing.T) {
	for text, want := range map[string]verdict{
		"ERR unknown command":                                                          final,
		"WRONGTYPE Operation against a key":                                            final,
		"OOM command not allowed":                                                      final,
		"NOPERM this user has no permissions":                                          final,
		"LOADING Redis is loading the dataset":                                         unsent,
		"MASTERDOWN Link with MASTER is down":                                          unsent,
		"CLUSTERDOWN The cluster is down":                                              unsent,
		"BUSY Redis is busy running a script":                                          unsent,
		"NOREPLICAS Not enough good replicas":                                          unsent,
		"ERR max number of clients reached":                                            unsent,
		"max number of clients reached":                                                unsent,
		"TRYAGAIN Multiple keys request":                                               elsewhere,
		"MOVED 3999 127.0.0.1:6381":                                                    elsewhere,
		"ASK 3999 127.0.0.1:6381":                                                      elsewhere,
		"NOSCRIPT No matching script":                                                  noScript,
		"READONLY You can't write against a read only":                                 notWritable,
		"ERR Error running script (call to f_6b): @user_script:1: -READONLY You can't": notWritable,
		"READONLY You can't write against a read only replica. script: 6b, on @user_script:1.": notWritable,
		"WRONGTYPE of the word READONLY": final,
	} {
		inBubble(t, func(t *testing.T, b bubble) {
			b.client.Ping(t.Context()) // the connection's own dialogue is over
			b.m.SetError(text)
			err := b.client.Do(t.Context(), "GET", "x").Err()
			b.m.SetError("")
			if got := judge(err); got != want {
				t.Errorf("%q should be judged as %d, got %d", text, want, got)
			}
		})
	}
}
