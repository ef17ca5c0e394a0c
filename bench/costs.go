package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redislock"
	"github.com/multihost/multihost/redissem"
)

const (
	waiters  = 1000
	leases   = 10000
	leaseTTL = 10 * time.Second
	watch    = leaseTTL // for how long costs are counted
)

// holdCommand holds or waits for so many, until a line comes.
type holdCommand struct {
	What string `required:"" enum:"lock,semaphore"`
	Wait bool   `help:"Wait for one that somebody else holds."`
	Addr string `required:""`
	Name string `required:""`
}

// held is what it has cost.
type held struct {
	Bytes float64       // of heap for each
	CPU   time.Duration // since it was ready
}

func (c *holdCommand) Run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: c.Addr})
	acquire, err := c.acquirer(client)
	if err != nil {
		return err
	}
	n := leases
	if c.Wait {
		n = waiters
	}
	kept := make([]any, n) // what is dropped is not renewed
	before := heap()
	if c.Wait {
		for range n {
			go func() { _, _ = acquire(ctx, c.Name) }()
		}
		time.Sleep(2 * time.Second)
	} else if err := spread10(n, func(i int) (err error) {
		kept[i], err = acquire(ctx, fmt.Sprintf("%s %d", c.Name, i))
		return err
	}); err != nil {
		return err
	}
	h := held{Bytes: (heap() - before) / float64(n)}
	fmt.Println("ready")
	start := cpu()
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	h.CPU = cpu() - start
	runtime.KeepAlive(kept)
	return gob.NewEncoder(os.Stdout).Encode(h)
}

func (c *holdCommand) acquirer(client *redis.Client) (func(ctx context.Context, name string) (any, error), error) {
	if c.What == "lock" {
		return func(ctx context.Context, name string) (any, error) {
			lock, err := redislock.New(client, name, &redislock.Options{TTL: leaseTTL})
			if err != nil {
				return nil, err
			}
			return lock.Acquire(ctx)
		}, nil
	}
	// All of one semaphore, but those that wait, for the last permit.
	limit := leases
	if c.Wait {
		limit = 1
	}
	sem, err := redissem.New(client, c.Name, limit, &redissem.Options{TTL: leaseTTL})
	return func(ctx context.Context, _ string) (any, error) { return sem.Acquire(ctx) }, err
}

// spread10 does it n times, ten at a time, spread over a third of the TTL: so
// are the renewals then.
func spread10(n int, do func(int) error) error {
	var mu sync.Mutex
	var failed error
	for i := 0; i < n; i += 10 {
		next := time.Now().Add(leaseTTL / 3 * 10 / time.Duration(n))
		var ten sync.WaitGroup
		for j := i; j < i+10; j++ {
			ten.Go(func() {
				if err := do(j); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			})
		}
		ten.Wait()
		time.Sleep(time.Until(next))
	}
	return failed
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// costs measures what waiting and holding cost.
func (c *runCommand) costs(ctx context.Context, s *server) error {
	fmt.Printf("### Waiting and holding\n\n| | heap for each, KiB | commands/s | connections | %% of a core, process | %% of a core, Redis |\n|---|---|---|---|---|---|\n")
	for _, what := range []string{"lock", "semaphore"} {
		for _, wait := range []bool{true, false} {
			if err := c.cost(ctx, s, what, wait); err != nil {
				return err
			}
		}
	}
	fmt.Println()
	return nil
}

func (c *runCommand) cost(ctx context.Context, s *server, what string, wait bool) error {
	name := fmt.Sprintf("costs %s %v", what, wait)
	title := fmt.Sprintf("%d leases held, TTL %v, %s", leases, leaseTTL, what)
	if wait {
		title = fmt.Sprintf("%d idle waiters, %s", waiters, what)
		// With an hour to live it is not renewed while we watch.
		give, err := holdOne(ctx, s.client, what, name)
		if err != nil {
			return err
		}
		defer give()
	}
	others, err := s.connections(ctx)
	if err != nil {
		return err
	}
	p, err := start("hold", "--what="+what, fmt.Sprintf("--wait=%v", wait), "--addr="+s.addr, "--name="+name)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.ready(); err != nil {
		return err
	}
	if err := s.reset(ctx); err != nil {
		return err
	}
	before, err := s.cpu(ctx)
	if err != nil {
		return err
	}
	time.Sleep(watch)
	after, err := s.cpu(ctx)
	if err != nil {
		return err
	}
	sent, err := s.sent(ctx, append([]string{"ping", "subscribe", "unsubscribe"}, scripts...))
	if err != nil {
		return err
	}
	connections, err := s.connections(ctx)
	if err != nil {
		return err
	}
	var h held
	if err := p.begin(); err != nil {
		return err
	}
	if err := p.report(&h); err != nil {
		return err
	}
	share := func(d time.Duration) string { return short(100 * d.Seconds() / watch.Seconds()) }
	fmt.Printf("| %s | %s | %s | %d | %s | %s |\n", title, short(h.Bytes/1024), short(float64(sent)/watch.Seconds()),
		connections-others, share(h.CPU), share(after-before))
	return nil
}

func holdOne(ctx context.Context, client *redis.Client, what, name string) (give func(), err error) {
	if what == "lock" {
		lock, err := redislock.New(client, name, &redislock.Options{TTL: time.Hour})
		if err != nil {
			return nil, err
		}
		lease, err := lock.Acquire(ctx)
		return func() { _ = lease.Release(ctx) }, err
	}
	sem, err := redissem.New(client, name, 1, &redissem.Options{TTL: time.Hour})
	if err != nil {
		return nil, err
	}
	permit, err := sem.Acquire(ctx)
	return func() { _ = permit.Release(ctx) }, err
}
