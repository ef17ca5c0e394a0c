package redistest

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Pair is a primary and its replica, of one test alone. Its clients go to the
// primary, and after FailOver to the replica, as those of Sentinel do.
type Pair struct {
	*Own    // the primary
	Replica *Own

	over atomic.Bool
}

// StartPair starts two servers of the same kind as s. It skips the test when s is
// not a single server that the tests can start.
func (s *Server) StartPair(t testing.TB) *Pair {
	t.Helper()
	// A replica writes a file when it begins.
	args := []string{"--dir", t.TempDir(), "--repl-diskless-sync-delay", "0"}
	p := &Pair{Own: s.StartOwn(t, args...), Replica: s.StartOwn(t, args...)}
	p.do(t, p.Replica, "REPLICAOF", "127.0.0.1", p.port)
	p.awaitRole(t, "master_link_status", "up")
	return p
}

// Client returns a client that follows the fail-over.
func (p *Pair) Client(t testing.TB, change ...func(*redis.UniversalOptions)) redis.UniversalClient {
	t.Helper()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if p.over.Load() {
			addr = p.Replica.Addr
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return p.Own.Client(t, append([]func(*redis.UniversalOptions){WithDialer(dial)}, change...)...)
}

// Synced waits until the replica has all that was written.
func (p *Pair) Synced(t testing.TB) {
	t.Helper()
	c := p.in.client()
	defer c.Close()
	// WAIT counts for what its own connection has written.
	conn := c.(*redis.Client).Conn()
	defer conn.Close()
	err := conn.Publish(context.Background(), "nobody", "").Err()
	if err == nil {
		err = Within(startWithin, func() error {
			n, err := conn.Wait(context.Background(), 1, time.Second).Result()
			if err == nil && n != 1 {
				err = fmt.Errorf("%d replicas have it", n)
			}
			return err
		})
	}
	if err != nil {
		t.Fatal("redistest: ", err)
	}
}

// Promote makes the replica a primary. The old one goes on: what it is told from
// now on is lost at the fail-over.
func (p *Pair) Promote(t testing.TB) {
	t.Helper()
	p.do(t, p.Replica, "REPLICAOF", "NO", "ONE")
	p.awaitRole(t, "role", "master")
}

// FailOver ends the old primary, and clients that dial go to the promoted
// replica: it is killed.
func (p *Pair) FailOver(t testing.TB) {
	t.Helper()
	p.over.Store(true)
	p.Kill(t)
}

// Demote is FailOver without an end: the old primary becomes a replica. It
// keeps its connections, answers what only reads, and refuses to write.
func (p *Pair) Demote(t testing.TB) {
	t.Helper()
	p.over.Store(true)
	p.do(t, p.Own, "REPLICAOF", "127.0.0.1", p.Replica.port)
}

func (p *Pair) do(t testing.TB, o *Own, args ...any) {
	t.Helper()
	c := o.in.client()
	defer c.Close()
	if err := c.Do(context.Background(), args...).Err(); err != nil {
		t.Fatalf("redistest: %v: %v", args, err)
	}
}

// awaitRole waits until INFO of the replica says so.
func (p *Pair) awaitRole(t testing.TB, field, want string) {
	t.Helper()
	c := p.Replica.in.client()
	defer c.Close()
	Eventually(t, startWithin, func() error {
		info, err := c.Info(context.Background(), "replication").Result()
		if got := infoField(info, field); err == nil && got != want {
			err = fmt.Errorf("%s of the replica should be %s, it is %s", field, want, got)
		}
		return err
	})
}
