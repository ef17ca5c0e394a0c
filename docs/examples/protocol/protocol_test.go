package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redisevent"
	"github.com/multihost/multihost/redislock"
	"github.com/multihost/multihost/redisqueue"
	"github.com/multihost/multihost/redissem"
)

const process = "abcdefghijklmnop"

// foreign is the client in another language.
type foreign struct {
	t      *testing.T
	client *redis.Client
	keys   []string // of the object
	text   []string // the files that go in front of each verb
	prefix string   // of the files of its verbs
}

func newForeign(t *testing.T, key string, parts []string, prefix string, text ...string) foreign {
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	keys := []string{key}
	for _, p := range parts {
		keys = append(keys, key+":"+p)
	}
	return foreign{t, client, keys, text, prefix}
}

// call sends the script of a verb, and returns the answer as words.
func (f foreign) call(verb string, args ...any) []string {
	f.t.Helper()
	var script strings.Builder
	dir, prefix := path.Split(f.prefix)
	short := dir + "quick_" + prefix + verb + ".lua"
	for _, file := range slices.Concat([]string{short}, f.text, []string{f.prefix + verb + ".lua"}) {
		source, err := os.ReadFile("../../../" + file)
		if err != nil && file != short { // not all have a short form
			f.t.Fatal(err)
		}
		script.Write(source)
	}
	answer, err := f.client.Eval(f.t.Context(), script.String(), f.keys, args...).Result()
	if err != nil {
		f.t.Fatalf("%s: %v", verb, err)
	}
	return strings.Fields(strings.Trim(fmt.Sprint(answer), "[]"))
}

func (f foreign) want(got []string, want ...string) {
	f.t.Helper()
	for i, w := range want {
		if i >= len(got) || w != "" && got[i] != w {
			f.t.Fatalf("the answer is %v, want %v", got, want)
		}
	}
}

// listen subscribes to a channel; hear returns the next message on it.
func (f foreign) listen(channel string) (hear func() string) {
	f.t.Helper()
	sub := f.client.Subscribe(f.t.Context(), channel)
	f.t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return func() string {
		f.t.Helper()
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
		defer cancel()
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		return m.Payload
	}
}

func TestAForeignClientTakesTurnsAtALock(t *testing.T) {
	const dir = "internal/turnstile/lua/"
	f := newForeign(t, "mh1:lock:{orders}", []string{"fence", "line", "places", "ended"},
		dir, dir+"line.lua", dir+"shared.lua")
	lock, err := redislock.New(f.client, "orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := lock.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	earlier := before.Token()

	const inbox, ticket = "mh1:inbox:" + process + ":0", process + "-1"
	place := []any{ticket, "p:" + inbox, 1, 10000, 1, 0, `{"host":"elsewhere"}`}
	f.want(f.call("join", append(place, "0")...), "waiting")
	hear := f.listen(inbox)
	f.want(f.call("check", place...), "waiting", "", "1", "0", "0")
	if err := before.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	grant := strings.SplitN(hear(), " ", 6)
	f.want(grant, "grant", ticket, "", "", "3000", "mh1:lock:{orders}")
	token, _ := strconv.ParseUint(grant[2], 10, 64)
	if token <= earlier {
		t.Errorf("token %d after %d", token, earlier)
	}
	f.want(f.call("renew", ticket, 10000, grant[2], ""), "1")
	state, err := lock.State(t.Context())
	if err != nil || state.Token != token || state.Metadata["host"] != "elsewhere" || state.Foreign {
		t.Errorf("%+v, %v", state, err)
	}
	if _, err := lock.TryAcquire(t.Context()); !errors.Is(err, redislock.ErrNotAcquired) {
		t.Errorf("the lock was taken twice: %v", err)
	}
	f.want(f.call("release", ticket, grant[2], 0, "0", "", ""), "1")
	after, err := lock.Acquire(t.Context())
	if err != nil || after.Token() <= token {
		t.Fatalf("token %d after %d, %v", after.Token(), token, err)
	}
	_ = after.Release(t.Context())
}

func TestAForeignClientTakesAPermit(t *testing.T) {
	const dir = "internal/turnstile/lua/"
	f := newForeign(t, "mh1:sem:{gpus}", []string{"holders", "line", "places", "ended", "limit", "changes"},
		dir+"sem_", dir+"line.lua", dir+"sem_shared.lua")
	sem, err := redissem.New(f.client, "gpus", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	const ticket = process + "-1"
	place := []any{ticket, "p:mh1:inbox:" + process + ":0", 1, 10000, 1, 0, "{}"}
	f.want(f.call("join", append(place, 1, "refuse", "1")...), "granted", "1", "1")
	if _, err := sem.TryAcquire(t.Context()); !errors.Is(err, redissem.ErrNotAcquired) {
		t.Errorf("one permit was taken twice: %v", err)
	}
	f.want(f.call("renew", ticket, 10000, 1, ""), "1")
	f.want(f.call("release", ticket, 1, 0, "0", "", ""), "1")
	permit, err := sem.TryAcquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = permit.Release(t.Context())
	place[0] = process + "-2"
	f.want(f.call("join", append(place, 2, "refuse", "1")...), "mismatch", "1", "1")
}

func TestAForeignClientSetsAnEventAndSeesOne(t *testing.T) {
	f := newForeign(t, "mh1:event:{ready}", []string{"count", "asked"}, "redisevent/lua/", "redisevent/lua/shared.lua")
	ready, err := redisevent.New(f.client, "ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	const channel = "mh1:event:{ready}:channel:0"
	hear := f.listen(channel)
	change := f.call("change", "set", process+"-1", 0, "p:"+channel)
	if set, err := ready.IsSet(t.Context()); !set || err != nil {
		t.Errorf("set is %v, %v", set, err)
	}
	f.want(strings.Fields(hear()), "0", change[0], "1", "0")
	if err := ready.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.want(strings.Fields(hear()), change[0], "", "2", "0")
	f.want(f.call("change", "set", process+"-1", 0, "p:"+channel), "", "2") // a repeat
	look := f.call("look")
	if n, err := strconv.ParseUint(look[0], 10, 64); err != nil || n%2 != 0 || look[0] <= change[0] {
		t.Errorf("%v after %v", look, change)
	}
}

func TestAForeignClientPutsAndTakesItems(t *testing.T) {
	parts := []string{"parked", "room", "delayed", "dead", "about", "consumers", "metadata", "gone", "refused", "ids", "asked"}
	f := newForeign(t, "mh1:queue:{jobs}", parts, "redisqueue/lua/", "redisqueue/lua/shared.lua")
	jobs, err := redisqueue.New[string](f.client, "jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	all := []any{0, "raw", "refuse", "p:mh1:queue:{jobs}:channel:0", 0}
	with := func(part string, args ...any) (foreign, []any) {
		g := f
		g.keys = append(append([]string(nil), f.keys...), "mh1:queue:{jobs}:"+part)
		return g, append(append([]any(nil), all...), args...)
	}
	g, args := with(process+":producer", 1, "p:mh1:inbox:"+process+":0", "w", "", process+"-1", process+"-1 0 hello")
	f.want(g.call("put", args...), "put", "q")
	f.want(g.call("put", args...), "put", "q") // a repeat
	if got, err := jobs.Get(t.Context()); got != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := jobs.TryGet(t.Context()); !errors.Is(err, redisqueue.ErrEmpty) {
		t.Errorf("it was put twice: %v", err)
	}

	if err := jobs.Put(t.Context(), "answer"); err != nil {
		t.Fatal(err)
	}
	const consumer = process + "-2"
	g, args = with(consumer+":claims", consumer, 30000, 1, "{}")
	claimed := g.call("claim", args...)
	f.want(claimed, "items", "-1", "-1", "[]", "", "0", "answer")
	envelope := strings.TrimPrefix(strings.Join(claimed[4:], " "), "[")
	g, args = with(consumer+":claims", envelope)
	f.want(g.call("ack", args...), "done", "1")
	if state, err := jobs.State(t.Context()); err != nil || state.Waiting+state.Claimed != 0 {
		t.Errorf("%+v, %v", state, err)
	}
}
