package redisevent

import "time"

// Kind says what happened to an event.
type Kind string

// What an Observation may tell.
const (
	// Waiting: a call of Wait found the event clear, or a Watch has begun.
	Waiting Kind = "waiting"
	// Woken: a Wait that had to wait is over; Duration is how long it waited.
	Woken Kind = "woken"
	// Fallback: the process looked by itself because nothing was heard for long.
	Fallback Kind = "fallback"
	// Reconnected: the pub/sub connection was lost and is back.
	Reconnected Kind = "reconnected"
)

// Observation is one thing that happened to an event in this process.
type Observation struct {
	Name     string
	Kind     Kind
	Duration time.Duration
}
