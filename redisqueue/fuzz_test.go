package redisqueue_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// FuzzName: New either says what is allowed, or the queue works, under keys of
// its own.
func FuzzName(f *testing.F) {
	for _, name := range []string{
		"", "x", " ", "{", "}", "{}", "a{b}c", "%", "%7B", "x:dead", "x}:dead", "queue:{x}", "語", "a\nb", "a\x00", "a\x7f", "a\u0085",
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
		opts := &redisqueue.Options{Namespace: namespace}
		q, err := redisqueue.New[string](client, name, opts)
		if good := allowed(namespace) && allowed(name) && name != ""; (err == nil) != good {
			t.Fatalf("New of name %q in namespace %q should succeed: %v, got %v", name, namespace, good, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "allowed are") {
				t.Fatalf("the error should say what is allowed, got %v", err)
			}
			return
		}
		put(t, q, name)
		// One that is much like it is another all the same.
		if beside := name + "}"; allowed(beside) {
			wantEmpty(t, newQueue[string](t, client, beside, opts))
		}
		for _, k := range m.Keys() {
			open, shut := strings.IndexByte(k, '{'), strings.IndexByte(k, '}')
			if !strings.HasPrefix(k, "mh1:") || open < 0 || shut <= open+1 {
				t.Errorf("each key should begin with mh1: and have a hash tag, got %q", k)
			}
		}
		wantGot(t, q, name)
		m.FlushAll() // a server that this test has for itself
	})
}

// hostile are items as other programs might push them.
var hostile = []string{
	"", " ", "  ", "   ", "x", "x ", "x 0", "x 0 ", "x 0 y", " 0 y", "x  y", "x 1 y", "x -1 y", "x -0 y", "x +1 y", "x 01 y", "x 1.5 y", "x 1e3 y", "x 0x10 y",
	"x nan y", "x inf y", "x 9223372036854775806 y", "x 9223372036854775807 y", "x 9223372036854775808 y", "x 99999999999999999999999 y", "x 999999999 y",
	"- 5 y", "\x00", "\x00 0 \x00", "x\n0\ny", "x 0 y z", "x 0  y", "x 0 y ", "\r\n", "null", `{"a":1}`, "\xff 3 \xff", "x ٣ y", "x 1\x00 y",
}

// FuzzForeign: an item that another program has pushed is one item, whatever
// it looks like, and stays the same however often it comes back.
func FuzzForeign(f *testing.F) {
	for _, item := range hostile {
		f.Add([]byte(item))
	}
	m := miniredis.RunT(f)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	f.Cleanup(func() { _ = client.Close() })
	f.Fuzz(func(t *testing.T, item []byte) {
		const name = "x"
		q := newQueue[[]byte](t, client, name, unhurried)
		push := func(part string) {
			if err := client.RPush(soonCtx(t), key(name, part), item).Err(); err != nil {
				t.Fatal(err)
			}
		}
		push("")
		want := get(t, q)
		if !bytes.HasSuffix(item, want) {
			t.Errorf("the payload of %q should be its end or all of it, got %q", item, want)
		}
		same := func(d *redisqueue.Delivery[[]byte], attempt int) {
			t.Helper()
			attempt = min(attempt, 1_000_000_000) // where counting ends
			if !bytes.Equal(d.Value(), want) || d.Attempt() != attempt {
				t.Errorf("%q should be delivered as %q for the %d. time, got %q for the %d.", item, want, attempt, d.Value(), d.Attempt())
			}
		}
		push("")
		d := receive(t, q)
		attempt := d.Attempt()
		if attempt < 1 {
			t.Fatalf("the first attempt should be 1 or more, got %d", attempt)
		}
		same(d, attempt)
		nack(t, d, 0)
		d = receive(t, q)
		same(d, attempt+1)
		nack(t, d, time.Millisecond)
		d = receive(t, q)
		same(d, attempt+2)
		ack(t, d)
		// The same by way of a consumer that died.
		push("dead:claims")
		if err := client.ZAdd(soonCtx(t), key(name, "consumers"), redis.Z{Score: 1, Member: "dead"}).Err(); err != nil {
			t.Fatal(err)
		}
		d = receive(t, q)
		same(d, attempt+1)
		ack(t, d)
		wantEmpty(t, q)
	})
}

// A scribe does operations and knows what each should return.
type scribe struct {
	t *testing.T
	q *redisqueue.Queue[int]

	next    int
	shut    bool
	dead    int
	waiting []entryOf
	delayed []entryOf
	held    []heldBy
	lost    []*delivery
}

type entryOf struct {
	v, attempts int
	due         time.Time
}

type heldBy struct {
	d *delivery
	e entryOf
}

const (
	scribeRoom = 4
	scribeMost = 3 // deliveries
)

// look moves what is due.
func (s *scribe) look() {
	slices.SortStableFunc(s.delayed, func(a, b entryOf) int { return a.due.Compare(b.due) })
	for len(s.delayed) > 0 && !s.delayed[0].due.After(time.Now()) {
		s.waiting = append(s.waiting, s.delayed[0])
		s.delayed = s.delayed[1:]
	}
}

func (s *scribe) drained() bool { return s.shut && len(s.waiting)+len(s.delayed)+len(s.held) == 0 }

// do does one operation, as b wants it.
func (s *scribe) do(b byte) {
	t := s.t
	t.Helper()
	s.look()
	n := int(b >> 4)
	switch b & 15 {
	case 0, 1, 2, 3:
		s.next++
		err := s.q.TryPut(soonCtx(t), s.next)
		switch {
		case s.shut:
			wantOnly(t, "TryPut after Shutdown", err, redisqueue.ErrShutdown)
		case len(s.waiting) >= scribeRoom:
			wantOnly(t, "TryPut to a full queue", err, redisqueue.ErrFull)
		case err != nil:
			t.Fatalf("TryPut should succeed, got %v", err)
		default:
			s.waiting = append(s.waiting, entryOf{v: s.next})
		}
	case 4, 5:
		s.get()
	case 6:
		if len(s.waiting) > 0 {
			all, err := s.q.GetMany(soonCtx(t), n+1)
			if err != nil || len(all) != min(n+1, len(s.waiting)) {
				t.Fatalf("GetMany of %d should return what is there, %v, got %v, %v", n+1, s.waiting, all, err)
			}
			for i, v := range all {
				if v != s.waiting[i].v {
					t.Fatalf("GetMany should return %v, got %v", s.waiting, all)
				}
			}
			s.waiting = s.waiting[len(all):]
		}
	case 7, 8, 9:
		s.receive()
	case 10, 11:
		if len(s.held) > 0 {
			ack(t, s.pick(n).d)
		}
	case 12:
		if len(s.held) > 0 {
			s.nack(s.pick(n), 0)
		}
	case 13:
		if len(s.held) > 0 {
			h := s.pick(n)
			s.nack(h, time.Duration(1+n*n)*10*time.Millisecond)
		}
	case 14:
		time.Sleep(time.Duration(n*n) * 10 * time.Millisecond) // in a bubble
	case 15:
		switch n {
		case 0:
			shutdown(t, s.q)
			s.shut = true
		case 1:
			remove(t, s.q)
			for _, h := range s.held {
				s.lost = append(s.lost, h.d)
			}
			*s = scribe{t: t, q: s.q, next: s.next, lost: s.lost}
		case 2:
			for _, d := range s.lost {
				wantErr(t, "Ack of what was deleted", d.Ack(soonCtx(t)), redisqueue.ErrLost)
			}
			s.lost = nil
		default:
			s.compare()
		}
	}
	time.Sleep(time.Millisecond) // in a bubble: no two things become due at a time
}

func (s *scribe) get() {
	v, err := s.q.TryGet(soonCtx(s.t))
	switch {
	case len(s.waiting) > 0:
		if err != nil || v != s.waiting[0].v {
			s.t.Fatalf("TryGet should return %d, got %d, %v", s.waiting[0].v, v, err)
		}
		s.waiting = s.waiting[1:]
	case s.drained():
		wantOnly(s.t, "TryGet of what is drained", err, redisqueue.ErrShutdown)
	default:
		wantOnly(s.t, "TryGet of an empty queue", err, redisqueue.ErrEmpty)
	}
}

func (s *scribe) receive() {
	wait := 500 * time.Microsecond
	if s.drained() {
		wait = time.Second // an earlier Receive may still block, without CLIENT UNBLOCK
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	d, err := s.q.Receive(ctx)
	switch {
	case len(s.waiting) > 0:
		e := s.waiting[0]
		e.attempts++
		if err != nil || d.Value() != e.v || d.Attempt() != e.attempts {
			s.t.Fatalf("Receive should return %d for the %d. time, got %+v, %v", e.v, e.attempts, d, err)
		}
		s.waiting = s.waiting[1:]
		s.held = append(s.held, heldBy{d, e})
	case s.drained():
		wantOnly(s.t, "Receive of what is drained", err, redisqueue.ErrShutdown)
	case err == nil || !errors.Is(err, context.DeadlineExceeded):
		s.t.Fatalf("Receive should wait, got %+v, %v", d, err)
	default:
		// Without CLIENT UNBLOCK its command still blocks for a moment. What it took
		// then would come back to the head, before what was given back after it.
		time.Sleep(time.Second) // in a bubble
	}
}

func (s *scribe) pick(n int) heldBy {
	n %= len(s.held)
	h := s.held[n]
	s.held = slices.Delete(s.held, n, n+1)
	return h
}

func (s *scribe) nack(h heldBy, delay time.Duration) {
	nack(s.t, h.d, delay)
	switch {
	case h.e.attempts >= scribeMost:
		s.dead++
	case delay > 0:
		h.e.due = time.Now().Add(delay)
		s.delayed = append(s.delayed, h.e)
	default:
		s.waiting = slices.Insert(s.waiting, 0, h.e)
	}
}

// compare looks at the State. What is due may wait already, or not yet.
func (s *scribe) compare() {
	got := state(s.t, s.q)
	if got.Waiting+got.Delayed != len(s.waiting)+len(s.delayed) || got.Claimed != len(s.held) || got.Dead != s.dead || got.Parked != 0 || got.Shutdown != s.shut {
		s.t.Fatalf("State should tell of %d, %d, %d held and %d dead, shut down %v, got %+v", len(s.waiting), len(s.delayed), len(s.held), s.dead, s.shut, got)
	}
}

// FuzzOperations: one process that does this and that sees a queue.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{0, 0, 4, 4, 4})
	f.Add([]byte{0, 1, 2, 3, 0, 0xf6, 4, 0})
	f.Add([]byte{0, 7, 12, 7, 12, 7, 12, 7, 0xff})
	f.Add([]byte{0, 0, 7, 0x1d, 7, 0x3d, 0x2e, 4, 0xfe, 4, 4, 0xff})
	f.Add([]byte{0, 0, 7, 15, 0, 4, 7, 10, 4, 7})
	f.Add([]byte{0, 7, 0x1f, 0x2f, 0, 7, 10, 0xff})
	f.Add([]byte{0, 0, 0, 0, 7, 7, 12, 12, 0, 0x3f, 6, 0x16, 0x26})
	f.Fuzz(func(t *testing.T, ops []byte) {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
			q := newQueue[int](t, client, "x", &redisqueue.Options{MaxSize: scribeRoom, MaxDeliveries: scribeMost})
			s := &scribe{t: t, q: q}
			for _, b := range ops[:min(len(ops), 60)] {
				s.do(b)
			}
			for len(s.held) > 0 {
				s.nack(s.pick(0), 0)
			}
			time.Sleep(3 * time.Second) // what is delayed is due
			s.look()
			s.compare()
			for len(s.waiting) > 0 {
				s.get()
			}
			s.get()
			s.compare()
		})
	})
}
