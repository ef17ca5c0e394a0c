package quorum

import (
	"context"
	"errors"
	"time"

	votes "github.com/go-redsync/redsync/v4/redis"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// takeCall is the call that takes a member, and tells its answer.
func (a *attempt) takeCall(p time.Duration, heard func(answer)) *hub.Call {
	return &hub.Call{
		Script: takeScript, Keys: a.q.keys, Args: []any{a.ticket, ms(a.terms.TTL), a.terms.Metadata},
		Patience: p, Until: clock.Now().Add(p), Lapses: true,
		Done: func(r hub.Reply) {
			x := answer{err: r.Err, unseen: r.Err != nil && !r.Ambiguous}
			if r.Err == nil {
				x.taking, x.err = decodeTake(r.Value)
				x.once = x.err == nil && r.Attempts == 1
			}
			heard(x)
		},
	}
}

// invite takes the members that the turn has certainly never had: they were away, or
// another's, when it began. While a majority is held nobody else can have one, so one
// more of them makes the turn no less safe, and lets it outlive the loss of
// another. One that may have had the key is not asked: it may have lost it, and somebody
// else may have held the lock since. What comes late is refused, as any take of
// a ticket that was given back.
func (a *attempt) invite(p time.Duration) {
	for _, m := range a.q.members {
		a.mu.Lock()
		before, known := a.answers[m]
		never := before.unseen || before.once && !before.taken
		if !known {
			never = a.takes[m] == nil || a.takes[m].Withdraw()
		}
		if a.over || !never {
			a.mu.Unlock()
			continue
		}
		c := a.takeCall(p, func(x answer) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.answers[m] = x
		})
		c.Private, c.AfterClose = true, true
		delete(a.answers, m) // not known now
		a.takes[m] = c
		a.mu.Unlock()
		m.hub.Go(c)
	}
}

// voter is a member as redsync sees it, for one attempt. redsync asks it for SetNX,
// and, when the attempt has failed, for the script that gives back, which is not
// waited for here: attempt.run sees to that, and to what may still arrive.
type voter struct {
	attempt *attempt
	member  *member
	ctx     context.Context
}

func (v voter) Get(ctx context.Context) (votes.Conn, error) {
	v.ctx = ctx
	return voting{v}, nil
}

// voting is a connection to the member.
type voting struct{ v voter }

// SetNX takes the member, as SET NX would, and learns what take tells besides.
func (c voting) SetNX(_ string, ticket string, ttl time.Duration) (bool, error) {
	a := c.v.attempt
	p := patience(ttl)
	answered := make(chan answer, 1)
	take := a.takeCall(p, func(x answer) {
		a.heard(c.v.member, x)
		answered <- x
	})
	take.Attempts = 2
	a.mu.Lock()
	over := a.over
	if !over {
		a.takes[c.v.member] = take
	}
	a.mu.Unlock()
	if over {
		return false, context.Canceled
	}
	c.v.member.hub.Go(take)
	select {
	case x := <-answered:
		return x.taken, x.err
	case <-c.v.ctx.Done():
		return false, c.v.ctx.Err()
	}
}

// Eval gives nothing back, see voter.
func (c voting) Eval(*votes.Script, ...any) (any, error) { return int64(0), nil }

var errVoting = errors.New("redsync does not ask for this when it tries once")

// The rest of votes.Conn.

func (c voting) Get(string) (string, error)         { return "", errVoting }
func (c voting) Set(string, string) (bool, error)   { return false, errVoting }
func (c voting) ScriptLoad(*votes.Script) error     { return errVoting }
func (c voting) PTTL(string) (time.Duration, error) { return 0, errVoting }
func (c voting) Close() error                       { return nil }
