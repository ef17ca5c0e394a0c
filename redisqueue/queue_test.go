package redisqueue_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func TestItemsComeInTheOrderInWhichTheyWerePut(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		mine, theirs := newQueue[int](t, s.Client(t), name, nil), newQueue[int](t, s.Client(t), name, nil)
		wantEmpty(t, theirs)
		put(t, mine, 1, 2, 3, 4, 5)
		wantGot(t, theirs, 1, 2)
		wantGot(t, mine, 3)
		wantGot(t, theirs, 4, 5)
		wantEmpty(t, mine)
		if n, err := mine.PutMany(soonCtx(t), []int{6, 7, 8}); n != 3 || err != nil {
			t.Fatalf("PutMany should put 3, got %d, %v", n, err)
		}
		put(t, mine, 9)
		if v, err := theirs.TryGet(soonCtx(t)); v != 6 || err != nil {
			t.Fatalf("TryGet should return 6, got %v, %v", v, err)
		}
		wantGot(t, theirs, 7, 8, 9)
		if err := mine.TryPut(soonCtx(t), 10); err != nil {
			t.Fatalf("TryPut of a queue without a bound should succeed, got %v", err)
		}
		wantGot(t, mine, 10)
		wantEmpty(t, theirs)
		remove(t, mine)
		noLeaks(t, s, name)
	})
}

func TestGetWaitsForAnItem(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[string](t, s.Client(t), name, &redisqueue.Options{Observe: heard.note})
		other := newQueue[string](t, s.Client(t), name, nil)
		for i := range 3 { // the first finds nothing at all under the name
			waiter := begin(t, q.Get)
			heard.awaitKind(t, redisqueue.Waiting, i+1)
			waiter.wantWaiting(t, "Get of an empty queue")
			putter := []*redisqueue.Queue[string]{other, q, other}[i]
			put(t, putter, fmt.Sprint(i))
			if v := waiter.returns(t, "Get"); v != fmt.Sprint(i) {
				t.Errorf("Get should return %d, got %q", i, v)
			}
		}
		many := begin(t, q.Get)
		var more []*call[string]
		for range 9 {
			more = append(more, begin(t, q.Get))
		}
		heard.awaitKind(t, redisqueue.Waiting, 13)
		for i := range 10 {
			put(t, other, fmt.Sprint(i))
		}
		got := []string{many.returns(t, "Get")}
		for _, c := range more {
			got = append(got, c.returns(t, "Get"))
		}
		slices.Sort(got)
		if strings.Join(got, "") != "0123456789" {
			t.Errorf("ten Gets should get ten items, one each, got %q", got)
		}
		wantEmpty(t, q)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestGetManyTakesWhatIsThere(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		q := newQueue[int](t, s.Client(t), name, &redisqueue.Options{Observe: heard.note})
		other := newQueue[int](t, s.Client(t), name, nil)
		put(t, other, 1, 2, 3, 4, 5)
		want := func(most int, want ...int) {
			t.Helper()
			if all, err := q.GetMany(soonCtx(t), most); !slices.Equal(all, want) || err != nil {
				t.Fatalf("GetMany of at most %d should return %v, got %v, %v", most, want, all, err)
			}
		}
		want(2, 1, 2)
		want(1, 3)
		want(100, 4, 5)
		wantEmpty(t, q)
		waiter := begin(t, func(ctx ctxT) ([]int, error) { return q.GetMany(ctx, 10) })
		heard.awaitKind(t, redisqueue.Waiting, 1)
		put(t, other, 6)
		if all := waiter.returns(t, "GetMany"); !slices.Equal(all, []int{6}) {
			t.Errorf("GetMany should return the first item that comes, got %v", all)
		}
		for _, most := range []int{0, -1} {
			if all, err := q.GetMany(soonCtx(t), most); err == nil || !strings.Contains(err.Error(), "1 or more") {
				t.Errorf("GetMany of %d should say what is allowed, got %v, %v", most, all, err)
			}
		}
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestAllYieldsUntilTheQueueIsShutDownAndDrained(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, nil)
		put(t, q, 1, 2, 3)
		for v, err := range q.All(soonCtx(t)) {
			if v != 1 || err != nil {
				t.Fatalf("All should yield 1 first, got %v, %v", v, err)
			}
			break // the rest stays
		}
		all := begin(t, func(ctx ctxT) (got []int, err error) {
			for v, err := range q.All(ctx) {
				if err != nil {
					return got, err
				}
				got = append(got, v)
			}
			return got, nil
		})
		other := newQueue[int](t, s.Client(t), name, nil)
		put(t, other, 4)
		awaitCounts(t, other, counts{})
		put(t, other, 5)
		if err := other.Shutdown(soonCtx(t)); err != nil {
			t.Fatalf("Shutdown should succeed, got %v", err)
		}
		if got := all.returns(t, "All"); !slices.Equal(got, []int{2, 3, 4, 5}) {
			t.Errorf("All should yield what was put until the end, got %v", got)
		}
		remove(t, q)

		ended := begin(t, func(ctx ctxT) (n int, err error) {
			for _, err = range q.All(ctx) {
				n++
			}
			return n, err
		})
		ended.cancel()
		if err := ended.fails(t, "All whose ctx ends"); ended.v != 1 {
			t.Errorf("the error of ctx should be yielded once and last, got %d times, %v", ended.v, err)
		} else {
			wantOnly(t, "All whose ctx ends", err, errCanceled)
		}
		noLeaks(t, s, name)
	})
}

func TestThousandsOfItemsTravelAtOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const n = 20_000
		name := redistest.Name(t)
		q := newQueue[int](t, s.Client(t), name, nil)
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		if put, err := q.PutMany(soonCtx(t), all); put != n || err != nil {
			t.Fatalf("PutMany should put %d, got %d, %v", n, put, err)
		}
		wantCounts(t, q, counts{waiting: n})
		var got []int
		for len(got) < n {
			some, err := q.GetMany(soonCtx(t), n)
			if err != nil {
				t.Fatalf("GetMany should succeed, got %v", err)
			}
			got = append(got, some...)
		}
		if !slices.Equal(got, all) {
			t.Errorf("%d items should come in order", n)
		}
		wantEmpty(t, q)
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestPutManyPutsAllOrNothingOfWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[any](t, s.Client(t), name, &redisqueue.Options{MaxItem: 10})
		for what, c := range map[string]struct {
			values []any
			says   string
		}{
			"a value that cannot be encoded": {[]any{1, func() {}, 2}, "cannot be encoded"},
			"a value that is too large":      {[]any{1, strings.Repeat("x", 9), 2}, "at most 10"},
		} {
			if n, err := q.PutMany(soonCtx(t), c.values); n != 0 || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("PutMany with %s should put nothing and say %q, got %d, %v", what, c.says, n, err)
			}
			for call, err := range map[string]error{"Put": q.Put(soonCtx(t), c.values[1]), "TryPut": q.TryPut(soonCtx(t), c.values[1])} {
				if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, redisqueue.ErrUnknownOutcome) {
					t.Errorf("%s of %s should say %q, got %v", call, what, c.says, err)
				}
			}
		}
		put(t, q, any(strings.Repeat("x", 8))) // with its quotes as large as allowed
		for _, none := range [][]any{nil, {}} {
			if n, err := q.PutMany(soonCtx(t), none); n != 0 || err != nil {
				t.Errorf("PutMany of nothing should put nothing, got %d, %v", n, err)
			}
		}
		wantCounts(t, q, counts{waiting: 1})
		remove(t, q)
	})
}

func TestQueuesOfOtherNamesNamespacesAndDatabasesAreOthers(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		queues := []*redisqueue.Queue[int]{
			newQueue[int](t, client, name, nil),
			newQueue[int](t, client, name+"}", nil),
			newQueue[int](t, client, name+"{语}:%", nil),
			newQueue[int](t, client, name, &redisqueue.Options{Namespace: "a"}),
			newQueue[int](t, client, name, &redisqueue.Options{Namespace: "a:{b}%"}),
		}
		if !s.Cluster {
			queues = append(queues, newQueue[int](t, s.Client(t, func(o *redis.UniversalOptions) { o.DB = 3 }), name, nil))
		}
		waiters := make([]*call[int], len(queues))
		for i, q := range queues {
			waiters[i] = begin(t, q.Get)
		}
		for i, q := range queues {
			put(t, q, i)
			if v := waiters[i].returns(t, "Get"); v != i {
				t.Errorf("queue %d got an item of queue %d", i, v)
			}
			for _, w := range waiters[i+1:] {
				w.wantWaiting(t, "Get of another queue")
			}
		}
		for i, q := range queues {
			put(t, q, i)
		}
		for i, q := range queues {
			wantGot(t, q, i)
			wantEmpty(t, q)
			remove(t, q)
		}
		noLeaks(t, s, name)
	})
}

// What a queue of one name does to its process should not be felt by another.
func TestAFullQueueDoesNotHoldUpAnotherOfTheSameProcess(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		full, free := newQueue[int](t, client, name, bounded(1)), newQueue[int](t, client, name+"2", nil)
		put(t, full, 1)
		parked := beginPut(t, full, 2)
		awaitCounts(t, full, counts{waiting: 1, parked: 1})
		for i := range 20 {
			put(t, free, i)
			wantGot(t, free, i)
		}
		parked.wantWaiting(t, "Put of a full queue")
		wantGot(t, full, 1, 2)
		parked.returns(t, "Put")
		remove(t, full)
		remove(t, free)
		noLeaks(t, s, name)
	})
}
