package redisqueue_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// source is a script as it is sent.
func source(t testing.TB, verb string) string {
	t.Helper()
	names := []string{"shared", verb}
	if verb == "register" {
		names = names[1:]
	}
	var all strings.Builder
	for _, name := range names {
		lua, err := os.ReadFile("lua/" + name + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		all.Write(lua)
	}
	return all.String()
}

// script picks the calls of a script that the server knows.
func script(t testing.TB, verb string) redistest.Match {
	sum := sha1.Sum([]byte(source(t, verb)))
	return redistest.All(redistest.Is("evalsha"), redistest.Has(hex.EncodeToString(sum[:])))
}

// takingBack picks what takes one parked item back, not what only asks for it.
func takingBack(t testing.TB) redistest.Match {
	return redistest.All(script(t, "parked"), func(c redistest.Command) bool { return c.Args[len(c.Args)-2] == "1" })
}

// load makes the scripts known to the server, so that each call is one command.
func load(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	all, err := os.ReadDir("lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if verb := strings.TrimSuffix(file.Name(), ".lua"); verb != "shared" {
			eachNode(t, client, func(ctx context.Context, node *redis.Client) error {
				return node.ScriptLoad(ctx, source(t, verb)).Err()
			})
		}
	}
}

// eachNode runs a command on every node that has scripts.
func eachNode(t *testing.T, client redis.UniversalClient, do func(context.Context, *redis.Client) error) {
	t.Helper()
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(soonCtx(t), do)
	case *redis.Client:
		err = do(soonCtx(t), c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A site is where something gets lost between one process and its server; the
// other processes are connected directly.
type site struct {
	w     *redistest.Wire
	mine  *redisqueue.Queue[int] // over the wire
	other *redisqueue.Queue[int] // direct
	third *redisqueue.Queue[int] // over a wire of its own, to be lost
	lost  *redistest.Wire

	direct redis.UniversalClient
	name   string
}

// eachSite runs a behaviour on every server, and on miniredis in a bubble.
func eachSite(t *testing.T, opts *redisqueue.Options, behave func(t *testing.T, s site)) {
	t.Helper()
	t.Parallel()
	t.Run("bubble", func(t *testing.T) {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			w, lost := redistest.NewWire(t), redistest.NewWire(t)
			load(t, client)
			behave(t, site{
				w, newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", opts), newQueue[int](t, client, "x", opts),
				newQueue[int](t, redistest.BubbleClient(t, m, lost.ThroughBubble), "x", opts), lost, client, "x",
			})
			remove(t, newQueue[int](t, client, "x", opts))
		})
	})
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		w, lost := redistest.NewWire(t), redistest.NewWire(t)
		name := redistest.Name(t)
		direct := s.Client(t)
		load(t, direct)
		behave(t, site{
			w, newQueue[int](t, s.Client(t, w.Through), name, opts), newQueue[int](t, direct, name, opts),
			newQueue[int](t, s.Client(t, lost.Through), name, opts), lost, direct, name,
		})
		remove(t, newQueue[int](t, direct, name, opts))
	})
}

// resend sends a command directly once more, as old bytes arrive late. Another test
// may have the server forget its scripts.
func (s site) resend(t *testing.T, command []string) []any {
	t.Helper()
	var args []any
	for _, arg := range command {
		args = append(args, arg)
	}
	for {
		answer, err := s.direct.Do(soonCtx(t), args...).Result()
		switch {
		case err == nil:
			all, _ := answer.([]any)
			return all
		case !redis.HasErrorPrefix(err, "NOSCRIPT"):
			t.Fatal(err)
		}
		load(t, s.direct)
	}
}

// losses are the two ways to lose a call: before and after it was carried out.
var losses = map[string]func(*redistest.Wire, redistest.Match) *redistest.Fault{
	"command": (*redistest.Wire).DropCommand,
	"reply":   (*redistest.Wire).DropReply,
}

func TestAPutThatIsLostOnceIsMadeOnce(t *testing.T) {
	eachSite(t, bounded(100), func(t *testing.T, s site) {
		for what, lose := range losses {
			for call, do := range map[string]func() error{
				"Put":    func() error { return s.mine.Put(soonCtx(t), 1) },
				"TryPut": func() error { return s.mine.TryPut(soonCtx(t), 1) },
				"PutMany": func() error {
					n, err := s.mine.PutMany(soonCtx(t), []int{1, 2, 3})
					if n != 3 && err == nil {
						t.Errorf("PutMany should put 3, got %d", n)
					}
					return err
				},
			} {
				put(t, s.mine, 0) // the connection is there
				lost := lose(s.w, script(t, "put"))
				if err := do(); err != nil {
					t.Errorf("%s whose %s is lost once should return nil, got %v", call, what, err)
				}
				lost.Await(t)
				put(t, s.mine, 9)
				want := []int{0, 1, 9}
				if call == "PutMany" {
					want = []int{0, 1, 2, 3, 9}
				}
				wantGot(t, s.other, want...)
				wantEmpty(t, s.other)
			}
		}
	})
}

// Bytes of a dying connection may arrive long after what was sent on a new one.
func TestAPutThatArrivesLateIsMadeOnce(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.mine, 0)
		late := s.w.HoldCommand(script(t, "put"))
		putting := beginPut(t, s.mine, 1)
		late.Await(t)
		late.Hangup()
		putting.returns(t, "Put that is sent again")
		put(t, s.mine, 2)
		wantGot(t, s.other, 0, 1)
		late.Release()
		late.AwaitReply(t)
		wantGot(t, s.other, 2)
		wantEmpty(t, s.other)
		// The same with a Put that nobody waits for any more: put, or not.
		late = s.w.HoldCommand(script(t, "put"))
		putting = beginPut(t, s.mine, 3)
		late.Await(t)
		putting.cancel()
		wantErr(t, "a cancelled Put that is on its way", putting.fails(t, "Put"), errCanceled, redisqueue.ErrUnknownOutcome)
		late.Release()
		late.AwaitReply(t)
		put(t, s.mine, 4)
		got := drain(t, s.other)
		if fmt.Sprint(got) != "[3 4]" && fmt.Sprint(got) != "[4]" {
			t.Errorf("the item of unknown fate should come once or not, got %v", got)
		}
	})
}

// Who waits already goes on; at most the item on the broken connection is lost.
func TestAGetThatWaitsSurvivesABrokenConnection(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for _, what := range []string{"take", "BLPOP"} {
			for how, lose := range losses {
				blocked := s.w.Watch(redistest.Is("BLPOP"))
				waiter := begin(t, s.mine.Get)
				conn := blocked.Await(t).Conn
				match := redistest.Is("BLPOP")
				if what == "take" {
					match = script(t, "take")
				}
				lost := lose(s.w, match)
				if what == "take" {
					// The waiter looks again. A look that is under way on another connection
					// may be the one that is lost; to cut that too would use the fault up.
					s.w.CutConn(conn)
					lost.Await(t)
				}
				put(t, s.other, 1)
				put(t, s.other, 2)
				v := waiter.returns(t, "Get over a broken connection")
				left := drain(t, s.other)
				if v == 1 && fmt.Sprint(left) != "[2]" || v == 2 && len(left) > 0 && how == "command" {
					t.Errorf("with the %s of %s lost, the items should come, got %d, left are %v", how, what, v, left)
				}
				awaitCounts(t, s.other, counts{})
			}
		}
	})
}

func TestALostClaimStrandsNothing(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for how, lose := range losses {
			put(t, s.other, 1, 2)
			lost := lose(s.w, script(t, "claim"))
			var d *delivery
			redistest.Eventually(t, soon, func() (err error) {
				d, err = s.mine.Receive(soonCtx(t)) // the first attempt may say ErrUnavailable
				return err
			})
			lost.Await(t)
			// A consumer of which Redis had not yet heard gives it back first.
			e := receive(t, s.mine)
			if d.Value()+e.Value() != 3 || d.Attempt() != 1 || e.Attempt() != 1 {
				t.Errorf("with the %s of the claim lost both should come for the first time, got %d and %d, attempts %d and %d",
					how, d.Value(), e.Value(), d.Attempt(), e.Attempt())
			}
			wantCounts(t, s.other, counts{claimed: 2})
			ack(t, d)
			ack(t, e)
			wantCounts(t, s.other, counts{})
		}
	})
}

// Nobody in the process asks again: another one gets the item, after the TTL.
func TestALostClaimIsSweptWhenNobodyAsksAgain(t *testing.T) {
	eachSite(t, &redisqueue.Options{TTL: short}, func(t *testing.T, s site) {
		put(t, s.other, 1)
		lost := s.w.DropReply(script(t, "claim"))
		receiving := beginReceive(t, s.mine)
		lost.Await(t)
		receiving.cancel()
		await(t, receiving.over, "the end of Receive")
		if receiving.err != nil {
			d := receive(t, s.other)
			if d.Value() != 1 || d.Attempt() > 2 {
				t.Errorf("the item should come, got %d for the %d. time", d.Value(), d.Attempt())
			}
			ack(t, d)
		} else {
			ack(t, receiving.v)
		}
		awaitCounts(t, s.other, counts{})
	})
}

func TestAReceiveThatWaitsSurvivesABrokenConnection(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for how, lose := range losses {
			blocked := s.w.Watch(redistest.Is("BLMOVE"))
			waiter := beginReceive(t, s.mine)
			blocked.Await(t)
			lost := lose(s.w, redistest.Is("BLMOVE"))
			if how == "command" {
				s.w.CutAll()
				lost.Await(t)
			}
			put(t, s.other, 1)
			d := waiter.returns(t, "Receive over a broken connection")
			if d.Value() != 1 || d.Attempt() != 1 {
				t.Errorf("with the %s of BLMOVE lost the item should come for the first time, got %d, attempt %d", how, d.Value(), d.Attempt())
			}
			ack(t, d)
			awaitCounts(t, s.other, counts{})
		}
	})
}

// A BLMOVE of a connection that has died moves an item long after: it is
// found, by the process that sent it, or when that is gone, by others.
func TestABLMOVEThatArrivesLateStrandsNothing(t *testing.T) {
	for _, stays := range []bool{true, false} {
		t.Run(fmt.Sprintf("the process stays %v", stays), func(t *testing.T) {
			eachSite(t, &redisqueue.Options{TTL: short}, func(t *testing.T, s site) {
				late := s.w.HoldCommand(redistest.Is("BLMOVE"))
				waiter := beginReceive(t, s.mine)
				late.Await(t)
				late.Hangup()
				if stays {
					// Another BLMOVE waits by now, and the late one overtakes it or not.
					s.w.Watch(redistest.Is("BLMOVE")).Await(t)
				} else {
					waiter.cancel()
					await(t, waiter.over, "the end of Receive")
				}
				late.Release()
				for i := range 3 {
					put(t, s.other, i)
				}
				seen := map[int]bool{}
				for len(seen) < 3 {
					d, err := s.third.Receive(soonCtx(t))
					if err != nil {
						if !stays || errors.Is(err, redisqueue.ErrUnavailable) {
							t.Fatalf("Receive should succeed, got %v; seen are %v, State tells %+v", err, seen, state(t, s.other))
						}
						break
					}
					seen[d.Value()] = true
					ack(t, d)
					if stays && len(seen) == 2 {
						d := waiter.returns(t, "Receive of the process that stays")
						seen[d.Value()] = true
						ack(t, d)
					}
				}
				if len(seen) != 3 {
					t.Errorf("all items should come, got %v", seen)
				}
				awaitCounts(t, s.other, counts{})
			})
		})
	}
}

func TestALostAckOrNackIsMadeOnce(t *testing.T) {
	eachSite(t, &redisqueue.Options{TTL: time.Minute, MaxDeliveries: 5}, func(t *testing.T, s site) {
		for how, lose := range losses {
			put(t, s.other, 1, 2)
			d := wantReceived(t, s.mine, 1, 1)
			lost := lose(s.w, script(t, "nack"))
			nack(t, d, 0)
			lost.Await(t)
			wantCounts(t, s.other, counts{waiting: 2})
			// Another has it by the time of a third try.
			d = wantReceived(t, s.mine, 1, 2)
			lost = lose(s.w, script(t, "nack"))
			nack(t, d, 50*time.Millisecond)
			lost.Await(t)
			e := wantReceived(t, s.mine, 2, 1)
			d = wantReceived(t, s.mine, 1, 3)
			for _, d := range []*delivery{d, e} {
				lost = lose(s.w, script(t, "ack"))
				ack(t, d)
				lost.Await(t)
			}
			if got := countsOf(state(t, s.other)); got != (counts{}) {
				t.Errorf("with a %s lost each should be done, got %+v", how, got)
			}
			wantEmpty(t, s.other)
		}
	})
}

func TestAnAckWithoutAnAnswerIsUnknownAfterASecond(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for what, hold := range map[string]func(*redistest.Wire, redistest.Match) *redistest.Fault{
			"command": (*redistest.Wire).HoldCommand, "reply": (*redistest.Wire).HoldReply,
		} {
			put(t, s.other, 1)
			d := receive(t, s.mine)
			held := hold(s.w, script(t, "ack"))
			start := time.Now()
			wantErr(t, "Ack whose "+what+" is held", d.Ack(context.Background()), redisqueue.ErrUnknownOutcome)
			if took := time.Since(start); took < time.Second || took > 3*time.Second {
				t.Errorf("Ack should wait a second, it took %v", took)
			}
			wantErr(t, "Err", d.Err(), redisqueue.ErrReleased)
			held.Release()
			// It was said, and goes on in the background.
			awaitCounts(t, s.other, counts{})
			wantEmpty(t, s.other)
		}
	})
}

// What a cancelled Receive had in hand goes back. If the answer to that is lost,
// and the same process has the item again by the time of the repetition, that
// must not take it from its hands.
func TestARepeatedGivingBackDoesNotTakeTheItemFromTheNext(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		held := s.w.HoldReply(redistest.Is("BLMOVE"))
		first := beginReceive(t, s.mine)
		redistest.EventuallyTrue(t, soon, "the process waits", func() bool { return len(state(t, s.other).Consumers) == 1 })
		put(t, s.other, 1)
		held.Await(t)
		first.cancel()
		wantErr(t, "a cancelled Receive", first.fails(t, "Receive"), errCanceled)
		lost := s.w.DropReply(script(t, "back"))
		again := s.w.HoldCommand(script(t, "back"))
		held.Release()
		lost.Await(t)
		again.Await(t) // on its way, and overtaken by
		d := wantReceived(t, s.mine, 1, 1)
		theirs := beginReceive(t, s.third)
		again.Release()
		again.AwaitReply(t)
		wantHeld(t, d)
		if got := countsOf(state(t, s.other)); got != (counts{claimed: 1}) {
			t.Errorf("the item should be in one hand, got %+v", got)
		}
		theirs.wantWaiting(t, "Receive in another process")
		theirs.cancel()
		await(t, theirs.over, "the end of Receive")
		ack(t, d)
		awaitCounts(t, s.other, counts{})
	})
}

func TestALostGivingBackHappensOnce(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for how, lose := range losses {
			held := s.w.HoldReply(redistest.Is("BLPOP"))
			waiter := begin(t, s.mine.Get)
			redistest.EventuallyTrue(t, soon, "BLPOP was sent", func() bool { return s.w.Counts()["BLPOP"] > 0 })
			put(t, s.other, 1, 2, 3)
			held.Await(t)
			waiter.cancel()
			wantErr(t, "a cancelled Get", waiter.fails(t, "Get"), errCanceled)
			lost := lose(s.w, script(t, "back"))
			held.Release()
			lost.Await(t)
			awaitCounts(t, s.other, counts{waiting: 3})
			pause(50*time.Millisecond, nil) // a repetition
			awaitCounts(t, s.other, counts{waiting: 3})
			wantGot(t, s.other, 1, 2, 3)
			if got := drain(t, s.other); len(got) > 0 {
				t.Errorf("with the %s lost the item should come back once, got %v more", how, got)
			}
			s.w.ResetCounts()
		}
	})
}

func TestARepeatedShutdownDoesNotEndTheNextQueue(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.mine, 1)
		lost := s.w.DropReply(script(t, "shutdown"))
		again := s.w.HoldCommand(script(t, "shutdown"))
		down := beginErr(t, s.mine.Shutdown)
		lost.Await(t)
		again.Await(t)
		if !state(t, s.other).Shutdown {
			t.Error("the first attempt should have shut the queue down")
		}
		remove(t, s.other)
		put(t, s.other, 2)
		again.Release()
		down.returns(t, "Shutdown")
		put(t, s.other, 3)
		wantGot(t, s.other, 2, 3)
	})
}

func TestADeleteIsNotRepeated(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for how, lose := range losses {
			put(t, s.other, 1)
			lost := lose(s.w, script(t, "delete"))
			err := s.mine.Delete(soonCtx(t))
			lost.Await(t)
			wantErr(t, "Delete whose "+how+" is lost", err, redisqueue.ErrUnknownOutcome)
			put(t, s.other, 2)
			got := drain(t, s.other)
			if want := map[string]string{"command": "[1 2]", "reply": "[2]"}[how]; fmt.Sprint(got) != want {
				t.Errorf("with the %s lost there should be %s, got %v", how, want, got)
			}
		}
	})
}

func TestALostSweepHappensOnce(t *testing.T) {
	eachSite(t, &redisqueue.Options{TTL: short}, func(t *testing.T, s site) {
		for how, lose := range losses {
			put(t, s.other, 1, 2)
			wantReceived(t, s.third, 1, 1)
			wantReceived(t, s.third, 2, 1)
			s.lost.Down()
			lost := lose(s.w, script(t, "sweep"))
			a, b := wantReceived(t, s.mine, 1, 2), wantReceived(t, s.mine, 2, 2)
			lost.Await(t)
			wantCounts(t, s.other, counts{claimed: 2})
			ack(t, a)
			ack(t, b)
			wantEmpty(t, s.other)
			if got := countsOf(state(t, s.other)); got != (counts{}) {
				t.Errorf("with the %s of the sweep lost nothing should be left, got %+v", how, got)
			}
			s.lost.Up()
		}
	})
}

func TestALostTakingBackOfAParkedItem(t *testing.T) {
	eachSite(t, bounded(1), func(t *testing.T, s site) {
		for how, lose := range losses {
			put(t, s.other, 1)
			putting := beginPut(t, s.mine, 2)
			awaitCounts(t, s.other, counts{waiting: 1, parked: 1})
			lost := lose(s.w, takingBack(t))
			putting.cancel()
			wantCancelled(t, putting.fails(t, "a cancelled Put"))
			lost.Await(t)
			awaitCounts(t, s.other, counts{waiting: 1})
			wantGot(t, s.other, 1)
			if got := drain(t, s.other); len(got) > 0 {
				t.Errorf("with the %s lost the item should be taken back all the same, got %v", how, got)
			}
		}
	})
}

// loseClaim makes mine not know what its list holds: it claims items, at least
// one, and does not hear of it. The Receive goes on, or tries again.
func (s site) loseClaim(t *testing.T) *call[*delivery] {
	t.Helper()
	lost := s.w.DropReply(script(t, "claim"))
	c := beginReceive(t, retrying{s.mine})
	lost.Await(t)
	return c
}

// retrying is a queue whose Receive does not give up when Redis is unavailable.
type retrying struct{ *redisqueue.Queue[int] }

func (q retrying) Receive(ctx context.Context) (*delivery, error) {
	for {
		d, err := q.Queue.Receive(ctx)
		if ctx.Err() != nil || !errors.Is(err, redisqueue.ErrUnavailable) {
			return d, err
		}
	}
}

// Whoever reads its list of claims again may be answered after one of them was
// acknowledged.
func TestAnAcknowledgedItemDoesNotComeBackFromAnOldList(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 1, 2)
		d := wantReceived(t, s.mine, 1, 1)
		old := s.w.HoldReply(redistest.Is("LRANGE"))
		next := s.loseClaim(t)
		old.Await(t)
		ack(t, d)
		old.Release()
		d = next.returns(t, "Receive")
		if d.Value() != 2 || d.Attempt() != 1 {
			t.Errorf("the second item should come for the first time, got %d, attempt %d", d.Value(), d.Attempt())
		}
		ack(t, d)
		awaitCounts(t, s.other, counts{})
	})
}

// A consumer that finds something in its list that it does not know gives that
// back, but not what it is just being told of.
func TestAnItemThatIsJustBeingReceivedIsNotGivenBack(t *testing.T) {
	eachSite(t, &redisqueue.Options{TTL: 3 * time.Second}, func(t *testing.T, s site) {
		put(t, s.other, 1)
		d := wantReceived(t, s.mine, 1, 1)
		// As if the answer to a BLMOVE had been lost.
		list := s.w.HoldCommand(redistest.Is("LRANGE"))
		s.strand(t, "stranded 0 7")
		list.Await(t)
		answer := s.w.HoldReply(script(t, "claim"))
		put(t, s.other, 2)
		receiving := beginReceive(t, s.mine)
		answer.Await(t)
		list.Release()
		list.AwaitReply(t)
		pause(50*time.Millisecond, nil) // what it does by that
		answer.Release()
		next := receiving.returns(t, "Receive")
		seen := map[int]*delivery{1: d}
		for next != nil {
			if was := seen[next.Value()]; was != nil && was.Err() == nil {
				t.Fatalf("%d was received twice at a time", next.Value())
			}
			seen[next.Value()] = next
			next = nil
			if len(seen) < 3 {
				next = receive(t, s.other)
			}
		}
		for _, d := range seen {
			ack(t, d)
		}
		awaitCounts(t, s.other, counts{})
	})
}

// strand puts an item into the list of the one consumer there is.
func (s site) strand(t *testing.T, envelope string) {
	t.Helper()
	all := state(t, s.other).Consumers
	if len(all) != 1 {
		t.Fatalf("there should be one consumer, got %+v", all)
	}
	if err := s.direct.RPush(soonCtx(t), key(s.name, all[0].ID+":claims"), envelope).Err(); err != nil {
		t.Fatal(err)
	}
}

// Who hears late that its item was taken back must not take it for put.
func TestARepeatedTakingBackDoesNotSayThatTheItemWasPut(t *testing.T) {
	eachSite(t, bounded(1), func(t *testing.T, s site) {
		put(t, s.other, 1)
		putting := beginPut(t, s.mine, 2)
		awaitCounts(t, s.other, counts{waiting: 1, parked: 1})
		back := s.w.Watch(takingBack(t))
		putting.cancel()
		wantCancelled(t, putting.fails(t, "a cancelled Put"))
		sent := back.Await(t)
		back.AwaitReply(t)
		if again := s.resend(t, sent.Args); fmt.Sprint(again) != "[parked s]" {
			t.Errorf("the same once more should say that the item was taken back, it said %v", again)
		}
		wantGot(t, s.other, 1)
		wantEmpty(t, s.other)
	})
}
