// Package turnstile lets one at a time through, or so many: it is the lock and
// the semaphore, but for the public handles.
//
// In Redis the two differ: the lock is a key with an owner, the semaphore a set of
// permits. Their scripts answer alike, so the code in the process is one; below,
// "the lock" is either. A ticket that was granted is the lock, or one permit.
// What is a token for the lock is for a permit the number of the turn within its
// grant, so a permit's id is its ticket and that number. A process may have several
// grants of a semaphore, and stands in line once all the same, for the next.
//
// # Two lines
//
// Inside a process the goroutines that wait for one lock stand in a [Line], in
// order. The process itself stands, once however many of its goroutines wait,
// in a line in Redis: it has a place there, known by a ticket. Whoever gives
// the lock back makes, in the same script, the first reachable place the
// holder and tells that process alone. Nobody polls. Looking again from time
// to time (the fallback) and at the end of the holder's TTL covers messages
// that were lost and holders that died.
//
// What the process was granted, it may pass on from goroutine to goroutine
// without asking Redis, a limited number of times and for a limited time, so
// that other processes get their turn. This is lock cohorting: Dice, Marathe
// and Shavit, "Lock Cohorting", PPoPP 2012, with the network in place of the
// interconnect.
//
// # What makes it safe
//
//  1. Trust in a grant that was handed over counts from a moment known to be
//     earlier than the grant: see package lease.
//  2. A place is granted only while somebody is subscribed to its channel; the
//     script asks first, then writes, then publishes. A place that cannot be
//     reached keeps its number.
//  3. A grant handed over lasts at most three seconds until its first renewal,
//     so a waiter that looks alive and is not costs no more than that.
//  4. A ticket is used once. One that ended while the outcome of a command was
//     unknown is remembered and refused, so a command that arrives after its
//     own clean-up does nothing; a grant for a ticket that is not waiting is
//     given back.
//  5. A release that finds the lock not ours, the second time it is sent, is a
//     repeat of one that was carried out.
//  6. Every script that gives back deletes before it sets, and sets before it
//     publishes: deleting is allowed when memory is full, and a message never
//     precedes what it tells of.
//  7. Breaking revokes: the holder may not renew and is told to give back. It
//     never makes a second holder.
package turnstile
