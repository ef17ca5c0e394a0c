package redisqueue

import "time"

// Kind says what happened to a queue.
type Kind string

// What an Observation may tell.
const (
	// Waiting: a Get, Receive, Put or Join has to wait.
	Waiting Kind = "waiting"
	// Put: Items items were put; Duration is how long that took, with the wait
	// for room.
	Put Kind = "put"
	// Got: Items items were taken for good; Duration is how long the call waited.
	Got Kind = "got"
	// Received: an item was delivered; Duration is how long the call waited.
	Received Kind = "received"
	// Acked: a delivery was acknowledged; Duration is how long it was held.
	Acked Kind = "acked"
	// Nacked: a delivery was given back; Duration is how long it was held.
	Nacked Kind = "nacked"
	// Lost: a delivery was lost; Duration is how long it was held.
	Lost Kind = "lost"
	// Swept: Items items of a dead consumer came back to the queue.
	Swept Kind = "swept"
	// Buried: Items items went to the dead letters.
	Buried Kind = "buried"
	// Fallback: the process looked by itself because nothing was heard for long.
	Fallback Kind = "fallback"
	// Reconnected: the pub/sub connection was lost and is back.
	Reconnected Kind = "reconnected"
)

// Observation is one thing that happened to a queue in this process.
type Observation struct {
	Name     string
	Kind     Kind
	Items    int
	Duration time.Duration
}
