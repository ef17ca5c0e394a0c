// Package scenario holds the demos: small programs about processes that must
// agree on something, each with its workers as operating-system processes of
// their own.
//
// The scenarios are meant to be read as examples, a file each: chat.go (with
// chat_room.go and chat_seat.go), print.go, tickets.go (with tickets_queue.go), ktv.go, event.go,
// traffic.go, queue.go, buns.go, pipe.go. What they need besides the public packages
// stands apart:
//
//   - worker.go is what one process has at hand: it says lines, waits a random
//     time, meets the others;
//   - journal.go is the record of a run, a list in Redis to which every process
//     appends what it did, in the order in which it happened;
//   - stage.go is the parent's part: it starts the processes, passes their lines
//     on, watches over them and deletes what the run left; crew.go does that
//     where there is no parent;
//   - verdict.go and verdict_*.go judge a journal, and table.go prints the
//     judgements;
//   - record.go is the record of the tickets, in Redis or in a file.
//
// A worker knows the others only through Redis. It is the same code whether the
// parent of a demo starts it on this machine or somebody starts it by hand, or
// in a container, on another one.
package scenario
