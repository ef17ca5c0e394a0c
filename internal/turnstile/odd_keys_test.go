package turnstile

import (
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/keyspace"
)

// Another program has put something of another type where the line is: who gives back
// hears of it, and has given back.
func TestWhatIsGivenBackIsSoAlthoughTheLineIsOfAnotherType(t *testing.T) {
	for kind, scripts := range map[string]struct {
		join, release string
		args          []any
		parts         []string
	}{
		keyspace.Lock: {
			quickJoinLua + lineLua + sharedLua + joinLua, quickReleaseLua + lineLua + sharedLua + releaseLua,
			[]any{"0"}, []string{":line", ":places"},
		},
		keyspace.Semaphore: {
			quickSemJoinLua + lineLua + semSharedLua + semJoinLua, quickSemReleaseLua + lineLua + semSharedLua + semReleaseLua,
			[]any{1, "refuse", "0"}, []string{":line", ":places", ":limit"},
		},
	} {
		for _, part := range scripts.parts {
			t.Run(kind+part, func(t *testing.T) {
				m := miniredis.RunT(t)
				client := redis.NewClient(&redis.Options{Addr: m.Addr()})
				t.Cleanup(func() { _ = client.Close() })
				o, err := keyspace.New(kind, "", "x")
				if err != nil {
					t.Fatal(err)
				}
				keys := kinds[kind].keysOf(o.Key())
				for _, ticket := range []string{"a-1", "b-1"} {
					args := append([]any{ticket, "p:" + ticket, 1, 3600000, 1, 0, ""}, scripts.args...)
					if err := client.Eval(t.Context(), scripts.join, keys, args...).Err(); err != nil {
						t.Fatal(err)
					}
				}
				odd := keys[slices.Index(kinds[kind].parts, part)+1]
				m.Del(odd)
				if _, err := m.Push(odd, "odd"); err != nil {
					t.Fatal(err)
				}
				err = client.Eval(t.Context(), scripts.release, keys, "a-1", "", 0, "0", "", "p:a-1").Err()
				if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
					t.Errorf("a release should tell of the type, got %v", err)
				}
				if n, err := client.Exists(t.Context(), keys[0]).Result(); err != nil || n != 0 {
					t.Errorf("what was released should be free, the key is there %d times, %v", n, err)
				}
			})
		}
	}
}

// What looks a little like the record of a holder is another program's, whom nobody hears of
// when it lets go.
func TestAForeignValueOfSomeLinesIsForeign(t *testing.T) {
	m := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	keys := kinds[keyspace.Lock].keysOf("x")
	for _, value := range []string{"", "x", "x\n1\n2\n3\n\n", "x\n1\n2\n3\n\n\n"} {
		if err := m.Set("x", value); err != nil {
			t.Fatal(err)
		}
		answer, err := client.Eval(t.Context(), quickJoinLua+lineLua+sharedLua+joinLua, keys, "a-1", "p:a", 1, 3000, 1, 0, "", "0").Slice()
		if err != nil || len(answer) != 5 || answer[3] != int64(1) {
			t.Errorf("a lock whose value is %q should be told as another program's, got %v, %v", value, answer, err)
		}
	}
}

// A counter that no clock can have made, and no double holds, neither stops the lock nor
// has tokens come twice.
func TestADamagedCounterIsMadeAnew(t *testing.T) {
	for _, fence := range []string{"9007199254740992", "99999999999999999", "inf", "nan", "-inf", "x", ""} {
		for form, source := range map[string]string{"short": quickJoinLua + lineLua + sharedLua + joinLua, "long": lineLua + sharedLua + joinLua} {
			m := miniredis.RunT(t)
			client := redis.NewClient(&redis.Options{Addr: m.Addr()})
			t.Cleanup(func() { _ = client.Close() })
			keys := kinds[keyspace.Lock].keysOf("x")
			if err := m.Set(keys[1], fence); err != nil {
				t.Fatal(err)
			}
			last := uint64(0)
			for range 3 {
				answer, err := client.Eval(t.Context(), source, keys, "a-1", "p:a", 1, 3000, 1, 0, "", "0").Result()
				if err != nil {
					t.Fatal(err)
				}
				s, err := decodeStanding(answer)
				if err != nil || s.status != granted || s.first <= last || s.first >= 1<<53 {
					t.Errorf("with the counter %q the %s form should grant a token above %d, got %v, %v", fence, form, last, answer, err)
				}
				last = s.last
				m.Del("x")
			}
		}
	}
}
