package redisqueue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// wantTook says that something should have happened so long after start, in fake
// time, with a little slack for what is looked at by turns.
func wantTook(t testing.TB, what string, start time.Time, want time.Duration) {
	t.Helper()
	if took := time.Since(start); took < want || took > want+time.Second {
		t.Errorf("%s should take %v, took %v", what, want, took)
	}
}

func TestDelayedItemsComeOneAfterAnotherWhenTheyAreDue(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		q, other := newQueue[int](t, client, "x", nil), newQueue[int](t, redistest.BubbleClient(t, m), "x", nil)
		put(t, q, 1, 2, 3, 4)
		start := time.Now()
		var all []*delivery
		for range 4 {
			all = append(all, receive(t, q))
		}
		for i, delay := range []time.Duration{30 * time.Minute, time.Minute, time.Millisecond, 10 * time.Minute} {
			nack(t, all[i], delay)
		}
		// One waits while they become due, another comes after.
		for _, want := range []struct {
			v     int
			after time.Duration
		}{{3, time.Millisecond}, {2, time.Minute}, {4, 10 * time.Minute}} {
			d, err := other.Receive(context.Background())
			if err != nil || d.Value() != want.v || d.Attempt() != 2 {
				t.Fatalf("item %d should come next, for the 2. time, got %+v, %v", want.v, d, err)
			}
			wantTook(t, "an item that is delayed", start, want.after)
			ack(t, d)
		}
		time.Sleep(time.Hour)
		// Nobody waited for it, and it waits all the same.
		wantCounts(t, other, counts{waiting: 1})
		wantGot(t, other, 1)
	})
}

// Whoever gave it back may be gone by then.
func TestADelayedItemComesAlsoWhenWhoDelayedItIsGone(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		mine := redistest.BubbleClient(t, m)
		q, other := newQueue[int](t, mine, "x", nil), newQueue[int](t, client, "x", nil)
		put(t, q, 1)
		start := time.Now()
		nack(t, receive(t, q), 10*time.Minute)
		_ = mine.Close()
		waiter := begin(t, other.Get)
		<-waiter.over
		if waiter.v != 1 || waiter.err != nil {
			t.Errorf("the item should come, got %v, %v", waiter.v, waiter.err)
		}
		wantTook(t, "the item", start, 10*time.Minute)
	})
}

func TestTheClaimsOfADeadConsumerEndWithItsTTL(t *testing.T) {
	for _, waits := range []bool{true, false} {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			w := redistest.NewWire(t)
			opts := &redisqueue.Options{TTL: 10 * time.Minute}
			dies, q := newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", opts), newQueue[int](t, client, "x", opts)
			put(t, q, 1, 2)
			first, second := receive(t, dies), receive(t, dies)
			time.Sleep(time.Hour) // it beats
			var waiter *call[*delivery]
			if waits {
				waiter = beginReceive(t, q)
				time.Sleep(time.Second)
				waiter.wantWaiting(t, "Receive while the items are held")
			}
			w.Partition()
			start := time.Now()
			<-first.Done()
			wantErr(t, "Err of a lost delivery", second.Err(), redisqueue.ErrLost)
			// The last heartbeat was up to a third of the TTL before.
			if after := time.Since(start); after < 6*time.Minute || after > 10*time.Minute {
				t.Errorf("a delivery should be trusted until its claim ends, %v, it was lost after %v", opts.TTL, after)
			}
			if waiter == nil {
				waiter = beginReceive(t, q)
			}
			<-waiter.over
			if waiter.err != nil || waiter.v.Value() != 1 || waiter.v.Attempt() != 2 {
				t.Fatalf("the first item should come again, got %+v, %v", waiter.v, waiter.err)
			}
			if after := time.Since(start); after > 10*time.Minute+time.Second {
				t.Errorf("the items should come again after at most %v, it took %v", opts.TTL, after)
			}
			ack(t, waiter.v)
			ack(t, wantReceived(t, q, 2, 2))
			w.CutAll()
			w.Heal()
		})
	}
}

func TestADeliveryOutlivesAnOutageShorterThanItsTTL(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		opts := &redisqueue.Options{TTL: 30 * time.Second}
		q, other := newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", opts), newQueue[int](t, client, "x", opts)
		put(t, q, 1)
		d := receive(t, q)
		waiter := beginReceive(t, other)
		for range 5 {
			for down, up := range map[int]func(){0: func() { w.Partition(); time.Sleep(15 * time.Second); w.Heal() }, 1: func() { w.Down(); time.Sleep(15 * time.Second); w.Up() }} {
				up()
				time.Sleep(time.Minute)
				if err := d.Err(); err != nil {
					t.Fatalf("an outage of half the TTL (%d) should be survived, got %v", down, err)
				}
				waiter.wantWaiting(t, "Receive of an item that is held")
			}
		}
		ack(t, d)
		waiter.cancel()
		<-waiter.over
	})
}

func TestWorkRetriesAfterItsDelays(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		q := newQueue[int](t, client, "x", &redisqueue.Options{
			MaxDeliveries: 5, RetryDelay: func(attempt int) time.Duration { return time.Second << attempt },
		})
		put(t, q, 1)
		start := time.Now()
		want := start
		attempt := 0
		work := beginErr(t, func(ctx ctxT) error {
			return q.Work(ctx, 1, func(_ context.Context, d *delivery) error {
				if attempt++; d.Attempt() != attempt {
					t.Errorf("it should be attempt %d, got %d", attempt, d.Attempt())
				}
				if late := time.Since(want); late < 0 || late > time.Second {
					t.Errorf("attempt %d came %v too late", attempt, late)
				}
				want = time.Now().Add(time.Second << attempt)
				return errors.New("again")
			})
		})
		if err := q.Join(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantTook(t, "five attempts", start, (2+4+8+16)*time.Second)
		wantCounts(t, q, counts{dead: 1})
		work.cancel()
		<-work.over
	})
}

func TestAnIDIsKnownForAnHour(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		q := newQueue[string](t, client, "x", &redisqueue.Options{ID: func(v any) string { return v.(string) }})
		put(t, q, "a")
		wantGot(t, q, "a")
		time.Sleep(30 * time.Minute)
		put(t, q, "b", "a") // which was not put, and does not make it last longer
		time.Sleep(29*time.Minute + 59*time.Second)
		put(t, q, "a")
		wantGot(t, q, "b")
		wantEmpty(t, q)
		time.Sleep(2 * time.Second)
		put(t, q, "a", "b")
		wantGot(t, q, "a")
		wantEmpty(t, q)
		// Who gave up has put nothing.
		full := newQueue[string](t, client, "y", &redisqueue.Options{MaxSize: 1, ID: func(v any) string { return v.(string) }})
		put(t, full, "a")
		parked := beginPut(t, full, "b")
		time.Sleep(time.Minute)
		dropped := beginPut(t, full, "b")
		<-dropped.over
		if dropped.err != nil {
			t.Errorf("Put of what waits for room already should be dropped, got %v", dropped.err)
		}
		parked.cancel()
		<-parked.over
		time.Sleep(time.Second)
		wantGot(t, full, "a")
		put(t, full, "b")
		wantGot(t, full, "b")
		wantEmpty(t, full)
	})
}

func TestWhatIsEmptyIsForgottenAfterADay(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		q := newQueue[int](t, client, "x", bounded(3))
		put(t, q, 1)
		time.Sleep(72 * time.Hour)
		wantErr(t, "Put with another size while an item waits", newQueue[int](t, client, "x", bounded(4)).Put(context.Background(), 1), redisqueue.ErrMismatch)
		wantGot(t, q, 1)
		put(t, newQueue[int](t, client, "x", bounded(3)), 1)
		wantGot(t, q, 1)
		time.Sleep(23 * time.Hour)
		wantErr(t, "Put with another size within a day", newQueue[int](t, client, "x", bounded(4)).Put(context.Background(), 1), redisqueue.ErrMismatch)
		time.Sleep(2 * time.Hour)
		if left := m.Keys(); len(left) > 0 {
			t.Errorf("after a day nothing should be left, got %v", left)
		}
		put(t, newQueue[int](t, client, "x", bounded(4)), 1)
		shutdown(t, newQueue[int](t, client, "x", bounded(4)))
		wantGot(t, newQueue[int](t, client, "x", bounded(4)), 1)
		time.Sleep(72 * time.Hour)
		wantErr(t, "Put after a Shutdown of days ago", newQueue[int](t, client, "x", bounded(4)).Put(context.Background(), 1), redisqueue.ErrShutdown)
	})
}

// An item may be held for longer than a day.
func TestJoinWaitsForAnItemThatIsHeldForLongerThanADay(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		opts := &redisqueue.Options{TTL: time.Hour, MaxSize: 3}
		q, other := newQueue[int](t, client, "x", opts), newQueue[int](t, redistest.BubbleClient(t, m), "x", opts)
		put(t, q, 1)
		d := receive(t, q)
		waiter := beginErr(t, other.Join)
		for range 2 {
			time.Sleep(13 * time.Hour)
			waiter.wantWaiting(t, "Join while the item is held")
			wantErr(t, "Put with another size", newQueue[int](t, client, "x", bounded(4)).TryPut(context.Background(), 1), redisqueue.ErrMismatch)
		}
		ack(t, d)
		start := time.Now()
		<-waiter.over
		if waiter.err != nil || time.Since(start) > time.Second {
			t.Errorf("Join should return when the item is done, it did after %v, %v", time.Since(start), waiter.err)
		}
		time.Sleep(25 * time.Hour)
		if left := m.Keys(); len(left) > 0 {
			t.Errorf("a day after that nothing should be left, got %v", left)
		}
	})
}

// Every message is lost: whoever waits finds out by looking.
func TestLostMessagesOnlyCostTime(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		q, other := newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", bounded(1)), newQueue[int](t, client, "x", bounded(1))
		w.DropMessages("")
		put(t, q, 1)
		d := receive(t, other)
		put(t, q, 2)
		parked, joining := beginPut(t, q, 3), beginErr(t, q.Join)
		time.Sleep(time.Minute)
		start := time.Now()
		wantGot(t, other, 2)
		<-parked.over
		if parked.err != nil || time.Since(start) > 11*time.Second {
			t.Errorf("Put should find out within 10 s that its item was let in, it took %v, %v", time.Since(start), parked.err)
		}
		wantGot(t, other, 3)
		start = time.Now()
		ack(t, d)
		<-joining.over
		if joining.err != nil || time.Since(start) > 21*time.Second {
			t.Errorf("Join should find out within 20 s, it took %v, %v", time.Since(start), joining.err)
		}
		getting, receiving := begin(t, q.Get), beginReceive(t, q)
		put(t, newQueue[int](t, client, "y", bounded(1)), 1)
		stuck := beginPut(t, newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "y", bounded(1)), 2)
		time.Sleep(time.Minute)
		start = time.Now()
		shutdown(t, other)
		shutdown(t, newQueue[int](t, client, "y", bounded(1)))
		for what, over := range map[string]<-chan struct{}{"Get": getting.over, "Receive": receiving.over, "Put": stuck.over} {
			<-over
			if took := time.Since(start); took > 21*time.Second {
				t.Errorf("%s should find out within 20 s that the queue was shut down, it took %v", what, took)
			}
		}
		for what, err := range map[string]error{"Get": getting.err, "Receive": receiving.err, "Put": stuck.err} {
			wantErr(t, what+" of a queue that was shut down", err, redisqueue.ErrShutdown)
		}
	})
}

func TestWaitsSurviveALongOutage(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		through := redistest.BubbleClient(t, m, w.ThroughBubble)
		q, other := newQueue[int](t, through, "x", nil), newQueue[int](t, client, "x", nil)
		full, otherFull := newQueue[int](t, through, "full", bounded(1)), newQueue[int](t, client, "full", bounded(1))
		put(t, full, 1)
		getting, receiving, joining, putting := begin(t, q.Get), beginReceive(t, q), beginErr(t, full.Join), beginPut(t, full, 2)
		for _, c := range []struct{ down, up func() }{{w.Down, w.Up}, {w.Partition, w.Heal}} {
			time.Sleep(time.Second)
			c.down()
			time.Sleep(15 * time.Minute)
			c.up()
			time.Sleep(time.Minute)
		}
		getting.wantWaiting(t, "Get")
		receiving.wantWaiting(t, "Receive")
		joining.wantWaiting(t, "Join")
		putting.wantWaiting(t, "Put")
		start := time.Now()
		put(t, other, 1, 2)
		<-getting.over
		<-receiving.over
		if getting.err != nil || receiving.err != nil || getting.v+receiving.v.Value() != 3 {
			t.Errorf("both should get an item, got %v, %v, %v", getting.v, getting.err, receiving.err)
		}
		wantGot(t, otherFull, 1)
		<-putting.over
		wantGot(t, otherFull, 2)
		<-joining.over
		if putting.err != nil || joining.err != nil {
			t.Errorf("Put and Join should return nil, got %v, %v", putting.err, joining.err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("all should be as before the outage, it took %v", took)
		}
	})
}

func TestAWaitThatEndsWhileRedisIsUnavailableSaysSo(t *testing.T) {
	for what, strike := range map[string]func(*redistest.Wire){"gone": (*redistest.Wire).Down, "silent": (*redistest.Wire).Partition} {
		t.Run(what, func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				w := redistest.NewWire(t)
				through := redistest.BubbleClient(t, m, w.ThroughBubble)
				q, full := newQueue[int](t, through, "x", nil), newQueue[int](t, through, "full", bounded(1))
				put(t, newQueue[int](t, client, "full", bounded(1)), 1)
				var waits []*call[struct{}]
				all := calls()
				for _, what := range []string{"Get", "GetMany", "Receive", "Work"} {
					waits = append(waits, beginErr(t, func(ctx ctxT) error { return all[what](ctx, q) }))
				}
				for _, what := range []string{"Put", "Join"} {
					waits = append(waits, beginErr(t, func(ctx ctxT) error { return all[what](ctx, full) }))
				}
				time.Sleep(time.Second)
				strike(w)
				time.Sleep(30 * time.Second)
				for _, c := range waits {
					c.wantWaiting(t, "who waits already")
					c.cancel()
					<-c.over
					wantErr(t, "a wait that ends during an outage", c.err, errCanceled, redisqueue.ErrUnavailable)
				}
				w.CutAll()
				w.Heal()
				w.Up()
				time.Sleep(2 * time.Minute) // what is to be taken back is tried for a minute
				wantCounts(t, newQueue[int](t, client, "full", bounded(1)), counts{waiting: 1})
			})
		})
	}
}

// A long wait costs next to nothing, and the first item comes at once.
func TestALongWaitIsServedAtOnce(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		q := newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", nil)
		getting, receiving := begin(t, q.Get), beginReceive(t, q)
		time.Sleep(time.Minute)
		w.ResetCounts()
		time.Sleep(20 * time.Minute)
		sent := w.Counts()
		scripts := 0
		for name, n := range sent {
			if strings.HasPrefix(name, "EVAL") {
				scripts += n
			}
		}
		// Besides a PING and, without CLIENT UNBLOCK, the slices of the commands that
		// block, with what announces each BLMOVE: heartbeats and looks.
		if most := sent["BLMOVE"] + 20*60/2; scripts > most {
			t.Errorf("so long a wait should cost at most %d scripts, it cost %v", most, sent)
		}
		start := time.Now()
		put(t, newQueue[int](t, client, "x", nil), 1, 2)
		<-getting.over
		<-receiving.over
		if getting.err != nil || receiving.err != nil || time.Since(start) > 100*time.Millisecond {
			t.Errorf("both should be served at once, it took %v, %v, %v", time.Since(start), getting.err, receiving.err)
		}
	})
}
