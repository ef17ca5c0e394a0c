package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redisqueue"
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

// A producer, and consumers that end when the queue is shut down.
func Example() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	buns, err := redisqueue.New[string](client, "buns", nil)
	if err != nil {
		log.Fatal(err)
	}
	var consumers sync.WaitGroup
	for range 2 { // they might as well be processes on other machines
		consumers.Go(func() {
			for bun, err := range buns.All(ctx) {
				if err != nil {
					log.Fatal(err)
				}
				fmt.Println("eaten:", bun)
			}
		})
	}
	for i := range 3 {
		if err := buns.Put(ctx, fmt.Sprint("bun ", i)); err != nil {
			log.Fatal(err)
		}
	}
	if err := buns.Shutdown(ctx); err != nil { // no more buns, and no end marker for each consumer
		log.Fatal(err)
	}
	consumers.Wait()
	// Unordered output:
	// eaten: bun 0
	// eaten: bun 1
	// eaten: bun 2
}

// Work acknowledges an item when its function succeeds, and has it come again
// when it fails.
func ExampleQueue_Work() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	type mail struct{ To, Subject string }
	mails, err := redisqueue.New[mail](client, "mails", &redisqueue.Options{
		MaxDeliveries: 5, // then to the dead letters
		RetryDelay:    func(attempt int) time.Duration { return time.Duration(attempt) * 10 * time.Millisecond },
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := mails.Put(ctx, mail{"ada@example.org", "Hello"}); err != nil {
		log.Fatal(err)
	}
	if err := mails.Shutdown(ctx); err != nil { // so that this example ends
		log.Fatal(err)
	}

	err = mails.Work(ctx, 4, func(ctx context.Context, d *redisqueue.Delivery[mail]) error {
		if d.Attempt() == 1 {
			fmt.Println("the mail server is busy")
			return errors.New("busy")
		}
		fmt.Println("sent to", d.Value().To)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// the mail server is busy
	// sent to ada@example.org
}

// Of a bounded queue TryPut says when it is full; Put would wait for room.
func ExampleQueue_TryPut() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx := context.Background()
	q, err := redisqueue.New[int](client, "small", &redisqueue.Options{MaxSize: 2})
	if err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		err := q.TryPut(ctx, i)
		if errors.Is(err, redisqueue.ErrFull) {
			fmt.Println("no room for", i)
		} else if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// no room for 2
}

// A Writer puts in the background; Close waits until everything is in Redis.
func ExampleQueue_Buffered() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx := context.Background()
	events, err := redisqueue.New[string](client, "events", nil)
	if err != nil {
		log.Fatal(err)
	}
	w := events.Buffered(1000)
	for i := range 500 {
		if err := w.Put(ctx, fmt.Sprint("event ", i)); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(ctx); err != nil {
		log.Fatal(err)
	}
	n, err := events.Len(ctx)
	fmt.Println(n, "events", err)
	// Output:
	// 500 events <nil>
}
