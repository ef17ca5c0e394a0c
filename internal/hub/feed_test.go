package hub

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
)

func TestPINGIsSentOnceASecondWhileATopicIsHeldAndOnlyThen(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		inBubble(t, func(t *testing.T, b bubble) {
			pings := func(d time.Duration) int {
				before := b.wire.Counts()["PING"]
				time.Sleep(d)
				return b.wire.Counts()["PING"] - before
			}
			send(t, b.hub, &Call{Args: []any{"ECHO", "x"}})
			if n := pings(10 * time.Second); n != 0 {
				t.Errorf("without a topic there should be no PING, there were %d", n)
			}
			topics := []*ear{listen(b.hub, b.key), listen(b.hub, b.key+"2")}
			for _, e := range topics {
				e.Hold()
				e.ready(t, false)
			}
			if n := pings(60*time.Second + time.Millisecond); n != 60 {
				t.Errorf("in a minute there should be 60 PINGs, there were %d", n)
			}
			if n := b.wire.Dialled(); n != 2 {
				t.Errorf("PONGs should be understood (RESP%d) and the connection stay, %d were dialled", protocol, n)
			}
			for _, e := range topics {
				e.Drop()
			}
			time.Sleep(2 * Linger)
			if n := pings(10 * time.Second); n != 0 || b.wire.PubSubConns() != 0 {
				t.Errorf("after the last topic there should be no PING and no subscription, there were %d and %d", n, b.wire.PubSubConns())
			}
		}, func(o *redis.Options) { o.Protocol = protocol })
	}
}

// go-redis's own health check never asks for the PONG.
func TestAPeerThatSwallowsPONGsIsNoticed(t *testing.T) {
	for nth := 1; nth <= 3; nth++ {
		inBubble(t, func(t *testing.T, b bubble) {
			e := listen(b.hub, b.key)
			e.Hold()
			defer e.Drop()
			e.ready(t, false)
			swallowed := b.wire.HoldReply(redistest.Nth(nth, redistest.Is("ping")))
			swallowed.Await(t)
			start := clock.Now()
			e.ready(t, true)
			d := clock.Since(start)
			t.Logf("a new subscription %v after the PING", d)
			if d > silence+50*time.Millisecond {
				t.Errorf("a missing PONG should be noticed within %v, it took %v", silence, d)
			}
			b.direct.Publish(t.Context(), b.key, "x")
			e.hears(t, "x")
		})
	}
}

func TestASUBSCRIBEWithoutAnAnswerIsNoticed(t *testing.T) {
	for nth := 1; nth <= 3; nth++ {
		inBubble(t, func(t *testing.T, b bubble) {
			swallowed := b.wire.HoldReply(redistest.Nth(nth, redistest.Is("subscribe")))
			for i := range 3 {
				e := listen(b.hub, fmt.Sprint(b.key, i))
				start := clock.Now()
				e.Hold()
				defer e.Drop()
				if i == nth-1 {
					swallowed.Await(t)
				}
				<-e.readies
				if d := clock.Since(start); d > silence+50*time.Millisecond {
					t.Errorf("a missing answer should be noticed within %v, it took %v", silence, d)
				}
				time.Sleep(300 * time.Millisecond)
			}
			b.direct.Publish(t.Context(), b.key+"0", "x")
		})
	}
}

func TestASilentPartitionIsNoticed(t *testing.T) {
	for _, phase := range []time.Duration{0, 100 * time.Millisecond, 900 * time.Millisecond} {
		inBubble(t, func(t *testing.T, b bubble) {
			e := listen(b.hub, b.key)
			e.Hold()
			defer e.Drop()
			e.ready(t, false)
			time.Sleep(5*time.Second + phase)
			b.wire.Partition()
			start := clock.Now()
			for b.wire.PubSubConns() > 0 && clock.Since(start) < time.Minute {
				time.Sleep(10 * time.Millisecond)
			}
			d := clock.Since(start)
			t.Logf("given up after %v, silent %v after a PING", d, phase)
			if d > silence+beat {
				t.Errorf("silence should be noticed within %v and the pause to the next PING, it took %v", silence, d)
			}
			// While it is silent: no storm.
			before := b.wire.Dialled()
			time.Sleep(time.Minute)
			if n := b.wire.Dialled() - before; n > 60 {
				t.Errorf("a silent server should be dialled every few seconds, it was %d times a minute", n)
			}
			b.wire.CutAll()
			b.wire.Heal()
			e.ready(t, true)
			b.direct.Publish(t.Context(), b.key, "x")
			e.hears(t, "x")
		})
	}
}

func TestASubscriptionComesBackAfterACut(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		direct := s.Client(t)
		h := hubOf(t, s.Client(t, wire.Through))
		topics := []*ear{listen(h, "{"+name+"}a"), listen(h, "{"+name+"}b")}
		for _, e := range topics {
			e.Hold()
			defer e.Drop()
			e.ready(t, false)
		}
		for range 3 {
			wire.CutPubSub()
			for i, e := range topics {
				e.ready(t, true)
				publish(t, direct, "{"+name+"}"+string(rune('a'+i)), "x")
				e.hears(t, "x")
			}
		}
		if n := wire.PubSubConns(); n != 1 {
			t.Errorf("there should be one subscription connection, there are %d", n)
		}
	})
}

// publish sends a message as the scripts do: sharded in a cluster.
func publish(t testing.TB, client redis.UniversalClient, channel, payload string) {
	t.Helper()
	send := client.Publish
	if _, ok := client.(*redis.ClusterClient); ok {
		send = client.SPublish
	}
	if n, err := send(soonCtx(t), channel, payload).Result(); n != 1 || err != nil {
		t.Fatalf("one subscriber should get the message, %d do, %v", n, err)
	}
}

func TestAServerThatIsDownIsDialledTwiceASecond(t *testing.T) {
	var dials atomic.Int32
	inBubble(t, func(t *testing.T, b bubble) {
		e := listen(b.hub, b.key)
		e.Hold()
		defer e.Drop()
		e.ready(t, false)
		b.wire.Down()
		time.Sleep(10 * time.Second)
		dials.Store(0)
		time.Sleep(time.Minute)
		if n := dials.Load(); n < 110 || n > 130 {
			t.Errorf("a server that is down should be dialled about twice a second, it was %d times a minute", n)
		}
		b.wire.Up()
		time.Sleep(time.Second)
		synctest.Wait()
		e.ready(t, true)
	}, func(o *redis.Options) {
		next := o.Dialer
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return next(ctx, network, addr)
		}
	})
}

// No message tells more than is true about when it was sent: that is what a
// grant's deadline is counted from.
func TestAMessageWasNotSentBeforeTheMomentThatComesWithIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		e := listen(b.hub, b.key)
		start := clock.Now()
		e.Hold()
		defer e.Drop()
		e.ready(t, false)

		want := func(when string, at time.Duration, m heard) {
			t.Helper()
			if got := m.after.Sub(start); got != at {
				t.Errorf("%s the message should be known to be sent after %v, it says %v", when, at, got)
			}
		}
		b.direct.Publish(t.Context(), b.key, "at 0 s")
		want("after the confirmation", 0, e.hears(t, "at 0 s"))
		time.Sleep(1500 * time.Millisecond)
		b.direct.Publish(t.Context(), b.key, "at 1.5 s")
		want("after a PONG", time.Second, e.hears(t, "at 1.5 s"))

		// A PONG that comes late counts from its PING.
		slow := b.wire.HoldReply(redistest.Is("ping"))
		slow.Await(t) // at 2 s
		time.Sleep(300 * time.Millisecond)
		b.direct.Publish(t.Context(), b.key, "at 2.3 s")
		time.Sleep(300 * time.Millisecond)
		slow.Release()
		want("after a late PONG", 2*time.Second, e.hears(t, "at 2.3 s"))

		// A message that waits on its way does not grow younger by what comes
		// after it.
		late := b.wire.HoldMessage(b.key)
		b.direct.Publish(t.Context(), b.key, "at 2.6 s")
		late.Await(t)
		time.Sleep(1200 * time.Millisecond) // a PING meanwhile
		late.Release()
		want("when the message is late", 2*time.Second, e.hears(t, "at 2.6 s"))

		// A new connection begins with its own confirmation.
		time.Sleep(time.Second)
		b.wire.CutPubSub()
		e.ready(t, true)
		resubscribed := clock.Since(start)
		b.direct.Publish(t.Context(), b.key, "at last")
		if got := e.hears(t, "at last").after.Sub(start); got > resubscribed || got < resubscribed-20*time.Millisecond {
			t.Errorf("after a new subscription at %v a message should be known to be sent after that, it says %v", resubscribed, got)
		}
	})
}
