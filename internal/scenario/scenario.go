package scenario

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Scenario is one of the demos, with its options.
type Scenario interface {
	// Cast says who takes part.
	Cast() Cast
	// Work is what one process does, from its start to its end.
	Work(ctx context.Context, w *Worker) error
	// Judge says what the journal of a run shows.
	Judge(journal []Fact) Verdict
}

// An Auditor is a Scenario that leaves something to look at when all workers
// have ended; what Audit finds it adds to the journal.
type Auditor interface {
	Audit(ctx context.Context, w *Worker) error
}

// A Cast is who takes part in a scenario, and what they leave in Redis.
type Cast struct {
	Source string // the file to read
	Roles  []Role

	// Names under the run's namespace that are deleted at its end.
	Locks, Semaphores, Events, Queues, Keys []string
}

// A Role is what several workers do alike.
type Role struct {
	Name   string
	Count  int
	InTurn bool                                  // each is started when the one before has ended
	Gap    func(random *rand.Rand) time.Duration // how long after the one before it is started; nil: at once
	Busy   time.Duration                         // what one of them adds to a run at most, waits for others apart; 0: five seconds
}

// role finds a role by name; the error lists the names.
func (c Cast) role(name string) (Role, error) {
	var names []string
	for _, r := range c.Roles {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Role{}, fmt.Errorf("unknown role %q: there are %s, and verdict", name, strings.Join(names, ", "))
}

// inOrder tells whether the workers of the role begin one after another.
func (r Role) inOrder() bool { return r.InTurn || r.Gap != nil }

// A Setting is what all processes of a run have in common.
type Setting struct {
	Client    redis.UniversalClient
	Namespace string  // of this run
	Seed      uint64  // of the random waits
	Speed     float64 // all waits are divided by it
	Lang      Lang
	Colour    bool
}

var runs = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckNamespace says whether name can be the namespace of a run.
func CheckNamespace(name string) error {
	if !runs.MatchString(name) {
		return fmt.Errorf("bad name %q for a run: allowed are 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit", name)
	}
	return nil
}

// key is the name of a plain Redis key of the run. All of them are in one slot
// of a cluster.
func (s Setting) key(name string) string { return "multihost-demo:{" + s.Namespace + "}:" + name }

// scale is a wait at the run's speed.
func (s Setting) scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.Speed)
}

// limit is how long a run may take, if the workers were busy one after another.
func (s Setting) limit(cast Cast) time.Duration {
	busy := 30 * time.Second
	for _, role := range cast.Roles {
		busy += time.Duration(role.Count) * cmp.Or(role.Busy, 5*time.Second)
	}
	return 30*time.Second + s.scale(busy)
}

// random gives each worker a sequence of its own, the same in every run with
// the same seed.
func (s Setting) random(role string, index int) *rand.Rand {
	who := uint64(index)
	for _, r := range role {
		who = who*31 + uint64(r)
	}
	return rand.New(rand.NewPCG(s.Seed, who))
}

// lapse is how long what a run keeps in Redis outlives processes that were killed
// before any of them could delete it.
const lapse = time.Hour

// atMost bounds how many processes a demo starts.
const atMost = 100

// inRange checks a number of the command line.
func inRange(flag string, n, least, most int) error {
	if n < least || n > most {
		return fmt.Errorf("%s is %d: allowed is %d to %d", flag, n, least, most)
	}
	return nil
}
