package redisqueue

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/lease"
)

var (
	// ErrEmpty is the "no" of TryGet: nothing is waiting. Do something else, or
	// wait with Get.
	ErrEmpty = errors.New("the queue is empty")

	// ErrFull is the "no" of TryPut: MaxSize items are waiting. Do something
	// else, or wait with Put.
	ErrFull = errors.New("the queue is full")

	// ErrShutdown says that the queue was shut down: it takes no more items,
	// and there are none left to take.
	ErrShutdown = errors.New("the queue was shut down")

	// ErrLost says that a delivery is no longer this consumer's: its claim was
	// not renewed in time, or the queue was deleted. The item comes again, here
	// or elsewhere; stop what it was for.
	ErrLost = lease.ErrLost

	// ErrReleased says that a delivery was acknowledged or given back already.
	ErrReleased = lease.ErrReleased

	// ErrMismatch says that what lies under the queue's name in Redis is not a
	// queue of this layout, or one with another MaxSize or Codec.
	ErrMismatch = hub.ErrMismatch

	// ErrUnavailable says that Redis could not be reached. It comes with the
	// cause.
	ErrUnavailable = hub.ErrUnavailable

	// ErrUnknownOutcome says that a command was sent and no answer came: the
	// item may have been put, taken or acknowledged, or not.
	ErrUnknownOutcome = hub.ErrUnknownOutcome

	// ErrUndecodable says that an item could not be decoded. It was put among
	// the dead letters; the error names it.
	ErrUndecodable = errors.New("the item cannot be decoded")

	// ErrClosed says that the Writer was closed.
	ErrClosed = errors.New("the writer is closed")
)

// Defaults of Options.
const (
	DefaultTTL     = 30 * time.Second
	DefaultMaxItem = 64 << 20

	minTTL       = 10 * time.Millisecond
	maxTTL       = 365 * 24 * time.Hour
	maxMaxSize   = 1 << 40
	maxMaxItem   = 512<<20 - 1024 // what a Redis string holds, less the envelope
	maxCodecName = 64
	maxMetadata  = 4096
)

// Policy is what a handle does when the queue in Redis was opened with another
// MaxSize or Codec.
type Policy int

const (
	// Refuse makes the first call return ErrMismatch, which names both values.
	Refuse Policy = iota
	// Adopt follows what is in Redis. Another codec cannot be adopted: that
	// stays ErrMismatch.
	Adopt
	// Replace puts this handle's values in place of those in Redis.
	Replace
)

// Options are the settings of a Queue. The zero value of a field means its
// default.
type Options struct {
	// Namespace separates queues of the same name, of different programs or
	// environments, say. Up to 512 bytes of UTF-8 without control characters;
	// default none.
	Namespace string

	// MaxSize is how many items may wait; Put waits while there are as many.
	// Items that come back to the queue are never refused. Default 0: no
	// bound.
	MaxSize int

	// Codec turns values into bytes and back. Default: []byte and string as
	// they are (Raw), all else as JSON.
	Codec Codec

	// MaxItem is the largest item in bytes, encoded; Put refuses a larger one.
	// Default 64 MiB, at most what Redis holds, 512 MiB less one KiB.
	MaxItem int

	// OnMismatch says what to do when the queue in Redis has another MaxSize or
	// Codec. State, Len, Empty, Full and Delete do not compare them. Default Refuse.
	OnMismatch Policy

	// TTL is how long the claims of a consumer stand when its process dies;
	// then its items come back to the head of the queue. A living process
	// renews them. At least 10 ms, at most a year; default 30 s. Get needs no
	// claim.
	TTL time.Duration

	// MaxDeliveries is how often an item is delivered at most: this handle does not
	// receive one that was delivered as often, and puts it among the dead letters.
	// Default 0: no end.
	MaxDeliveries int

	// RetryDelay is how long Work keeps an item back after its attempt-th
	// delivery (from 1) has failed. Default nil: no delay.
	RetryDelay func(attempt int) time.Duration

	// ID names an item by its value. A Put drops an item whose ID was put
	// within the last hour. Default nil: none is dropped.
	ID func(v any) string

	// Metadata describes this process among the consumers in State. Up to 4 KiB
	// as JSON; default the host's name, the process id and the program's name,
	// under "host", "pid" and "program".
	Metadata map[string]string

	// ControlClient, when set, carries waits, heartbeats and subscriptions in
	// place of the private connections that are otherwise made from the
	// client's own options.
	ControlClient redis.UniversalClient

	// Observe hears what happens to this queue in this process, in order and
	// apart from the queue's own work. If it falls more than 16,384 observations
	// behind, it misses the oldest.
	Observe func(Observation)
}

func (opts *Options) withDefaults() (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MaxSize < 0 || o.MaxSize > maxMaxSize {
		return o, fmt.Errorf("MaxSize is %d; allowed is 0, for no bound, to %d", o.MaxSize, maxMaxSize)
	}
	o.MaxItem = cmp.Or(o.MaxItem, DefaultMaxItem)
	if o.MaxItem < 1 || o.MaxItem > maxMaxItem {
		return o, fmt.Errorf("MaxItem is %d; allowed are 1 to %d bytes", o.MaxItem, maxMaxItem)
	}
	o.TTL = cmp.Or(o.TTL, DefaultTTL)
	if o.TTL < minTTL || o.TTL > maxTTL {
		return o, fmt.Errorf("TTL is %v; allowed are %v to %v", o.TTL, minTTL, maxTTL)
	}
	o.TTL = (o.TTL + time.Millisecond - 1) / time.Millisecond * time.Millisecond
	if o.MaxDeliveries < 0 {
		return o, fmt.Errorf("MaxDeliveries is %d; allowed is 0, for no end, or more", o.MaxDeliveries)
	}
	if o.OnMismatch < Refuse || o.OnMismatch > Replace {
		return o, fmt.Errorf("OnMismatch is %d; allowed are Refuse, Adopt and Replace", o.OnMismatch)
	}
	if o.Codec != nil {
		if err := checkCodecName(o.Codec.Name()); err != nil {
			return o, err
		}
	}
	return o, nil
}

func checkCodecName(name string) error {
	ok := name != "" && len(name) <= maxCodecName
	for _, r := range name {
		ok = ok && r > ' ' && r < 0x7f
	}
	if !ok {
		return fmt.Errorf("the Codec's name is %q; allowed are 1 to %d ASCII characters without spaces", name, maxCodecName)
	}
	return nil
}

var processMetadata = sync.OnceValue(func() string {
	host, _ := os.Hostname()
	b, _ := json.Marshal(map[string]string{
		"host": host, "pid": strconv.Itoa(os.Getpid()), "program": filepath.Base(os.Args[0]),
	})
	return string(b)
})

func (opts *Options) metadata() (string, error) {
	if opts.Metadata == nil {
		return processMetadata(), nil
	}
	b, err := json.Marshal(opts.Metadata)
	if err != nil {
		return "", fmt.Errorf("Metadata: %w", err)
	}
	if len(b) > maxMetadata {
		return "", fmt.Errorf("Metadata has %d bytes as JSON; allowed are at most %d", len(b), maxMetadata)
	}
	return string(b), nil
}
