package turnstile

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/keyspace"
)

// TestTheShortFormsDoWhatTheLongOnesDo sends the same commands to two servers, in
// random order: to one the scripts as they are, to the other without the short forms
// at their beginning. All answers, messages, keys and their ends must be alike.
func TestTheShortFormsDoWhatTheLongOnesDo(t *testing.T) {
	long := map[string]map[string]string{
		keyspace.Lock: {"join": joinLua, "check": checkLua, "release": releaseLua, "renew": renewLua, "break": breakLua},
		keyspace.Semaphore: {"join": semJoinLua, "check": semCheckLua, "release": semReleaseLua, "renew": semRenewLua,
			"break": semBreakLua, "resize": semResizeLua},
	}
	short := map[string]map[string]string{
		keyspace.Lock:      {"join": quickJoinLua, "release": quickReleaseLua, "renew": quickRenewLua},
		keyspace.Semaphore: {"join": quickSemJoinLua, "release": quickSemReleaseLua, "renew": quickSemRenewLua},
	}
	shared := map[string]string{keyspace.Lock: lineLua + sharedLua, keyspace.Semaphore: lineLua + semSharedLua}
	for kind := range long {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			used := map[string]int{} // by verb and where in its short form it ended
			heads := map[string]string{}
			for verb, head := range short[kind] {
				parts := strings.Split(head, "return {")
				heads[verb] = parts[0]
				for i, part := range parts[1:] {
					form := fmt.Sprint(verb, i)
					used[form] = 0
					heads[verb] += "redis.call('PUBLISH', 'a', 'short " + form + "') return {" + part
				}
			}
			for seed := range uint64(60) {
				twins := newTwins(t, kind, seed)
				for range 100 {
					verb, args := twins.command()
					tail := shared[kind] + long[kind][verb]
					// Where the short form answers it says so.
					if form, applied := twins.both(verb, heads[verb]+tail, tail, args); applied {
						used[form]++
					}
				}
			}
			all := map[string]int{}
			for form, n := range used {
				all[strings.TrimRight(form, "0123456789")] += n
				if n < 20 {
					t.Errorf("the short form %s has applied only %d times", form, n)
				}
			}
			for verb, n := range all {
				if n < 60 {
					t.Errorf("the short forms of %s have applied only %d times", verb, n)
				}
			}
			t.Log(used)
		})
	}
}

// twins are two servers whose clocks the test moves.
type twins struct {
	t       *testing.T
	kind    string
	r       *rand.Rand
	servers [2]*miniredis.Miniredis
	clients [2]*redis.Client
	heard   [2]<-chan *redis.Message
	keys    []string
	now     time.Time
	tickets []string
	log     []string
	calm    bool // nobody stands in line: each join is one attempt
	busy    bool // some always do, and most of them listen
}

// channels are of processes that listen; one more does not.
var channels = []string{"p:a", "p:b"}

func newTwins(t *testing.T, kind string, seed uint64) *twins {
	w := &twins{t: t, kind: kind, calm: seed%5 > 2, busy: seed%5 < 2, r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1795000000, 0)}
	object, err := keyspace.New(kind, "", "x")
	if err != nil {
		t.Fatal(err)
	}
	w.keys = kinds[kind].keysOf(object.Key())
	for i := range w.servers {
		m := miniredis.RunT(t)
		m.SetTime(w.now)
		w.servers[i] = m
		c := redis.NewClient(&redis.Options{Addr: m.Addr()})
		t.Cleanup(func() { _ = c.Close() })
		w.clients[i] = c
		sub := c.Subscribe(t.Context(), "a", "b")
		t.Cleanup(func() { _ = sub.Close() })
		for range channels {
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.heard[i] = sub.Channel(redis.WithChannelSize(1000))
	}
	return w
}

// command lets time pass, and picks what is sent next: often what a well-behaved
// process would send, sometimes what is late, repeated or unknown.
func (w *twins) command() (verb string, args []any) {
	pass := time.Duration(w.r.IntN(400)) * time.Millisecond
	if w.busy {
		pass /= 8
	}
	if w.r.IntN(12) == 0 {
		pass *= 30
	}
	w.now = w.now.Add(pass)
	for _, m := range w.servers {
		m.SetTime(w.now)
		m.FastForward(pass)
	}
	pick := func(all ...string) string { return all[w.r.IntN(len(all))] }
	process := pick("a", "b", "c")
	if w.busy && w.r.IntN(100) > 0 { // c stays first
		process = pick("a", "b")
	}
	ticket := fmt.Sprintf("%s-%d", process, len(w.log))
	if line, _ := w.servers[0].ZMembers(w.keys[2]); w.busy && len(line) < 1+w.r.IntN(6) {
		// a new one
	} else if n := len(w.tickets); n > 0 && w.r.IntN(4) > 0 {
		ticket = w.tickets[max(n-1-w.r.IntN(4), 0)]
		if value := w.holder(""); value != "" && w.r.IntN(4) > 0 {
			ticket, _, _ = strings.Cut(value, "\n")
		}
	}
	if w.r.IntN(50) == 0 && w.kind == keyspace.Lock {
		for _, m := range w.servers { // the counter is lost, or damaged
			m.Del(w.keys[1])
		}
		if odd := pick("", "inf", "nan", "9007199254740992", "1795000000000000"); odd != "" {
			for _, m := range w.servers {
				_ = m.Set(w.keys[1], odd)
			}
		}
	}
	channel := "p:" + ticket[:1]
	ttl := pick("1000", "3000", "10000")
	if w.busy && w.r.IntN(4) > 0 {
		ttl = "3000" // as long as an offer
	}
	turn := pick("1", "1", "2", "0")
	if h := strings.Split(w.holder(ticket), "\n"); len(h) > 3 && w.r.IntN(4) > 0 {
		turn = h[1] // of a semaphore: the turn
		if w.kind == keyspace.Lock {
			turn = h[3]
			if w.r.IntN(3) == 0 {
				turn = h[2]
			}
		}
	}
	kind := w.r.IntN(10)
	if w.busy {
		switch w.r.IntN(8) {
		case 0, 1, 2:
			kind = 0
		case 3, 4, 5:
			kind = 7
			ticket, _, _ = strings.Cut(w.holder(""), "\n")
		}
	}
	switch kind {
	case 0, 1, 2, 3:
		w.tickets = append(w.tickets, ticket)
		args = []any{ticket, channel, pick("1", "5"), ttl, pick("1", "64"), pick("0", "1"), `{"m":1}`}
		if w.kind == keyspace.Semaphore {
			args = append(args, pick("2", "2", "2", "3"), pick("refuse", "adopt", "replace"))
		}
		if w.r.IntN(6) == 0 {
			return "check", args
		}
		if w.calm {
			return "join", append(args, "1")
		}
		return "join", append(args, pick("0", "0", "1"))
	case 4, 5, 6:
		return "renew", []any{ticket, pick(ttl, ttl, "0"), turn, pick("", "", "", turn)}
	case 7, 8:
		own := ""
		if w.r.IntN(4) == 0 && len(w.tickets) > 0 {
			own = w.tickets[len(w.tickets)-1]
		}
		if line, _ := w.servers[0].ZMembers(w.keys[2]); w.busy && len(line) > 0 && w.r.IntN(2) == 0 {
			own = line[w.r.IntN(len(line))]
		}
		return "release", []any{ticket, pick("", turn), pick("0", "0", "0", "500"), pick("0", "0", "0", "1"), own, channel}
	}
	if w.kind == keyspace.Semaphore {
		if w.r.IntN(3) > 0 {
			return "resize", []any{fmt.Sprint(ticket, "r", len(w.log)), "2", "adopt", pick("1", "2", "4")}
		}
		return "break", []any{ticket, turn, "p:b"}
	}
	return "break", []any{pick("0", turn), "p:b"}
}

// holder is what is known of the ticket's holder; without a ticket, of any, and begins
// with its ticket.
func (w *twins) holder(ticket string) string {
	if w.kind == keyspace.Semaphore {
		if all, _ := w.servers[0].HKeys(w.keys[1]); ticket == "" && len(all) > 0 {
			return all[w.r.IntN(len(all))]
		}
		return w.servers[0].HGet(w.keys[1], ticket)
	}
	value, _ := w.servers[0].Get(w.keys[0])
	return value
}

// both sends the command, and says whether a short form has answered, and which.
func (w *twins) both(verb, short, long string, args []any) (form string, applied bool) {
	w.t.Helper()
	w.log = append(w.log, fmt.Sprintf("%v %s %q", w.now.Sub(time.Unix(1795000000, 0)), verb, args))
	var saw [2][]string
	for i, source := range []string{short, long} {
		answer, err := w.clients[i].Eval(w.t.Context(), source, w.keys, args...).Result()
		saw[i] = append(saw[i], fmt.Sprintf("%#v %v", answer, err))
		for _, message := range w.messages(i) {
			if name, ok := strings.CutPrefix(message, "a short "); ok {
				form, applied = name, true
			} else {
				saw[i] = append(saw[i], message)
			}
		}
		saw[i] = append(saw[i], w.servers[i].Dump())
		for _, key := range w.servers[i].Keys() {
			saw[i] = append(saw[i], fmt.Sprint(key, " ", w.servers[i].TTL(key)))
		}
	}
	if !reflect.DeepEqual(saw[0], saw[1]) {
		w.t.Fatalf("after\n%s\nthe short form has\n%s\nand the long one\n%s", strings.Join(w.log, "\n"),
			strings.Join(saw[0], "\n"), strings.Join(saw[1], "\n"))
	}
	return form, applied
}

// messages are those of one command. One sent behind them tells that no more come.
func (w *twins) messages(i int) []string {
	w.clients[i].Publish(w.t.Context(), "a", "end")
	var all []string
	for m := range w.heard[i] {
		if m.Payload == "end" {
			break
		}
		all = append(all, m.Channel+" "+m.Payload)
	}
	return all
}

// Somebody has taken away the end of the key of a lease that is not renewed: asking
// whether it stands must not end it.
func TestAskingForALeaseWithoutEndKeepsIt(t *testing.T) {
	for form, source := range map[string]string{"short": quickRenewLua + lineLua + sharedLua + renewLua, "long": lineLua + sharedLua + renewLua} {
		w := newTwins(t, keyspace.Lock, 1)
		value := "a-1\n1\n9\n5\n\n\np:a\n{}"
		if err := w.servers[0].Set(w.keys[0], value); err != nil {
			t.Fatal(err)
		}
		answer, err := w.clients[0].Eval(t.Context(), source, w.keys, "a-1", 0, 5, "").Result()
		if err != nil || !reflect.DeepEqual(answer, []any{int64(1), int64(0)}) {
			t.Errorf("the %s form should say that it is held, got %v, %v", form, answer, err)
		}
		if got, _ := w.servers[0].Get(w.keys[0]); got != value || w.servers[0].TTL(w.keys[0]) != 0 {
			t.Errorf("the %s form should leave the key as it is, got %q, %v", form, got, w.servers[0].TTL(w.keys[0]))
		}
	}
}
