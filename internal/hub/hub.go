package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/redis/go-redis/v9"
)

// Linger is how long connections stay open after their last use.
const Linger = 250 * time.Millisecond

// Hub is what one process shares per Redis client. Get one with [Use].
type Hub struct {
	id      pair
	process string // random; part of ticket ids and channel names
	serial  atomic.Uint64
	db      int
	cluster *redis.ClusterClient // nil: not a cluster
	ctx     context.Context      // ends when the hub closes
	cancel  context.CancelFunc

	// refs becomes 0, and leaves it, under registry.mu only, which guards timer.
	// In between it changes without: many waits may end at the same moment.
	refs  atomic.Int64
	timer *clock.Alarm

	alarms clock.Alarms

	mu      sync.Mutex
	links   map[string]*link // by node address; "" outside a cluster
	objects map[string]*object
	forget  *clock.Alarm // forgets objects; set while forgets
	forgets bool

	routing  sync.Mutex // before mu
	routed   bool       // the cluster client knows its nodes
	unrouted []*Call    // that came before, in their order

	notes notes
}

type pair struct{ client, control redis.UniversalClient }

var registry = struct {
	mu   sync.Mutex
	hubs map[pair]*Hub
}{hubs: map[pair]*Hub{}}

// Validate says whether a client can be used. It does no I/O.
func Validate(client, control redis.UniversalClient) error {
	if err := validate("client", client); err != nil {
		return err
	}
	if control == nil {
		return nil
	}
	if err := validate("ControlClient", control); err != nil {
		return err
	}
	if _, ok := control.(*redis.ClusterClient); ok {
		return errors.New("the ControlClient is a *redis.ClusterClient; allowed is a client of a single node or of Sentinel (a cluster client needs none)")
	}
	if _, ok := client.(*redis.ClusterClient); ok {
		return errors.New("a ControlClient cannot serve a *redis.ClusterClient; leave it nil")
	}
	return nil
}

func validate(what string, c redis.UniversalClient) error {
	const allowed = "allowed are *redis.Client (NewClient, NewFailoverClient) and *redis.ClusterClient"
	if c == nil {
		return fmt.Errorf("the %s is nil; %s", what, allowed)
	}
	v := reflect.ValueOf(c)
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("the %s is a nil %T; %s", what, c, allowed)
	}
	if _, ok := c.(*redis.Ring); ok {
		return fmt.Errorf("the %s is a *redis.Ring, which spreads keys over independent servers and cannot keep one object on one of them when they come and go; %s", what, allowed)
	}
	if !v.Comparable() {
		return fmt.Errorf("the %s is a %T, which cannot be compared; %s", what, c, allowed)
	}
	return nil
}

// Use returns the process's hub for the client and counts one use of it.
// Every Use needs one [Hub.Done].
func Use(client, control redis.UniversalClient) *Hub {
	id := pair{client, control}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	h := registry.hubs[id]
	if h == nil {
		h = newHub(id)
		registry.hubs[id] = h
	}
	if h.refs.Add(1) == 1 && h.timer != nil {
		h.timer.Stop()
	}
	return h
}

// Reuse is Use with the hub's clients: the hub itself, unless it was forgotten
// meanwhile.
func (h *Hub) Reuse() *Hub { return Use(h.id.client, h.id.control) }

// Again counts one more use of a hub that is in use already.
func (h *Hub) Again() { h.refs.Add(1) }

// Done ends one use.
func (h *Hub) Done() {
	for n := h.refs.Load(); n > 1; n = h.refs.Load() {
		if h.refs.CompareAndSwap(n, n-1) {
			return
		}
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if h.refs.Add(-1) > 0 {
		return
	}
	if h.timer == nil {
		h.timer = h.AfterFunc(Linger, h.expire)
	} else {
		h.timer.Reset(Linger, 0)
	}
}

func (h *Hub) expire() {
	registry.mu.Lock()
	if h.refs.Load() > 0 {
		registry.mu.Unlock()
		return
	}
	if registry.hubs[h.id] == h { // else it is used once more after its end
		delete(registry.hubs, h.id)
	}
	registry.mu.Unlock()
	h.cancel()
	h.mu.Lock()
	links := h.links
	h.links = nil
	h.mu.Unlock()
	for _, l := range links {
		l.close()
	}
	h.alarms.Rest()
}

// AfterFunc has f run after d, as [time.AfterFunc] does. All that goes on at one hub
// shares a timer.
func (h *Hub) AfterFunc(d time.Duration, f func()) *clock.Alarm { return h.alarms.AfterFunc(d, f) }

// Alarms are those of the hub.
func (h *Hub) Alarms() *clock.Alarms { return &h.alarms }

func newHub(id pair) *Hub {
	h := &Hub{
		id:      id,
		process: strings.ToLower(rand.Text()[:16]),
		links:   map[string]*link{},
		objects: map[string]*object{},
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	switch c := id.client.(type) {
	case *redis.ClusterClient:
		h.cluster = c
	case interface{ Options() *redis.Options }: // *redis.Client, or a type that embeds it
		h.db = c.Options().DB
	}
	return h
}

// Process is the process's random id at this hub.
func (h *Hub) Process() string { return h.process }

// Serial returns a number greater than all that this hub has returned.
func (h *Hub) Serial() uint64 { return h.serial.Add(1) }

// NewID returns an id that no other call in any process gets.
func (h *Hub) NewID() string {
	return h.process + "-" + strconv.FormatUint(h.serial.Add(1), 36)
}

// DB is the number of the client's database, 0 where it cannot be known.
func (h *Hub) DB() int { return h.db }

// KnowsDB says whether the client tells which database it uses. Where it does
// not, a message may come from another database.
func (h *Hub) KnowsDB() bool {
	_, tells := h.id.client.(interface{ Options() *redis.Options })
	return tells || h.cluster != nil
}

// Sharded says whether channels are sharded: in a cluster.
func (h *Hub) Sharded() bool { return h.cluster != nil }

// object is a local object and how many use it. It outlives the last use by
// [Linger]: a process that takes its turn again at once keeps its subscription.
type object struct {
	value any
	uses  int
	left  time.Time // when the last use ended
}

// Object returns the process's one local object with this id, made by build if
// there is none yet, and counts one use of it. Every Object needs one
// [Hub.Leave].
func Object[T any](h *Hub, id string, build func() T) T {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.objects[id]
	if o == nil {
		o = &object{value: build()}
		h.objects[id] = o
	}
	o.uses++
	return o.value.(T)
}

// Find returns the local object with this id, if there is one.
func Find[T any](h *Hub, id string) (T, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.objects[id]; o != nil {
		v, ok := o.value.(T)
		return v, ok
	}
	var zero T
	return zero, false
}

// Leave ends one use of a local object; some time after the last one it is
// forgotten.
func (h *Hub) Leave(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.objects[id]
	if o == nil || o.uses == 0 {
		return
	}
	if o.uses--; o.uses > 0 {
		return
	}
	o.left = clock.Now()
	if h.forgets {
		return
	}
	h.forgets = true
	if h.forget == nil {
		h.forget = h.AfterFunc(Linger, h.forgetUnused)
	} else {
		h.forget.Reset(Linger, 0)
	}
}

// forgetUnused forgets objects that nobody has used for a while. One timer serves
// all of them.
func (h *Hub) forgetUnused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgets = false
	if h.links == nil {
		return // closed
	}
	next := Linger
	for id, o := range h.objects {
		if o.uses > 0 {
			continue
		}
		left := Linger - clock.Since(o.left)
		if left <= 0 {
			delete(h.objects, id)
			continue
		}
		h.forgets, next = true, min(next, left)
	}
	if h.forgets {
		h.forget.Reset(next, 0)
	}
}

// ReadTimeout is how long the user's client waits for a reply.
func (h *Hub) ReadTimeout() time.Duration {
	var d time.Duration
	switch c := h.id.client.(type) {
	case *redis.ClusterClient:
		d = c.Options().ReadTimeout
	case interface{ Options() *redis.Options }:
		d = c.Options().ReadTimeout
	}
	if d <= 0 {
		d = 5 * time.Second
	}
	return d
}

// ended is a ctx that is cancelled.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// closedByUser says whether the user has closed the client. Nobody tells, and
// the private connection would go on working. key is one that the link serves.
func (l *link) closedByUser(key string) bool {
	ctx := ended // with which everything here answers without I/O
	node := l.node
	if c, ok := l.hub.id.control.(*redis.Client); ok {
		node = c // it does all the work
	}
	if c := l.hub.cluster; c != nil {
		// A node that has left the cluster is closed too: ask who is in charge.
		var err error
		if node, err = c.MasterForKey(ctx, key); err != nil {
			return errors.Is(err, redis.ErrClosed)
		}
	}
	if node == nil {
		return false
	}
	// A closed pool has no connections. The user's hooks see the PING, so it is
	// sent only when connections that were there are gone.
	conns := node.PoolStats().TotalConns
	l.mu.Lock()
	gone := l.seen && conns == 0
	l.seen = conns > 0
	l.mu.Unlock()
	if !gone || !errors.Is(node.Process(ctx, redis.NewCmd(ctx, "ping")), redis.ErrClosed) {
		return false
	}
	l.mu.Lock()
	l.seen = true // it stays closed
	l.mu.Unlock()
	return true
}
