package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const redisVariable = "MULTIHOST_REDIS_URL"

// A target is a Redis server or cluster that a URL names: one of the two is nil.
type target struct {
	server  *redis.Options
	cluster *redis.ClusterOptions
}

// parseTarget reads a URL. One that names several addresses, as go-redis writes
// them, is a cluster.
func parseTarget(rawURL string) (t target, err error) {
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled} // neither proxies nor miniredis know them
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		err = errors.New("the URL of the Redis server cannot be read") // its text may hold a password
	case u.Query().Has("addr"):
		if t.cluster, err = redis.ParseClusterURL(rawURL); err == nil {
			t.cluster.MaintNotificationsConfig = quiet
		}
	default:
		if t.server, err = redis.ParseURL(rawURL); err == nil {
			t.server.MaintNotificationsConfig = quiet
		}
	}
	if err != nil {
		return target{}, usageError{fmt.Errorf("--redis or %s: %w; write it as redis://HOST:PORT, rediss://USER:PASSWORD@HOST:PORT/DB, unix://PATH, or for a cluster redis://HOST:PORT?addr=HOST:PORT", redisVariable, err)}
	}
	return t, nil
}

func (t target) String() string {
	if t.cluster != nil {
		return strings.Join(t.cluster.Addrs, ", ")
	}
	return t.server.Addr
}

func (t target) client() redis.UniversalClient {
	if t.cluster != nil {
		return redis.NewClusterClient(t.cluster)
	}
	return redis.NewClient(t.server)
}

// impatient is the same target for a client that does not try again.
func (t target) impatient() target {
	if t.cluster != nil {
		opts := *t.cluster
		opts.MaxRedirects, opts.MaxRetries, opts.DialerRetries, opts.ContextTimeoutEnabled = 1, -1, 1, true
		return target{cluster: &opts}
	}
	opts := *t.server
	opts.MaxRetries, opts.DialerRetries, opts.ContextTimeoutEnabled = -1, 1, true
	return target{server: &opts}
}

// connect makes a client for the server at a URL and makes sure that it answers.
func connect(ctx context.Context, rawURL string) (redis.UniversalClient, error) {
	redis.SetLogger(silence{}) // what goes wrong is in the errors too
	t, err := parseTarget(rawURL)
	if err != nil {
		return nil, err
	}
	first := t.impatient().client()
	defer first.Close()
	if err = ping(ctx, first); err == nil {
		return t.client(), nil
	}
	what := "no Redis server answers at"
	var answer redis.Error
	if errors.As(err, &answer) {
		what = "refused by the Redis server at"
	}
	return nil, fmt.Errorf("%s %v: %w; give another with --redis redis://HOST:PORT or in %s", what, t, err, redisVariable)
}

// ping makes sure that a server answers. One that refuses is told of at once; one that
// says nothing may be busy, as on a machine that starts many processes, and is
// asked again.
func ping(ctx context.Context, client redis.UniversalClient) (err error) {
	for range 4 {
		attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
		err = client.Ping(attempt).Err()
		cancel()
		var timeout net.Error
		silent := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
		if !silent || ctx.Err() != nil {
			return err
		}
	}
	return err
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// embed serves a miniredis on a free port of the loopback interface, for the
// processes of a demo.
func embed() (rawURL string, stop func(), err error) {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return "", nil, fmt.Errorf("embedded Redis server: %w", err)
	}
	server.ClockTTL(true)
	return "redis://" + server.Addr(), server.Close, nil
}
