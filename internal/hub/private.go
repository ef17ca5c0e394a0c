package hub

import (
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// options returns the settings of a private connection to the link's node, nil
// if the user's client is of a type that does not tell them.
func (l *link) options() *redis.Options {
	if l.node == nil {
		return nil
	}
	return privateOptions(l.node)
}

// privateOptions are the settings of a connection of ours to where a client of
// the user's is connected.
func privateOptions(node *redis.Client) *redis.Options {
	o := *node.Options()
	o.PoolSize = 6 // at most three are used; the others are there while broken ones are put away
	o.PipelinePoolSize = -1
	o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns, o.MaxConcurrentDials = 0, 0, 0, 0
	o.MaxRetries, o.DialerRetries = -1, 1
	o.ContextTimeoutEnabled = true
	o.Dialer = unblocked(o.Dialer)
	o.Limiter, o.AutoPipelineOptions = nil, nil
	o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	// An Options that a client has taken over has 0 for "no timeout", which a
	// new client would read as "the default": a private connection always has
	// a timeout.
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = 5 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 5 * time.Second
	}
	o.PoolTimeout = 0
	return &o
}
