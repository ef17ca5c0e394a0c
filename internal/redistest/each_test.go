package redistest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestEachServerAnswersAndHasTheCapabilitiesItClaims(t *testing.T) {
	Each(t, func(t *testing.T, s *Server) {
		ctx := t.Context()
		c := s.Client(t)
		key := Name(t)
		if err := c.Set(ctx, key, "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Client(t).Del(context.Background(), key) })

		_, isCluster := c.(*redis.ClusterClient)
		if isCluster != s.Cluster {
			t.Errorf("client is %T, Cluster is %v", c, s.Cluster)
		}
		err := c.Do(ctx, "CLIENT", "ID").Err()
		if (err == nil) != s.Clients {
			t.Errorf("CLIENT ID: %v, Clients is %v", err, s.Clients)
		}
		err = c.SPublish(ctx, key, "x").Err()
		if (err == nil) != s.Sharded {
			t.Errorf("SPUBLISH: %v, Sharded is %v", err, s.Sharded)
		}
		err = c.ConfigGet(ctx, "port").Err()
		if (err == nil) != s.Real || (s.Mini == nil) != s.Real {
			t.Errorf("CONFIG GET: %v, Real is %v, Mini is %v", err, s.Real, s.Mini)
		}
		if s.Product == "" || s.Version == "" || s.Addr == "" {
			t.Errorf("incomplete: %+v", s)
		}
	})
}

func TestEveryNodeOfTheClusterServesEverySlot(t *testing.T) {
	Each(t, func(t *testing.T, s *Server) {
		s.SkipOn(t, !s.Cluster, "not a cluster")
		c := s.Client(t)
		for _, tag := range []string{"{a}", "{b}", "{c}", "{d}", "{e}", "{f}", "{g}", "{h}"} {
			if err := c.Set(t.Context(), Name(t)+tag, 1, 1e9).Err(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNamesAreUniqueAndPlain(t *testing.T) {
	t.Run("with {braces} and 中文", func(t *testing.T) {
		a, b := Name(t), Name(t)
		if a == b {
			t.Errorf("%q twice", a)
		}
		if strings.ContainsAny(a, "{} \n") || len(a) > 256 || !strings.HasPrefix(a, "TestNamesAreUniqueAndPlain/") {
			t.Errorf("%q", a)
		}
	})
}

func TestTheEnvironmentNamesServers(t *testing.T) {
	nothing := func(string) (string, error) { return "", errors.New("not here") }
	onPath := func(program string) (string, error) { return "/usr/bin/" + program, nil }
	for _, c := range []struct {
		name string
		env  map[string]string
		path func(string) (string, error)
		want string // name:how, …
	}{
		{name: "nothing", path: nothing, want: "miniredis:mini redis-server:missing valkey-server:missing cluster:missing"},
		{name: "PATH", path: onPath, want: "miniredis:mini redis-server:/usr/bin/redis-server valkey-server:/usr/bin/valkey-server cluster:/usr/bin/redis-server"},
		{
			name: "commands and addresses", path: nothing,
			env: map[string]string{
				"MULTIHOST_TEST_COMMANDS": "redis8=chroot /x redis-server, valkey-server = valkey",
				"MULTIHOST_TEST_SERVERS":  "far=redis://10.0.0.1:6379/2,cluster=redis://10.0.0.2:7000",
				"MULTIHOST_TEST_REQUIRE":  "redis8,cluster",
			},
			want: "miniredis:mini redis-server:missing valkey-server:valkey cluster:redis://10.0.0.2:7000! redis8:chroot,/x,redis-server! far:redis://10.0.0.1:6379/2",
		},
		{name: "unknown required", path: onPath, env: map[string]string{"MULTIHOST_TEST_REQUIRE": "redis9"}, want: `error: MULTIHOST_TEST_REQUIRE names "redis9", which neither PATH nor the environment gives`},
		{name: "no value", path: onPath, env: map[string]string{"MULTIHOST_TEST_SERVERS": "here"}, want: `error: MULTIHOST_TEST_SERVERS: "here" is not name=value, or names miniredis`},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := discover(func(v string) string { return c.env[v] }, c.path)
			var got []string
			if err != nil {
				got = append(got, "error: "+err.Error())
			}
			for _, src := range all {
				how := src.url
				switch {
				case src.mini:
					how = "mini"
				case src.missing != "":
					how = "missing"
				case src.argv != nil:
					how = strings.Join(src.argv, ",")
				}
				if src.required {
					how += "!"
				}
				got = append(got, src.name+":"+how)
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("got  %s\nwant %s", g, c.want)
			}
		})
	}
}
