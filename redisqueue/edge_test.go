package redisqueue_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// A TryGet whose ctx ends on the way must not drop what it gets.
func TestACancelledTryGetGivesBackWhatComesLate(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 1, 2)
		if err := s.mine.Put(soonCtx(t), 3); err != nil { // compared
			t.Fatal(err)
		}
		slow := s.w.HoldReply(script(t, "take"))
		trying := begin(t, s.mine.TryGet)
		slow.AwaitReply(t)
		trying.cancel()
		wantErr(t, "a cancelled TryGet", trying.fails(t, "TryGet"), context.Canceled, redisqueue.ErrUnknownOutcome)
		slow.Release()
		awaitCounts(t, s.other, counts{waiting: 3})
		wantGot(t, s.other, 1, 2, 3)
	})
}

// A PutMany of several batches that is cancelled puts the first so many, and
// says how many.
func TestACancelledPutManyLeavesNoHole(t *testing.T) {
	eachSite(t, bounded(1), func(t *testing.T, s site) {
		const all = 300
		put(t, s.mine, -1)
		second := s.w.HoldReply(redistest.Nth(2, script(t, "put")))
		n := 0
		putting := beginErr(t, func(ctx context.Context) (err error) {
			values := make([]int, all)
			for i := range values {
				values[i] = i
			}
			n, err = s.mine.PutMany(ctx, values)
			return err
		})
		second.AwaitReply(t)
		awaitCounts(t, s.other, counts{waiting: 1, parked: all})
		putting.cancel()
		err := putting.fails(t, "PutMany")
		wantGot(t, s.other, -1) // which makes room
		second.Release()
		awaitParked(t, s.other, 0)
		got := drain(t, s.other)
		for i, v := range got {
			if v != i {
				t.Fatalf("what was put of 0, 1, 2, … should be the first so many, got %v", got)
			}
		}
		if len(got) != n && !errors.Is(err, redisqueue.ErrUnknownOutcome) {
			t.Errorf("PutMany should tell that it put %d, it told %d, %v", len(got), n, err)
		}
	})
}

// awaitParked says that so many items should be parked soon.
func awaitParked(t testing.TB, q *redisqueue.Queue[int], n int) {
	t.Helper()
	redistest.Eventually(t, soon, func() error {
		if got := state(t, q).Parked; got != n {
			return errors.New("items are still parked")
		}
		return nil
	})
}

// Whoever asks for all there is may say so with the largest number.
func TestGetManyOfTheLargestNumberTakesWhatIsThere(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		q := newQueue[int](t, client, "x", nil)
		var waiters []*call[[]int]
		for _, most := range []int{math.MaxInt, math.MaxInt, 2} {
			waiters = append(waiters, begin(t, func(ctx context.Context) ([]int, error) { return q.GetMany(ctx, most) }))
		}
		time.Sleep(time.Minute) // the command that blocks is sent again, for all of them
		n := 0
		for range waiters {
			put(t, q, 1, 2, 3)
			time.Sleep(time.Second)
		}
		for _, w := range waiters {
			n += len(w.returns(t, "GetMany"))
		}
		if left := state(t, q).Waiting; n+left != 9 {
			t.Errorf("9 items should be taken or waiting, got %d and %d", n, left)
		}
	})
}

func TestADelayWithoutEndKeepsTheItemBack(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		q := newQueue[int](t, client, "x", nil)
		for _, delay := range []time.Duration{math.MaxInt64, math.MaxInt64 - time.Millisecond, 100 * 365 * 24 * time.Hour} {
			put(t, q, 1)
			nack(t, receive(t, q), delay)
			time.Sleep(time.Hour)
			wantEmpty(t, q)
			wantCounts(t, q, counts{delayed: 1})
			remove(t, q)
		}
	})
}

// A Put that makes the queue larger lets in who waits for room, itself too.
func TestALargerQueueHasRoomAtOnce(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		small := newQueue[int](t, client, "x", bounded(1))
		put(t, small, 1)
		waiter := beginPut(t, small, 2)
		time.Sleep(time.Second)
		large := newQueue[int](t, client, "x", &redisqueue.Options{TTL: time.Minute, MaxSize: 5, OnMismatch: redisqueue.Replace})
		putting := beginPut(t, large, 3)
		time.Sleep(time.Second)
		select {
		case <-waiter.over:
		default:
			t.Error("the Put that waited should have been let in")
		}
		select {
		case <-putting.over:
		default:
			t.Error("the Put that made room should have succeeded")
		}
		wantGot(t, small, 1, 2, 3)
	})
}

// The answer to the taking back is lost, and a look that comes before its repeat
// finds the item nowhere: it was taken back, and not admitted.
func TestALookAfterALostTakingBackDoesNotMakeItASuccess(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, direct *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		load(t, direct)
		mine := newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", bounded(1))
		put(t, mine, 1)
		putting := beginPut(t, mine, 2)
		time.Sleep(time.Second)
		back := w.DropReply(script(t, "parked"))
		putting.cancel()
		synctest.Wait()
		back.Await(t)
		for _, channel := range direct.PubSubChannels(t.Context(), "*").Val() {
			direct.Publish(t.Context(), channel, "finished")
		}
		wantCancelled(t, putting.fails(t, "a cancelled Put"))
		wantGot(t, mine, 1)
		wantEmpty(t, mine)
	})
}
