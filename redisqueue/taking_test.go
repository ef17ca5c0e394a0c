package redisqueue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// A take whose answer is lost took its items; the repeat gets the same ones.
func TestWhatALostTakeTookComesWithTheRepeat(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for how, lose := range losses {
			for what, take := range map[string]func(context.Context) ([]int, error){
				"TryGet":  func(ctx context.Context) ([]int, error) { v, err := s.mine.TryGet(ctx); return []int{v}, err },
				"Get":     func(ctx context.Context) ([]int, error) { v, err := s.mine.Get(ctx); return []int{v}, err },
				"GetMany": func(ctx context.Context) ([]int, error) { return s.mine.GetMany(ctx, 3) },
			} {
				put(t, s.other, 1, 2, 3, 4, 5, 6)
				wantGot(t, s.mine, 1) // it has compared: the next take takes
				lost := lose(s.w, script(t, "take"))
				got, err := take(soonCtx(t))
				lost.Await(t)
				got = append(got, drain(t, s.other)...)
				if err != nil || fmt.Sprint(got) != "[2 3 4 5 6]" {
					t.Errorf("with the %s of %s lost all should come in order, got %v, %v", how, what, got, err)
				}
			}
		}
	})
}

// The same with as many items as are taken at once.
func TestThousandsOfItemsComeWithTheRepeat(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		all := make([]int, 10_000)
		for i := range all {
			all[i] = i
		}
		wantEmpty(t, s.mine)
		if _, err := s.other.PutMany(soonCtx(t), all); err != nil {
			t.Fatal(err)
		}
		lost := s.w.DropReply(script(t, "take"))
		got, err := s.mine.GetMany(soonCtx(t), len(all))
		lost.Await(t)
		if err != nil || !slices.Equal(got, all) {
			t.Errorf("all items should come in order, %d came, %v", len(got), err)
		}
		wantEmpty(t, s.other)
	})
}

// A server that stands still for longer than a take waits for its answer.
func TestAGetSurvivesAServerThatStalls(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t)
	name := redistest.Name(t)
	q, other := newQueue[int](t, own.Client(t), name, unhurried), newQueue[int](t, own.Client(t), name, unhurried)
	put(t, other, 1, 2, 3)
	wantGot(t, q, 1)
	own.Pause(t)
	getting := begin(t, q.Get)
	pause(4*time.Second, getting.over) // it is sent again after 3 s
	own.Resume(t)
	if v := getting.returns(t, "Get"); v != 2 {
		t.Errorf("Get should return 2, got %d", v)
	}
	wantGot(t, other, 3)
	remove(t, q)
}

// Nobody waits any more for what a lost take took: it goes back in its place.
func TestWhatALostTakeTookGoesBackWhenNobodyWaits(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		for what, take := range map[string]func(context.Context) ([]int, error){
			"TryGet":  func(ctx context.Context) ([]int, error) { _, err := s.mine.TryGet(ctx); return nil, err },
			"GetMany": func(ctx context.Context) ([]int, error) { return s.mine.GetMany(ctx, 2) },
		} {
			put(t, s.other, 1, 2, 3, 4)
			wantGot(t, s.mine, 1)
			held := s.w.HoldReply(script(t, "take"))
			taking := begin(t, take)
			held.Await(t)
			taking.cancel()
			wantErr(t, "a cancelled "+what, taking.fails(t, what), errCanceled)
			held.Drop()
			awaitCounts(t, s.other, counts{waiting: 3})
			wantGot(t, s.other, 2, 3, 4)
		}
	})
}

// TryGet does not wait for a server that is away; what it took comes back.
func TestATryGetThatIsNotAnsweredTakesNothingAway(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 1, 2)
		held := s.w.HoldReply(script(t, "take"))
		trying := begin(t, s.mine.TryGet)
		held.Await(t)
		s.w.Down()
		wantErr(t, "TryGet without an answer", trying.fails(t, "TryGet"), redisqueue.ErrUnknownOutcome, redisqueue.ErrUnavailable)
		wantCounts(t, s.other, counts{waiting: 1})
		s.w.Up()
		awaitCounts(t, s.other, counts{waiting: 2})
		wantGot(t, s.other, 1, 2)
	})
}

// Bytes of a dying connection may arrive long after what was sent on a new one
// was answered, with nothing at that.
func TestATakeThatArrivesLateTakesNothing(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 0)
		wantGot(t, s.mine, 0)
		late := s.w.HoldCommand(script(t, "take"))
		trying := begin(t, s.mine.TryGet)
		late.Await(t)
		late.Hangup()
		wantErr(t, "TryGet that is sent again", trying.fails(t, "TryGet"), redisqueue.ErrEmpty)
		put(t, s.other, 1)
		late.Release()
		late.AwaitReply(t)
		wantGot(t, s.other, 1)
	})
}

// What was taken is kept for a repeat, until the next taking: but the one of a
// number that is past takes nothing, and an empty queue keeps nothing.
func TestTakingsHaveNumbers(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 0, 1, 2, 3)
		wantGot(t, s.mine, 0)
		again := func(c redistest.Command) string {
			t.Helper()
			answer := s.resend(t, c.Args)
			var payloads []string
			for _, envelope := range answer[len(answer)-1].([]any) {
				payloads = append(payloads, envelope.(string)[strings.LastIndexByte(envelope.(string), ' ')+1:])
			}
			return fmt.Sprint(payloads)
		}
		w := s.w.Watch(script(t, "take"))
		many, err := s.mine.GetMany(soonCtx(t), 2)
		if err != nil || fmt.Sprint(many) != "[1 2]" {
			t.Fatalf("GetMany should return both, got %v, %v", many, err)
		}
		first := w.Await(t)
		if got := again(first); got != "[1 2]" {
			t.Errorf("the same taking should take the same, got %v", got)
		}
		w = s.w.Watch(script(t, "take"))
		wantGot(t, s.mine, 3)
		if got := again(w.Await(t)); got != "[3]" {
			t.Errorf("the next taking should take the next, got %v", got)
		}
		put(t, s.other, 4)
		if got := again(first); got != "[]" {
			t.Errorf("a taking that is past should take nothing, got %v", got)
		}
		wantGot(t, s.mine, 4)
		wantEmpty(t, s.mine)
		record := first.Args[2+13] // after the command, the digest and the number of keys
		if kept := s.direct.LRange(soonCtx(t), record, 0, -1).Val(); len(kept) != 1 {
			t.Errorf("who has found the queue empty should keep a number and no item, got %q", kept)
		}
		if ttl := s.direct.PTTL(soonCtx(t), record).Val(); ttl <= 0 || ttl > 5*time.Minute {
			t.Errorf("the record should lapse within 5 minutes, it has %v", ttl)
		}
	})
}

// A taking ends with 8 MiB, but for its last item: so much is kept.
func TestOneTakingTakesSoManyBytes(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		q := newQueue[[]byte](t, s.Client(t), redistest.Name(t), nil)
		const n, size = 20, 1 << 20
		for range n {
			put(t, q, make([]byte, size))
		}
		for left := n; left > 0; {
			got, err := q.GetMany(soonCtx(t), n)
			if err != nil || len(got) != min(left, 8) {
				t.Fatalf("of %d items of a MiB 8 should come, got %d, %v", left, len(got), err)
			}
			left -= len(got)
		}
		remove(t, q)
	})
}
