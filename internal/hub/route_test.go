package hub

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// A claim that overtakes what gives back, or a heartbeat the claim before it, is
// safe; but it costs a delivery its turn.
func TestFewPrivateCallsStayInTheirOrder(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client, quick := s.Client(t), 0
		for i := range 300 {
			h := Use(client, nil)
			if i < 10 {
				h = Use(s.Client(t), nil) // one that does not know the nodes of a cluster yet
			}
			start := clock.Now()
			var outcomes []<-chan Reply
			var want []string
			for i := range overlap / 4 {
				want = append(want, fmt.Sprint(i))
				outcomes = append(outcomes, begin(h, &Call{Keys: []string{name}, Args: []any{"RPUSH", name, i}, Private: true}))
			}
			for _, o := range outcomes {
				if r := await(t, o, "the outcome"); r.Err != nil {
					t.Fatalf("the call should succeed, got %+v", r)
				}
			}
			h.Done()
			if clock.Since(start) < overtake { // else they may have overtaken one that was stuck
				quick++
				if got := client.LRange(soonCtx(t), name, 0, -1).Val(); !slices.Equal(got, want) {
					t.Fatalf("the calls should be carried out in their order, they were: %v", got)
				}
			}
			client.Del(soonCtx(t), name)
		}
		if quick == 0 {
			t.Fatalf("no calls were answered within %v", overtake)
		}
	})
}

// The first call has the client of a cluster ask for its nodes. That may hang.
func TestALookForTheNodesThatHangsHoldsUpNobody(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, !s.Cluster, "not a cluster")
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		h := hubOf(t, s.Client(t, w.Through, func(o *redis.UniversalOptions) {
			o.ReadTimeout, o.DialTimeout = time.Hour, time.Hour
		}))
		hangs := w.HoldReply(redistest.Is("cluster"))
		first := begin(h, &Call{Script: incr, Keys: []string{name}, Attempts: 1})
		hangs.Await(t)
		for range 3 {
			send(t, h, &Call{Script: incr, Keys: []string{name}})
		}
		if r := await(t, first, "the outcome of the call that waited for the nodes"); r.Err != nil {
			t.Errorf("what waits for the nodes should go out when another call knows them, got %v", r.Err)
		}
		hangs.Release()
	})
}

// Where nobody can tell the nodes, each call ends by itself.
func TestACallThatFindsNoNodeFails(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, !s.Cluster, "not a cluster")
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		h := hubOf(t, s.Client(t, w.Through, func(o *redis.UniversalOptions) { o.MaxRetries = -1 }))
		w.Down()
		var outcomes []<-chan Reply
		for range 5 {
			outcomes = append(outcomes, begin(h, &Call{Script: incr, Keys: []string{name}}))
		}
		for _, o := range outcomes {
			r := await(t, o, "the outcome")
			wantErr(t, "a call that finds no node", r.Err, ErrUnavailable)
			if r.Ambiguous {
				t.Error("a call that was not sent should not be ambiguous")
			}
		}
		w.Up()
		if got := send(t, h, &Call{Script: incr, Keys: []string{name}, Attempts: 20}).Value; got != int64(1) {
			t.Errorf("no call that failed should have been carried out, the first to succeed counted %v", got)
		}
	})
}
