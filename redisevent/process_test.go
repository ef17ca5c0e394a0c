package redisevent_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

// childVariable tells a process of the test binary that it waits for an event:
// address, whether that is of a cluster, name.
const childVariable = "MULTIHOST_EVENT_TEST_CHILD"

// child waits, says so, and says when it is released.
func child() int {
	var addr, name string
	var cluster bool
	_, err := fmt.Sscan(os.Getenv(childVariable), &addr, &cluster, &name)
	if err == nil {
		client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{addr}, IsClusterMode: cluster})
		var e *redisevent.Event
		e, err = redisevent.New(client, name, &redisevent.Options{Observe: func(o redisevent.Observation) {
			if o.Kind == redisevent.Waiting {
				fmt.Println("waits")
			}
		}})
		if err == nil {
			err = e.Wait(context.Background())
		}
	}
	fmt.Println("released", err)
	return 0
}

// Everything happens while the process is stopped; it runs again when the event
// is clear. What it finds then tells that it was set.
func TestAStoppedWaitMissesNothing(t *testing.T) {
	t.Parallel()
	for what, ops := range map[string][]string{
		"set": {"Set"}, "set and cleared": {"Set", "Clear"}, "pulse": {"Pulse"},
	} {
		t.Run(what, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				name := redistest.Name(t)
				client := s.Client(t)
				e := newEvent(t, client, name, nil)
				c := redistest.StartChild(t, childVariable, fmt.Sprintf("%s %v %s", s.Addr, s.Cluster, name))
				if line := c.Line(t, soon); line != "waits" {
					t.Fatalf("the child should wait, it says %q", line)
				}
				subscribed(t, client, name, 1)
				redistest.PauseProcess(t, c.Process)
				change(t, e, ops...)
				if !c.Silent() {
					t.Fatalf("a stopped process should say nothing, it says %q", c.Line(t, soon))
				}
				redistest.ResumeProcess(t, c.Process)
				if line := c.Line(t, soon); line != "released <nil>" {
					t.Errorf("Wait should return nil, the child says %q", line)
				}
				change(t, e, "Delete")
			})
		})
	}
}

// A waiter that is killed leaves nothing behind, and a change goes on to the others.
func TestAKilledWaiterLeavesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		c := redistest.StartChild(t, childVariable, fmt.Sprintf("%s %v %s", s.Addr, s.Cluster, name))
		if line := c.Line(t, soon); line != "waits" {
			t.Fatalf("the child should wait, it says %q", line)
		}
		w := begin(t, client, name)
		subscribed(t, client, name, 2)
		c.Kill()
		subscribed(t, client, name, 1)
		e := newEvent(t, client, name, nil)
		change(t, e, "Set")
		w.released(t)
		change(t, e, "Delete")
		redistest.NoLeaks(t, s, name)
	})
}
