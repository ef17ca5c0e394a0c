package redisevent_test

import (
	"cmp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redisevent"
)

// FuzzName: whatever New takes as name and namespace is an event of its own,
// in keys of its own.
func FuzzName(f *testing.F) {
	for _, name := range awkwardNames {
		f.Add("", name)
		f.Add(name, "n")
	}
	f.Add("a\x00", "b\xff")
	m := miniredis.RunT(f)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	f.Cleanup(func() { _ = client.Close() })
	f.Fuzz(func(t *testing.T, space, name string) {
		e, err := redisevent.New(client, name, &redisevent.Options{Namespace: space})
		if err != nil {
			if fine(name) && name != "" && fine(space) {
				t.Fatalf("New should take the name %q in namespace %q, got %v", name, space, err)
			}
			return
		}
		if !fine(name) || name == "" || !fine(space) {
			t.Fatalf("New should not take the name %q in namespace %q", name, space)
		}
		// Another one, as much like it as possible.
		beside := newEvent(t, client, cmp.Or(space, "'"), &redisevent.Options{Namespace: name})
		if cmp.Or(space, "'") == name {
			beside = newEvent(t, client, "''", nil)
		}
		change(t, beside, "Set")
		wantState(t, e, redisevent.State{})
		change(t, e, "Set", "Clear")
		wantState(t, e, redisevent.State{Changes: 2})
		wantState(t, beside, redisevent.State{Set: true, Changes: 1})
		for _, k := range m.Keys() {
			if tag := k[strings.Index(k, "{")+1 : strings.Index(k, "}")]; tag == "" || !strings.HasPrefix(k, "mh1:") {
				t.Errorf("every key should begin with mh1: and have a hash tag, got %q", k)
			}
		}
		change(t, e, "Delete")
		change(t, beside, "Delete")
		if left := m.Keys(); len(left) > 0 {
			t.Errorf("Delete should leave nothing, it left %q", left)
		}
	})
}

// fine says whether a name is allowed, by other means than New.
func fine(s string) bool {
	control := func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }
	return len(s) <= 512 && utf8.ValidString(s) && !strings.ContainsFunc(s, control)
}
