package redissem

import (
	"time"

	"github.com/multihost/multihost/internal/turnstile"
)

// Kind says what happened to a semaphore.
type Kind string

// What an Observation may tell.
const (
	// Waiting: a call of Acquire stands in line.
	Waiting = Kind(turnstile.Waiting)
	// Acquired: with How and ID; Duration is how long it waited.
	Acquired = Kind(turnstile.Acquired)
	// Released: with ID; Duration is how long it was held.
	Released = Kind(turnstile.Released)
	// Lost: with ID; Duration is how long it was held.
	Lost = Kind(turnstile.Lost)
	// Fallback: a waiter looked by itself because nothing was heard for long.
	Fallback = Kind(turnstile.Fallback)
	// Reconnected: the pub/sub connection was lost and is back.
	Reconnected = Kind(turnstile.Reconnected)
)

// How says how a permit was acquired.
type How string

// The ways to acquire a permit.
const (
	// Free: there was a free one, or one had run out.
	Free = How(turnstile.HowFree)
	// HandedOver: the holder in another process gave it to this one.
	HandedOver = How(turnstile.HowHanded)
	// PassedOn: the holder in the same process gave it, without Redis.
	PassedOn = How(turnstile.HowPassed)
)

// Observation is one thing that happened to a semaphore in this process.
type Observation struct {
	Name     string
	Kind     Kind
	How      How
	Duration time.Duration
	ID       string // of the permit
}
