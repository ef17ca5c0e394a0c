package redistest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A wireCase runs a test of the wire through one kind of server: client makes
// clients through the wire, direct is one beside it.
type wireCase struct {
	w      *Wire
	client func(change ...func(*redis.UniversalOptions)) redis.UniversalClient
	direct redis.UniversalClient
	key    string
}

// eachWire runs a test in a bubble and on every server, in RESP2 and RESP3.
func eachWire(t *testing.T, test func(t *testing.T, c wireCase)) {
	t.Helper()
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("bubble/RESP%d", protocol), func(t *testing.T) {
			Bubble(t, func(t *testing.T, direct *redis.Client, m *miniredis.Miniredis) {
				w := NewWire(t)
				test(t, wireCase{w, func(change ...func(*redis.UniversalOptions)) redis.UniversalClient {
					return BubbleClient(t, m, func(o *redis.Options) {
						u := redis.UniversalOptions{Protocol: protocol}
						for _, c := range change {
							c(&u)
						}
						o.Protocol, o.MaxRetries, o.ReadTimeout = u.Protocol, u.MaxRetries, u.ReadTimeout
						w.ThroughBubble(o)
					})
				}, direct, Name(t)})
			})
		})
	}
	Each(t, func(t *testing.T, s *Server) {
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
				w := NewWire(t)
				c := wireCase{w, func(change ...func(*redis.UniversalOptions)) redis.UniversalClient {
					change = append(change, w.Through, func(o *redis.UniversalOptions) { o.Protocol = protocol })
					return s.Client(t, change...)
				}, s.Client(t), Name(t)}
				t.Cleanup(func() { c.direct.Del(context.Background(), c.key) })
				test(t, c)
			})
		}
	})
}

// once makes a client give up after one attempt, as far as it can: a cluster
// client tries other nodes.
func once(o *redis.UniversalOptions) { o.MaxRetries = -1 }

func TestAWireCountsAndChangesNothingByItself(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		ctx := t.Context()
		client := c.client()
		long := strings.Repeat("x", 100_000) + "\r\n*1\r\n"
		if err := client.Set(ctx, c.key, long, 0).Err(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if v, err := client.Get(ctx, c.key).Result(); v != long || err != nil {
				t.Fatalf("%d bytes, %v", len(v), err)
			}
		}
		cmds, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.StrLen(ctx, c.key)
			p.Get(ctx, c.key+"{none}")
			p.Do(ctx, "LPUSH", c.key, 1)
			return nil
		})
		if n, _ := cmds[0].(*redis.IntCmd).Result(); n != int64(len(long)) || err == nil {
			t.Errorf("pipeline: %v, %v", cmds, err)
		}
		counts := c.w.Counts()
		if counts["SET"] != 1 || counts["GET"] != 4 || counts["STRLEN"] != 1 {
			t.Errorf("%v", counts)
		}
	})
}

func TestADroppedReplyMeansExecutedTwiceWithRetries(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		client := c.client()
		lost := c.w.DropReply(All(Is("incr"), Has(c.key)))
		if n, err := client.Incr(t.Context(), c.key).Result(); n != 2 || err != nil {
			t.Errorf("%d, %v; the first reply was lost, so the second should say 2", n, err)
		}
		if got := lost.Await(t); got.Name != "INCR" || got.Args[1] != c.key {
			t.Error(got)
		}
	})
}

func TestADroppedCommandIsNeverExecuted(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		client := c.client()
		lost := c.w.DropCommand(Nth(2, Is("incr")))
		for want := range int64(3) {
			if n, err := client.Incr(t.Context(), c.key).Result(); n != want+1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		if !lost.Struck() || c.w.Counts()["INCR"] != 4 {
			t.Errorf("%v", c.w.Counts())
		}
	})
}

func TestAHeldReplyWaitsWhileTheCommandIsExecuted(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		client := c.client()
		held := c.w.HoldReply(Is("incr"))
		got := make(chan int64, 1)
		go func() { got <- client.Incr(t.Context(), c.key).Val() }()
		held.Await(t)
		if n, err := c.direct.Get(t.Context(), c.key).Int(); n != 1 {
			t.Errorf("%d, %v", n, err)
		}
		select {
		case n := <-got:
			t.Errorf("the reply %d arrived", n)
		default:
		}
		held.Release()
		if n := <-got; n != 1 {
			t.Error(n)
		}
	})
}

func TestAHeldCommandArrivesAfterItsClientHasGone(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		ctx := t.Context()
		client := c.client()
		held := c.w.HoldCommand(All(Is("set"), Has("first")))
		done := make(chan error, 1)
		go func() { done <- client.Set(ctx, c.key, "first", 0).Err() }()
		held.Await(t)
		held.Hangup() // the client dials again and repeats the command
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := client.Set(ctx, c.key, "second", 0).Err(); err != nil {
			t.Fatal(err)
		}
		held.Release()
		held.AwaitReply(t)
		if v := c.direct.Get(ctx, c.key).Val(); v != "first" {
			t.Errorf("%q, but the old bytes came last", v)
		}
	})
}

func TestADroppedHeldCommandIsLost(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		client := c.client(once)
		held := c.w.HoldCommand(Is("set"))
		done := make(chan error, 1)
		go func() { done <- client.Set(t.Context(), c.key, "v", 0).Err() }()
		held.Await(t)
		held.Drop()
		<-done // an error, but for a cluster client that asked again
		if n := c.w.Counts()["SET"]; n == 1 && c.direct.Exists(t.Context(), c.key).Val() != 0 {
			t.Error("the command was executed")
		}
	})
}

func TestAPartitionIsSilentAndHealsLate(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		ctx := t.Context()
		client := c.client(once, func(o *redis.UniversalOptions) { o.ReadTimeout = 50 * time.Millisecond })
		var err error
		EventuallyTrue(t, Scale(10*time.Second), "the command is sent", func() bool {
			// A client without a connection, after a timeout of 50 ms on a machine that
			// stood still, has to dial first, which it cannot during the partition.
			c.w.Heal()
			if client.Set(ctx, c.key, 0, 0).Err() != nil {
				return false
			}
			c.w.Partition()
			err = client.Incr(ctx, c.key).Err()
			return c.w.Counts()["INCR"] > 0
		})
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v instead of a timeout", err)
		}
		if n, _ := c.direct.Get(ctx, c.key).Int(); n != 0 {
			t.Errorf("%d during the partition", n)
		}
		c.w.Heal()
		Eventually(t, 10*time.Second, func() error {
			n, err := c.direct.Get(ctx, c.key).Int()
			if err == nil && n < 1 {
				err = errors.New("what was sent before has not arrived")
			}
			return err
		})
	})
}

func TestADownWireRefusesAndCuts(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		ctx := t.Context()
		client := c.client(once)
		if err := client.Set(ctx, c.key, 0, 0).Err(); err != nil {
			t.Fatal(err)
		}
		c.w.Down()
		if n := c.w.Conns(); n != 0 {
			t.Errorf("%d connections", n)
		}
		if err := client.Get(ctx, c.key).Err(); err == nil {
			t.Error("an answer")
		}
		c.w.Up()
		if err := client.Get(ctx, c.key).Err(); err != nil {
			t.Error(err)
		}
	})
}

// A dial that was under way when the wire went down once stopped the wire for
// good: it was cut while the wire was locked.
func TestADialUnderWayWhenTheWireGoesDownIsCut(t *testing.T) {
	Bubble(t, func(t *testing.T, _ *redis.Client, m *miniredis.Miniredis) {
		w := NewWire(t)
		dial := w.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			w.Down()
			return BubbleDialer(m)(ctx, network, addr)
		})
		conn, err := dial(t.Context(), "tcp", "127.0.0.1:6379")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("reading from it: %v", err)
		}
		w.Up()
		if n := w.Conns(); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestPubSubCanBeCutAloneAndItsMessagesLostOrHeld(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		ctx := t.Context()
		client := c.client()
		client.Ping(ctx)
		sub := client.Subscribe(ctx, c.key)
		defer sub.Close()
		receive := func() string {
			t.Helper()
			v, err := sub.ReceiveTimeout(ctx, awaitWithin)
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := v.(*redis.Message); ok {
				return m.Payload
			}
			return v.(*redis.Subscription).Kind
		}
		publish := func(payload string) {
			t.Helper()
			node := c.direct
			if cluster, ok := node.(*redis.ClusterClient); ok {
				// Always the same node: messages of different nodes overtake each other.
				var err error
				if node, err = cluster.MasterForKey(ctx, c.key); err != nil {
					t.Fatal(err)
				}
			}
			if err := node.Publish(ctx, c.key, payload).Err(); err != nil {
				t.Fatal(err)
			}
		}
		want := func(want string) {
			t.Helper()
			if got := receive(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		want("subscribe")
		if n, all := c.w.PubSubConns(), c.w.Conns(); n != 1 || all < 2 {
			t.Errorf("%d of %d connections are for pub/sub", n, all)
		}
		c.w.DropMessages("lost")
		publish("lost")
		publish("one")
		want("one")
		c.w.KeepMessages()

		held := c.w.HoldMessage("two")
		publish("two")
		held.Await(t)
		publish("three")
		held.Release()
		want("two")
		want("three")

		c.w.CutPubSub()
		if n := c.w.PubSubConns(); n != 0 {
			t.Errorf("%d pub/sub connections after the cut", n)
		}
		if v, err := sub.Receive(ctx); err == nil {
			t.Errorf("%v from a cut connection", v)
		}
		if err := client.Set(ctx, c.key, 1, 0).Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestTheConfirmationOfASubscriptionCanBeHeld(t *testing.T) {
	eachWire(t, func(t *testing.T, c wireCase) {
		ctx := t.Context()
		client := c.client()
		held := c.w.HoldReply(Is("subscribe"))
		sub := client.Subscribe(ctx, c.key)
		defer sub.Close()
		held.Await(t)
		if n := c.direct.PubSubNumSub(ctx, c.key).Val()[c.key]; n == 0 && !clustered(c.direct) {
			t.Error("the server does not know of the subscription")
		}
		held.Release()
		if v, err := sub.Receive(ctx); err != nil {
			t.Error(v, err)
		}
	})
}

// clustered: PUBSUB NUMSUB then asks any node, not the one subscribed on.
func clustered(c redis.UniversalClient) bool {
	_, ok := c.(*redis.ClusterClient)
	return ok
}
