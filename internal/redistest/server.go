package redistest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A Server is a server to test on, as one test sees it.
type Server struct {
	Name    string // as Each names the subtest: "miniredis", "redis-server", …
	Product string // "miniredis", "redis" or "valkey"
	Version string // "7.0.15"; of miniredis "0"
	Addr    string // host:port; of a cluster one of its nodes

	Cluster bool // clients are *redis.ClusterClient
	Real    bool // not miniredis: WAIT, CONFIG, keyspace events, MONITOR, INFO commandstats
	Sharded bool // SSUBSCRIBE and SPUBLISH
	Clients bool // CLIENT ID, LIST, KILL, UNBLOCK

	// Mini is the embedded server, nil when Real.
	Mini *miniredis.Miniredis

	// ClientName is what the connections of Client are called at the server,
	// unique to this test. Connections that the code under test makes from
	// Options() of such a client are called the same.
	ClientName string

	in *instance

	mu      sync.Mutex
	clients []redis.UniversalClient // all that Client made
}

func newServer(name string, in *instance) *Server {
	return &Server{
		Name: name, Product: in.product, Version: in.version, Addr: in.options.Addrs[0],
		Cluster: in.cluster, Real: true, Sharded: true, Clients: true,
		ClientName: "test-" + randomHex(6),
		in:         in,
	}
}

// startMini starts a miniredis for one test. Unlike the real servers it is
// not shared: it costs nothing to start, and alone it can count connections.
func startMini(t testing.TB) *Server {
	t.Helper()
	m := miniredis.RunT(t)
	m.ClockTTL(true) // else TTLs stand still
	in := &instance{product: "miniredis", version: "0"}
	in.options.Addrs = []string{m.Addr()}
	return &Server{
		Name: "miniredis", Product: in.product, Version: in.version, Addr: m.Addr(),
		Mini: m, ClientName: "test-" + randomHex(6), in: in,
	}
}

// Client returns a new client of this server, to be closed by the test's
// cleanup: a *redis.Client or, for a cluster, a *redis.ClusterClient. The options can
// be changed before it is made.
func (s *Server) Client(t testing.TB, change ...func(*redis.UniversalOptions)) redis.UniversalClient {
	t.Helper()
	change = append([]func(*redis.UniversalOptions){func(o *redis.UniversalOptions) { o.ClientName = s.ClientName }}, change...)
	c := s.in.client(change...)
	t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	return c
}

// made returns all clients that Client has made.
func (s *Server) made() []redis.UniversalClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.clients)
}

// URL returns the address in the form the command takes: redis://host:port.
// A user and a password are left out.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Dialer is the type of redis.Options.Dialer.
type Dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// WithDialer makes a client of Client dial so, for instance through a Wire.
func WithDialer(d Dialer) func(*redis.UniversalOptions) {
	return func(o *redis.UniversalOptions) { o.Dialer = d }
}

// SkipOn skips the test on servers of which lacking is true, saying why by
// name: a behaviour that needs CLIENT KILL calls s.SkipOn(t, !s.Clients, "no CLIENT KILL").
func (s *Server) SkipOn(t testing.TB, lacking bool, why string) {
	t.Helper()
	if lacking {
		t.Skipf("not on %s: %s", s.Name, why)
	}
}
