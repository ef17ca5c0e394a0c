package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/redis/go-redis/v9"
)

const (
	clusterNodes = 3
	clusterSlots = 16384
)

// startCluster starts three masters on loopback and waits until each of them
// knows all slots of all of them, so that a client may ask any.
func startCluster(argv []string, stop *stopper) (*instance, error) {
	dir, err := newDir()
	if err != nil {
		return nil, err
	}
	stop.add(func() { _ = os.RemoveAll(dir) }) // a directory left over is swept later
	nodes := make([]*instance, clusterNodes)
	errs := make([]error, clusterNodes)
	var all sync.WaitGroup
	for i := range nodes {
		all.Go(func() {
			nodes[i], errs[i] = startNode(argv, dir)
			if errs[i] == nil {
				stop.add(nodes[i].kill)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	in := &instance{cluster: true, argv: argv, product: nodes[0].product, version: nodes[0].version}
	for _, n := range nodes {
		in.procs = append(in.procs, n.procs...)
		in.options.Addrs = append(in.options.Addrs, n.options.Addrs[0])
	}
	return in, joinNodes(nodes)
}

// startNode starts one node.
func startNode(argv []string, dir string) (*instance, error) {
	return startAlone(argv, func(port int) []string {
		return []string{
			"--cluster-enabled", "yes", "--dir", dir,
			"--cluster-config-file", fmt.Sprintf("node-%d.conf", port),
			"--cluster-port", fmt.Sprint(port + busOffset),
			"--cluster-announce-ip", "127.0.0.1",
		}
	})
}

// joinNodes gives each node its slots, introduces all to the first, and waits
// until they agree.
func joinNodes(nodes []*instance) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	clients := make([]*redis.Client, len(nodes))
	for i, n := range nodes {
		clients[i] = n.client().(*redis.Client)
		defer clients[i].Close()
		// Distinct epochs from the start, or the nodes spend seconds on
		// settling whose view of the slots is newer.
		if err := clients[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return err
		}
		first, last := i*clusterSlots/len(nodes), (i+1)*clusterSlots/len(nodes)-1
		if err := clients[i].ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return err
		}
	}
	for _, n := range nodes[1:] {
		err := clients[0].Do(ctx, "CLUSTER", "MEET", "127.0.0.1", n.port, n.port+busOffset).Err()
		if err != nil {
			return err
		}
	}
	for i, n := range nodes {
		err := poll(startWithin, n.procs[0], func() error { return agreed(ctx, clients[i], len(nodes)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// agreed returns what a node is still missing: a state that serves commands
// and a master for every slot.
func agreed(ctx context.Context, node *redis.Client, masters int) error {
	info, err := node.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	if state := infoField(info, "cluster_state"); state != "ok" {
		return fmt.Errorf("cluster_state:%s", state)
	}
	shards, err := node.ClusterShards(ctx).Result()
	if err != nil {
		return err
	}
	covered := int64(0)
	for _, shard := range shards {
		for _, slots := range shard.Slots {
			covered += slots.End - slots.Start + 1
		}
	}
	if covered != clusterSlots || len(shards) != masters {
		return fmt.Errorf("%d slots in %d shards are known", covered, len(shards))
	}
	return nil
}
