package redisevent_test

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

	"github.com/multihost/multihost/redisevent"
)

// testOpening is a test of a program that waits, to be copied: in fake time,
// in which an hour takes a millisecond, on a Redis in memory.
func testOpening(t *testing.T) {
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

		doors, _ := redisevent.New(client, "doors-open", nil)
		time.AfterFunc(time.Hour, func() { _ = doors.Set(t.Context()) })
		start := time.Now()
		if err := doors.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		fmt.Println("waited for", time.Since(start))
	})
}

// A test in fake time; in your package it is a func TestOpening.
func Example_synctest() {
	testOpening(new(testing.T))
	// Output: waited for 1h0m0s
}
