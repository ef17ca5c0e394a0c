package redislock_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/multihost/multihost/redislock"
)

// testCrash is a test of a program that uses a lock, to be copied: in fake
// time, in which an hour takes a millisecond, on a Redis in memory.
func testCrash(t *testing.T) {
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

		// A holder that dies is one that does not renew.
		dies, _ := redislock.New(client, "orders", &redislock.Options{TTL: time.Hour, NoRenew: true})
		if _, err := dies.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		lock, _ := redislock.New(client, "orders", nil)
		lease, err := lock.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("acquired after", time.Since(start).Round(time.Minute))
		_ = lease.Release(t.Context())
	})
}

// A test in fake time; in your package it is a func TestCrash.
func Example_synctest() {
	testCrash(new(testing.T))
	// Output: acquired after 1h0m0s
}
