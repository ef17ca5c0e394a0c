package redislock_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redislock"
)

// FuzzName: New either says what is allowed, or the lock works, under keys of
// its own.
func FuzzName(f *testing.F) {
	for _, name := range []string{
		"", "x", " ", "{", "}", "{}", "a{b}c", "%", "%7B", "x:holder", "x}:holder", "lock:{x}", "語", "a\nb", "a\x00", "a\x7f", "a\u0085",
		"\xff", "\u2028", strings.Repeat("x", 512), strings.Repeat("x", 513),
	} {
		f.Add("", name)
		f.Add(name, "x")
	}
	m := miniredis.RunT(f)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	f.Cleanup(func() { _ = client.Close() })
	allowed := func(s string) bool {
		return len(s) <= 512 && utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
	}
	f.Fuzz(func(t *testing.T, namespace, name string) {
		opts := &redislock.Options{Namespace: namespace, LocalHandoffs: -1}
		l, err := redislock.New(client, name, opts)
		if good := allowed(namespace) && allowed(name) && name != ""; (err == nil) != good {
			t.Fatalf("New of name %q in namespace %q should succeed: %v, got %v", name, namespace, good, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "allowed are") {
				t.Fatalf("the error should say what is allowed, got %v", err)
			}
			return
		}
		h := take(t, l)
		wantTaken(t, newLock(t, client, name, opts))
		// One that is much like it is another all the same.
		if beside := name + "}"; allowed(beside) {
			wantFree(t, newLock(t, client, beside, opts))
		}
		for _, k := range m.Keys() {
			open, shut := strings.IndexByte(k, '{'), strings.IndexByte(k, '}')
			if !strings.HasPrefix(k, "mh1:") || open < 0 || shut <= open+1 {
				t.Errorf("each key should begin with mh1: and have a hash tag, got %q", k)
			}
		}
		release(t, h)
		wantFree(t, l)
		m.FlushAll() // a server that this test has for itself
	})
}
