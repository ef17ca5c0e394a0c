package redisqueue_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func TestADelayedItemComesWhenItIsDue(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		q, err := redisqueue.New[string](client, "q", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Put(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		d, err := q.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := d.Nack(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		d, err = q.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Log(time.Since(start))
		if took := time.Since(start); took < time.Hour || took > time.Hour+time.Second {
			t.Errorf("took %v", took)
		}
		if err := d.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
