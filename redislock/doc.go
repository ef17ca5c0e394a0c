// Package redislock is a lock that the processes of many machines share through
// Redis: what multiprocessing.Lock is to the processes of one. It is for work
// that only one may do at a time, wherever it runs.
//
//	lock, err := redislock.New(client, "nightly-report", nil)
//	…
//	err = lock.Do(ctx, func(ctx context.Context, lease *redislock.Lease) error {
//		return report(ctx, lease.Token()) // ctx ends if the lease is lost
//	})
//
// # Guarantees
//
//   - At most one holder trusts its lease at a time, as long as Redis keeps the
//     lock's key. A holder that cannot renew is told, by Done, Err and Context,
//     before anybody else can be granted the lock.
//   - Every turn has a fencing token greater than that of each turn before it.
//     A receiver that refuses smaller tokens is safe even from a holder that was
//     paused and does not know yet that it lost the lock.
//   - Processes are served in the order in which they came, and the goroutines
//     of a process in theirs. While another process waits, one passes
//     the lock on among its own goroutines at most LocalHandoffs times.
//   - A wait costs nothing while it waits: no polling, no slot of the client's
//     pool, one place in line per process however many goroutines wait.
//   - A cancelled wait returns within milliseconds and leaves nothing behind.
//
// With [Options.Replicas] a grant counts only when so many replicas have it. With
// [NewQuorum] the lock lies on a majority of several independent servers; processes then get
// it by chance, not in order.
//
// # Keys
//
// All keys of a lock have one hash tag. <lock> stands for mh1:lock:{<name>}, or
// mh1:<namespace>:lock:{<name>}; braces and percent signs in names, and also
// colons in namespaces, are percent-encoded.
//
//	key            type    contents                                         TTL               deleted by
//	<lock>         string  the owner's ticket, tokens, channel and          the lease's       release
//	                       metadata; a plain SET NX key that other
//	                       programs can take and honour
//	<lock>:line    zset    waiting processes by number                      2 min             the last to leave
//	<lock>:places  hash    what each waiting process asks for               2 min             the last to leave
//	<lock>:ended   zset    tickets withdrawn while a command with them may  2 min             -
//	                       still arrive, by time in µs
//	<lock>:fence   string  the last token, decimal                          a day after use   Delete
//
// On the servers of a quorum <lock>, <lock>:ended and <lock>:fence are the same, and
//
//	<lock>:holder  hash    member (the owner's ticket), token, metadata     the lease's       release
//
// # Failure
//
// A holder that dies keeps the lock for its TTL, or for at most 3 s if the lock
// was handed to it and it had not renewed yet; then the next in line gets it. A
// waiter that dies is passed over. While Redis is down nobody gets the lock,
// holders are told at their deadline, and those who wait go on when Redis is
// back. When the lock's key is lost, because Redis restarted empty, failed over
// to a replica that did not have it, or somebody deleted it, two holders are
// possible until the first one's next renewal (TTL/3; at most TTL). Only the
// fencing token excludes that. Replicas and NewQuorum make it rarer.
//
// # Differences from multiprocessing
//
//   - Only the [Lease] gives the lock back; multiprocessing.Lock may be released
//     by anybody. An operator has [Lock.Break].
//   - A holder that dies blocks multiprocessing for ever; here its lease ends.
//   - acquire(timeout=…) is a ctx with a deadline; acquire(block=False) is
//     [Lock.TryAcquire]. Locks are not reentrant; neither is multiprocessing's.
//
// # Source
//
// The line with a hand-over is the classical queue lock; passing on inside a
// process is lock cohorting (Dice, Marathe, Shavit, PPoPP 2012); leases are Gray
// and Cheriton (SOSP 1989); fencing tokens are Chubby's sequencers (Burrows,
// OSDI 2006). A majority of independent servers is Redlock (redis.io, "Distributed Locks
// with Redis"); its votes are counted by redsync.
package redislock
