package quorum

import (
	"errors"
	"testing"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/redistest"
)

// FuzzReply: whatever a member answers is refused, or makes sense.
func FuzzReply(f *testing.F) {
	for _, v := range []any{
		nil, int64(1), "over", []any{}, []any{nil}, []any{[]any{int64(1)}},
		[]any{int64(1), "0", "1795000000000000"}, []any{int64(1), "-1", "1"}, []any{int64(1), "1.79e+15", "1"}, []any{int64(1), nil, nil},
		[]any{int64(1), "18446744073709551615", "1"}, []any{int64(1), "18446744073709551616", "1"},
		[]any{int64(0), "p-1", int64(9000), int64(1)}, []any{int64(0), "theirs", int64(-1), int64(0)}, []any{int64(0), nil, int64(1), int64(1)},
		[]any{int64(0), "p-1", int64(1<<63 - 1), int64(1)}, []any{int64(0), "p-1", int64(-1 << 63), int64(7)},
		[]any{int64(-1)}, []any{int64(0)}, []any{int64(1)}, []any{int64(2), "1795000000000000"}, []any{int64(2), "x"}, []any{int64(2)}, []any{int64(3)},
		[]any{"over"}, []any{"foreign"}, []any{"revoked", int64(9000), "p-1"}, []any{"revoked", int64(-2), "p-1"}, []any{"revoked", int64(1), nil},
		[]any{"", int64(0), "0", int64(-2), ""}, []any{"p-1", int64(1), "1795000000000000", int64(9000), "{}"},
		[]any{"p-1", int64(1), nil, int64(9000), nil}, []any{"theirs", int64(0), "0", int64(-1), ""}, []any{"", int64(1), "5", int64(1), ""},
	} {
		f.Add(redistest.PackReply(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := redistest.UnpackReply(b, "over", "foreign", "revoked", "1", "p-1")
		accepted := func(err error) bool {
			if err != nil && !errors.Is(err, hub.ErrMismatch) {
				t.Errorf("what is not understood should be ErrMismatch, %#v is %v", v, err)
			}
			return err == nil
		}
		if x, err := decodeTake(v); accepted(err) {
			if x.left < 0 && x.left != -1 || x.taken && (x.owner != "" || x.left != 0 || x.foreign) || !x.taken && (x.counter != 0 || x.clock != 0) || max(x.counter, x.clock) >= 1<<53 {
				t.Errorf("a member is taken or another's, %#v became %+v", v, x)
			}
		}
		if k, seen := decodeKeep(v); seen != 0 && k != surpass {
			t.Errorf("only a counter to surpass is told, %#v became %v, %d", v, k, seen)
		}
		if x, err := decodeBreak(v); accepted(err) && (x.left < 0 || (x.over || x.foreign) && (x.left != 0 || x.ticket != "") || x.over && x.foreign) {
			t.Errorf("a turn is over, foreign, or has something left, %#v became %+v", v, x)
		}
		if s, err := decodeState(v); accepted(err) && (s.TTL < 0 && s.TTL != -1 || s.Owner == "" && (s.Foreign || s.TTL != 0)) {
			t.Errorf("a state should make sense, %#v became %+v", v, s)
		}
	})
}
