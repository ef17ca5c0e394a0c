package keyspace

import (
	"slices"
	"strings"
	"testing"
)

var (
	kinds = []string{Lock, Event}
	parts = []string{"holder", "line", "places", "ended", "fence", "log"}
)

func TestKeysAndChannels(t *testing.T) {
	for _, c := range []struct{ kind, namespace, name, key string }{
		{Lock, "", "x", "mh1:lock:{x}"},
		{Event, "", "x", "mh1:event:{x}"},
		{Lock, "shop", "x", "mh1:shop:lock:{x}"},
		{Lock, "", "a{b}c", "mh1:lock:{a%7Bb%7Dc}"},
		{Lock, "", "a%7Bb", "mh1:lock:{a%257Bb}"},
		{Lock, "", "a:b c", "mh1:lock:{a:b c}"},
		{Lock, "", "中文", "mh1:lock:{中文}"},
		{Lock, "a:b{c}%", "x", "mh1:a%3Ab%7Bc%7D%25:lock:{x}"},
	} {
		o, err := New(c.kind, c.namespace, c.name)
		if err != nil {
			t.Fatalf("New of %+v should succeed, got %v", c, err)
		}
		for what, got := range map[string][2]string{
			"Key":     {o.Key(), c.key},
			"Part":    {o.Part("line"), c.key + ":line"},
			"Channel": {o.Channel(3), c.key + ":channel:3"},
			"Inbox":   {o.Inbox("p1", 3, false), "mh1:inbox:p1:3"},
			"sharded": {o.Inbox("p1", 0, true), c.key + ":inbox:p1"},
			"Name":    {o.Name(), c.name},
		} {
			if got[0] != got[1] {
				t.Errorf("%s of %+v should be %q, got %q", what, c, got[1], got[0])
			}
		}
	}
}

func TestBadNamesAreRefusedWithWhatIsAllowed(t *testing.T) {
	bad := []string{strings.Repeat("x", MaxName+1), strings.Repeat("語", 171), "a\nb", "\x00", "\x1f", "\x7f", "a\u0080", "\xff", "a\xc3"}
	for _, s := range append(bad, "") {
		if _, err := New(Lock, "", s); err == nil || !strings.Contains(err.Error(), "allowed are") || !strings.Contains(err.Error(), "512 bytes of UTF-8") {
			t.Errorf("the name %q should be refused with what is allowed, got %v", s, err)
		}
	}
	for _, s := range bad {
		if _, err := New(Lock, s, "x"); err == nil || !strings.Contains(err.Error(), "namespace") || !strings.Contains(err.Error(), "allowed are") {
			t.Errorf("the namespace %q should be refused with what is allowed, got %v", s, err)
		}
	}
}

func TestNamesUpToTheLimitAreTaken(t *testing.T) {
	for _, s := range []string{"x", " ", strings.Repeat("x", MaxName), strings.Repeat("語", 170) + "xx", "{", "%", "\u00a0", "\u2028", "\ufffd"} {
		if _, err := New(Lock, s, s); err != nil {
			t.Errorf("name and namespace %q should be taken, got %v", s, err)
		}
	}
}

// all are the keys and the sharded channels of an object.
func all(o Object) []string {
	keys := []string{o.Key(), o.Channel(0), o.Channel(15), o.Inbox("p1", 0, true), o.Inbox("p2", 0, true)}
	for _, part := range parts {
		keys = append(keys, o.Part(part))
	}
	return keys
}

// tag is what Redis hashes of a key: what stands between the first brace and
// the next closing one, if that is not nothing.
func tag(key string) string {
	open := strings.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	shut := strings.IndexByte(key[open:], '}')
	if shut <= 1 {
		return key
	}
	return key[open+1 : open+shut]
}

// FuzzKeysAreNeverShared: two objects that differ in kind, namespace or name
// have no key in common, and those of one object lie in one slot.
func FuzzKeysAreNeverShared(f *testing.F) {
	for _, s := range [][4]string{
		{"", "x", "", "x"}, {"", "a{b", "", "a%7Bb"}, {"a", "x", "a:", "x"}, {"a:lock", "x", "a", "lock:{x}"}, {"lock", "x", "", "x"},
		{"", "x:holder", "", "x"}, {"", "x}:holder", "", "x"}, {"", "{x}", "", "x"}, {"{x}", "y", "", "x"}, {"event", "x", "", "lock:{x}"}, {"", "inbox", "inbox", "p1"},
	} {
		for kinds := range uint8(4) {
			f.Add(kinds, s[0], s[1], s[2], s[3])
		}
	}
	f.Fuzz(func(t *testing.T, k uint8, namespace1, name1, namespace2, name2 string) {
		kind1, kind2 := kinds[k&1], kinds[k>>1&1]
		one, err := New(kind1, namespace1, name1)
		if err != nil {
			return
		}
		for _, key := range all(one) {
			if tag(key) != tag(one.Key()) || tag(key) == key {
				t.Errorf("%q should have the hash tag of %q", key, one.Key())
			}
			if !strings.HasPrefix(key, "mh1:") {
				t.Errorf("%q should begin with the version of the layout", key)
			}
		}
		two, err := New(kind2, namespace2, name2)
		if err != nil {
			return
		}
		same := kind1 == kind2 && namespace1 == namespace2 && name1 == name2
		if same != (one.Key() == two.Key()) {
			t.Errorf("%s %q %q has the key %q, %s %q %q has %q", kind1, namespace1, name1, one.Key(), kind2, namespace2, name2, two.Key())
		}
		for _, key := range all(two) {
			if !same && slices.Contains(all(one), key) {
				t.Errorf("%s %q %q and %s %q %q should not share %q", kind1, namespace1, name1, kind2, namespace2, name2, key)
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		_, _ = New(Lock, "shop", "nightly-report")
	}
}

func TestKindIsReadOffTheMainKeyAlone(t *testing.T) {
	for _, kind := range []string{Lock, Semaphore, Event} {
		for _, namespace := range []string{"", "prod", "a:b{c}", "lock"} {
			for _, name := range []string{"x", "a:{b}", ":{", "sem", "語"} {
				o, err := New(kind, namespace, name)
				if err != nil {
					t.Fatal(err)
				}
				if got := Kind(o.Key()); got != kind {
					t.Errorf("the kind of %q should be %q, got %q", o.Key(), kind, got)
				}
				if got := Kind(o.Part("line")); got != "" {
					t.Errorf("%q is no main key, got kind %q", o.Part("line"), got)
				}
			}
		}
	}
	for _, key := range []string{"", "x", "mh1", "mh1:", "mh1:lock", "mh1:lock:x", "lock:{x}", "mh2:lock:{x}", "mh1:lock:{x", "mh1:{x}", ":{}"} {
		if got := Kind(key); got != "" {
			t.Errorf("%q is nobody's key, got kind %q", key, got)
		}
	}
}
