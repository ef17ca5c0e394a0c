package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Command is what a client sent through a Wire.
type Command struct {
	Name string   // in upper case
	Args []string // the name as it was sent, and what follows
	Conn int      // the connection: 1 is the first one that was dialled
	raw  []byte
}

// String shortens what is long, for messages.
func (c Command) String() string {
	const enough = 200
	s := strings.Join(c.Args, " ")
	if len(s) > enough {
		s = s[:enough] + "…"
	}
	return fmt.Sprintf("%q on connection %d", s, c.Conn)
}

// subscribes reports that the command is answered by confirmations, one for
// each channel, and not by a reply.
func (c Command) subscribes() bool { return strings.HasSuffix(c.Name, "SUBSCRIBE") }

// readCommand reads an array of bulk strings, the only form clients use.
func readCommand(r *bufio.Reader) (Command, error) {
	var c Command
	n, err := readHeader(r, '*', &c.raw)
	if err != nil {
		return c, err
	}
	for range n {
		size, err := readHeader(r, '$', &c.raw)
		if err != nil {
			return c, err
		}
		arg, err := readBulk(r, size, &c.raw)
		if err != nil {
			return c, err
		}
		c.Args = append(c.Args, arg)
	}
	if len(c.Args) == 0 {
		return c, errors.New("an empty command")
	}
	c.Name = strings.ToUpper(c.Args[0])
	return c, nil
}

// readHeader reads a line of a type and a number, such as *3, onto raw.
func readHeader(r *bufio.Reader, kind byte, raw *[]byte) (int, error) {
	line, err := r.ReadBytes('\n')
	*raw = append(*raw, line...)
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("%q where %q should be", line, kind)
	}
	return strconv.Atoi(string(bytes.TrimSpace(line[1:])))
}

// readBulk reads size bytes and the end of line after them onto raw.
func readBulk(r *bufio.Reader, size int, raw *[]byte) (string, error) {
	b := make([]byte, size+2)
	n, err := io.ReadFull(r, b)
	*raw = append(*raw, b[:n]...)
	if err != nil {
		return "", err
	}
	return string(b[:size]), nil
}

// A frame is one thing a server sends: a reply, or a push.
type frame struct {
	raw   []byte
	kind  byte     // the first byte: + - : $ * > and those of RESP3
	first []string // of arrays and pushes, the strings at its top
}

// frameDepth bounds nesting; no reply of Redis comes near it.
const frameDepth = 64

// readFrame reads a whole reply or push of RESP2 or RESP3.
func readFrame(r *bufio.Reader) (frame, error) {
	var f frame
	var err error
	f.kind, err = readValue(r, &f.raw, &f.first, frameDepth)
	return f, err
}

// readValue reads one value onto raw, its strings onto texts when it is
// wanted, and returns its kind.
func readValue(r *bufio.Reader, raw *[]byte, texts *[]string, depth int) (byte, error) {
	if depth == 0 {
		return 0, errors.New("nested too deeply")
	}
	line, err := r.ReadBytes('\n')
	*raw = append(*raw, line...)
	if err != nil {
		return 0, err
	}
	kind, rest := line[0], string(bytes.TrimSpace(line[1:]))
	parts := 0
	switch kind {
	case '+', '-', ':', '_', ',', '#', '(':
		addText(texts, rest)
		return kind, nil
	case '$', '!', '=':
		return kind, readText(r, rest, raw, texts)
	case '*', '~', '>':
		parts = 1
	case '%', '|':
		parts = 2
	default:
		return 0, fmt.Errorf("%q begins no reply", line)
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return 0, err
	}
	for range n * parts { // -1, the null of RESP2, has none
		// Only the strings at the top are wanted, hence none from below.
		top := texts
		if depth != frameDepth {
			top = nil
		}
		if _, err := readValue(r, raw, top, depth-1); err != nil {
			return 0, err
		}
	}
	if kind == '|' { // attributes, which belong to the value after them
		if texts != nil {
			*texts = nil
		}
		return readValue(r, raw, texts, depth)
	}
	return kind, nil
}

// readText reads a string of a length that may be -1, the null of RESP2.
func readText(r *bufio.Reader, length string, raw *[]byte, texts *[]string) error {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		addText(texts, "")
		return err
	}
	s, err := readBulk(r, n, raw)
	addText(texts, s)
	return err
}

func addText(texts *[]string, s string) {
	if texts != nil {
		*texts = append(*texts, s)
	}
}

// pubsub returns the word with which a message or a confirmation begins, or
// nothing: "message", "pmessage", "smessage", "subscribe", "unsubscribe", ….
// RESP2 sends them as arrays, so there one must know that the client subscribed.
func (f frame) pubsub(subscribed bool) string {
	if f.kind != '>' && (f.kind != '*' || !subscribed) || len(f.first) == 0 {
		return ""
	}
	word := f.first[0]
	if strings.HasSuffix(word, "message") || strings.HasSuffix(word, "subscribe") {
		return word
	}
	return ""
}
