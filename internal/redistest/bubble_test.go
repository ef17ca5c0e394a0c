package redistest

import (
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func TestAnHourInABubbleTakesMillisecondsAndExpiresKeys(t *testing.T) {
	start := time.Now()
	Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		ctx := t.Context()
		if err := client.Set(ctx, "k", "v", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Second)
		if err := client.Get(ctx, "k").Err(); err != nil {
			t.Errorf("a second before its end the key is gone: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := client.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("a second after its end: %v", err)
		}
	})
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

func TestGoroutinesThatLingerMayEndAfterTheFunctionOfABubble(t *testing.T) {
	Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		go func() {
			time.Sleep(250 * time.Millisecond)
			client.Ping(t.Context())
		}()
	})
}
