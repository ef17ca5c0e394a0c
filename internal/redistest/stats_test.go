package redistest

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
)

// countScript calls two commands of its own.
var countScript = redis.NewScript(`redis.call('GET', KEYS[1]) return redis.call('INCR', KEYS[1])`)

func TestOnlyMonitorTellsClientCommandsFromThoseOfScripts(t *testing.T) {
	Each(t, func(t *testing.T, s *Server) {
		s.SkipOn(t, !s.Real || s.Cluster, "no MONITOR of the whole server")
		own := s.StartOwn(t)
		c := own.Client(t)
		if err := c.Ping(t.Context()).Err(); err != nil { // connects
			t.Fatal(err)
		}
		before := own.CommandStats(t)
		got := own.Monitor(t, func() {
			for range 3 {
				if err := countScript.Eval(t.Context(), c, []string{"k"}).Err(); err != nil {
					t.Fatal(err)
				}
			}
			c.Get(t.Context(), "k")
		})
		if len(got) != 2 || got["EVAL"] != 3 || got["GET"] != 1 {
			t.Errorf("MONITOR: %v, want 3 EVAL and a GET", got)
		}
		after := own.CommandStats(t)
		for name, want := range map[string]int64{"EVAL": 3, "INCR": 3, "GET": 4} {
			if n := after[name] - before[name]; n != want {
				t.Errorf("commandstats: %d %s, want %d", n, name, want)
			}
		}
	})
}

func TestConnectionsAreToldApartByTheNameOfTheTest(t *testing.T) {
	Each(t, func(t *testing.T, s *Server) {
		s.SkipOn(t, !s.Clients, "no CLIENT LIST")
		if n := s.Conns(t); len(n) != 0 {
			t.Fatalf("before there was a client: %v", n)
		}
		c := s.Client(t)
		key := Name(t)
		if err := c.Get(t.Context(), key).Err(); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		sub := c.Subscribe(t.Context(), key)
		defer sub.Close()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		subscribed := 0
		conns := s.Conns(t)
		for _, conn := range conns {
			subscribed += conn.Channels
		}
		if len(conns) < 2 || subscribed != 1 {
			t.Errorf("%+v", conns)
		}
	})
}

func TestConnectedClientsCountsAllButTheAsker(t *testing.T) {
	own := StartOwn(t)
	if n := own.ConnectedClients(t); n != 0 {
		t.Errorf("%d before there was one", n)
	}
	c := own.Client(t)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if n := own.ConnectedClients(t); n != 1 {
		t.Errorf("%d, want 1", n)
	}
}
