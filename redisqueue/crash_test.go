package redisqueue_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// A massacre is a test in which consumers are killed again and again.
type massacre struct {
	items, kills int
	processes    int
	role         role
	every        time.Duration // a kill, on average
}

// size returns how large the tests of crashes are: small by default, at full size
// with MULTIHOST_TEST_LONG=1 (make crash).
func size(do string) massacre {
	m := massacre{items: 500, kills: 10, processes: 3, every: 60 * time.Millisecond, role: role{Do: do, TTL: 500 * time.Millisecond, Goroutines: 3, Work: 4 * time.Millisecond}}
	if os.Getenv("MULTIHOST_TEST_LONG") != "" {
		m.items, m.kills, m.processes, m.every = 10_000, 200, 4, 150*time.Millisecond
		m.role.TTL, m.role.Work = 2*time.Second, 8*time.Millisecond
	}
	return m
}

// An entry is a line of a diary.
type entry struct {
	at      int64
	process int
	client  int // the goroutine, of all processes
	words   []string
}

// run puts items while consumers work and are killed, waits until all is
// done, and returns what the consumers wrote and which processes were killed. Each item
// that is put is noted by put.
func (m *massacre) run(t *testing.T, s *redistest.Server, name string, put func(i int) func()) (entries []entry, killed map[int]bool) {
	t.Helper()
	q := newQueue[redistest.QueueItem](t, s.Client(t), name, &redisqueue.Options{TTL: m.role.TTL})
	m.role.Name = name
	var members []*member
	alive := map[int]bool{}
	begin := func() {
		alive[len(members)] = true
		members = append(members, start(t, s, m.role))
	}
	for range m.processes {
		begin()
	}
	killed = map[int]bool{}
	putting := beginErr(t, func(ctx ctxT) error {
		for i := 0; i < m.items && ctx.Err() == nil; i++ {
			done := put(i)
			if err := q.Put(ctx, redistest.QueueItem{Number: i + 1}); err != nil {
				return err
			}
			done()
			// The items last as long as the kills.
			pause(rand.N(2*time.Duration(m.kills)*m.every/time.Duration(m.items)), nil)
		}
		return nil
	})
	for range m.kills {
		pause(rand.N(2*m.every), nil)
		var some []int
		for i := range alive {
			some = append(some, i)
		}
		i := some[rand.N(len(some))]
		members[i].kill()
		delete(alive, i)
		killed[i] = true
		begin()
	}
	redistest.EventuallyTrue(t, time.Minute, "all is put", func() bool { // about as long as the kills
		select {
		case <-putting.over:
			return true
		default:
			return false
		}
	})
	if putting.err != nil {
		t.Fatalf("Put should succeed, got %v", putting.err)
	}
	redistest.Eventually(t, time.Minute, func() error {
		if got := countsOf(state(t, q)); got != (counts{}) {
			return fmt.Errorf("all items should be done, State tells %+v", got)
		}
		return nil
	})
	for i := range alive {
		_ = members[i].stdin.Close()
		await(t, members[i].over, "the end of a child")
		if members[i].err != nil {
			t.Errorf("a child should end in peace, got %v", members[i].err)
		}
	}
	for i, member := range members {
		for line := range member.lines {
			entries = append(entries, parse(t, i, m.role.Goroutines, line))
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	remove(t, q)
	return entries, killed
}

func parse(t testing.TB, process, goroutines int, line string) entry {
	t.Helper()
	words := strings.Fields(line)
	if len(words) < 3 {
		t.Fatalf("a line of a diary has a time, a goroutine and more, got %q", line)
	}
	at, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return entry{at: at, process: process, client: process*goroutines + number(t, words[1]), words: words[2:]}
}

func number(t testing.TB, word string) int {
	t.Helper()
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// note is a moment of the parent, to be put between those of the children.
type note struct {
	at  int64
	say func()
}

// Every item is delivered and acknowledged, though those who hold them are
// killed; the model judges the rest: attempts, no two trusted holders at a time, nothing
// after an Ack.
func TestKilledConsumersLoseNothing(t *testing.T) {
	own := redistest.StartOwn(t)
	m := size("consume")
	var h redistest.DeliveryHistory
	var notes []note
	name := redistest.Name(t)
	began := time.Now()
	entries, killed := m.run(t, own.Server, name, func(i int) func() {
		var c redistest.DeliveryCall
		notes = append(notes, note{time.Now().UnixNano(), func() { c = h.Put(0, redistest.QueueItem{Number: i + 1}) }})
		return func() { notes = append(notes, note{time.Now().UnixNano(), func() { c.Done() }}) }
	})
	replay := replay{t: t, h: &h, now: map[int]*consumer{}}
	for _, e := range entries {
		for len(notes) > 0 && notes[0].at <= e.at {
			notes[0].say()
			notes = notes[1:]
		}
		replay.entry(e)
	}
	for _, n := range notes {
		n.say()
	}
	h.Drained()
	h.Judge(t)
	t.Logf("%d items, %d deliveries of which %d were acknowledged, %d said lost, %d unknown; %d consumers were killed, %d of them while they held something; %v",
		m.items, replay.received, replay.acked, replay.lost, replay.unknown, len(killed), replay.heldByKilled(killed, m.role.Goroutines), time.Since(began).Round(time.Millisecond))
	if replay.acked < m.items-replay.unknown-m.kills*m.role.Goroutines {
		t.Errorf("of %d items only %d were acknowledged", m.items, replay.acked)
	}
	noLeaks(t, own.Server, name)
}

// A replay tells a history what the children wrote, in the order of time.
type replay struct {
	t   *testing.T
	h   *redistest.DeliveryHistory
	now map[int]*consumer // by client

	received, acked, lost, unknown int
}

// A consumer is what a goroutine of a child is about.
type consumer struct {
	receiving redistest.DeliveryReceiving
	has       bool
	delivered redistest.Delivered
	holding   redistest.DeliveryHolding
	look      redistest.DeliveryLook
	ack       redistest.DeliveryCall
}

func (r *replay) entry(e entry) {
	c := r.now[e.client]
	if c == nil {
		c = &consumer{}
		r.now[e.client] = c
	}
	client := e.client + 1 // 0 puts
	switch e.words[0] {
	case "receive":
		c.receiving = r.h.Receive(client)
	case "nothing":
		c.receiving.Nothing()
	case "received":
		item := redistest.QueueItem{Producer: number(r.t, e.words[1]), Number: number(r.t, e.words[2])}
		c.delivered = c.receiving.Got(item, number(r.t, e.words[3]))
		c.holding = r.h.Hold(client, c.delivered)
		c.has = true
		r.received++
	case "look":
		c.look = r.h.Look(client, c.delivered)
	case "saw":
		c.look.Saw(e.words[1] == "true")
	case "ack":
		c.ack = r.h.Ack(client, c.delivered)
	case "acked":
		c.has = false
		switch e.words[1] {
		case "done":
			c.ack.Done()
			c.holding.Kept()
			r.acked++
		case "lost":
			c.ack.Lost()
			c.holding.Lost()
			r.lost++
		case "unknown":
			r.unknown++
		default:
			r.t.Errorf("Ack should return nil or say ErrLost, got %s", e.words[1])
		}
	default:
		r.t.Fatalf("what is %q?", e.words)
	}
}

// heldByKilled counts those of the killed that held an item, or received one,
// as far as they could tell.
func (r *replay) heldByKilled(killed map[int]bool, goroutines int) int {
	n := map[int]bool{}
	for client, c := range r.now {
		if process := client / goroutines; c.has && killed[process] {
			n[process] = true
		}
	}
	return len(n)
}

// Get is at most once: what is lost was on its way to a killed process.
func TestKilledGettersLoseAtMostWhatTheyWereBeingHanded(t *testing.T) {
	own := redistest.StartOwn(t)
	m := size("get")
	name := redistest.Name(t)
	began := time.Now()
	entries, killed := m.run(t, own.Server, name, func(int) func() { return func() {} })
	got := make([]int, m.items+1)
	asking := map[int]bool{}
	for _, e := range entries {
		switch e.words[0] {
		case "get":
			asking[e.client] = true
		case "nothing":
			delete(asking, e.client)
		case "got":
			delete(asking, e.client)
			n := number(t, e.words[2])
			if n < 1 || n > m.items {
				t.Fatalf("the item %d was invented", n)
			}
			got[n]++
		}
	}
	handed := 0
	for client := range asking {
		if !killed[client/m.role.Goroutines] {
			t.Errorf("client %d was not killed and should have returned from Get", client)
		}
		handed++
	}
	lost := 0
	for n, times := range got[1:] {
		switch {
		case times == 0:
			lost++
		case times > 1:
			t.Errorf("item %d should come once, it came %d times", n+1, times)
		}
	}
	t.Logf("%d items, %d lost, %d killed processes had %d calls of Get under way; %v", m.items, lost, len(killed), handed, time.Since(began).Round(time.Millisecond))
	if lost > handed {
		t.Errorf("at most the %d items that killed processes were being handed may be lost, %d are", handed, lost)
	}
	noLeaks(t, own.Server, name)
}
