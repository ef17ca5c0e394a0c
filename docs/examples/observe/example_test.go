package observe_test

import (
	"context"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/docs/examples/observe"
	"github.com/multihost/multihost/redislock"
)

func Example() {
	server, err := miniredis.Run() // your Redis
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()

	hear := observe.Prometheus(prometheus.DefaultRegisterer)
	lock, err := redislock.New(client, "orders", &redislock.Options{Observe: hear})
	if err != nil {
		log.Fatal(err)
	}
	err = lock.Do(context.Background(), func(context.Context, *redislock.Lease) error {
		fmt.Println("working")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: working
}
