package redistest

import "encoding/binary"

// PackReply writes a reply in the form that [UnpackReply] reads: a seed for fuzzing.
func PackReply(v any) []byte {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64([]byte{1}, uint64(v))
	case string:
		return append([]byte{2, byte(len(v))}, v...)
	case []any:
		b := []byte{3, byte(len(v))}
		for _, e := range v {
			b = append(b, PackReply(e)...)
		}
		return b
	}
	return []byte{0}
}

// UnpackReply makes a reply of whatever bytes there are, as Redis could send it: of
// nil, integers, strings (any, or one of these words), arrays, and in RESP3 numbers,
// booleans and maps.
func UnpackReply(b []byte, words ...string) any {
	v, _ := unpackReply(b, words, 3)
	return v
}

func unpackReply(b []byte, words []string, depth int) (v any, rest []byte) {
	if len(b) == 0 {
		return nil, nil
	}
	kind, b := b[0], b[1:]
	take := func(n int) []byte {
		n = min(n, len(b))
		got := b[:n]
		b = b[n:]
		return got
	}
	switch kind % 8 {
	case 1:
		var n [8]byte
		copy(n[:], take(8))
		return int64(binary.BigEndian.Uint64(n[:])), b
	case 2:
		n := take(1)
		if len(n) == 0 {
			return "", b
		}
		return string(take(int(n[0]))), b
	case 3:
		n := take(1)
		if len(n) == 0 || depth == 0 {
			return []any{}, b
		}
		a := make([]any, 0, n[0]%12)
		for range n[0] % 12 {
			var e any
			e, b = unpackReply(b, words, depth-1)
			a = append(a, e)
		}
		return a, b
	case 4:
		return words[int(kind/8)%len(words)], b
	case 5:
		return float64(kind), b
	case 6:
		return kind&8 != 0, b
	case 7:
		return map[any]any{words[0]: int64(1)}, b
	}
	return nil, b
}
