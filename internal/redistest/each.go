package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Each runs a behaviour as a subtest on every kind of server, named after it.
// A server that is not there is skipped by name; see the package doc for how
// to name others and how to refuse the skipping.
func Each(t *testing.T, behave func(t *testing.T, s *Server)) {
	t.Helper()
	if !mainRuns.Load() {
		t.Fatal("redistest: Each needs func TestMain(m *testing.M) { redistest.Main(m) } in this package, to stop the servers")
	}
	all, err := sources()
	if err != nil {
		t.Fatal("redistest: ", err)
	}
	for _, src := range all {
		t.Run(src.name, func(t *testing.T) { behave(t, src.server(t)) })
	}
}

// A source is one kind of server to test on: how to reach or start it, and
// what runs once it was started.
type source struct {
	name     string
	mini     bool
	cluster  bool
	url      string   // runs already
	argv     []string // to be started
	missing  string   // why it is neither
	required bool

	start func() (*instance, error) // at most once
}

// sources reads PATH and the environment once per test binary. The cluster
// takes two seconds to agree with itself, so it begins at once, while the
// behaviours run on the other servers.
var sources = sync.OnceValues(func() ([]*source, error) {
	all, err := discover(os.Getenv, exec.LookPath)
	if err != nil {
		return nil, err
	}
	for _, src := range all {
		src.start = sync.OnceValues(src.startShared)
		if src.cluster && src.argv != nil {
			go func() { _, _ = src.start() }() // server reports the error
		}
	}
	return all, nil
})

// discover lists the kinds of servers in the order in which Each runs them.
func discover(getenv func(string) string, lookPath func(string) (string, error)) ([]*source, error) {
	all := []*source{{name: "miniredis", mini: true}}
	for _, known := range []struct{ name, program string }{
		{"redis-server", "redis-server"},
		{"valkey-server", "valkey-server"},
		{"cluster", "redis-server"},
	} {
		src := &source{name: known.name, cluster: known.name == "cluster"}
		if path, err := lookPath(known.program); err == nil {
			src.argv = []string{path}
		} else {
			src.missing = known.program + " is not on PATH"
		}
		all = append(all, src)
	}
	named := func(name string) *source {
		for _, src := range all[1:] {
			if src.name == name {
				return src
			}
		}
		src := &source{name: name, cluster: strings.HasPrefix(name, "cluster")}
		all = append(all, src)
		return src
	}

	commands, err := pairs(getenv, "MULTIHOST_TEST_COMMANDS")
	if err != nil {
		return nil, err
	}
	for _, c := range commands {
		src := named(c[0])
		src.argv, src.missing = strings.Fields(c[1]), ""
	}
	servers, err := pairs(getenv, "MULTIHOST_TEST_SERVERS")
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		src := named(s[0])
		src.url, src.argv, src.missing = s[1], nil, ""
	}
	for _, name := range split(getenv("MULTIHOST_TEST_REQUIRE")) {
		i := slices.IndexFunc(all, func(src *source) bool { return src.name == name })
		if i < 0 {
			return nil, fmt.Errorf("MULTIHOST_TEST_REQUIRE names %q, which neither PATH nor the environment gives", name)
		}
		all[i].required = true
	}
	return all, nil
}

// pairs reads a variable of the form name=value,name=value.
func pairs(getenv func(string) string, variable string) ([][2]string, error) {
	var all [][2]string
	for _, entry := range split(getenv(variable)) {
		name, value, found := strings.Cut(entry, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" || value == "" || name == "miniredis" {
			return nil, fmt.Errorf("%s: %q is not name=value, or names miniredis", variable, entry)
		}
		all = append(all, [2]string{name, value})
	}
	return all, nil
}

// split cuts a list at its commas and drops blanks.
func split(list string) []string {
	var all []string
	for entry := range strings.SplitSeq(list, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			all = append(all, entry)
		}
	}
	return all
}

// server returns the server as this subtest sees it, or skips the test.
func (src *source) server(t *testing.T) *Server {
	t.Helper()
	if src.mini {
		return startMini(t)
	}
	src.demand(t)
	in, err := src.start()
	if err != nil {
		t.Fatalf("redistest: %s: %v", src.name, err)
	}
	if err := in.alive(); err != nil {
		t.Fatalf("redistest: %s ended during the tests: %v", src.name, err)
	}
	return newServer(src.name, in)
}

// demand skips the test, or fails it, when there is no such server.
func (src *source) demand(t testing.TB) {
	t.Helper()
	switch {
	case src.missing == "":
	case src.required:
		t.Fatalf("redistest: %s is required, but %s", src.name, src.missing)
	default:
		t.Skipf("redistest: no %s: %s", src.name, src.missing)
	}
}

// startShared reaches or starts the server, and hands it to Main to stop.
func (src *source) startShared() (*instance, error) {
	switch {
	case src.url != "":
		return reach(src.url, src.cluster)
	case src.cluster:
		return startCluster(src.argv, &shared)
	default:
		in, err := startAlone(src.argv, noArgs)
		if err == nil {
			shared.add(in.kill)
		}
		return in, err
	}
}
