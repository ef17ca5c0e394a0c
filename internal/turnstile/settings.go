package turnstile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/lease"
)

// Defaults of Settings, and what they may be.
const (
	DefaultTTL           = 10 * time.Second
	DefaultLocalHandoffs = 64
	// DefaultReplicaTimeout is less for TTLs below three times of it.
	DefaultReplicaTimeout = time.Second

	minTTL      = 10 * time.Millisecond
	minMargin   = 5 * time.Millisecond
	maxTTL      = 365 * 24 * time.Hour
	maxMetadata = 4096
	maxSlack    = 100 * time.Millisecond
	// A grant reserves as many tokens; they must not run far ahead of the clock.
	maxLocalHandoffs = 10_000
)

// Settings are the options that lock and semaphore have in common, as the user
// gave them. The packages of the two describe the fields.
type Settings struct {
	TTL, Margin, MinHold, MaxHold time.Duration
	NoRenew                       bool
	LocalHandoffs                 int
	Metadata                      map[string]string
	Replicas                      int
	ReplicaTimeout                time.Duration
}

// Terms fills in the defaults. An error says what is allowed.
func (s Settings) Terms() (*Terms, error) {
	s.TTL = cmp.Or(s.TTL, DefaultTTL)
	if s.TTL < minTTL || s.TTL > maxTTL {
		return nil, fmt.Errorf("TTL is %v; allowed are %v to %v", s.TTL, minTTL, maxTTL)
	}
	s.TTL = (s.TTL + time.Millisecond - 1) / time.Millisecond * time.Millisecond
	s.Margin = cmp.Or(s.Margin, max(s.TTL/100, minMargin))
	if s.Margin < 0 || s.Margin >= s.TTL {
		return nil, fmt.Errorf("Margin is %v; allowed is more than 0 and less than TTL, %v", s.Margin, s.TTL)
	}
	if s.MinHold < 0 || s.MinHold > maxTTL {
		return nil, fmt.Errorf("MinHold is %v; allowed are 0 to %v", s.MinHold, maxTTL)
	}
	if s.MaxHold < 0 {
		return nil, fmt.Errorf("MaxHold is %v; allowed is 0, for no end, or more", s.MaxHold)
	}
	s.LocalHandoffs = cmp.Or(s.LocalHandoffs, DefaultLocalHandoffs)
	if s.LocalHandoffs > maxLocalHandoffs {
		return nil, fmt.Errorf("LocalHandoffs is %d; allowed are at most %d, or a negative number for none", s.LocalHandoffs, maxLocalHandoffs)
	}
	if s.Replicas < 0 {
		return nil, fmt.Errorf("Replicas is %d; allowed is 0, for none, or more", s.Replicas)
	}
	s.ReplicaTimeout = cmp.Or(s.ReplicaTimeout, min(DefaultReplicaTimeout, s.TTL/3))
	if s.ReplicaTimeout < time.Millisecond || s.ReplicaTimeout >= s.TTL {
		return nil, fmt.Errorf("ReplicaTimeout is %v; allowed are 1ms to less than TTL, %v", s.ReplicaTimeout, s.TTL)
	}
	metadata, err := s.metadata()
	if err != nil {
		return nil, err
	}
	return &Terms{
		Terms:    lease.Terms{TTL: s.TTL, Margin: s.Margin, NoRenew: s.NoRenew, Slack: min(s.TTL/100, maxSlack)},
		MinHold:  s.MinHold,
		MaxHold:  s.MaxHold,
		Handoffs: max(s.LocalHandoffs, 0),
		Metadata: metadata,
		Replicas: s.Replicas, ReplicaTimeout: s.ReplicaTimeout,
	}, nil
}

var processMetadata = sync.OnceValue(func() string {
	host, _ := os.Hostname()
	b, _ := json.Marshal(map[string]string{
		"host": host, "pid": strconv.Itoa(os.Getpid()), "program": filepath.Base(os.Args[0]),
	})
	return string(b)
})

func (s *Settings) metadata() (string, error) {
	if s.Metadata == nil {
		return processMetadata(), nil
	}
	b, err := json.Marshal(s.Metadata)
	if err != nil {
		return "", fmt.Errorf("Metadata: %w", err)
	}
	if len(b) > maxMetadata {
		return "", fmt.Errorf("Metadata has %d bytes as JSON; allowed are at most %d", len(b), maxMetadata)
	}
	return string(b), nil
}
