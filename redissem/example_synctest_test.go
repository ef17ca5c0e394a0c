package redissem_test

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

	"github.com/multihost/multihost/redissem"
)

// testRate is a test of a program that uses a semaphore, to be copied: in fake
// time, in which an hour takes a millisecond, on a Redis in memory.
func testRate(t *testing.T) {
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

		// Ten calls in an hour, and the eleventh waits for the next.
		calls, _ := redissem.New(client, "calls", 10, &redissem.Options{MinHold: time.Hour})
		start := time.Now()
		for range 11 {
			permit, err := calls.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = permit.Release(t.Context())
		}
		fmt.Println("eleven calls took", time.Since(start).Round(time.Minute))
	})
}

// A test in fake time; in your package it is a func TestRate.
func Example_synctest() {
	testRate(new(testing.T))
	// Output: eleven calls took 1h0m0s
}
