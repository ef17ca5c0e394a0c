package redisevent_test

import (
	"context"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

func TestWhoWaitsIsReleasedByTheFallbackWhenEveryMessageIsLost(t *testing.T) {
	for how, ops := range releases {
		t.Run(how, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b bubble) {
				b.wire.DropMessages("")
				other := redistest.BubbleClient(t, b.m, b.wire.ThroughBubble)
				waiters := []*waiter{begin(t, b.client, b.name), begin(t, other, b.name), begin(t, other, b.name)}
				time.Sleep(3 * time.Second)
				change(t, newEvent(t, b.direct, b.name, nil), ops...)
				start := time.Now()
				time.Sleep(fallback + time.Second)
				for _, w := range waiters {
					w.released(t)
				}
				if d := time.Since(start); d > fallback+time.Second {
					t.Errorf("who waits should be released within %v, it took %v", fallback, d)
				}
			})
		})
	}
}

func TestWhoWaitsIsReleasedByTheNextSubscriptionWhenMessagesAreLost(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		common := redistest.Name(t)
		for how, ops := range releases {
			t.Run(how, func(t *testing.T) {
				wire := redistest.NewWire(t)
				client, name := s.Client(t, wire.Through), common+how
				direct := s.Client(t)
				w := begin(t, client, name)
				subscribed(t, direct, name, 1)
				wire.DropMessages("")
				e := newEvent(t, direct, name, nil)
				change(t, e, ops...)
				wire.CutPubSub()
				w.released(t)
				change(t, e, "Delete")
			})
		}
		redistest.NoLeaks(t, s, common)
	})
}

func TestNoSetIsMissedThatHappensWhileTheClientIsCutOff(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for how, ops := range releases {
			t.Run(how, func(t *testing.T) {
				wire := redistest.NewWire(t)
				client, name := s.Client(t, wire.Through), redistest.Name(t)
				direct := s.Client(t)
				w := begin(t, client, name)
				subscribed(t, direct, name, 1)
				wire.Down()
				change(t, newEvent(t, direct, name, nil), ops...)
				w.stillWaits(t, "the client is cut off")
				wire.Up()
				w.released(t)
			})
		}
	})
}

// Numbers are not smaller than the server's time, so that the first change of
// an event that began anew is greater than the last one of before.
func TestNoSetIsMissedThatHappensAfterAnEmptyRestartWhileTheClientIsCutOff(t *testing.T) {
	for how, ops := range releases {
		for end, lose := range map[string]func(t *testing.T, b bubble){
			"FLUSHALL": func(_ *testing.T, b bubble) { b.m.FlushAll() },
			"Delete":   func(t *testing.T, b bubble) { change(t, newEvent(t, b.direct, b.name, nil), "Delete") },
		} {
			t.Run(how+" after "+end, func(t *testing.T) {
				inBubble(t, func(t *testing.T, b bubble) {
					e := newEvent(t, b.direct, b.name, nil)
					change(t, e, "Set", "Clear", "Pulse")
					w := begin(t, b.client, b.name)
					v := watch(t, newEvent(t, b.client, b.name, nil))
					v.sees(t, redisevent.State{Changes: 3})
					time.Sleep(time.Second)
					b.wire.Down()
					lose(t, b)
					change(t, e, ops...)
					b.wire.Up()
					time.Sleep(fallback + time.Second)
					w.released(t)
					v.sees(t, redisevent.State{Set: how == "Set", Changes: uint64(len(ops))})
				})
			})
		}
	}
}

// The client is cut off again and again: at its first look, between that and
// the subscription, before the confirmation.
func TestNoSetIsMissedWhenTheConnectionBreaksAtAnyStep(t *testing.T) {
	for step := 1; step <= 8; step++ {
		for _, fault := range []func(*redistest.Wire, redistest.Match) *redistest.Fault{
			(*redistest.Wire).DropCommand, (*redistest.Wire).DropReply,
		} {
			inBubble(t, func(t *testing.T, b bubble) {
				fault(b.wire, redistest.Nth(step, func(redistest.Command) bool { return true }))
				w := begin(t, b.client, b.name)
				// Pulsed at once: some of the messages are lost.
				change(t, newEvent(t, b.direct, b.name, nil), "Pulse")
				time.Sleep(fallback + time.Second)
				w.released(t)
			})
		}
	}
}

func TestAChangeWhoseReplyIsLostHappensOnceAndSucceeds(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		warm(t, s.Client(t))
		for op, want := range map[string]redisevent.State{
			"Set": {Set: true, Changes: 1}, "Clear": {Changes: 2}, "Pulse": {Changes: 1},
		} {
			wire := redistest.NewWire(t)
			client, name := s.Client(t, wire.Through), redistest.Name(t)
			e := newEvent(t, client, name, nil)
			if op == "Clear" {
				change(t, e, "Set")
			}
			asked := map[string]string{"Set": "set", "Clear": "clear", "Pulse": "pulse"}[op]
			lost := wire.DropReply(does(name, asked))
			change(t, e, op)
			lost.Await(t)
			wantState(t, e, want)
		}
	})
}

func TestARepeatedSetDoesNotUndoTheClearInBetween(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		warm(t, s.Client(t))
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		setter, clearer := newEvent(t, s.Client(t, wire.Through), name, nil), newEvent(t, s.Client(t), name, nil)
		lost := wire.DropReply(does(name, "set"))
		repeat := wire.HoldCommand(redistest.Nth(2, does(name, "set")))
		done := make(chan error, 1)
		go func() { done <- setter.Set(soonCtx(t)) }()
		lost.Await(t)
		change(t, clearer, "Clear")
		repeat.Await(t)
		repeat.Release()
		if err := await(t, done, "the end of Set"); err != nil {
			t.Errorf("Set should succeed, got %v", err)
		}
		wantState(t, clearer, redisevent.State{Changes: 2})
	})
}

func TestASetThatArrivesLateDoesNotUndoTheClearInBetween(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		warm(t, s.Client(t))
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		setter, clearer := newEvent(t, s.Client(t, wire.Through), name, nil), newEvent(t, s.Client(t), name, nil)
		late := wire.HoldCommand(does(name, "set"))
		done := make(chan error, 1)
		go func() { done <- setter.Set(soonCtx(t)) }()
		late.Await(t)
		late.Hangup()
		if err := await(t, done, "the end of Set"); err != nil {
			t.Fatalf("Set should succeed at its second attempt, got %v", err)
		}
		change(t, clearer, "Clear")
		late.Release()
		late.AwaitReply(t)
		wantState(t, clearer, redisevent.State{Changes: 2})
	})
}

func TestARepeatedPulseReleasesNobodyWhoBeganToWaitInBetween(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		warm(t, s.Client(t))
		wire := redistest.NewWire(t)
		client, name := s.Client(t), redistest.Name(t)
		before := begin(t, client, name)
		lost := wire.DropReply(does(name, "pulse"))
		repeat := wire.HoldCommand(redistest.Nth(2, does(name, "pulse")))
		done := make(chan error, 1)
		pulser := newEvent(t, s.Client(t, wire.Through), name, nil)
		go func() { done <- pulser.Pulse(soonCtx(t)) }()
		lost.Await(t)
		before.released(t)
		after := begin(t, client, name)
		repeat.Await(t)
		repeat.Release()
		if err := await(t, done, "the end of Pulse"); err != nil {
			t.Errorf("Pulse should succeed, got %v", err)
		}
		wantState(t, pulser, redisevent.State{Changes: 1})
		after.stillWaits(t, "the only Pulse was before it")
		wantErr(t, "the Wait after the Pulse", after.ended(t), context.Canceled)
	})
}

func TestARepeatedDeleteDoesNotUndoTheSetInBetween(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		warm(t, s.Client(t))
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		e, other := newEvent(t, s.Client(t, wire.Through), name, nil), newEvent(t, s.Client(t), name, nil)
		change(t, other, "Set")
		lost := wire.DropReply(looks(name))
		repeat := wire.HoldCommand(redistest.Nth(2, looks(name)))
		done := make(chan error, 1)
		go func() { done <- e.Delete(soonCtx(t)) }()
		lost.Await(t)
		change(t, other, "Set") // a new event
		redistest.EventuallyTrue(t, soon, "Delete returns, or is sent again", func() bool { return len(done) > 0 || repeat.Struck() })
		repeat.Release()
		if err := await(t, done, "the end of Delete"); err != nil {
			wantErr(t, "Delete whose answer was lost", err, redisevent.ErrUnknownOutcome)
		}
		wantState(t, other, redisevent.State{Set: true, Changes: 1})
	})
}

func TestAChangeThatIsNeverAnsweredHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, op := range append(changes, "Delete") {
			wire := redistest.NewWire(t)
			name := redistest.Name(t)
			e := newEvent(t, s.Client(t, wire.Through), name, nil)
			change(t, e, "Pulse") // finds the node, of a cluster
			for range 10 {
				wire.DropReply(redistest.Has(key(name, "")))
			}
			err := call(e, soonCtx(t), op)
			wantErr(t, op+" without an answer", err, redisevent.ErrUnknownOutcome, redisevent.ErrUnavailable)
			wantNot(t, op+" without an answer", err, context.DeadlineExceeded, context.Canceled)
		}
	})
}

func TestAChangeThatNeverLeftIsNotOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		client := s.Client(t, wire.Through, hasty)
		wire.Down()
		for _, op := range append(changes, "Delete") {
			err := call(newEvent(t, client, redistest.Name(t), nil), soonCtx(t), op)
			wantErr(t, op+" without a server", err, redisevent.ErrUnavailable)
			wantNot(t, op+" without a server", err, redisevent.ErrUnknownOutcome, context.DeadlineExceeded, context.Canceled)
		}
	})
}

func TestAChangeCancelledOnItsWayHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		warm(t, s.Client(t))
		for _, op := range append(changes, "Delete") {
			wire := redistest.NewWire(t)
			name := redistest.Name(t)
			e := newEvent(t, s.Client(t, wire.Through), name, nil)
			reply := wire.HoldReply(redistest.Has(key(name, "")))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- call(e, ctx, op) }()
			reply.Await(t)
			cancel()
			err := await(t, done, "the end of a cancelled "+op)
			wantErr(t, op+" cancelled on its way", err, context.Canceled, redisevent.ErrUnknownOutcome)
			reply.Release()
		}
	})
}

func TestALookWhoseReplyIsLostIsRepeated(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		warm(t, s.Client(t))
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		e := newEvent(t, s.Client(t, wire.Through), name, nil)
		change(t, e, "Set")
		for _, op := range []string{"IsSet", "State", "Wait", "Watch"} {
			lost := wire.DropReply(looks(name))
			if err := call(e, soonCtx(t), op); err != nil {
				t.Errorf("%s should succeed at its second attempt, got %v", op, err)
			}
			lost.Await(t)
		}
	})
}
