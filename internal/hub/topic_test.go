package hub

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

func TestHoldSubscribesOnceAndSaysWhetherThatStands(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		direct := s.Client(t)
		h := hubOf(t, s.Client(t, wire.Through))
		e := listen(h, name)
		if e.Hold() {
			t.Error("Hold should say false until the subscription is confirmed")
		}
		defer e.Drop()
		e.ready(t, false)
		for range 5 {
			if !e.Hold() {
				t.Error("Hold should say true when the subscription stands")
			}
			defer e.Drop()
		}
		publish(t, direct, name, "x")
		e.hears(t, "x")
		if n := wire.Counts(); n["SUBSCRIBE"]+n["SSUBSCRIBE"] != 1 {
			t.Errorf("there should be one subscription however often it is held, sent was %v", n)
		}
	})
}

func TestEachTopicHearsItsOwnChannelInOrder(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		direct := s.Client(t)
		h := hubOf(t, s.Client(t))
		var topics []*ear
		for i := range 10 {
			e := listen(h, fmt.Sprint(name, i)) // of several nodes, in a cluster
			e.Hold()
			defer e.Drop()
			topics = append(topics, e)
		}
		for _, e := range topics {
			e.ready(t, false)
		}
		for m := range 20 {
			for i := range topics {
				publish(t, direct, fmt.Sprint(name, i), fmt.Sprint(i, ":", m))
			}
		}
		for i, e := range topics {
			for m := range 20 {
				e.hears(t, fmt.Sprint(i, ":", m))
			}
		}
	})
}

// go-redis holds one lock while it writes to a pub/sub connection and before each
// read: a second SUBSCRIBE, written while the server was still writing the answer
// to the first, stopped both sides for ever.
func TestTopicsComeAndGoOverAConnectionWithoutABuffer(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		for range 20 {
			bare := redistest.BubbleClient(t, b.m)
			h := Use(bare, bare) // its connections as they are, a net.Pipe each
			var all sync.WaitGroup
			for i := range 5 {
				all.Go(func() {
					e := listen(h, fmt.Sprint(b.key, i))
					for range 3 {
						e.Hold()
						e.ready(t, false)
						time.Sleep(time.Duration(i) * time.Second) // a PING now and then
						e.Drop()
						time.Sleep(2 * Linger)
					}
				})
			}
			all.Wait()
			h.Done()
		}
	})
}

func TestManyTopicsAtOnceTakeFewCommands(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a command for each channel: two may be of two slots")
		const n = 1000
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		direct := s.Client(t)
		h := hubOf(t, s.Client(t, wire.Through))
		kept := listen(h, name) // keeps the connection
		kept.Hold()
		defer kept.Drop()
		kept.ready(t, false)
		few := func(command string, most int) {
			t.Helper()
			if got := wire.Counts()[command]; got > most {
				t.Errorf("%d topics should take %d times %s at most, it was sent %d times", n, most, command, got)
			}
		}
		// The first answer of each kind is held until all have asked.
		asked := func(to string, left int) {
			t.Helper()
			redistest.EventuallyTrue(t, soon, "all have asked to "+to, func() bool { return len(h.link(nil).feed.all()) == left })
		}
		first := wire.HoldReply(redistest.Is("subscribe"))
		topics := make([]*ear, n)
		for i := range topics {
			topics[i] = listen(h, fmt.Sprint(name, i))
			topics[i].Hold()
		}
		asked("join", n+1)
		first.Release()
		for _, e := range topics {
			e.ready(t, false)
		}
		few("SUBSCRIBE", 4) // that of kept, the first, and two of at most maxBatch channels
		wire.CutPubSub()
		for _, e := range topics {
			e.ready(t, true)
		}
		few("SUBSCRIBE", 6)
		first = wire.HoldReply(redistest.Is("unsubscribe"))
		for _, e := range topics {
			e.Drop()
		}
		asked("leave", 1)
		first.Release()
		redistest.EventuallyTrue(t, soon, "the server has no subscription but one", func() bool {
			channels, err := direct.PubSubChannels(soonCtx(t), name+"*").Result()
			return err == nil && len(channels) == 1
		})
		few("UNSUBSCRIBE", 3)
	})
}

func TestADroppedTopicLingers(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		other := listen(b.hub, b.key+"other") // keeps the connection
		other.Hold()
		defer other.Drop()
		other.ready(t, false)
		e := listen(b.hub, b.key)
		e.Hold()
		e.ready(t, false)
		subscribers := func() int64 { return b.direct.PubSubNumSub(t.Context(), b.key).Val()[b.key] }
		for range 3 { // held again in time
			e.Drop()
			time.Sleep(Linger - time.Millisecond)
			if !e.Hold() {
				t.Error("a topic that is held again within the linger should stand")
			}
		}
		time.Sleep(10 * Linger)
		if n := b.wire.Counts()["SUBSCRIBE"]; n != 2 || subscribers() != 1 {
			t.Errorf("it should stay subscribed, with 2 SUBSCRIBEs in all, there were %d", n)
		}
		e.Drop()
		time.Sleep(Linger + time.Millisecond)
		synctest.Wait()
		if subscribers() != 0 || b.wire.Counts()["UNSUBSCRIBE"] != 1 {
			t.Errorf("after the linger it should be unsubscribed, %d subscribers are left", subscribers())
		}
		e.Hold()
		e.ready(t, false)
		e.Drop()
		if n := b.wire.Dialled(); n != 1 {
			t.Errorf("all of this should take one connection, %d were dialled", n)
		}
	})
}

// The registry of local objects forgets faster than a topic does: the next
// object for the same channel brings another topic.
func TestATopicTakesOverTheChannelOfOneThatLingers(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		for range 5 {
			old := listen(b.hub, b.key)
			old.Hold()
			synctest.Wait()
			old.Drop()
			time.Sleep(Linger / 2)
			e := listen(b.hub, b.key)
			e.Hold()
			e.ready(t, false)
			time.Sleep(10 * Linger) // old has expired
			b.direct.Publish(t.Context(), b.key, "x")
			e.hears(t, "x")
			if len(old.messages) > 0 {
				t.Error("a topic that was dropped should hear nothing")
			}
			e.Drop()
			time.Sleep(Linger / 2)
		}
	})
}

func TestADeafTopicIsSubscribedAnew(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		h := hubOf(t, s.Client(t, wire.Through))
		e := listen(h, name)
		e.Deaf() // not held: nothing to do
		e.Hold()
		defer e.Drop()
		e.ready(t, false)
		before := wire.Dialled()
		e.Deaf()
		e.ready(t, true)
		if wire.Dialled() == before {
			t.Error("a topic that is deaf should be dialled anew")
		}
	})
}

func TestTopicsSurviveAnyOrderOfHoldDropAndCut(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		direct := s.Client(t)
		client := s.Client(t, wire.Through)
		h := Use(client, nil)
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				topic := h.Topic(fmt.Sprintf("{%s}%d", name, g%3), func(string, time.Time) {}, func(bool) {})
				for i := range 100 {
					topic.Hold()
					if i%25 == 24 {
						wire.CutPubSub()
					}
					topic.Drop()
				}
			})
		}
		all.Wait()
		e := listen(h, "{"+name+"}0")
		e.Hold()
		redistest.EventuallyTrue(t, soon, "the channel is heard", func() bool {
			_ = direct.Publish(soonCtx(t), "{"+name+"}0", "x")
			_ = direct.SPublish(soonCtx(t), "{"+name+"}0", "x")
			return len(e.messages) > 0
		})
		e.Drop()
		h.Done()
		redistest.NoLeaks(t, s, name)
	})
}

func TestAliveSaysWhetherMessagesComeIn(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		e := listen(b.hub, b.key)
		e.Hold()
		defer e.Drop()
		want := func(alive bool, why string) {
			t.Helper()
			if e.Alive() != alive {
				t.Errorf("%s, so Alive should be %v", why, alive)
			}
		}
		want(true, "it has just been asked for")
		e.ready(t, false)
		time.Sleep(time.Minute)
		want(true, "PONGs come")
		b.wire.Partition()
		time.Sleep(1500 * time.Millisecond)
		want(false, "a PONG is missing")
		time.Sleep(time.Minute)
		want(false, "nothing comes through")
		b.wire.CutAll()
		b.wire.Heal()
		e.ready(t, true)
		want(true, "it is subscribed again")
		b.wire.Down()
		time.Sleep(time.Second)
		want(false, "the server refuses")
		b.wire.Up()
		e.ready(t, true)
		want(true, "it is subscribed again")
	})
}

// slotOwner is a master of the cluster, by its id.
type slotOwner struct {
	client *redis.Client
	id     string
}

// masters returns the masters of the cluster, and which of them owns the slot
// of a key.
func masters(t testing.TB, cluster *redis.ClusterClient, key string) (all []slotOwner, owner int) {
	t.Helper()
	var mu sync.Mutex
	node, err := cluster.MasterForKey(soonCtx(t), key)
	if err == nil {
		err = cluster.ForEachMaster(soonCtx(t), func(ctx context.Context, c *redis.Client) error {
			id, err := c.Do(ctx, "CLUSTER", "MYID").Text()
			mu.Lock()
			defer mu.Unlock()
			if c.Options().Addr == node.Options().Addr {
				owner = len(all)
			}
			all = append(all, slotOwner{c, id})
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return all, owner
}

// move gives an empty slot to another master, as CLUSTER commands do it.
func move(t testing.TB, all []slotOwner, slot int64, from, to int) {
	t.Helper()
	steps := []struct {
		at   int
		args []any
	}{
		{to, []any{"IMPORTING", all[from].id}},
		{from, []any{"MIGRATING", all[to].id}},
		{to, []any{"NODE", all[to].id}},
		{from, []any{"NODE", all[to].id}},
	}
	for i := range all {
		if i != from && i != to {
			steps = append(steps, struct {
				at   int
				args []any
			}{i, []any{"NODE", all[to].id}})
		}
	}
	for _, s := range steps {
		args := append([]any{"CLUSTER", "SETSLOT", slot}, s.args...)
		if err := all[s.at].client.Do(context.Background(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
}

// The old node ends the subscription unasked, and go-redis does not mind.
func TestATopicFollowsItsSlotToAnotherNode(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, !s.Cluster, "not a cluster")
		name := redistest.Name(t)
		direct := s.Client(t).(*redis.ClusterClient)
		h := hubOf(t, s.Client(t))
		one, two := listen(h, "{"+name+"}a"), listen(h, "{"+name+"}b")
		other := listen(h, name+"-of-another-slot")
		for _, e := range []*ear{one, two, other} {
			e.Hold()
			defer e.Drop()
			e.ready(t, false)
		}
		slot, err := direct.ClusterKeySlot(soonCtx(t), "{"+name+"}").Result()
		if err != nil {
			t.Fatal(err)
		}
		all, from := masters(t, direct, "{"+name+"}")
		home := from
		defer func() { move(t, all, slot, from, home) }()
		for range 2 {
			to := (from + 1) % len(all)
			move(t, all, slot, from, to)
			from = to
			for _, e := range []*ear{one, two} { // both are of that slot
				if again := await(t, e.readies, "the new subscription"); !again {
					t.Error("ready should be told again=true, got false")
				}
			}
			for i, e := range []*ear{one, two} {
				channel := "{" + name + "}" + string(rune('a'+i))
				if n, err := all[to].client.SPublish(soonCtx(t), channel, "x").Result(); n != 1 || err != nil {
					t.Fatalf("the new node should have one subscriber, it has %d, %v", n, err)
				}
				e.hears(t, "x")
			}
			// A script for the slot finds it too.
			send(t, h, &Call{Script: incr, Keys: []string{"{" + name + "}"}, Attempts: 10})
			if err := all[to].client.Del(soonCtx(t), "{"+name+"}").Err(); err != nil { // empty again
				t.Fatal(err)
			}
		}
		redistest.EventuallyTrue(t, soon, "a topic of another slot is heard still", func() bool {
			_ = direct.SPublish(soonCtx(t), name+"-of-another-slot", "x")
			return len(other.messages) > 0
		})
	})
}
