package turnstile

import (
	"context"
	"fmt"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// replication asks for replicas as the terms do, and gives them so long at most. The mark
// is the lifetime of the fencing counter, which every grant has written.
func (l *Line) replication(t *Terms, most time.Duration) hub.Replication {
	if t.Replicas == 0 {
		return hub.Replication{}
	}
	return hub.Replication{
		Replicas: t.Replicas, Timeout: max(ms(min(t.ReplicaTimeout, most)), 1),
		Mark: []any{"pexpire", l.object.Part("fence"), ms(24 * time.Hour)},
	}
}

// replicated hands on what a wait has come to. A grant counts only when enough
// replicas have it, however it came: the holder makes sure by a renewal of its own,
// because WAIT tells of one's own writes only, and the grant may have been somebody
// else's. A turn that is passed on inside the process is known to them already.
func (l *Line) replicated(ctx context.Context, o outcome) (*Hold, error) {
	if o.err != nil || o.hold.terms.Replicas == 0 {
		return o.hold, o.err
	}
	g := o.hold.grant
	l.mu.Lock()
	known := g.replicated
	l.mu.Unlock()
	if known {
		return o.hold, nil
	}
	err := g.replicate(ctx, o.hold)
	if err != nil {
		o.hold.giveBack()
		return nil, err
	}
	return o.hold, nil
}

// replicate renews, and waits for the replicas.
func (g *grant) replicate(ctx context.Context, h *Hold) error {
	l, t := g.line, g.terms
	ttl := ms(t.TTL)
	if t.NoRenew {
		ttl = 0
	}
	most := max(clock.Until(g.keeper.Deadline())/2, time.Millisecond)
	r, err := l.hub.Do(ctx, &hub.Call{
		Script: l.renewScript, Keys: l.keys, Boxed: l.boxed, Private: true, AfterClose: true, Patience: most,
		Attempts: joinAttempts, Until: clock.Now().Add(most), // its reply may be lost
		Args:        []any{g.ticket, ttl, number(h.token), ""},
		Replication: l.replication(t, most),
	})
	if err != nil {
		return err
	}
	v, err := decodeRenew(r.Value)
	switch {
	case err != nil:
		return err
	case !v.ok:
		return fmt.Errorf("%w: the lock was lost before the replicas had it", hub.ErrUnavailable)
	case r.Replicas < t.Replicas:
		return fmt.Errorf("%w: %d replicas have it within %v, %d are needed", hub.ErrUnavailable, r.Replicas, t.ReplicaTimeout, t.Replicas)
	}
	l.mu.Lock()
	g.replicated = true
	l.mu.Unlock()
	g.keeper.Renewed(r.Sent, t.TTL)
	return nil
}
