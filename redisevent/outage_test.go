package redisevent_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

// atOnce is within how long a cancelled call returns.
const atOnce = 5 * time.Millisecond

// wantAtOnce judges how long calls took to return: all but a few, for a machine
// that has other things to do.
func wantAtOnce(t *testing.T, what string, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	median, most := took[len(took)/2], took[len(took)*9/10]
	t.Logf("%s: median %v, nine of ten %v, longest %v", what, median, most, took[len(took)-1])
	if median > atOnce || most > 10*atOnce {
		t.Errorf("%s should return within %v, took %v in the median and %v for nine of ten", what, atOnce, median, most)
	}
}

func TestACancelledCallReturnsAtOnceWhileTheServerIsSilent(t *testing.T) {
	own := redistest.StartOwn(t)
	name := redistest.Name(t)
	client := own.Client(t, func(o *redis.UniversalOptions) { o.ReadTimeout = time.Second }) // what goes on in the background
	var began []*waiter
	for range 50 {
		began = append(began, begin(t, client, name))
	}
	subscribed(t, client, name, 1)
	own.Pause(t)
	defer own.Resume(t)

	var took []time.Duration
	for _, w := range began {
		start := time.Now()
		w.cancel()
		await(t, w.over, "the end of a cancelled Wait")
		took = append(took, time.Since(start))
		wantErr(t, "a cancelled Wait", w.err, context.Canceled)
	}
	wantAtOnce(t, "a cancelled Wait", took)

	for _, op := range allMethods {
		wantAtOnce(t, op+" before its first answer", cancelSilent(t, newEvent(t, client, name, nil), op))
	}
}

// cancelSilent cancels calls that have waited for a silent server, one after
// the other, and returns how long each took to return.
func cancelSilent(t *testing.T, e *redisevent.Event, op string) (took []time.Duration) {
	type attempt struct {
		cancel context.CancelFunc
		err    chan error
	}
	var all []attempt
	for range 10 {
		ctx, cancel := context.WithCancel(context.Background())
		a := attempt{cancel, make(chan error, 1)}
		all = append(all, a)
		go func() { a.err <- call(e, ctx, op) }()
	}
	<-time.NewTimer(100 * time.Millisecond).C // silence is told from 50 ms on
	for _, a := range all {
		start := time.Now()
		a.cancel()
		err := await(t, a.err, "the end of a cancelled "+op)
		took = append(took, time.Since(start))
		wantErr(t, op+" cancelled while Redis is silent", err, context.Canceled, redisevent.ErrUnavailable)
		if slices.Contains(changes, op) {
			wantErr(t, op+" cancelled while Redis is silent", err, redisevent.ErrUnknownOutcome)
		}
	}
	return took
}

// However the connection was lost, and however long after the last look.
func TestAWaitThatEndsWhileRedisCannotBeReachedSaysSo(t *testing.T) {
	for how, lose := range map[string]func(*redistest.Wire){
		"refused": (*redistest.Wire).Down, "silent": (*redistest.Wire).Partition,
	} {
		for _, after := range []time.Duration{4 * time.Second, 10 * time.Second, time.Minute} {
			for _, op := range []string{"Wait", "Watch"} {
				t.Run(how+"/"+op+"/"+after.String(), func(t *testing.T) {
					inBubble(t, func(t *testing.T, b bubble) {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						done := make(chan error, 1)
						e := newEvent(t, b.client, b.name, nil)
						go func() {
							var err error
							if op == "Wait" {
								err = e.Wait(ctx)
							} else {
								for _, err = range e.Watch(ctx) {
								}
							}
							done <- err
						}()
						time.Sleep(3 * time.Second)
						lose(b.wire)
						time.Sleep(after)
						cancel()
						err := await(t, done, "the end")
						wantErr(t, op+" cancelled without a server", err, context.Canceled, redisevent.ErrUnavailable)
						b.wire.Up()
						b.wire.Heal()
						time.Sleep(time.Minute)
					})
				})
			}
		}
	}
}

func TestAWaitThatEndsAfterAnOutageSaysNothingOfIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		w := begin(t, b.client, b.name)
		time.Sleep(time.Second)
		b.wire.Down()
		time.Sleep(time.Minute)
		b.wire.Up()
		time.Sleep(time.Second)
		err := w.ended(t)
		wantErr(t, "a cancelled Wait", err, context.Canceled)
		wantNot(t, "a Wait cancelled after an outage", err, redisevent.ErrUnavailable)
	})
}

func TestAFirstLookWithoutAServerSaysUnavailable(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		client := s.Client(t, wire.Through, hasty)
		name := redistest.Name(t)
		e := newEvent(t, client, name, nil)
		wire.Down()
		for _, op := range []string{"Wait", "Watch", "IsSet", "State"} {
			err := call(e, soonCtx(t), op)
			wantErr(t, op+" without a server", err, redisevent.ErrUnavailable)
			wantNot(t, op+" without a server", err, context.DeadlineExceeded, context.Canceled)
		}
		wire.Up()
		redistest.Eventually(t, soon, func() error { return call(e, soonCtx(t), "State") })
		w := begin(t, client, name)
		change(t, e, "Pulse")
		w.released(t)
		change(t, e, "Delete")
		redistest.NoLeaks(t, s, name)
	})
}

// A wait that comes while others ride out an outage is told of it at once.
func TestAFirstLookDuringAnOutageThatOthersRideOutSaysUnavailable(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		w := begin(t, b.client, b.name)
		time.Sleep(time.Second)
		b.wire.Down()
		time.Sleep(time.Minute)
		start := time.Now()
		err := newEvent(t, b.client, b.name, nil).Wait(soonCtx(t))
		wantErr(t, "a Wait that begins without a server", err, redisevent.ErrUnavailable)
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("a refused connection should be told within seconds, it took %v", d)
		}
		w.stillWaits(t, "it rides out the outage")
		change(t, newEvent(t, b.direct, b.name, nil), "Pulse")
		b.wire.Up()
		time.Sleep(2 * time.Second)
		w.released(t)
	})
}

func TestAWaitGoesOnWhenTheServerIsRestarted(t *testing.T) {
	for _, data := range []string{"with its data", "empty"} {
		t.Run(data, func(t *testing.T) {
			var args []string
			if data != "empty" {
				args = redistest.Persist(t)
			}
			own := redistest.StartOwn(t, args...)
			common := redistest.Name(t)
			for how, ops := range releases {
				name := common + how
				e := newEvent(t, own.Client(t), name, nil)
				change(t, e, "Set", "Clear")
				var waiters []*waiter
				for range 3 {
					client := own.Client(t)
					waiters = append(waiters, begin(t, client, name), begin(t, client, name))
				}
				own.Restart(t)
				for _, w := range waiters {
					w.stillWaits(t, "nobody has set the event")
				}
				change(t, e, ops...)
				for _, w := range waiters {
					w.released(t)
				}
				if data != "empty" {
					wantState(t, e, redisevent.State{Set: how == "Set", Changes: 2 + uint64(len(ops))})
				}
				change(t, e, "Delete")
			}
			redistest.NoLeaks(t, own.Server, common)
		})
	}
}

func TestWaitsOfManyClientsSurviveASilentServer(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		w := begin(t, b.client, b.name)
		time.Sleep(time.Second)
		b.wire.Partition()
		time.Sleep(30 * time.Second)
		change(t, newEvent(t, b.direct, b.name, nil), "Pulse")
		w.stillWaits(t, "nothing comes through")
		b.wire.Heal()
		time.Sleep(10 * time.Second)
		w.released(t)
	})
}

func TestEveryMethodOfAClosedClientSaysSo(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, used := range []bool{false, true} {
			client, name := s.Client(t), redistest.Name(t)
			e := newEvent(t, client, name, nil)
			if used {
				change(t, e, "Pulse")
				begin(t, client, name).ended(t)
			}
			_ = client.Close()
			for _, op := range allMethods {
				wantErr(t, op+" of a closed client", call(e, soonCtx(t), op), redis.ErrClosed)
			}
		}
		redistest.NoLeaks(t, s, "none")
	})
}

// Otherwise the private connection would keep it waiting for ever.
func TestAWaitEndsWhenItsClientIsClosed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		var all sync.WaitGroup
		for range 3 {
			w := begin(t, client, name)
			all.Go(func() {
				await(t, w.over, "the end of Wait")
				wantErr(t, "a Wait whose client is closed", w.err, redis.ErrClosed)
			})
		}
		subscribed(t, s.Client(t), name, 1)
		_ = client.Close()
		all.Wait()
		redistest.NoLeaks(t, s, name)
	})
}
