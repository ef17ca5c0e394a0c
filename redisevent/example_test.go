package redisevent_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redisevent"
)

// redisAddr is the address of your Redis server. Here it is a new one, in
// memory.
func redisAddr() string {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	return server.Addr()
}

// Workers wait until the database is ready, on however many machines.
func Example() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	migrated, err := redisevent.New(client, "database-migrated", nil)
	if err != nil {
		log.Fatal(err)
	}
	var workers sync.WaitGroup
	for range 3 { // they might as well be processes on other machines
		workers.Go(func() {
			if err := migrated.Wait(ctx); err != nil {
				log.Fatal(err)
			}
			fmt.Println("a worker starts")
		})
	}
	fmt.Println("the database is migrated")
	if err := migrated.Set(ctx); err != nil {
		log.Fatal(err)
	}
	workers.Wait()
	// Output:
	// the database is migrated
	// a worker starts
	// a worker starts
	// a worker starts
}

// How long a Wait waits is a matter of its ctx.
func ExampleEvent_Wait() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	event, err := redisevent.New(client, "doors-open", nil)
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	switch err := event.Wait(ctx); {
	case err == nil:
		fmt.Println("open")
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Println("still closed")
	default:
		log.Fatal(err)
	}
	// Output: still closed
}

// Processes read their configuration again whenever it has changed.
func ExampleEvent_Watch() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx := context.Background()
	changed, err := redisevent.New(client, "configuration", nil)
	if err != nil {
		log.Fatal(err)
	}

	for state, err := range changed.Watch(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("reading the configuration, changes so far:", state.Changes)
		if state.Changes == 2 {
			break
		}
		if err := changed.Pulse(ctx); err != nil { // as whoever changes it does
			log.Fatal(err)
		}
	}
	// Output:
	// reading the configuration, changes so far: 0
	// reading the configuration, changes so far: 1
	// reading the configuration, changes so far: 2
}
