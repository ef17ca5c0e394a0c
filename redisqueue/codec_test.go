package redisqueue_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// there and back puts a value and takes it again.
func thereAndBack[T any](t *testing.T, s *redistest.Server, values ...T) {
	t.Helper()
	name := redistest.Name(t)
	q := newQueue[T](t, s.Client(t), name, nil)
	put(t, q, values...)
	for _, v := range values {
		if got := get(t, q); !reflect.DeepEqual(got, v) {
			t.Errorf("%#v should come back, got %#v", v, got)
		}
	}
	remove(t, q)
}

type record struct {
	ID   int64             `json:"id"`
	Tags []string          `json:"tags,omitempty"`
	More map[string]*int64 `json:"more,omitempty"`
	At   time.Time         `json:"at"`
}

// upper has JSON of its own, null included.
type upper string

func (u upper) MarshalJSON() ([]byte, error) {
	if u == "" {
		return []byte("null"), nil
	}
	return []byte(`"` + strings.ToUpper(string(u)) + `"`), nil
}

func (u *upper) UnmarshalJSON(b []byte) error {
	*u = upper(strings.ToLower(strings.Trim(string(b), `"`)))
	return nil
}

func TestValuesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		var all [256]byte
		for i := range all {
			all[i] = byte(i)
		}
		big := strings.Repeat("语", 1<<20)
		n := int64(1) << 62
		thereAndBack(t, s, "", " ", "a b  c", "\n", "\x00\x00", "null", `"`, "你好", big, string(all[:]), "x 0 y", "-1", "1 2 3 4")
		thereAndBack(t, s, []byte{}, []byte(" "), []byte("\r\n$5\r\n"), all[:])
		thereAndBack(t, s, 0, -1, 1<<53, 1<<62)
		thereAndBack(t, s, 0.1, 1e300)
		thereAndBack(t, s, true, false)
		thereAndBack(t, s, record{}, record{1, []string{"a", ""}, map[string]*int64{"n": &n, "nil": nil}, time.Unix(1790000000, 123456789).UTC()})
		thereAndBack(t, s, &record{ID: 2}, nil)
		thereAndBack[any](t, s, nil, "x", 1.5, []any{1.0, nil}, map[string]any{"k": nil})
		thereAndBack(t, s, []int{}, nil, []int{1})
		thereAndBack(t, s, map[string]int{"a": 1}, nil)
		thereAndBack(t, s, struct{}{})
		thereAndBack(t, s, upper("x"))
		var e error
		if err := newQueue[error](t, s.Client(t), redistest.Name(t), nil).Put(soonCtx(t), e); err != nil {
			t.Errorf("a nil interface should be put, got %v", err)
		}
	})
}

func TestNullIsDecodedOnlyIntoWhatCanBeNil(t *testing.T) {
	for _, c := range []struct {
		into any
		ok   bool
	}{
		{new(int), false}, {new(string), false}, {new(bool), false}, {new(float64), false}, {new(record), false}, {new([2]int), false}, {new(time.Duration), false},
		{new(*int), true}, {new([]int), true}, {new(map[string]int), true}, {new(any), true}, {new(*record), true}, {new(upper), true}, {new([]byte), true},
	} {
		for _, null := range []string{"null", " null\n"} {
			if err := redisqueue.JSON.Decode([]byte(null), c.into); (err == nil) != c.ok {
				t.Errorf("%q into %T should be possible: %v, got %v", null, c.into, c.ok, err)
			}
		}
	}
}

// queueOfBad puts what a queue of int cannot decode between two that it can.
func queueOfBad(t *testing.T, s *redistest.Server, name string) *redisqueue.Queue[int] {
	t.Helper()
	client := s.Client(t)
	put(t, newQueue[any](t, client, name, unhurried), any(1), any("x"), any(nil), any(2))
	return newQueue[int](t, client, name, unhurried)
}

func wantUndecodable(t *testing.T, what string, err error) {
	t.Helper()
	wantOnly(t, what, err, redisqueue.ErrUndecodable)
	if !strings.Contains(err.Error(), "is among the dead letters now") {
		t.Errorf("%s should say where the item is, got %v", what, err)
	}
}

func TestWhatCannotBeDecodedGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		takes := map[string]func(*redisqueue.Queue[int]) (int, error){
			"Get":    func(q *redisqueue.Queue[int]) (int, error) { return q.Get(soonCtx(t)) },
			"TryGet": func(q *redisqueue.Queue[int]) (int, error) { return q.TryGet(soonCtx(t)) },
			"Receive": func(q *redisqueue.Queue[int]) (int, error) {
				d, err := q.Receive(soonCtx(t))
				if err != nil {
					return 0, err
				}
				return d.Value(), d.Ack(soonCtx(t))
			},
		}
		for what, take := range takes {
			q := queueOfBad(t, s, name)
			v, err := take(q)
			if v != 1 || err != nil {
				t.Fatalf("%s should return the first item, got %v, %v", what, v, err)
			}
			for range 2 {
				_, err = take(q)
				wantUndecodable(t, what+" of such an item", err)
			}
			if v, err = take(q); v != 2 || err != nil {
				t.Fatalf("%s should go on with the last item, got %v, %v", what, v, err)
			}
			awaitCounts(t, q, counts{dead: 2})
			join(t, q)
			remove(t, q)
		}

		q := queueOfBad(t, s, name)
		all, err := q.GetMany(soonCtx(t), 10)
		wantUndecodable(t, "GetMany of some such items", err)
		if !slices.Equal(all, []int{1, 2}) || strings.Count(err.Error(), "dead letters") != 2 {
			t.Errorf("GetMany should return what can be decoded and name each that cannot, got %v, %v", all, err)
		}
		awaitCounts(t, q, counts{dead: 2})
		remove(t, q)

		q = queueOfBad(t, s, name)
		shutdown(t, q)
		var values []int
		failed := 0
		for v, err := range q.All(soonCtx(t)) {
			if err != nil {
				wantUndecodable(t, "All", err)
				failed++
			} else {
				values = append(values, v)
			}
		}
		if !slices.Equal(values, []int{1, 2}) || failed != 2 {
			t.Errorf("All should yield what cannot be decoded as errors and go on, got %v and %d errors", values, failed)
		}
		awaitCounts(t, q, counts{dead: 2})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

// plain is a codec of the program's own.
type plain struct{ name string }

func (p plain) Name() string { return p.name }

func (plain) Encode(v any) ([]byte, error) {
	if v == 13 {
		return nil, errUnlucky
	}
	return fmt.Append(nil, v), nil
}

func (plain) Decode(data []byte, v any) error {
	_, err := fmt.Sscan(string(data), v)
	return err
}

var errUnlucky = errors.New("unlucky")

func TestACodecOfTheProgramsOwn(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{Codec: plain{"plain"}})
		put(t, q, 12)
		wantOnly(t, "Put of what the codec refuses", q.Put(soonCtx(t), 13), errUnlucky)
		wantGot(t, q, 12)
		wantEmpty(t, q)
		if c := state(t, q).Codec; c != "plain" {
			t.Errorf("State should name the codec, got %q", c)
		}
		remove(t, q)
		if c := state(t, q).Codec; c != "" {
			t.Errorf("nobody knows the codec of a new queue, got %q", c)
		}
		ofBytes := newQueue[[]byte](t, s.Client(t), name, nil)
		put(t, ofBytes, []byte("x"))
		if c := state(t, newQueue[string](t, s.Client(t), name, nil)).Codec; c != "raw" {
			t.Errorf("the codec of []byte and string should be raw by default, got %q", c)
		}
		remove(t, ofBytes)
		put(t, newQueue[int](t, s.Client(t), name, nil), 1)
		if c := state(t, newQueue[record](t, s.Client(t), name, nil)).Codec; c != "json" {
			t.Errorf("the codec of all else should be json by default, got %q", c)
		}
		remove(t, newQueue[int](t, s.Client(t), name, nil))
		// A codec that does not go with the type of the items says so.
		raw := newQueue[int](t, s.Client(t), name, &redisqueue.Options{Codec: redisqueue.Raw})
		if err := raw.Put(soonCtx(t), 1); err == nil || !strings.Contains(err.Error(), "[]byte and string") {
			t.Errorf("Put of an int by the codec Raw should say what it takes, got %v", err)
		}
	})
}

func TestItemsAreDroppedThatWerePutAlready(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		opts := &redisqueue.Options{TTL: time.Minute, ID: func(v any) string { return v.(string)[:1] }}
		q, other := newQueue[string](t, s.Client(t), name, opts), newQueue[string](t, s.Client(t), name, opts)
		put(t, q, "a1", "b1", "a2")
		put(t, other, "b2", "c1")
		if n, err := other.PutMany(soonCtx(t), []string{"c2", "d1", "d2", "a3"}); n != 4 || err != nil {
			t.Errorf("what is dropped counts as put, got %d, %v", n, err)
		}
		if err := other.TryPut(soonCtx(t), "d3"); err != nil {
			t.Errorf("TryPut of what is dropped should return nil, got %v", err)
		}
		wantCounts(t, q, counts{waiting: 4})
		d := receive(t, q)
		if d.ID() != "a" {
			t.Errorf("the id should be that of Options.ID, got %q", d.ID())
		}
		nack(t, d, 0) // is not a Put
		wantGot(t, other, "a1", "b1", "c1", "d1")
		put(t, q, "a4") // also after it was taken
		wantEmpty(t, q)
		remove(t, q)
		put(t, q, "a5")
		wantGot(t, q, "a5")
		remove(t, q)
		noLeaks(t, s, name)
	})
}
