package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startWithin is generous: a loaded machine may need seconds to start what
// otherwise takes 20 ms.
const startWithin = 30 * time.Second

// An instance is a server, or a cluster, that runs: started here or reached.
type instance struct {
	options redis.UniversalOptions // address, user, database
	cluster bool
	procs   []*process // of servers started here
	argv    []string   // how they were started
	port    int        // of the one server started here
	product string     // "redis", "valkey", "miniredis"
	version string
}

// startAlone starts one server and waits until it answers. Ports are tried
// until the server could bind one.
func startAlone(argv []string, args func(port int) []string) (*instance, error) {
	var last error
	for range 10 {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		p, err := startServer(argv, port, args(port))
		if err == nil {
			in := &instance{procs: []*process{p}, argv: argv, port: port}
			in.options.Addrs = []string{fmt.Sprintf("127.0.0.1:%d", port)}
			return in, in.identify()
		}
		if !strings.Contains(err.Error(), "ddress already in use") && !errors.Is(err, errNotOurs) {
			return nil, err
		}
		last = err
	}
	return nil, last
}

// noArgs is for a server that needs nothing special.
func noArgs(int) []string { return nil }

var errNotOurs = errors.New("another server answers on this port")

// startServer starts argv on a port of loopback, without persistence. A
// random mark tells our server from one that was faster on the same port.
func startServer(argv []string, port int, args []string) (*process, error) {
	mark := "multihost-" + randomHex(8)
	line := slices.Concat(argv, []string{
		"--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--daemonize", "no",
		"--save", "", "--appendonly", "no",
		"--enable-debug-command", "yes", // for tests that need a slow or strange server
		"--syslog-ident", mark, // not used for logging; CONFIG GET shows it
	}, args)
	p, err := startProcess(line)
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	err = poll(startWithin, p, func() error { return answers(addr, mark) })
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// answers returns nil once the server with the mark answers at addr.
func answers(addr, mark string) error {
	// First a bare dial: the client would log every refusal.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	_ = conn.Close()
	probe := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, MaintNotificationsConfig: noMaintenance()})
	defer probe.Close()
	got, err := probe.ConfigGet(context.Background(), "syslog-ident").Result()
	if err == nil && got["syslog-ident"] != mark {
		err = errNotOurs
	}
	return err
}

// noMaintenance switches notifications off that need a server of the vendor's
// and otherwise stretch timeouts to ten seconds.
func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// reach connects to a server that runs already.
func reach(url string, cluster bool) (*instance, error) {
	in := &instance{cluster: cluster}
	if cluster {
		o, err := redis.ParseClusterURL(url)
		if err != nil {
			return nil, err
		}
		in.options.Addrs, in.options.Username, in.options.Password = o.Addrs, o.Username, o.Password
		in.options.TLSConfig = o.TLSConfig
	} else {
		o, err := redis.ParseURL(url)
		if err != nil {
			return nil, err
		}
		in.options.Addrs, in.options.Username, in.options.Password = []string{o.Addr}, o.Username, o.Password
		in.options.TLSConfig, in.options.DB = o.TLSConfig, o.DB
	}
	return in, in.identify()
}

// client makes a client of the kind that fits the instance.
func (in *instance) client(change ...func(*redis.UniversalOptions)) redis.UniversalClient {
	o := in.options
	o.IsClusterMode = in.cluster
	o.MaintNotificationsConfig = noMaintenance()
	for _, c := range change {
		c(&o)
	}
	return redis.NewUniversalClient(&o)
}

// identify asks the server what it is.
func (in *instance) identify() error {
	c := in.client()
	defer c.Close()
	info, err := c.Info(context.Background(), "server").Result()
	if err != nil {
		in.kill()
		return err
	}
	in.product, in.version = "redis", infoField(info, "redis_version")
	if v := infoField(info, "valkey_version"); v != "" {
		in.product, in.version = "valkey", v
	}
	return nil
}

// alive returns why a server that was started here is gone.
func (in *instance) alive() error {
	for _, p := range in.procs {
		if err := p.ended(); err != nil {
			return err
		}
	}
	return nil
}

func (in *instance) kill() {
	for _, p := range in.procs {
		p.kill()
	}
}

// infoField finds a line "name:value" in the answer to INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
