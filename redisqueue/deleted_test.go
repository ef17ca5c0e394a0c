package redisqueue_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// Delete forgets the consumers, those that wait in Redis included. What comes
// to one of them afterwards is claimed like anything else.
func TestWhoWaitsWhileTheQueueIsDeletedKeepsWhatComesNext(t *testing.T) {
	eachSite(t, &redisqueue.Options{TTL: short}, func(t *testing.T, s site) {
		blocked := s.w.Watch(redistest.Is("BLMOVE"))
		waiter := beginReceive(t, s.mine)
		blocked.Await(t)
		pause(50*time.Millisecond, waiter.over) // until it blocks
		remove(t, s.other)
		put(t, s.other, 1)
		d := waiter.returns(t, "Receive")
		awaitCounts(t, s.other, counts{claimed: 1})
		pause(2*short, d.Done())
		wantHeld(t, d)
		ack(t, d)
		awaitCounts(t, s.other, counts{})
	})
}

// A consumer that finds itself forgotten gives back what is in its list: nobody
// else knows of it.
func TestAForgottenConsumerStrandsNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		q := newQueue[int](t, client, name, &redisqueue.Options{TTL: short})
		put(t, q, 1)
		d := receive(t, q)
		if n := client.Del(soonCtx(t), "mh1:queue:{"+name+"}:consumers").Val(); n != 1 {
			t.Fatalf("there should be a consumer, %d were deleted", n)
		}
		await(t, d.Done(), "Done of a forgotten consumer's delivery")
		ack(t, wantReceived(t, q, 1, 2))
		remove(t, q)
	})
}

// Who works on an item does not go on until the next heartbeat when the queue is
// deleted.
func TestADeleteEndsDeliveriesAtOnce(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		put(t, s.other, 1, 2)
		mine, theirs := receive(t, s.mine), receive(t, s.other)
		remove(t, s.other)
		start := time.Now()
		wantLost(t, mine)
		wantLost(t, theirs)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("who holds something should hear of Delete at once, it took %v", took)
		}
		put(t, s.mine, 3)
		ack(t, wantReceived(t, s.other, 3, 1))
	})
}

// What is said of consumers by a command that arrives after Delete lapses, unless the
// queue is put into use again.
func TestWhatArrivesAfterADeleteLapses(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		again := func(c redistest.Command, change ...string) {
			t.Helper()
			s.resend(t, append(slices.Clone(c.Args[:len(c.Args)-len(change)]), change...))
		}
		ttls := func() map[string]time.Duration {
			all := map[string]time.Duration{}
			for _, part := range []string{"", "about", "consumers", "metadata", "gone"} {
				if ttl := s.direct.PTTL(soonCtx(t), key(s.name, part)).Val(); ttl != -2 {
					all[part] = ttl
				}
			}
			return all
		}
		claim, leave := s.w.Watch(script(t, "claim")), s.w.Watch(script(t, "leave"))
		register := s.w.Watch(redistest.All(redistest.Is("eval"), redistest.Has("register has")))
		waiter := beginReceive(t, s.mine)
		claimed, registered := claim.Await(t), register.Await(t)
		waiter.cancel()
		left := leave.Await(t)
		leave.AwaitReply(t)
		for what, arrive := range map[string]func(){
			"a claim":        func() { again(claimed) },
			"a registration": func() { again(registered) },
			"a leaving":      func() { again(left, "1") },
		} {
			put(t, s.other, 1)
			remove(t, s.other)
			arrive()
			lapsing := ttls()
			if len(lapsing) == 0 {
				t.Errorf("%s should have left something", what)
			}
			for key, ttl := range lapsing {
				if ttl <= 0 || ttl > 5*time.Minute {
					t.Errorf("after %s the key %q should lapse within 5 minutes, it has %v", what, key, ttl)
				}
			}
			put(t, s.other, 1)
			for key, ttl := range ttls() {
				if ttl != -1 {
					t.Errorf("after %s and a Put the key %q should stay, it has %v", what, key, ttl)
				}
			}
			remove(t, s.other)
		}
	})
}

// What another program pushes into a queue that nobody has put into is claimed for as
// long as the consumer lives, too.
func TestAClaimOfAQueueThatNobodyHasPutIntoStands(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		pushForeign(t, s)
		claimsForGood(t, s, beginReceive(t, s.mine))
	})
}

func TestAClaimOfAConsumerThatWaitsForAQueueThatNobodyHasPutIntoStands(t *testing.T) {
	eachSite(t, unhurried, func(t *testing.T, s site) {
		waiter := beginReceive(t, s.mine)
		redistest.EventuallyTrue(t, soon, "it waits", func() bool { return len(state(t, s.other).Consumers) == 1 })
		pushForeign(t, s)
		claimsForGood(t, s, waiter)
	})
}

func pushForeign(t *testing.T, s site) {
	t.Helper()
	if err := s.direct.RPush(soonCtx(t), key(s.name, ""), "7").Err(); err != nil {
		t.Fatal(err)
	}
}

func claimsForGood(t *testing.T, s site, waiter *call[*redisqueue.Delivery[int]]) {
	t.Helper()
	d := waiter.returns(t, "Receive")
	redistest.Eventually(t, soon, func() error {
		if ttl := s.direct.PTTL(soonCtx(t), key(s.name, "consumers")).Val(); ttl != -1 {
			return fmt.Errorf("the consumer should be known for as long as it lives, not for %v", ttl)
		}
		return nil
	})
	ack(t, d)
	remove(t, s.other)
}
