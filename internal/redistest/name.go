package redistest

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"
)

// maxTestName keeps names short enough for every limit of the primitives (512
// bytes) with room for what a test appends.
const maxTestName = 200

// Name returns a name that no other test uses, in this run or another one: the
// test's own name and a random suffix. It is valid for every primitive and as
// a namespace.
func Name(t testing.TB) string {
	t.Helper()
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '/':
			return r
		default:
			return '_'
		}
	}, t.Name())
	if len(plain) > maxTestName {
		plain = plain[:maxTestName]
	}
	return plain + "-" + randomHex(4)
}

// randomHex returns 2n hexadecimal digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}
