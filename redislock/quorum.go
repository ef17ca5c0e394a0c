package redislock

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/quorum"
	"github.com/multihost/multihost/internal/turnstile"
)

// NewQuorum returns the lock with this name over several servers that know nothing of
// each other: whoever has its key on a majority of them has the lock. No
// replication is involved, so the loss of a minority (one of three, two of five),
// or of the network to it, loses nothing and delays nothing.
//
// Each client is one server, or one Sentinel group or cluster, and a vote. Every
// process names the same ones, in any order; none is a replica of another. It does
// no I/O; name, opts and error are as those of New. Replicas and ControlClient are
// refused, LocalHandoffs has no effect.
//
// The methods do what they do otherwise, with these differences:
//
//   - There is no line. Goroutines of one process get the lock in the order in which they
//     came, processes by chance. A release is told to those who wait; when that
//     is missed, they try again when the lease that they know of has run out.
//   - TryAcquire may fail although nobody holds the lock: when two ask at the same
//     moment, each may get a part of the servers, and gives it back; or a release has
//     not reached every server yet, and another does not answer.
//   - An attempt fails with ErrUnavailable if no majority answers within a second, or
//     a third of TTL; a wait that was told that the lock is taken goes on.
//   - A server that has lost the key is not given it again while the turn lasts; one that
//     was away when it began is asked again at each renewal. When a
//     majority has lost it, one after another, the lease is lost.
//   - State tells of who has a majority, and counts no Waiters. Break returns
//     when no majority can have the key.
//
// Tokens grow over all turns, however servers fail, as long as they keep their data. A
// server that comes back empty has forgotten its vote, and may give it to another: of a
// holder that had a bare majority with it, there are two then, until its next renewal. So let
// it come back with its data, or after a TTL. Tokens grow even then if the clocks of the
// servers agree within the time that it was away.
func NewQuorum(clients []redis.UniversalClient, name string, opts *Options) (*Lock, error) {
	l, err := newLock(name, opts)
	if err == nil {
		err = allowed(clients, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("redislock: new quorum %q: %w", name, err)
	}
	l.members = slices.Clone(clients)
	return l, nil
}

func allowed(clients []redis.UniversalClient, opts *Options) error {
	if len(clients) == 0 {
		return errors.New("there are no clients; allowed are one or more, and three or five make sense")
	}
	for i, c := range clients {
		if err := hub.Validate(c, nil); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		if slices.Contains(clients[:i], c) {
			return fmt.Errorf("client %d is there twice; each must be a server of its own", i)
		}
	}
	if opts != nil && opts.ControlClient != nil {
		return errors.New("a ControlClient cannot serve several servers; leave it nil")
	}
	if opts != nil && opts.Replicas != 0 {
		return fmt.Errorf("Replicas is %d; a quorum does not rest on replication, allowed is 0", opts.Replicas)
	}
	return nil
}

// majority is the way to a lock over several servers.
type majority struct{ *quorum.Quorum }

func (m majority) acquire(ctx context.Context, terms *turnstile.Terms) (turn, error) {
	return held(m.Acquire(ctx, terms))
}

func (m majority) try(ctx context.Context, terms *turnstile.Terms) (turn, error) {
	return held(m.TryAcquire(ctx, terms))
}
