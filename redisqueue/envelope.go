package redisqueue

import (
	"strconv"
	"strings"
)

// envelope is an item as it lies in Redis: its id, how often it was delivered
// before, and the payload, with a space between each.
type envelope string

func newEnvelope(id string, payload []byte) envelope {
	var b strings.Builder
	b.Grow(len(id) + len(payload) + 3)
	b.WriteString(id)
	b.WriteString(" 0 ")
	b.Write(payload)
	return envelope(b.String())
}

// maxAttempt is where counting ends.
const maxAttempt = 999_999_999

// split takes the envelope apart. What somebody else has pushed into the list is
// all payload, unless it looks exactly so; sweep.lua sees it the same way.
func (e envelope) split() (id string, attempt int, payload string) {
	id, rest, ok1 := strings.Cut(string(e), " ")
	n, payload, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || id == "" || n == "" || len(n) > 9 {
		return "", 0, string(e)
	}
	for _, digit := range []byte(n) {
		if digit < '0' || digit > '9' {
			return "", 0, string(e)
		}
		attempt = 10*attempt + int(digit-'0')
	}
	return id, attempt, payload
}

func (e envelope) id() string {
	id, _, _ := e.split()
	return id
}

func (e envelope) attempt() int {
	_, attempt, _ := e.split()
	return attempt
}

func (e envelope) payload() []byte {
	_, _, payload := e.split()
	return []byte(payload)
}

// again is the envelope with one attempt more.
func (e envelope) again() envelope {
	id, attempt, payload := e.split()
	if id == "" {
		id = "-" // somebody else has pushed it
	}
	return envelope(id + " " + strconv.Itoa(min(attempt+1, maxAttempt)) + " " + payload)
}
