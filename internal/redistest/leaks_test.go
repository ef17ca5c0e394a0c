package redistest

import (
	"context"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func TestConnectionsOutsideThePoolsAreLeaks(t *testing.T) {
	Each(t, func(t *testing.T, s *Server) {
		ctx := t.Context()
		c := s.Client(t)
		if err := c.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		NoLeaks(t, s, "none")

		// As the library would, from the options of its user's client.
		private := s.in.client(func(o *redis.UniversalOptions) { o.ClientName = s.ClientName })
		defer private.Close()
		if err := private.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		wantLeak(t, s.leakedConns(t), "but")
		private.Close()
		NoLeaks(t, s, "none")

		sub := c.Subscribe(ctx, Name(t))
		defer sub.Close()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		wantLeak(t, s.leakedConns(t), "but")
		sub.Close()
		NoLeaks(t, s, "none")
	})
}

func TestKeysAreLeaksUnlessTheyAreAllowed(t *testing.T) {
	Each(t, func(t *testing.T, s *Server) {
		ctx := t.Context()
		c := s.Client(t)
		name := Name(t)
		kept, left, foreign := "mh1:lock:{"+name+"}:fence", "mh1:lock:{"+name+"}", "other:{"+name+"}"
		for _, key := range []string{kept, left, foreign} {
			if err := c.Set(ctx, key, 1, 0).Err(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Client(t).Del(context.Background(), key) })
		}
		err := s.leakedKeys(t, name, []string{":fence"})
		wantLeak(t, err, left)
		if err != nil && strings.Contains(err.Error(), ":fence") || strings.Contains(err.Error(), "other:") {
			t.Error(err)
		}
		c.Del(ctx, left)
		NoLeaks(t, s, name, ":fence")
	})
}

func TestABubbleWithoutLeaksPasses(t *testing.T) {
	Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		if err := client.Set(t.Context(), "mh1:{k}:fence", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		NoBubbleLeaks(t, m, client, "k", ":fence")
	})
}

func TestGoroutinesOfTheLibraryAreKnownByTheirStacks(t *testing.T) {
	for stack, want := range map[string]bool{
		`goroutine 7 [select]:
github.com/multihost/multihost/internal/hub.(*feed).run(0xc0)
	/src/internal/hub/feed.go:10 +0x1
created by time.goFunc
	/go/src/time/sleep.go:215 +0x1`: true,
		`goroutine 7 [IO wait]:
internal/poll.runtime_pollWait(0x1)
	/go/src/runtime/netpoll.go:351 +0x1
created by github.com/multihost/multihost/internal/hub.(*link).open in goroutine 12
	/src/internal/hub/link.go:40 +0x1`: true,
		`goroutine 7 [select]:
github.com/multihost/multihost/internal/redistest.(*Fault).Await(0xc0)
	/src/internal/redistest/fault.go:10 +0x1
created by github.com/multihost/multihost/redislock.TestX in goroutine 12
	/src/redislock/lock_test.go:40 +0x1`: false,
		`goroutine 1 [chan receive]:
testing.(*T).Run(0xc0)
	/go/src/testing/testing.go:10 +0x1
main.main()
	_testmain.go:50 +0x1`: false,
		`goroutine 9 [chan receive]:
github.com/multihost/multihost/redislock_test.TestX.func1()
	/src/redislock/lock_test.go:10 +0x1`: false,
	} {
		if got := ours(stack); got != want {
			t.Errorf("ours is %v, should be %v:\n%s", got, want, stack)
		}
	}
}

func wantLeak(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%v does not mention %q", err, text)
	}
}
