// Package redissem is a counting semaphore that the processes of many machines
// share through Redis: what multiprocessing.Semaphore is to the processes of one.
// It is for work that only so many may do at a time, wherever they run.
//
//	sem, err := redissem.New(client, "connections-to-billing", 10, nil)
//	…
//	err = sem.Do(ctx, func(ctx context.Context, permit *redissem.Permit) error {
//		return call(ctx) // ctx ends if the permit is lost
//	})
//
// # Guarantees
//
//   - At most limit holders trust their permits at a time, as long as Redis keeps
//     the semaphore's keys and nobody lowers the limit below what is taken. A
//     holder that cannot renew is told, by Done, Err and Context, before anybody
//     else can be granted its permit.
//   - Processes are served in the order in which they came, and the goroutines
//     of a process in theirs: one permit for each process that stands in line,
//     then the next for each. While another process waits, one passes
//     a permit on among its own goroutines at most LocalHandoffs times.
//   - A wait costs nothing while it waits: no polling, no slot of the client's
//     pool, one place in line per process however many goroutines wait. It ends
//     with a released permit, a raised limit, or the end of a dead holder's lease.
//   - A cancelled wait returns within milliseconds and leaves nothing behind.
//   - No permit leaks: one whose holder died is free again a TTL later.
//
// # Keys
//
// All keys of a semaphore have one hash tag. <sem> stands for mh1:sem:{<name>}, or
// mh1:<namespace>:sem:{<name>}; braces and percent signs in names, and also
// colons in namespaces, are percent-encoded.
//
//	key            type    contents                                         TTL               deleted by
//	<sem>          zset    the permits that are taken: ticket by the time   the last          release
//	                       it ends, in µs of the server's clock             permit's + 1 s
//	<sem>:holders  hash    of each permit: turn, channel, metadata          as <sem>          release
//	<sem>:line     zset    waiting processes by number                      2 min             the last to leave
//	<sem>:places   hash    what each waiting process asks for               2 min             the last to leave
//	<sem>:ended    zset    tickets withdrawn while a command with them may  2 min             -
//	                       still arrive, by time in µs
//	<sem>:limit    hash    the limit: declared, and present                 1 to 2 days after Delete
//	                                                                        the last use
//	<sem>:changes  zset    ids of changes of the limit, by time in µs       5 min             -
//
// # The limit
//
// The limit lies in Redis twice. The declared one is what the first semaphore
// was opened with; every other is compared with it at its first call of
// Acquire, TryAcquire, Do, TryDo or Resize, and Options.OnMismatch says what
// happens to one that was opened with another. The present one is what counts;
// it begins as the declared one, and [Semaphore.Resize] moves it. Both are
// forgotten when nothing was taken, held or awaited for a day or two.
//
// # Failure
//
// A holder that dies keeps its permit for its TTL, or for at most 3 s if it was
// handed to it and it had not renewed yet; then the next in line gets it. A
// waiter that dies is passed over. While Redis is down nobody gets a permit,
// holders are told at their deadline, and those who wait go on when Redis is
// back. When the semaphore's keys are lost, because Redis restarted empty,
// failed over to a replica that did not have them, or somebody deleted them,
// more than limit holders are possible until the earlier ones' next renewals
// (TTL/3; at most TTL), which tell them that their permits are gone.
//
// # Differences from multiprocessing
//
//   - Only the [Permit] gives back, and once: there is no release without an
//     acquire, and the value never rises above the limit. In that it is a
//     multiprocessing.BoundedSemaphore. Semaphore(0) that others release is
//     a limit of 0 here, raised by [Semaphore.Resize].
//   - A holder that dies takes its permit with it in multiprocessing; here its
//     lease ends.
//   - The limit can be changed while the semaphore is used.
//   - acquire(timeout=…) is a ctx with a deadline; acquire(block=False) is
//     [Semaphore.TryAcquire]. get_value() is the limit less what is held in
//     [Semaphore.State].
//
// # Source
//
// Counting semaphores are Dijkstra's (EWD 123, 1965); leases are Gray and
// Cheriton (SOSP 1989); the line and its hand-over are those of package
// redislock.
package redissem
