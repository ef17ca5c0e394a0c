package turnstile

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
	"github.com/multihost/multihost/internal/redistest"
)

// words are what the answers of the scripts begin with.
var words = []string{"granted", "waiting", "ended", "unknown", "over", "foreign", "revoked", "mismatch", "open"}

// FuzzReply: whatever a server answers is refused, or makes sense.
func FuzzReply(f *testing.F) {
	for _, v := range []any{
		nil, "granted", int64(1), []any{}, []any{nil}, []any{[]any{"granted"}},
		[]any{"granted", "1795000000000000", "1795000000000064", int64(10000)},
		[]any{"granted", "1", "9", int64(1), "1"}, []any{"granted", "1", "9", int64(1), int64(1)}, []any{"granted", "0", "0", int64(1)}, []any{"granted", "2", "1", int64(1)}, []any{"granted", "-1", "1", int64(1)},
		[]any{"granted", "1", "18446744073709551616", int64(1)}, []any{"granted", "1", "1", int64(-1)}, []any{"granted", "1", "1", int64(1<<63 - 1)},
		[]any{"granted", nil, nil, int64(1)}, []any{"granted", int64(1), int64(1), int64(1)}, []any{"granted", "1.79e+15", "1.79e+15", int64(1)},
		[]any{"waiting", int64(-1), int64(1), int64(0), int64(0)}, []any{"waiting", int64(-2), int64(0), int64(0), int64(1)}, []any{"waiting", int64(1<<63 - 1), int64(1), int64(1), int64(1)},
		[]any{"waiting", int64(-1 << 63), int64(1), int64(1), int64(0)}, []any{"waiting"}, []any{"ended"}, []any{"unknown"},
		[]any{int64(1)}, []any{int64(1), int64(0)}, []any{int64(1), int64(1)}, []any{int64(0)}, []any{int64(1), "unknown"}, []any{int64(0), "granted", "1", "2", int64(3)}, []any{int64(1), int64(7)},
		[]any{int64(-1), "0"}, []any{int64(-1), "1795000000000000"}, []any{int64(-1)}, []any{int64(-1), nil},
		[]any{"over"}, []any{"foreign"}, []any{"revoked", int64(9000), "1795000000000000"}, []any{"revoked", int64(-2), "1"}, []any{"revoked", int64(1), nil},
		[]any{"", int64(0), "0", int64(-2), "", int64(3)}, []any{"p-1", int64(1), "1795000000000000", int64(10000), "{}", int64(0)},
		[]any{"theirs", int64(0), "0", int64(-1), "", int64(2)}, []any{"p-1", int64(1), nil, int64(10), nil, int64(0)}, []any{"", int64(0), "0", int64(-2), "", int64(-1)},
		[]any{"mismatch", "17", "19"}, []any{"mismatch", "17"}, []any{"mismatch", int64(17), nil}, []any{"mismatch", "-1", "x"}, []any{"open"}, []any{"done"},
		[]any{"", "", int64(0), int64(0)}, []any{"2", "3", int64(1), int64(4), "p-1", "1", int64(9000), "{}"},
		[]any{"2", "3", int64(1), int64(4), "p-1", "0", int64(9000), ""}, []any{"2", "3", int64(1), int64(4), "p-1"}, []any{"x", "3", int64(-1), int64(4)},
	} {
		f.Add(redistest.PackReply(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := redistest.UnpackReply(b, words...)
		if s, err := decodeStanding(v); accepted(t, v, err) {
			saneStanding(t, v, s)
		}
		if _, s, err := decodeRelease(v); accepted(t, v, err) && s != nil {
			saneStanding(t, v, *s)
		}
		if r, err := decodeRenew(v); accepted(t, v, err) && (r.ok && r.revoked || r.token != 0 && !r.revoked) {
			t.Errorf("a renewal is done or revoked, %#v became %+v", v, r)
		}
		if over, left, _, err := decodeBreak(v); !errors.Is(err, ErrForeign) && accepted(t, v, err) && (left < 0 || over && left != 0) {
			t.Errorf("a turn that is over has nothing left, any other not less than that; %#v became %v, %v", v, over, left)
		}
		m := NewLimit(1, Refuse)
		if err := m.accept(v, "open"); (err == nil) != m.agreed() || err != nil && !errors.Is(err, hub.ErrMismatch) {
			t.Errorf("a limit was compared or it was not, %#v made %v, %v", v, m.agreed(), err)
		}
		if s, err := decodePermits(v); accepted(t, v, err) {
			sanePermits(t, v, s)
		}
		if s, err := decodeState(v); accepted(t, v, err) {
			if s.Owner == "" && (s.Foreign || s.TTL != 0) || s.TTL < 0 && s.TTL != -1 || s.Waiters < 0 {
				t.Errorf("a state should make sense, %#v became %+v", v, s)
			}
		}
	})
}

// accepted reports that there was no error, and demands that one matches
// ErrMismatch.
func accepted(t *testing.T, v any, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, hub.ErrMismatch) {
		t.Errorf("an answer that is not understood should be ErrMismatch, %#v was %v", v, err)
	}
	return err == nil
}

func saneStanding(t *testing.T, v any, s standing) {
	t.Helper()
	switch s.status {
	case granted:
		if s.first == 0 || s.last < s.first || s.ttl < 0 {
			t.Errorf("a grant should have tokens and time, %#v became %+v", v, s)
		}
	case waiting:
		if s.ttl < 0 && s.ttl != -1 && s.ttl != -2 {
			t.Errorf("the owner's time should be known, without end (-1) or over (-2), %#v became %+v", v, s)
		}
	}
	if s.ttl+time.Second < s.ttl {
		t.Errorf("a moment after the end should be a time as well, %#v became %+v", v, s)
	}
}

func sanePermits(t *testing.T, v any, s SemaphoreState) {
	t.Helper()
	if s.Held < 0 || s.Waiters < 0 || s.Declared < 0 || s.Present < 0 || !s.Known && s.Declared+s.Present != 0 {
		t.Errorf("a state should make sense, %#v became %+v", v, s)
	}
	for _, p := range s.Permits {
		ticket, turn, err := parseTurn(p.ID)
		if err == nil && (turnID(ticket, turn) != p.ID || p.Resting != (turn == 0)) || p.TTL < 0 {
			t.Errorf("a permit should make sense, %#v became %+v", v, p)
		}
	}
}

// FuzzMessage: the inbox is a channel on which every program may speak. What is
// said there never makes a holder of somebody who does not wait.
func FuzzMessage(f *testing.F) {
	client := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed },
	})
	f.Cleanup(func() { _ = client.Close() })
	h := hub.Use(client, nil)
	var lines []*Line
	for kind := range kinds {
		object, err := keyspace.New(kind, "", "x")
		if err != nil {
			f.Fatal(err)
		}
		line := Open(h, object)
		f.Cleanup(func() { line.Close(); h.Done() })
		lines = append(lines, line)
	}
	for _, message := range []string{
		"", " ", "grant", "grant  ", "grant ME-1 1 2 3000 LOCK", "grant ME-1 0 0 0 LOCK", "grant ME-1 2 1 3000 LOCK", "grant ME-1 1 2 -1 LOCK",
		"grant ME-1 1 2 9223372036854775807 LOCK", "grant ME-1 99999999999999999999 1 1 LOCK", "grant you-1 1 2 3000 LOCK", "grant ME-1 1 2 3000 ",
		"look", "look ME-1 10 LOCK", "look ME-1 9223372036854775807 LOCK", "look ME-1 -1 LOCK", "look ME-1 x LOCK", "look ME-1 1",
		"grant ME-1 1 2 3000 mh1:sem:{y}", "grant ME-1 1 2 3000 mh1:event:{x}", "grant ME-1 1 2 3000 x", "grant ME-1 1 2 3000 mh1:lock:{x}:line",
		"revoke", "revoke ME-1 LOCK", "revoke LOCK", "revoke ME-1 ", "over", "over LOCK", "over ", "over x", "nonsense ME-1 LOCK",
	} {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message string) {
		for _, line := range lines {
			said := strings.ReplaceAll(strings.ReplaceAll(message, "ME", h.Process()), "LOCK", line.object.Key())
			line.inbox.message(said, clock.Now().Add(-time.Second))
			line.mu.Lock()
			if line.grants.len() != 0 || line.place != nil || line.waiters.Len() != 0 {
				t.Errorf("nobody waits, so %q should change nothing", said)
			}
			line.mu.Unlock()
		}
	})
}
