package redisqueue

import (
	"errors"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/redistest"
)

// FuzzEnvelope: what is put in comes out, and an attempt more changes nothing
// else, whatever lies in the list.
func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{"", " ", "x", "x 0 y", "x 5 y z", "x -1 y", "x 9223372036854775807 y", "x +1 y", " 1 y", "x 999999999 y", "x 0 ", "- 1 x 0 y"} {
		f.Add(s, []byte(s))
	}
	f.Fuzz(func(t *testing.T, lying string, payload []byte) {
		made := newEnvelope("id-1", payload)
		if id, attempt, got := made.split(); id != "id-1" || attempt != 0 || got != string(payload) {
			t.Errorf("%q should come out as it was put in, got %q, %d, %q", payload, id, attempt, got)
		}
		for _, e := range []envelope{envelope(lying), made} {
			id, attempt, got := e.split()
			if attempt < 0 {
				t.Fatalf("%q should have been delivered 0 times or more, got %d", e, attempt)
			}
			for i := range 3 {
				e = e.again()
				nextID, next, same := e.split()
				if next != min(attempt+1+i, maxAttempt) || same != got || id != "" && nextID != id || nextID == "" {
					t.Fatalf("with an attempt more than %d %q should stay %q %q, got %q, %d, %q", attempt+i, lying, id, got, nextID, next, same)
				}
			}
		}
	})
}

// words are what the answers of the scripts begin with.
var words = []string{"put", "parked", "items", "shutdown", "alive", "gone", "done", "zeros", "state", "mismatch", "consumers"}

// FuzzReply: whatever a server answers is refused, or makes sense.
func FuzzReply(f *testing.F) {
	none, one, far := int64(-1), int64(1), int64(1<<63-1)
	for _, v := range []any{
		nil, "items", one, []any{}, []any{nil}, []any{[]any{"items"}},
		[]any{"put", "qpfsd"}, []any{"put", ""}, []any{"put"}, []any{"put", one}, []any{"parked", "past"},
		[]any{"items", none, none, []any{}, []any{}}, []any{"items", one, far, []any{"c-1"}, []any{"x 0 y", ""}},
		[]any{"items", int64(-1 << 63), int64(-1 << 62), []any{}, []any{}}, []any{"items", none, none, []any{one}, []any{}}, []any{"items", none, none, []any{}, []any{nil}},
		[]any{"shutdown"}, []any{"shutdown", one}, []any{"gone"}, []any{"alive", one, none, none, []any{}}, []any{"alive", none, none, none, []any{}},
		[]any{"done", one}, []any{"done", none}, []any{"done", far},
		[]any{"zeros", "1795000000000000", one}, []any{"zeros", nil, one},
		[]any{"state", one, one, one, one, "3", "json", one, []any{"c-1", `{"pid":"1"}`, one, far}},
		[]any{"state", one, one, one, one, "x", "json", one, []any{}}, []any{"state", one, one, one, none, "0", "", int64(0), []any{"c-1", "{", one, none}},
		[]any{"state", one, one, one, one, "99999999999999999999", "json", one, []any{}}, []any{"state", one, one, one, one, "-1", "json", one, []any{}},
		[]any{"items", int64(-10414574138294273), none, []any{}, []any{}},
		[]any{"mismatch", "3", "json"}, []any{"mismatch"}, []any{"consumers", "a", "b"},
	} {
		f.Add(redistest.PackReply(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := redistest.UnpackReply(b, words...)
		a, err := decodeAnswer(v)
		if !accepted(t, v, err) {
			return
		}
		for _, word := range []string{"put", "parked"} {
			_, err := a.letters(word)
			accepted(t, v, err)
		}
		if h, err := a.haul(); accepted(t, v, err) {
			saneOutlook(t, v, h.outlook)
			if h.shutdown && len(h.items) > 0 {
				t.Errorf("the end has no items, %#v became %+v", v, h)
			}
		}
		if b, err := a.beat(); accepted(t, v, err) && b.alive {
			saneOutlook(t, v, b.outlook)
			if b.claims < 0 {
				t.Errorf("there are no fewer claims than none, %#v became %+v", v, b)
			}
		}
		if n, err := a.count(); accepted(t, v, err) && n < 0 {
			t.Errorf("nothing is done less than never, %#v became %d", v, n)
		}
		_, _, err = a.zeros()
		accepted(t, v, err)
		if s, err := a.state(); accepted(t, v, err) {
			if s.Waiting < 0 || s.Parked < 0 || s.Delayed < 0 || s.Dead < 0 || s.Claimed < 0 || s.MaxSize < 0 {
				t.Errorf("there is nothing less than none, %#v became %+v", v, s)
			}
			for _, c := range s.Consumers {
				if c.TTL > maxTTL {
					t.Errorf("no claim stands for so long, %#v became %+v", v, s)
				}
			}
		}
		if err := a.mismatch(&settings{}); !errors.Is(err, hub.ErrMismatch) {
			t.Errorf("a mismatch should say so, %#v became %v", v, err)
		}
	})
}

// accepted says whether a reply was decoded; else the error should be a mismatch.
func accepted(t *testing.T, v any, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, hub.ErrMismatch) {
		t.Errorf("a reply that is not understood is a mismatch, %#v gave %v", v, err)
	}
	return err == nil
}

func saneOutlook(t *testing.T, v any, o outlook) {
	t.Helper()
	for _, d := range []time.Duration{o.due, o.ends} {
		if d > maxTTL {
			t.Errorf("nobody waits for so long, %#v became %+v", v, o)
		}
	}
}
