package redisqueue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// A consumer that has lost the answer to a claim reads its list. An Ack that
// is carried out between the reading and its answer must not make the item look
// like the one that was lost.
func TestAnItemAcknowledgedWhileTheListIsReadDoesNotComeAgain(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 1, 2)
		first := wantReceived(t, s.mine, 1, 1)
		s.w.DropReply(script(t, "claim"))
		reading := s.w.HoldReply(redistest.Is("LRANGE"))
		var again *call[*delivery]
		for { // the first attempt may say ErrUnavailable
			again = beginReceive(t, s.mine)
			select {
			case <-again.over:
				continue
			case <-struck(t, reading):
			}
			break
		}
		ack(t, first)
		reading.Release()
		if d := again.returns(t, "Receive"); d.Value() != 2 {
			t.Errorf("item 2 should come, not the one that was acknowledged, got %d", d.Value())
		}
	})
}

// struck is closed when the fault has happened and was answered by the server.
func struck(t *testing.T, f *redistest.Fault) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		f.AwaitReply(t)
		close(c)
	}()
	return c
}

// A heartbeat that finds more claims than the process knows of has the list read.
// What a Receive claims meanwhile is not lost, it is just being answered: giving
// it back would put one item into two hands.
func TestAnItemClaimedWhileTheListIsReadIsNotGivenBack(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, direct *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		load(t, direct)
		opts := &redisqueue.Options{TTL: 30 * time.Second}
		mine := newQueue[int](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", opts)
		other := newQueue[int](t, direct, "x", opts)
		put(t, other, 1, 2)
		a, b := wantReceived(t, mine, 1, 1), wantReceived(t, mine, 2, 1)
		beat := w.HoldReply(script(t, "beat"))
		reading := w.HoldCommand(redistest.Is("LRANGE"))
		beat.AwaitReply(t) // it tells of two claims
		ack(t, a)
		beat.Release()
		reading.Await(t)
		put(t, other, 3)
		claiming := w.HoldReply(script(t, "claim"))
		receiving := beginReceive(t, mine)
		claiming.AwaitReply(t)
		reading.Release()
		synctest.Wait()
		time.Sleep(time.Second)
		claiming.Release()
		d := receiving.returns(t, "Receive")
		wantHeld(t, d)
		wantEmpty(t, other)
		wantCounts(t, other, counts{claimed: 2})
		ack(t, d)
		ack(t, b)
		wantCounts(t, other, counts{})
	})
}

// While an item that came to the command that blocks is on its way to who waits, it is
// found in the list as well, and meanwhile fewer wait.
func TestAnItemThatCameAndIsReadInTheListDoesNotGoBack(t *testing.T) {
	eachSite(t, &redisqueue.Options{TTL: short}, func(t *testing.T, s site) {
		came := s.w.HoldReply(redistest.Is("BLMOVE"))
		first, second := beginReceive(t, s.mine), beginReceive(t, s.mine)
		pause(100*time.Millisecond, first.over) // until it blocks
		put(t, s.other, 1)
		awaitCounts(t, s.other, counts{claimed: 1})
		s.w.Watch(script(t, "beat")).AwaitReply(t) // there is an item that nobody knows
		pause(short/20, first.over)
		reading := s.w.HoldReply(redistest.Is("LRANGE"))
		came.Release()
		reading.Await(t)
		second.cancel()
		wantErr(t, "a cancelled Receive", second.fails(t, "Receive"), errCanceled)
		reading.Release()
		ack(t, first.returns(t, "Receive"))
		awaitCounts(t, s.other, counts{})
	})
}
