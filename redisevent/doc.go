// Package redisevent is a flag that the processes of many machines share
// through Redis and wait for: what multiprocessing.Event is to the processes of
// one. It is for "start now", "the configuration changed", "stop".
//
//	ready, err := redisevent.New(client, "database-migrated", nil)
//	…
//	err = ready.Wait(ctx) // here, and on every other machine
//	…
//	err = ready.Set(ctx)  // wakes them all
//
// # Guarantees
//
//   - Wait returns if the event is set, or was set or pulsed after Wait had begun
//     to wait, even if it was cleared again at once and every message about it
//     was lost. It returns in no other case but an error. What the end of a TTL,
//     or Delete, has removed before a waiter without messages could look leaves
//     no trace: the TTL should be longer than the fallback, see Failure.
//   - A change whose command is repeated because its reply was lost happens once.
//     Delete forgets what was asked for: a Set that is repeated after it is a new
//     one.
//   - A wait costs nothing while it waits: no polling, and one subscription per
//     process however many goroutines wait.
//   - A cancelled wait returns within milliseconds and leaves nothing behind.
//
// # Keys
//
// All keys of an event have one hash tag. <event> stands for
// mh1:event:{<name>}, or mh1:<namespace>:event:{<name>}; braces and percent
// signs in names, and also colons in namespaces, are percent-encoded.
//
//	key            type    contents                                        TTL    deleted by
//	<event>        string  a number, decimal: even is clear, odd is set;   TTL    Delete
//	                       a change makes it greater, at least the
//	                       server's time in µs
//	<event>:count  string  how many changes there were, decimal            TTL    Delete
//	<event>:asked  zset    ids of the last changes asked for (at most      5 min  Delete
//	                       10,000), by time in µs
//
// Changes are published as "<number before> <number now> <count> <TTL in ms, 0:
// none>" on <event>:channel:<database>.
//
// # Failure
//
// While Redis is down nothing changes and waits go on when it is back. Without
// messages, because pub/sub is cut, a waiter looks by itself after a
// re-subscription or after 30 s. An event whose key is lost is clear; waits for
// it go on, and the next Set wakes them.
//
// # Differences from multiprocessing
//
//   - set() followed at once by clear() releases all who wait, as
//     threading.Event does; multiprocessing.Event, by a quirk, none.
//   - [Event.Pulse] does both in one step. [Event.Watch] tells every change.
//   - wait(timeout) is a ctx with a deadline.
package redisevent
