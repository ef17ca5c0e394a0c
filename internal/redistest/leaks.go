package redistest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// module is how the functions of this module begin in a stack.
const module = "github.com/multihost/multihost/"

// keyPrefix begins every key of the library.
const keyPrefix = "mh1:"

// leaksWithin is the linger and slack for a loaded machine.
const leaksWithin = 10 * time.Second

// NoLeaks waits until nothing of this test is left, and fails it when something stays:
//
//   - connections that this test's clients have not in their pools, and subscriptions;
//   - keys with name in them, but for those that end in one of allowed.
//
// Goroutines do not tell which of the tests that run at once they belong to:
// [Main] looks at those when all have ended.
func NoLeaks(t testing.TB, s *Server, name string, allowed ...string) {
	t.Helper()
	Eventually(t, leaksWithin, func() error {
		return errors.Join(s.leakedConns(t), s.leakedKeys(t, name, allowed))
	})
}

// NoBubbleLeaks is NoLeaks in a bubble, once the linger has passed. The
// bubble itself sees to the goroutines, at its end.
func NoBubbleLeaks(t testing.TB, m *miniredis.Miniredis, client *redis.Client, name string, allowed ...string) {
	t.Helper()
	time.Sleep(linger)
	if at, pooled := m.CurrentConnectionCount(), pooledConns(client); at > pooled {
		t.Errorf("%d connections at the server, but %d in the client's pool", at, pooled)
	}
	if left := leftKeys(m.Keys(), name, allowed); left != nil {
		t.Errorf("keys are left: %q", left)
	}
}

// leakedGoroutines lists the goroutines that still run in, or were started by,
// a package of this module, tests and this package aside.
func leakedGoroutines() error {
	all := make([]byte, 1<<20)
	for {
		n := runtime.Stack(all, true)
		if n < len(all) {
			all = all[:n]
			break
		}
		all = make([]byte, 2*len(all))
	}
	var left []string
	stacks := strings.Split(strings.TrimSpace(string(all)), "\n\n")
	for _, stack := range stacks[1:] { // the first one is this goroutine
		if ours(stack) {
			left = append(left, stack)
		}
	}
	if left == nil {
		return nil
	}
	return fmt.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

// ours reports that a stack has a function of the library in it, its creator
// included. Functions and files take turns there:
//
//	github.com/multihost/multihost/internal/hub.(*link).drain(0xc000…)
//		/…/internal/hub/link.go:102 +0x1c
func ours(stack string) bool {
	lines := strings.Split(stack, "\n")
	for i := 1; i+1 < len(lines); i += 2 {
		function, file := strings.TrimPrefix(lines[i], "created by "), lines[i+1]
		if strings.HasPrefix(function, module) &&
			!strings.HasPrefix(function, module+"internal/redistest.") &&
			!strings.Contains(file, "_test.go:") {
			return true
		}
	}
	return false
}

// leakedConns says which connections of this test's clients are at the server
// without being in their pools.
func (s *Server) leakedConns(t testing.TB) error {
	t.Helper()
	pooled := 0
	for _, c := range s.made() {
		pooled += pooledConns(c)
	}
	if s.Mini != nil {
		if at := s.Mini.CurrentConnectionCount(); at > pooled {
			return fmt.Errorf("%d connections at the server, but %d in the clients' pools", at, pooled)
		}
		return nil
	}
	conns := s.Conns(t)
	subscribed := slices.ContainsFunc(conns, func(c Conn) bool { return c.Channels > 0 })
	if subscribed || len(conns) > pooled {
		return fmt.Errorf("%d connections at the server, but %d in the clients' pools: %+v", len(conns), pooled, conns)
	}
	return nil
}

// pooledConns returns how many connections a client keeps for its commands;
// none once it was closed.
func pooledConns(client redis.UniversalClient) int {
	stats := client.PoolStats()
	n := int(stats.TotalConns)
	if stats.PipelineStats != nil {
		n += int(stats.PipelineStats.TotalConns)
	}
	return n
}

// leakedKeys says which keys with name in them are left.
func (s *Server) leakedKeys(t testing.TB, name string, allowed []string) error {
	t.Helper()
	var left []string
	err := s.eachNode(t, func(ctx context.Context, node *redis.Client) error {
		keys := node.Scan(ctx, 0, keyPrefix+"*", 1000).Iterator()
		var all []string
		for keys.Next(ctx) {
			all = append(all, keys.Val())
		}
		left = append(left, leftKeys(all, name, allowed)...)
		return keys.Err()
	})
	if err == nil && left != nil {
		err = fmt.Errorf("keys are left: %q", left)
	}
	return err
}

// leftKeys picks the library's keys with name in them that may not be left.
func leftKeys(keys []string, name string, allowed []string) []string {
	var left []string
	for _, key := range keys {
		mayStay := slices.ContainsFunc(allowed, func(end string) bool { return strings.HasSuffix(key, end) })
		if strings.HasPrefix(key, keyPrefix) && strings.Contains(key, name) && !mayStay {
			left = append(left, key)
		}
	}
	return left
}
