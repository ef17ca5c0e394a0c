package redistest

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestAnOwnServerComesBackOnItsPortEmptyUnlessPersistent(t *testing.T) {
	Each(t, func(t *testing.T, s *Server) {
		s.SkipOn(t, s.in.argv == nil || s.Cluster, "not a single server that the tests start")
		t.Run("empty", func(t *testing.T) {
			own := s.StartOwn(t)
			c := own.Client(t)
			set(t, c)
			own.Restart(t)
			if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
				t.Errorf("the key after a restart: %v", err)
			}
			own.Stop(t)
			if err := own.Client(t).Ping(t.Context()).Err(); err == nil {
				t.Error("a stopped server answers")
			}
			own.Start(t)
			set(t, c)
		})
		t.Run("persistent", func(t *testing.T) {
			own := s.StartOwn(t, Persist(t)...)
			c := own.Client(t)
			set(t, c)
			own.Restart(t)
			if v, err := c.Get(t.Context(), "k").Result(); v != "v" {
				t.Errorf("%q, %v after a crash", v, err)
			}
			own.Stop(t)
			own.Start(t)
			if v, err := c.Get(t.Context(), "k").Result(); v != "v" {
				t.Errorf("%q, %v after a stop", v, err)
			}
		})
	})
}

func TestAPausedServerAnswersAfterItIsResumed(t *testing.T) {
	own := StartOwn(t)
	c := own.Client(t)
	set(t, c)
	own.Pause(t)
	got := make(chan error, 1)
	go func() { got <- c.Get(t.Context(), "k").Err() }()
	select {
	case err := <-got:
		t.Errorf("a paused server answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	own.Resume(t)
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func set(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
}
