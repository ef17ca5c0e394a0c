package redislock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redislock"
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

// Three buyers, one ticket.
func Example() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	lock, err := redislock.New(client, "tickets", nil)
	if err != nil {
		log.Fatal(err)
	}
	tickets := 1
	var buyers sync.WaitGroup
	for range 3 { // they might as well be processes on other machines
		buyers.Go(func() {
			lease, err := lock.Acquire(ctx)
			if err != nil {
				log.Fatal(err)
			}
			defer lease.Release(ctx)
			if tickets == 0 {
				fmt.Println("sold out")
				return
			}
			tickets--
			fmt.Println("a ticket")
		})
	}
	buyers.Wait()
	// Output:
	// a ticket
	// sold out
	// sold out
}

// One of three servers may fail, with its data or without.
func ExampleNewQuorum() {
	var clients []redis.UniversalClient
	for range 3 {
		client := redis.NewClient(&redis.Options{Addr: redisAddr()})
		defer client.Close()
		clients = append(clients, client)
	}

	lock, err := redislock.NewQuorum(clients, "nightly-report", nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = clients[0].Close() // as good as dead

	err = lock.Do(context.Background(), func(ctx context.Context, lease *redislock.Lease) error {
		fmt.Println("two of three are a majority")
		return ctx.Err()
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: two of three are a majority
}

// Do releases the lock whatever happens, and ends the ctx of the function when
// the lease is lost.
func ExampleLock_Do() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	lock, err := redislock.New(client, "nightly-report", nil)
	if err != nil {
		log.Fatal(err)
	}

	err = lock.Do(context.Background(), func(ctx context.Context, lease *redislock.Lease) error {
		fmt.Println("writing the report")
		return ctx.Err()
	})
	switch {
	case err == nil:
		fmt.Println("written, and nobody else was at it")
	case errors.Is(err, redislock.ErrLost):
		fmt.Println("somebody else may have been at it")
	default:
		log.Fatal(err)
	}
	// Output:
	// writing the report
	// written, and nobody else was at it
}

// A job that every machine starts each minute, and one should run. MinHold
// keeps the lock taken for those whose clock is late.
func ExampleLock_TryAcquire() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	lock, err := redislock.New(client, "minutely", &redislock.Options{MinHold: 30 * time.Second})
	if err != nil {
		log.Fatal(err)
	}

	for _, machine := range []string{"first", "second"} {
		lease, err := lock.TryAcquire(context.Background())
		if errors.Is(err, redislock.ErrNotAcquired) {
			fmt.Println("not on the", machine, "machine")
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("runs on the", machine, "machine")
		lease.Release(context.Background())
	}
	// Output:
	// runs on the first machine
	// not on the second machine
}

// Whatever receives the work of lock holders refuses a token that is smaller
// than one it has seen: its sender has lost the lock, and may not know yet.
func ExampleLease_Token() {
	client := redis.NewClient(&redis.Options{Addr: redisAddr()})
	defer client.Close()
	ctx := context.Background()
	lock, err := redislock.New(client, "ledger", nil)
	if err != nil {
		log.Fatal(err)
	}

	var seen uint64 // in the receiver's database, changed together with the data
	write := func(token uint64, what string) {
		if token < seen {
			fmt.Println("refused:", what)
			return
		}
		seen = token
		fmt.Println("written:", what)
	}

	turn := func() uint64 {
		lease, err := lock.Acquire(ctx)
		if err != nil {
			log.Fatal(err)
		}
		defer lease.Release(ctx)
		return lease.Token()
	}
	early, late := turn(), turn()
	write(late, "by the present holder")
	write(early, "by one that was paused") // its write took its time
	// Output:
	// written: by the present holder
	// refused: by one that was paused
}
