package redistest

import (
	"bufio"
	"strings"
	"testing"
)

func TestFramesEndWhereTheyEnd(t *testing.T) {
	for _, whole := range []string{
		"+OK\r\n", "-ERR no\r\n", ":-5\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123\r\n",
		"$4\r\na\r\nb\r\n", "=8\r\ntxt:\r\nab\r\n", "!3\r\nERR\r\n",
		"*3\r\n:1\r\n*2\r\n+a\r\n$1\r\nb\r\n$-1\r\n",
		"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n",
		"~2\r\n:1\r\n:2\r\n",
		">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
		"|1\r\n+ttl\r\n:5\r\n+OK\r\n",
	} {
		r := bufio.NewReader(strings.NewReader(whole + "+next\r\n"))
		f, err := readFrame(r)
		if err != nil || string(f.raw) != whole {
			t.Errorf("%q: read %q, %v", whole, f.raw, err)
		}
		if next, err := readFrame(r); err != nil || string(next.raw) != "+next\r\n" {
			t.Errorf("%q: then %q, %v", whole, next.raw, err)
		}
		for cut := range len(whole) {
			if _, err := readFrame(bufio.NewReader(strings.NewReader(whole[:cut]))); err == nil {
				t.Errorf("%q is half a frame, and no error", whole[:cut])
			}
		}
	}
}

func TestMessagesAreKnownByTheirFirstWord(t *testing.T) {
	message := "3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
	for _, c := range []struct {
		raw        string
		subscribed bool
		want       string
	}{
		{">" + message, false, "message"},
		{"*" + message, true, "message"},
		{"*" + message, false, ""}, // a list that happens to begin so
		{">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n", true, "sunsubscribe"},
		{">2\r\n+invalidate\r\n*1\r\n+k\r\n", true, ""},
		{"+message\r\n", true, ""},
	} {
		f, err := readFrame(bufio.NewReader(strings.NewReader(c.raw)))
		if got := f.pubsub(c.subscribed); got != c.want || err != nil {
			t.Errorf("%q: %q, %v; want %q", c.raw, got, err, c.want)
		}
	}
}

func TestWhatIsNoCommandOrReplyIsAnError(t *testing.T) {
	for _, raw := range []string{"PING\r\n", "*1\r\n+a\r\n", "*0\r\n", "*x\r\n", "\r\n", "*1\r\n$3\r\nab"} {
		if c, err := readCommand(bufio.NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("%q read as %v", raw, c)
		}
	}
	for _, raw := range []string{"hello\r\n", "\r\n", "*x\r\n", "$x\r\n", strings.Repeat("*1\r\n", 100) + ":1\r\n"} {
		if f, err := readFrame(bufio.NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("%q read as %q", raw, f.raw)
		}
	}
}
