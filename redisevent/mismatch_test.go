package redisevent_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

// foreign are contents that no event has, by the part of the event under whose
// key they lie, with a command that writes them.
var foreign = []struct {
	part, what string
	write      []any // with the key to be put in second place
}{
	{"", "a list", []any{"RPUSH", "x"}},
	{"", "a hash", []any{"HSET", "f", "x"}},
	{"", "text", []any{"SET", "hello"}},
	{"", "nothing at all", []any{"SET", ""}},
	{"", "a negative number", []any{"SET", "-3"}},
	{"", "a fraction", []any{"SET", "1.5"}},
	{"", "a power", []any{"SET", "1e3"}},
	{"", "a number with a line end", []any{"SET", "1\n"}},
	{"", "a number beyond doubles", []any{"SET", "9007199254740993"}},
	{"", "a number beyond 64 bits", []any{"SET", "99999999999999999999"}},
	{"count", "a set", []any{"SADD", "x"}},
	{"count", "text", []any{"SET", "three"}},
	{"count", "a number beyond 64 bits", []any{"SET", "99999999999999999999"}},
	{"asked", "a string", []any{"SET", "x"}},
	{"asked", "a list", []any{"RPUSH", "x"}},
}

func TestWhatIsNoEventIsAMismatchAndStaysAsItIs(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client := s.Client(t)
		for _, f := range foreign {
			t.Run(fmt.Sprintf("%s under %q", f.what, f.part), func(t *testing.T) {
				name := redistest.Name(t)
				e := newEvent(t, client, name, nil)
				at := key(name, f.part)
				write := append([]any{f.write[0], at}, f.write[1:]...)
				if err := client.Do(soonCtx(t), write...).Err(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { client.Del(context.Background(), key(name, ""), key(name, "count"), key(name, "asked")) })
				before := dump(t, client, name)
				var silent, destructive []string
				for _, op := range allMethods {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					err := call(e, ctx, op)
					cancel()
					if !errors.Is(err, redisevent.ErrMismatch) {
						silent = append(silent, op)
					}
					wantNot(t, op, err, redisevent.ErrUnavailable, redisevent.ErrUnknownOutcome)
					if !reflect.DeepEqual(dump(t, client, name), before) {
						destructive = append(destructive, op)
						client.Del(soonCtx(t), key(name, ""), key(name, "count"), key(name, "asked"))
						client.Do(soonCtx(t), write...)
					}
				}
				if silent != nil {
					t.Errorf("every method should say ErrMismatch, not so %v", silent)
				}
				if destructive != nil {
					t.Errorf("no method should change what is there, these did: %v", destructive)
				}
			})
		}
	})
}

// dump returns what lies under the keys of an event.
func dump(t testing.TB, client redis.UniversalClient, name string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, part := range []string{"", "count", "asked"} {
		k := key(name, part)
		kind, err := client.Type(soonCtx(t), k).Result()
		if err != nil {
			t.Fatal(err)
		}
		get := map[string][]any{
			"string": {"GET", k}, "list": {"LRANGE", k, 0, -1}, "hash": {"HGETALL", k},
			"set": {"SMEMBERS", k}, "zset": {"ZRANGE", k, 0, -1}, "none": nil,
		}[kind]
		if get != nil {
			v, err := client.Do(soonCtx(t), get...).Result()
			if err != nil {
				t.Fatal(err)
			}
			all[part] = fmt.Sprintf("%s %q", kind, v)
		}
	}
	return all
}

// A key that is overwritten under those who wait is an error for them: nobody
// could wake them any more.
func TestAWaitEndsWhenTheEventIsOverwritten(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		change(t, newEvent(t, b.direct, b.name, nil), "Pulse")
		w := begin(t, b.client, b.name)
		v := watch(t, newEvent(t, b.client, b.name, nil))
		v.sees(t, redisevent.State{Changes: 1})
		time.Sleep(time.Second)
		b.direct.Set(t.Context(), key(b.name, ""), "something else", 0)
		time.Sleep(fallback + time.Second)
		await(t, w.over, "the end of Wait")
		wantErr(t, "a Wait for what is no event any more", w.err, redisevent.ErrMismatch)
		await(t, v.over, "the end of Watch")
		wantErr(t, "a Watch of what is no event any more", v.err, redisevent.ErrMismatch)
	})
}
