// Package quorum is the lock over several independent masters: whoever has the
// key on a majority of them has the lock. No replication is involved, so the loss
// of a minority loses nothing. The counting of votes is redsync's; this package
// gives it members to ask, and does what has to be done before and after.
//
// # Two round trips
//
// The first one takes the key wherever it is free, and reads each member's
// fencing counter and clock. The second one has the token accepted and extends the
// lease. Each goes to all members at once and ends with the answers of the
// fast majority: a member that is dead, hung or slow delays nothing as long as
// the others are of one mind.
//
// # Tokens
//
// The token is the greatest of the counters that were read, plus one, or the
// latest of the clocks. A member accepts it if it is greater than its own counter,
// and while its key is the ticket's, and a majority must. If it does not, because another
// turn's token is as great, a higher one is proposed, while there is time. A plain
// write in place of the comparison repeats tokens, even where nobody
// ever holds together with another: of a token that a dead process has proposed,
// nobody knows where it will still arrive.
//
// That tokens grow: any two majorities share a member. There the later owner
// took the key after the earlier one's token had been accepted, because accepting needs
// the key; so it read a counter at least as great.
//
// # Trust
//
// A lease is trusted as package lease says, counted from the sending of the
// earliest of the answers that make the majority, on each renewal anew. A
// member that has lost the key is never given it again in the same turn:
// somebody else may have had it in between.
//
// # Waiting
//
// There is no line: no single member could keep it. One goroutine of a process
// at a time contends for the lock, the others queue up behind it. It listens on
// every member, and tries again when a majority has told of a release, after
// a little time by chance; or, because messages get lost and holders die, when
// enough keys have lapsed by what it was told of them. When nobody has a
// majority, contenders have split the members between them: each gives back what
// it got and comes again after a time by chance, longer with each failure.
package quorum
