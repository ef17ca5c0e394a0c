package turnstile

import "time"

// Kind says what happened.
type Kind string

// What an Observation may tell.
const (
	Waiting     Kind = "waiting"     // a wait stands in line
	Acquired    Kind = "acquired"    // Duration: waited
	Released    Kind = "released"    // Duration: held
	Lost        Kind = "lost"        // Duration: held
	Fallback    Kind = "fallback"    // a place was checked because its time was up
	Reconnected Kind = "reconnected" // the pub/sub connection was lost and is back
)

// How says how a lock was acquired.
type How string

// The ways to acquire.
const (
	HowFree   How = "free"        // by the process's own command
	HowHanded How = "handed over" // by the command of the one before, in another process
	HowPassed How = "passed on"   // inside the process
)

// Observation is one thing that happened.
type Observation struct {
	Kind     Kind
	How      How // of Acquired
	Duration time.Duration
	Token    uint64 // of Acquired, Released, Lost
	Ticket   string // likewise
}

// ID names the turn of a permit, "" where there is none.
func (o *Observation) ID() string {
	if o.Ticket == "" {
		return ""
	}
	return turnID(o.Ticket, o.Token)
}

func (l *Line) observe(t *Terms, o Observation) {
	if t.Observe != nil {
		l.hub.Note(func() { t.Observe(o) })
	}
}
