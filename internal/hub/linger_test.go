package hub

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

// registered says whether the process has a hub for the client.
func registered(client redis.UniversalClient) bool {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return registry.hubs[pair{client, nil}] != nil
}

func TestNothingIsLeftAfterTheLinger(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		h := Use(client, nil)
		var outcomes []<-chan Reply
		for i := range 20 {
			outcomes = append(outcomes, begin(h, &Call{Script: echo, Keys: []string{name}, Args: []any{i}}))
		}
		e := listen(h, name)
		e.Hold()
		e.ready(t, false)
		for _, o := range outcomes {
			if r := await(t, o, "the outcome"); r.Err != nil {
				t.Fatalf("a call should succeed, got %+v", r)
			}
		}
		e.Drop()
		h.Done()
		redistest.NoLeaks(t, s, name)
		if registered(client) {
			t.Error("the hub should be forgotten")
		}
	})
}

func TestTheHubLingersAndNoLonger(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		use := func() *Hub {
			h := Use(b.client, nil)
			send(t, h, &Call{Args: []any{"PING"}, Private: true})
			return h
		}
		b.hub.Done() // that of the bubble itself
		first := use()
		dialled := b.wire.Dialled()
		for range 5 {
			first.Done()
			time.Sleep(Linger - time.Millisecond)
			if h := use(); h != first {
				t.Fatal("within the linger there should be the same hub")
			}
		}
		if n := b.wire.Dialled(); n != dialled {
			t.Errorf("within the linger the connection should stay, %d more were dialled", n-dialled)
		}
		first.Done()
		time.Sleep(Linger - time.Millisecond)
		synctest.Wait()
		if !registered(b.client) || b.wire.Conns() != 1 {
			t.Errorf("until the end of the linger the hub should stay, and its connection; there are %d", b.wire.Conns())
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if registered(b.client) || b.wire.Conns() != 0 {
			t.Errorf("after the linger the hub should be gone, and its connection; there are %d", b.wire.Conns())
		}
		next := Use(b.client, nil)
		if next == first || next.Process() == first.Process() {
			t.Error("after the linger there should be another hub")
		}
		// for the bubble to give back
	})
}

func TestACallUnderWayKeepsTheHub(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		held := b.wire.HoldReply(redistest.Is("echo"))
		outcome := begin(b.hub, &Call{Args: []any{"ECHO", "x"}, Private: true, Patience: time.Minute})
		held.Await(t)
		b.hub.Done()
		time.Sleep(4 * time.Second) // its ReadTimeout is 5 s
		if !registered(b.client) {
			t.Error("the hub should stay while a call is under way")
		}
		held.Release()
		if r := await(t, outcome, "the outcome"); r.Err != nil {
			t.Errorf("the call should succeed, got %+v", r)
		}
		time.Sleep(2 * Linger)
		if registered(b.client) {
			t.Error("the hub should be forgotten after the call")
		}
		Use(b.client, nil) // for the bubble to give back
	})
}

func TestEachClientHasAHubOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		again, other := Use(b.client, nil), Use(b.direct, nil)
		controlled := Use(b.client, b.direct)
		if again != b.hub || other == b.hub || controlled == b.hub || controlled == other {
			t.Error("there should be one hub for each pair of client and ControlClient")
		}
		for _, h := range []*Hub{again, other, controlled} {
			h.Done()
		}
		ids := map[string]bool{}
		for range 1000 {
			for _, h := range []*Hub{b.hub, other, controlled} {
				ids[h.NewID()] = true
			}
		}
		if len(ids) != 3000 {
			t.Errorf("3000 ids should differ, %d do", len(ids))
		}
	})
}

func TestALocalObjectIsMadeOnceAndForgottenAfterItsLastUse(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		made := 0
		build := func() *int { made++; n := made; return &n }
		if _, ok := Find[*int](b.hub, "x"); ok {
			t.Error("an object that nobody has made should not be found")
		}
		a, c := Object(b.hub, "x", build), Object(b.hub, "x", build)
		if a != c || made != 1 {
			t.Errorf("the second use should get the first one's object, %d were made", made)
		}
		b.hub.Leave("x")
		if f, ok := Find[*int](b.hub, "x"); !ok || f != a {
			t.Error("an object that is in use should be found")
		}
		if _, ok := Find[*string](b.hub, "x"); ok {
			t.Error("an object of another type should not be found")
		}
		b.hub.Leave("x")
		b.hub.Leave("x") // once too often
		time.Sleep(Linger - time.Millisecond)
		if Object(b.hub, "x", build) != a {
			t.Error("an object that is used again at once should be the same")
		}
		b.hub.Leave("x")
		time.Sleep(Linger - time.Millisecond)
		if _, ok := Find[*int](b.hub, "x"); !ok {
			t.Error("an object should be forgotten only after the linger")
		}
		time.Sleep(Linger)
		if _, ok := Find[*int](b.hub, "x"); ok || *Object(b.hub, "x", build) != 2 {
			t.Error("an object that nobody uses should be forgotten")
		}
		b.hub.Leave("x")
	})
}

func TestClientsThatCannotBeUsedAreRefused(t *testing.T) {
	good := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer good.Close()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	defer cluster.Close()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer ring.Close()
	type wrapped struct{ redis.UniversalClient }
	type uncomparable struct {
		redis.UniversalClient
		_ func()
	}
	for _, c := range []struct {
		client, control redis.UniversalClient
		says            string // empty: allowed
	}{
		{good, nil, ""},
		{cluster, nil, ""},
		{wrapped{good}, nil, ""},
		{&uncomparable{UniversalClient: good}, nil, ""}, // a pointer
		{good, good, ""},
		{nil, nil, "client is nil"},
		{(*redis.Client)(nil), nil, "nil *redis.Client"},
		{ring, nil, "*redis.Ring"},
		{uncomparable{UniversalClient: good}, nil, "cannot be compared"},
		{good, (*redis.Client)(nil), "ControlClient is a nil"},
		{good, ring, "ControlClient is a *redis.Ring"},
		{good, cluster, "ControlClient is a *redis.ClusterClient"},
		{cluster, good, "ControlClient cannot serve"},
	} {
		err := Validate(c.client, c.control)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("Validate(%T, %T) should say %q, got %v", c.client, c.control, c.says, err)
		}
	}
}

func TestNotesRunInOrderOneAfterTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		var got []int
		for i := range 500 {
			b.hub.Note(func() { got = append(got, i) })
		}
		synctest.Wait()
		b.hub.Note(func() { got = append(got, 500) })
		synctest.Wait()
		if len(got) != 501 || !slices.IsSorted(got) {
			t.Errorf("501 notes should run in order, got %v", got)
		}
	})
}

func TestASlowObserverMissesTheOldest(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		const extra = 100
		var mu sync.Mutex
		var got []int
		enough := make(chan struct{})
		b.hub.Note(func() { <-enough })
		synctest.Wait() // it has begun
		for i := range maxNotes + extra {
			b.hub.Note(func() {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, i)
			})
		}
		close(enough)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(got) != maxNotes || got[0] != extra || !slices.IsSorted(got) {
			t.Errorf("of %d notes the oldest %d should be missed and the others be in order, got %s", maxNotes+extra, extra, summary(got))
		}
	})
}

func summary(n []int) string {
	if len(n) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d from %d to %d", len(n), n[0], n[len(n)-1])
}
