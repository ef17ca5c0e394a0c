// Package lease keeps trust in what was taken for a limited time.
//
// # The trust deadline
//
// A lock or permit in Redis ends by itself after its TTL. The server counts
// that time from the moment it carried out the command; the client cannot see
// that moment. It knows one that is certainly earlier: just before it sent the
// command. So the client trusts a lease until
//
//	sent + TTL - margin
//
// on its own monotonic clock, and the server can grant to another only later
// than that. The margin covers what a clock's rate may be off and the time
// between looking at the clock and acting on it.
//
// A lease that somebody else's command handed over has no such moment of its
// own: it was made by the releasing process, and how long its message
// travelled, or lay unread in a paused process, is not known. What is known is
// that the server made it after it had carried out the waiter's latest command
// that was answered "still waiting", and after it had answered the latest PING
// whose PONG was read, on the same connection, before the message. The later
// of the moments at which those were sent takes the place of "sent". Counting
// from the receipt instead lets two holders overlap.
//
// A renewal that is answered moves the deadline. Nothing else does: a failed
// renewal does not shorten it, a slow one does not lengthen it. At the deadline
// the holder is told, whatever the network does.
//
// Deadlines are readings of package clock: setting the wall clock has no
// effect on them.
package lease
