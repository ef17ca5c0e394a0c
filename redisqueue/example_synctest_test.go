package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/multihost/multihost/redisqueue"
)

// testRetry is a test of a program that uses a queue, to be copied: in fake
// time, in which a minute takes milliseconds, on a Redis in memory.
func testRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := miniredis.NewMiniRedis()
		server.ClockTTL(true) // TTLs in fake time too
		defer server.Close()
		client := redis.NewClient(&redis.Options{
			Addr:                     "127.0.0.1:6379", // never dialled
			Dialer:                   func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		defer client.Close()
		defer time.Sleep(time.Second) // the library puts its connections away

		jobs, _ := redisqueue.New[string](client, "jobs", &redisqueue.Options{
			RetryDelay: func(int) time.Duration { return time.Minute },
		})
		_ = jobs.Put(t.Context(), "backup")
		_ = jobs.Shutdown(t.Context())
		start := time.Now()
		err := jobs.Work(t.Context(), 1, func(_ context.Context, d *redisqueue.Delivery[string]) error {
			if d.Attempt() == 1 {
				return errors.New("the disk is full")
			}
			fmt.Println(d.Value(), "done after", time.Since(start).Round(time.Second))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// A test in fake time; in your package it is a func TestRetry.
func Example_synctest() {
	testRetry(new(testing.T))
	// Output: backup done after 1m0s
}
