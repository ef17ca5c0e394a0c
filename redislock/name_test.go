package redislock_test

import (
	"strings"
	"testing"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

func TestEveryAllowedNameWorks(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, other := s.Client(t), s.Client(t)
		own := redistest.Name(t)
		for _, name := range []string{
			"{", "}", "{}", "{a}", "}{", "a{b}c{d}", "{a", "a}", " ", "  two  ", "%", "%7B", "%%", "100%s",
			"中文鎖", "ключ", "🔒", "\u202e", "a:b:c", ":", "*?[a-z]", "'\"\\$(x)`", strings.Repeat("x", 512), strings.Repeat("語", 170),
		} {
			mine, theirs := newLock(t, client, name, &redislock.Options{Namespace: own, TTL: unhurried.TTL}),
				newLock(t, other, name, &redislock.Options{Namespace: own, TTL: unhurried.TTL})
			h := take(t, mine)
			wantTaken(t, theirs)
			waiter := begin(t, theirs)
			redistest.EventuallyTrue(t, soon, "somebody waits for "+name, func() bool { return state(t, mine).Waiters == 1 })
			release(t, h)
			release(t, waiter.granted(t))
			if got := state(t, mine); got.Held {
				t.Errorf("the lock %q should be free at the end, got %+v", name, got)
			}
		}
	})
}

func TestLocksOfDifferentNamesDoNotTouch(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client := s.Client(t)
		own := redistest.Name(t)
		// They differ in what is escaped, in where the colon is, and in what
		// might be taken for a namespace, a kind or a part of another.
		all := []struct{ namespace, name string }{
			{own, "a{b"}, {own, "a%7Bb"}, {own, "a%257Bb"}, {own, "a}b"}, {own, "a%7Db"}, {own, "{a{b}"}, {own, "A%7bB"},
			{own, "x"}, {own + "x", "x"}, {own + ":x", "x"}, {own + "%3Ax", "x"}, {own + "{", "x"}, {own + "%7B", "x"},
			{own, "x:holder"}, {own, "x}:holder"}, {own, "lock:{x}"}, {own + ":lock", "x"}, {own + ":event", "x"}, {own, " x"}, {own, "x "},
			{"", own}, {"lock", own}, {"event", own}, {"", "lock:{" + own + "}"}, {"", own + ":line"},
		}
		var held []*redislock.Lease
		for _, c := range all {
			l := newLock(t, client, c.name, &redislock.Options{Namespace: c.namespace, TTL: unhurried.TTL})
			h, err := l.TryAcquire(soonCtx(t))
			if err != nil {
				t.Fatalf("name %q in namespace %q should be a lock of its own, got %v", c.name, c.namespace, err)
			}
			tidy(t, h)
			held = append(held, h)
		}
		for i, c := range all {
			l := newLock(t, client, c.name, &redislock.Options{Namespace: c.namespace})
			if got := state(t, l); got.Token != held[i].Token() {
				t.Errorf("name %q in namespace %q should be held with token %d, got %+v", c.name, c.namespace, held[i].Token(), got)
			}
			release(t, held[i])
			if got := state(t, l); got.Held {
				t.Errorf("name %q in namespace %q should be free, got %+v", c.name, c.namespace, got)
			}
		}
	})
}

// The package's doc names the keys, for other programs and for operators.
func TestTheKeysAreTheDocumentedOnes(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client := s.Client(t)
		name := redistest.Name(t)
		for _, c := range []struct{ namespace, name, key string }{
			{"", name, "mh1:lock:{" + name + "}"},
			{"", name + "{a}%", "mh1:lock:{" + name + "%7Ba%7D%25}"},
			{"shop:eu{1}%", name, "mh1:shop%3Aeu%7B1%7D%25:lock:{" + name + "}"},
		} {
			h := take(t, newLock(t, client, c.name, &redislock.Options{Namespace: c.namespace}))
			for part, kind := range map[string]string{"": "string", ":fence": "string", ":line": "none"} {
				if got := client.Type(soonCtx(t), c.key+part).Val(); got != kind {
					t.Errorf("under %q there should be a %s, got %s", c.key+part, kind, got)
				}
			}
			release(t, h)
		}
	})
}

func TestOneProcessMayWaitForManyLocks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, waits := s.Client(t), s.Client(t)
		own := redistest.Name(t)
		var held []*redislock.Lease
		var waiting []*attempt
		for _, name := range []string{"a", "b", "c", "d"} {
			held = append(held, take(t, newLock(t, client, own+name, unhurried)))
			waiting = append(waiting, begin(t, newLock(t, waits, own+name, unhurried)))
			awaitLine(t, client, own+name, 1)
		}
		for i, h := range held {
			release(t, h)
			release(t, waiting[i].granted(t))
			for _, other := range waiting[i+1:] {
				other.wantWaiting(t)
			}
		}
	})
}
