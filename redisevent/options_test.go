package redisevent_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

func TestNewRefusesWhatItCannotUseAndSaysWhatIsAllowed(t *testing.T) {
	good := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	for _, c := range []interface{ Close() error }{good, cluster, ring} {
		defer c.Close()
	}
	for what, c := range map[string]struct {
		client redis.UniversalClient
		name   string
		opts   *redisevent.Options
		says   string
	}{
		"no client":               {nil, "n", nil, "nil"},
		"a nil *redis.Client":     {(*redis.Client)(nil), "n", nil, "nil"},
		"a nil cluster client":    {(*redis.ClusterClient)(nil), "n", nil, "nil"},
		"a ring":                  {ring, "n", nil, "*redis.Ring"},
		"a client without order":  {incomparable{UniversalClient: good}, "n", nil, "cannot be compared"},
		"no name":                 {good, "", nil, "empty"},
		"a long name":             {good, strings.Repeat("n", 513), nil, "513 bytes"},
		"a long name in Chinese":  {good, strings.Repeat("事", 171), nil, "513 bytes"},
		"a name that is not text": {good, "a\xffb", nil, "UTF-8"},
		"a line end in the name":  {good, "a\nb", nil, "control character"},
		"a zero in the name":      {good, "a\x00b", nil, "control character"},
		"a long namespace":        {good, "n", &redisevent.Options{Namespace: strings.Repeat("n", 513)}, "namespace"},
		"a tab in the namespace":  {good, "n", &redisevent.Options{Namespace: "a\tb"}, "namespace"},
		"a short TTL":             {good, "n", &redisevent.Options{TTL: 10*time.Millisecond - 1}, "10ms"},
		"a negative TTL":          {good, "n", &redisevent.Options{TTL: -time.Second}, "TTL"},
		"a long TTL":              {good, "n", &redisevent.Options{TTL: 366 * 24 * time.Hour}, "TTL"},
		"a nil ControlClient":     {good, "n", &redisevent.Options{ControlClient: (*redis.Client)(nil)}, "ControlClient"},
		"a ring as ControlClient": {good, "n", &redisevent.Options{ControlClient: ring}, "ControlClient"},
		"a cluster controlling":   {good, "n", &redisevent.Options{ControlClient: cluster}, "ControlClient"},
		"a controlled cluster":    {cluster, "n", &redisevent.Options{ControlClient: good}, "ControlClient"},
	} {
		t.Run(what, func(t *testing.T) {
			e, err := redisevent.New(c.client, c.name, c.opts)
			if err == nil || e != nil {
				t.Fatalf("New should return an error and nothing else, got %v, %v", e, err)
			}
			if s := err.Error(); !strings.HasPrefix(s, "redisevent: new ") || !strings.Contains(s, c.says) ||
				!strings.Contains(s, "allowed") && !strings.Contains(s, "leave it nil") {
				t.Errorf("the error should mention %q and what is allowed, got %v", c.says, err)
			}
		})
	}
}

// incomparable cannot be the key of a map.
type incomparable struct {
	redis.UniversalClient
	_ []int
}

func TestNewTakesWhatIsAllowedAndDoesNoIO(t *testing.T) {
	client := redis.NewClient(&redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		t.Error("New should not dial")
		return nil, errors.New("no server")
	}})
	defer client.Close()
	for _, name := range awkwardNames {
		for _, opts := range []*redisevent.Options{
			nil, {}, {TTL: 10 * time.Millisecond}, {TTL: 365 * 24 * time.Hour}, {Namespace: name}, {ControlClient: client},
		} {
			newEvent(t, client, name, opts)
		}
	}
}

// awkwardNames are allowed.
var awkwardNames = []string{
	"a", " ", "{", "}", "{}", "{a}b", "}{", "%7B", "a b  c", "事件", "🎉", "a:b", "*?[x]", "\"quoted\"",
	strings.Repeat("n", 512), strings.Repeat("{", 512), strings.Repeat("事", 170) + "nn",
}

func TestEveryAllowedNameIsAnEventOfItsOwn(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, other := s.Client(t), s.Client(t)
		space := redistest.Name(t)
		opts := func() redisevent.Options { return redisevent.Options{Namespace: space} }
		var waiters []*waiter
		for _, name := range awkwardNames {
			waiters = append(waiters, begin(t, client, name, opts()))
		}
		for i, name := range awkwardNames {
			waiters[i].stillWaits(t, "only events of other names were set")
			e := newEvent(t, other, name, &redisevent.Options{Namespace: space})
			change(t, e, "Set")
			waiters[i].released(t)
			wantState(t, e, redisevent.State{Set: true, Changes: 1})
			change(t, e, "Delete")
		}
		redistest.NoLeaks(t, s, space)
	})
}

func TestKeysAreThoseOfThePackageDoc(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		e := newEvent(t, b.client, "n:{}%", &redisevent.Options{Namespace: "a:{}%"})
		change(t, e, "Set")
		const event = "mh1:a%3A%7B%7D%25:event:{n:%7B%7D%25}"
		want := []string{event, event + ":asked", event + ":count"}
		if got := b.m.Keys(); !slices.Equal(got, want) {
			t.Errorf("the keys should be %q, got %q", want, got)
		}
		if ttl := b.m.TTL(event + ":asked"); ttl != 5*time.Minute {
			t.Errorf("the ids of changes should be kept for 5 min, they are for %v", ttl)
		}
	})
}

func TestNamespacesKeepEventsOfOneNameApart(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		spaces := []string{"", "a", "b", "a:event", "a%3A", "{a}", name}
		var all []*redisevent.Event
		for i, space := range spaces {
			all = append(all, newEvent(t, client, name, &redisevent.Options{Namespace: space}))
			for range i + 1 {
				change(t, all[i], "Pulse")
			}
		}
		for i, e := range all {
			wantState(t, e, redisevent.State{Changes: uint64(i + 1)})
		}
		w := begin(t, client, name, redisevent.Options{Namespace: "a"})
		for i, e := range all {
			if spaces[i] != "a" {
				change(t, e, "Set")
				w.stillWaits(t, "the event of another namespace was set")
			}
		}
		change(t, all[1], "Set")
		w.released(t)
		for _, e := range all {
			change(t, e, "Delete")
		}
	})
}

func TestDatabasesKeepEventsOfOneNameApart(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a cluster has but one database")
		in := func(db int) redis.UniversalClient {
			return s.Client(t, func(o *redis.UniversalOptions) { o.DB = db })
		}
		name := redistest.Name(t)
		zero, one := in(0), in(1)
		w0, w1 := begin(t, zero, name), begin(t, one, name)
		subscribed(t, zero, name, 1)
		subscribed(t, one, name, 1)
		e := newEvent(t, in(0), name, nil)
		change(t, e, "Set", "Clear", "Pulse")
		w0.released(t)
		w1.stillWaits(t, "the event of another database was set")
		wantState(t, newEvent(t, one, name, nil), redisevent.State{})
		change(t, newEvent(t, in(1), name, nil), "Pulse")
		w1.released(t)
		wantState(t, e, redisevent.State{Changes: 3})
		change(t, newEvent(t, one, name, nil), "Delete")
		change(t, e, "Delete")
	})
}

func TestAnEventEndsAfterItsTTL(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		const ttl = 40 * time.Millisecond
		short := newEvent(t, client, name, &redisevent.Options{TTL: ttl})
		for _, op := range changes {
			change(t, short, op)
			redistest.Eventually(t, soon, func() error {
				if n := client.Exists(soonCtx(t), key(name, "")).Val() + client.Exists(soonCtx(t), key(name, "count")).Val(); n > 0 {
					return errors.New("the event has ended")
				}
				return nil
			})
			wantState(t, short, redisevent.State{})
		}
	})
}

func TestEachChangeByAHandleWithATTLRefreshesIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		const ttl = 10 * time.Second
		short := newEvent(t, b.client, b.name, &redisevent.Options{TTL: ttl})
		for _, op := range []string{"Set", "Set", "Clear", "Clear", "Pulse", "Set"} {
			change(t, short, op)
			for _, part := range []string{"", "count"} {
				if d := b.m.TTL(key(b.name, part)); d != ttl {
					t.Errorf("after %s the key %q should stay for %v, it does for %v", op, key(b.name, part), ttl, d)
				}
			}
			time.Sleep(ttl - time.Second)
		}
		time.Sleep(time.Second)
		wantState(t, short, redisevent.State{})

		change(t, short, "Set")
		change(t, newEvent(t, b.client, b.name, nil), "Set") // a handle without a TTL
		time.Sleep(time.Hour)
		wantState(t, short, redisevent.State{Set: true, Changes: 1})
	})
}

func TestTTLsAreRoundedUpToAMillisecond(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		change(t, newEvent(t, b.client, b.name, &redisevent.Options{TTL: 10*time.Millisecond + 1}), "Set")
		if d := b.m.TTL(key(b.name, "")); d != 11*time.Millisecond {
			t.Errorf("a TTL of 10.000001 ms should become 11 ms, got %v", d)
		}
	})
}

// What redistest.Each gives speaks RESP3.
func TestClientsThatSpeakRESP2Work(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		wire := redistest.NewWire(t)
		old := func(o *redis.UniversalOptions) { o.Protocol = 2 }
		client := s.Client(t, wire.Through, old)
		e := newEvent(t, s.Client(t, old), name, nil)
		w := begin(t, client, name)
		v := watch(t, newEvent(t, client, name, nil))
		v.sees(t, redisevent.State{})
		change(t, e, "Pulse")
		w.released(t)
		v.sees(t, redisevent.State{Changes: 1})
		wire.CutPubSub()
		change(t, e, "Set")
		v.sees(t, redisevent.State{Set: true, Changes: 2})
		v.ended(t)
		change(t, e, "Delete")
	})
}

func TestAControlClientCarriesWaitsAndSubscriptions(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a cluster client needs no ControlClient")
		users, controls := redistest.NewWire(t), redistest.NewWire(t)
		name := redistest.Name(t)
		client, control := s.Client(t, users.Through), s.Client(t, controls.Through)
		var waiters []*waiter
		for range 5 {
			waiters = append(waiters, begin(t, client, name, redisevent.Options{ControlClient: control}))
		}
		subscribed(t, s.Client(t), name, 1)
		if n := users.Conns(); n > 1 || users.PubSubConns() > 0 {
			t.Errorf("with a ControlClient the client should have at most a connection of its own, it has %d", n)
		}
		if n := controls.PubSubConns(); n != 1 {
			t.Errorf("the ControlClient should have the subscription, it has %d", n)
		}
		controls.CutPubSub()
		change(t, newEvent(t, client, name, &redisevent.Options{ControlClient: control}), "Pulse")
		for _, w := range waiters {
			w.released(t)
		}
		change(t, newEvent(t, client, name, nil), "Delete")
		redistest.NoLeaks(t, s, name)
	})
}

// A program may wrap its client, to count or to log.
func TestClientsOfAProgramsOwnTypeWork(t *testing.T) {
	t.Parallel()
	type embeds struct{ *redis.Client }
	type embedsCluster struct{ *redis.ClusterClient }
	type hides struct{ redis.UniversalClient }
	wrap := map[string]func(redis.UniversalClient) redis.UniversalClient{
		"embeds": func(c redis.UniversalClient) redis.UniversalClient {
			if cc, ok := c.(*redis.ClusterClient); ok {
				return embedsCluster{cc}
			}
			return embeds{c.(*redis.Client)}
		},
		"hides": func(c redis.UniversalClient) redis.UniversalClient { return &hides{c} },
	}
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		common := redistest.Name(t)
		for how, wrapped := range wrap {
			t.Run(how, func(t *testing.T) {
				wire := redistest.NewWire(t)
				name := common + how
				client := wrapped(s.Client(t, wire.Through))
				other := wrapped(s.Client(t))
				for round := range 3 {
					ws := []*waiter{begin(t, client, name), begin(t, client, name)}
					change(t, newEvent(t, other, name, nil), "Pulse")
					if round == 1 {
						wire.CutAll()
					}
					for _, w := range ws {
						w.released(t)
					}
				}
				wantState(t, newEvent(t, client, name, nil), redisevent.State{Changes: 3})
				change(t, newEvent(t, client, name, nil), "Delete")
			})
		}
		redistest.NoLeaks(t, s, common)
	})
}
