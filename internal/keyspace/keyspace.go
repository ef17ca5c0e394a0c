package keyspace

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Version is the prefix of every key and channel: the version of the layout.
const Version = "mh1"

// MaxName is the longest allowed name or namespace, in bytes.
const MaxName = 512

// The kinds of objects.
const (
	Lock      = "lock"
	Semaphore = "sem"
	Event     = "event"
	Queue     = "queue"
)

// Object is one lock, event, semaphore or queue in Redis.
type Object struct {
	name string
	key  string
}

// New validates name and namespace and returns the object's place in Redis.
func New(kind, namespace, name string) (Object, error) {
	if name == "" {
		return Object{}, fmt.Errorf("the name is empty; allowed are 1 to %d bytes of UTF-8 without control characters", MaxName)
	}
	if err := valid("name", name); err != nil {
		return Object{}, err
	}
	if err := valid("namespace", namespace); err != nil {
		return Object{}, err
	}
	var b strings.Builder
	b.Grow(len(Version) + len(namespace) + len(kind) + len(name) + 8)
	b.WriteString(Version)
	b.WriteByte(':')
	if namespace != "" {
		escape(&b, namespace, "%{}:")
		b.WriteByte(':')
	}
	b.WriteString(kind)
	b.WriteString(":{")
	escape(&b, name, "%{}")
	b.WriteByte('}')
	return Object{name: name, key: b.String()}, nil
}

func valid(what, s string) error {
	if len(s) > MaxName {
		return fmt.Errorf("the %s has %d bytes; allowed are at most %d bytes of UTF-8 without control characters", what, len(s), MaxName)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("the %s %q is not valid UTF-8; allowed are at most %d bytes of UTF-8 without control characters", what, s, MaxName)
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return fmt.Errorf("the %s %q has a control character at byte %d; allowed are at most %d bytes of UTF-8 without control characters", what, s, i, MaxName)
	}
	return nil
}

func escape(b *strings.Builder, s, special string) {
	if !strings.ContainsAny(s, special) {
		b.WriteString(s)
		return
	}
	for i := range len(s) {
		if strings.IndexByte(special, s[i]) >= 0 {
			fmt.Fprintf(b, "%%%02X", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
}

// Name returns the name as the user gave it.
func (o Object) Name() string { return o.name }

// Key returns the object's main key.
func (o Object) Key() string { return o.key }

// Kind returns the kind of the object with this main key, "" if it is none.
func Kind(key string) string {
	before, tag, ok := strings.Cut(key, ":{")
	if !ok || !strings.HasPrefix(before, Version+":") || strings.IndexByte(tag, '}') != len(tag)-1 {
		return ""
	}
	return before[strings.LastIndexByte(before, ':')+1:]
}

// Part returns the key of one of the object's parts.
func (o Object) Part(part string) string { return o.key + ":" + part }

// Channel returns the object's channel for messages to everybody. Pub/sub
// crosses Redis databases, so the channel names the database.
func (o Object) Channel(db int) string {
	return o.key + ":channel:" + strconv.Itoa(db)
}

// Inbox returns the channel on which the process with this id hears what is
// meant for it alone. In a cluster the channel is the object's (sharded
// channels live in the slot of their tag); elsewhere one serves all objects.
func (o Object) Inbox(process string, db int, sharded bool) string {
	if sharded {
		return o.key + ":inbox:" + process
	}
	return Version + ":inbox:" + process + ":" + strconv.Itoa(db)
}
