package redissem_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redissem"
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

// Five singers, a room for two.
func Example() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	room, err := redissem.New(client, "room", 2, nil)
	if err != nil {
		log.Fatal(err)
	}
	var inside, songs atomic.Int32
	var singers sync.WaitGroup
	for range 5 { // they might as well be processes on other machines
		singers.Go(func() {
			permit, err := room.Acquire(ctx)
			if err != nil {
				log.Fatal(err)
			}
			defer permit.Release(ctx)
			if inside.Add(1) > 2 {
				fmt.Println("it is crowded")
			}
			songs.Add(1)
			inside.Add(-1)
		})
	}
	singers.Wait()
	fmt.Println(songs.Load(), "songs")
	// Output: 5 songs
}

// Do releases the permit whatever happens, and ends the ctx of the function when
// the permit is lost.
func ExampleSemaphore_Do() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	billing, err := redissem.New(client, "connections-to-billing", 10, nil)
	if err != nil {
		log.Fatal(err)
	}

	err = billing.Do(context.Background(), func(ctx context.Context, permit *redissem.Permit) error {
		fmt.Println("one of at most ten calls")
		return ctx.Err()
	})
	switch {
	case err == nil:
		fmt.Println("done")
	case errors.Is(err, redissem.ErrLost):
		fmt.Println("there may have been eleven")
	default:
		log.Fatal(err)
	}
	// Output:
	// one of at most ten calls
	// done
}

// With a MinHold a semaphore limits a rate: three calls in each minute.
func ExampleOptions_rate() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx := context.Background()
	calls, err := redissem.New(client, "calls-to-weather", 3, &redissem.Options{MinHold: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	for range 4 {
		err := calls.TryDo(ctx, func(context.Context, *redissem.Permit) error {
			fmt.Println("a call")
			return nil
		})
		switch {
		case errors.Is(err, redissem.ErrNotAcquired):
			fmt.Println("not this minute")
		case err != nil:
			log.Fatal(err)
		}
	}
	// Output:
	// a call
	// a call
	// a call
	// not this minute
}

// A gate: nobody may pass until somebody opens it.
func ExampleSemaphore_Resize() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	gate, err := redissem.New(client, "gate", 0, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := gate.TryAcquire(ctx); errors.Is(err, redissem.ErrNotAcquired) {
		fmt.Println("closed")
	}
	if err := gate.Resize(ctx, 2); err != nil {
		log.Fatal(err)
	}
	permit, err := gate.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer permit.Release(ctx)
	state, err := gate.State(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d of %d inside\n", state.Held, state.Limit)
	// Output:
	// closed
	// 1 of 2 inside
}
