package redisevent

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestRepliesAreUnderstood(t *testing.T) {
	const n, now = "1790000000123457", "1790000000999999"
	for _, c := range []struct {
		reply any
		want  sight
		ok    bool
	}{
		{[]any{"7", "3"}, sight{number: 7, changes: 3, ttl: -1}, true},
		{[]any{"0", "0", int64(-2), now}, sight{ttl: -1, now: 1790000000999999}, true},
		{[]any{n, "3", int64(1500), now}, sight{1790000000123457, 3, 1500 * time.Millisecond, 1790000000999999}, true},
		{[]any{"7", "3", int64(math.MaxInt64), now}, sight{7, 3, maxTTL, 1790000000999999}, true}, // no overflow
		{[]any{"7"}, sight{}, false},
		{[]any{}, sight{}, false},
		{[]any{"7", nil}, sight{}, false},
		{[]any{int64(7), int64(3)}, sight{}, false},
		{[]any{"7", "3", "1500", now}, sight{}, false},
		{[]any{"7", "3", int64(1500), int64(9)}, sight{}, false},
		{[]any{"-7", "3"}, sight{}, false},
		{[]any{"1.79e+15", "3"}, sight{}, false},
		{[]any{"18446744073709551616", "3"}, sight{}, false},
		{"OK", sight{}, false},
		{nil, sight{}, false},
		{int64(1), sight{}, false},
	} {
		if s, err := decodeSight(c.reply); s != c.want || (err == nil) != c.ok {
			t.Errorf("the reply %v should be read as %+v (%v), got %+v, %v", c.reply, c.want, c.ok, s, err)
		}
	}
}

func TestMessagesAreUnderstood(t *testing.T) {
	for payload, want := range map[string]sight{
		"0 7 3 0":                               {number: 7, changes: 3, ttl: -1},
		"1790000000123456 1790000000123457 9 5": {number: 1790000000123457, changes: 9, ttl: 5 * time.Millisecond},
		"0 7 3 9223372036854775807":             {number: 7, changes: 3, ttl: maxTTL},
	} {
		if s, ok := decodeMessage(payload); s != want || !ok {
			t.Errorf("the message %q should be read as %+v, got %+v, %v", payload, want, s, ok)
		}
	}
	for _, payload := range []string{
		"", " ", "7", "7 3", "0 7 3", "0 7 3 1 2", "0 7 -3 0", "0 7 x 0", "0 7 3 -1", "0 7 3 x", "0  3 0", "0 7 3 0\n", "0 7.0 3 0",
		"0 18446744073709551616 1 0", "0 7 3 9223372036854775808",
	} {
		if s, ok := decodeMessage(payload); ok {
			t.Errorf("the message %q should not be understood, it was read as %+v", payload, s)
		}
	}
}

// FuzzReply feeds what no script of ours answers and publishes.
func FuzzReply(f *testing.F) {
	f.Add("7", "3", int64(1500), byte(0))
	f.Add("1790000000123457", "1", int64(-2), byte(1))
	f.Add("", "-1", int64(math.MinInt64), byte(2))
	f.Add("1e300", "\x00", int64(math.MaxInt64), byte(3))
	f.Fuzz(func(t *testing.T, number, changes string, ttl int64, shape byte) {
		shapes := []any{
			[]any{number, changes, ttl, changes}, []any{number, changes}, []any{number}, []any{number, nil, ttl, number},
			[]any{ttl, changes, number}, []any{[]any{number}, changes, ttl, number}, number, ttl, nil,
		}
		reply := shapes[int(shape)%len(shapes)]
		s, err := decodeSight(reply)
		if err == nil && (s.ttl > maxTTL || !reads(s, number, changes)) {
			t.Errorf("the reply %q was read as %+v", reply, s)
		}
		payload := fmt.Sprintf("%s %s %s %d", changes, number, changes, ttl)
		if m, ok := decodeMessage(payload); ok && (m.ttl > maxTTL || !reads(m, number, changes)) {
			t.Errorf("the message %q was read as %+v", payload, m)
		}
		_, _ = decodeMessage(number)
	})
}

// reads says whether s is what the two decimals say.
func reads(s sight, number, changes string) bool {
	return fmt.Sprintf("%d %d", s.number, s.changes) == canonical(number)+" "+canonical(changes) &&
		s.state() == State{Set: s.number%2 == 1, Changes: s.changes}
}

// canonical is a decimal number without leading zeros.
func canonical(s string) string {
	if s = strings.TrimLeft(s, "0"); s == "" {
		return "0"
	}
	return s
}
