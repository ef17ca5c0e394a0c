package cli

import (
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		url     string
		want    string // "" for an error
		cluster bool
	}{
		{"redis://127.0.0.1:7000", "127.0.0.1:7000", false},
		{"redis://user:secret@redis.example/3", "redis.example:6379", false},
		{"rediss://redis.example:7000", "redis.example:7000", false},
		{"unix:///run/redis.sock", "/run/redis.sock", false},
		{"redis://a:1?addr=b:2&addr=c:3", "a:1, b:2, c:3", true},
		{"127.0.0.1:7000", "", false},
		{"localhost:7000", "", false},
		{"http://secret@localhost", "", false},
		{"redis://u:secret@host:port", "", false},
		{"redis://u:secret@a:1?addr=b:2&nosuch=1", "", false},
	} {
		got, err := parseTarget(c.url)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s is taken for %v", c.url, got)
		case c.want == "" && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "redis://HOST:PORT")):
			t.Errorf("%s: %v, want an error that says how, and no password", c.url, err)
		case c.want != "" && err != nil:
			t.Errorf("%s: %v", c.url, err)
		case c.want != "" && (got.String() != c.want || (got.cluster != nil) != c.cluster):
			t.Errorf("%s is %v, cluster %v; want %s, %v", c.url, got, got.cluster != nil, c.want, c.cluster)
		}
	}
}
