package quorum

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/redistest"
)

// seat is one member, whose scripts a test calls by hand.
type seat struct {
	t      testing.TB
	client redis.UniversalClient
	keys   []string
}

func newSeat(t testing.TB, client redis.UniversalClient, name string) seat {
	key := "mh1:lock:{" + name + "}"
	keys := []string{key}
	for _, p := range parts {
		keys = append(keys, key+":"+p)
	}
	return seat{t, client, keys}
}

// call runs a script and returns its answer as words.
func (s seat) call(script *hub.Script, args ...any) string {
	s.t.Helper()
	v, err := s.client.Eval(context.Background(), script.Source, s.keys, args...).Result()
	if err != nil {
		return err.Error()
	}
	return strings.Trim(fmt.Sprint(v), "[]")
}

func (s seat) want(what, got, want string) {
	s.t.Helper()
	if !strings.HasPrefix(got+" ", want+" ") {
		s.t.Fatalf("%s should be answered %q, got %q", what, want, got)
	}
}

func (s seat) take(ticket string) string { return s.call(takeScript, ticket, 60000, "meta") }

func (s seat) keep(ticket string, token int) string { return s.call(keepScript, ticket, 60000, token) }

func (s seat) release(ticket, rest, remember string) string {
	return s.call(releaseScript, ticket, rest, remember, "p:channel", "0")
}

func each(t *testing.T, behave func(s seat)) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		if s.Cluster {
			t.Skip("the channel of these tests is not sharded")
		}
		behave(newSeat(t, s.Client(t), redistest.Name(t)))
	})
}

func TestOneTicketAtATime(t *testing.T) {
	each(t, func(s seat) {
		s.want("the first take", s.take("a"), "1 0")
		s.want("a repeat", s.take("a"), "1 0")
		s.want("another's take", s.take("b"), "0 a")
		s.want("a release by another", s.release("b", "0", "0"), "0")
		s.want("the release", s.release("a", "0", "0"), "1")
		s.want("the repeated release", s.release("a", "0", "0"), "0")
		s.want("another's take", s.take("b"), "1 0")
	})
}

func TestARepeatedTakeCountsAnew(t *testing.T) {
	each(t, func(s seat) {
		s.want("take", s.call(takeScript, "a", 10000, "meta"), "1")
		s.want("its repeat", s.take("a"), "1")
		for _, key := range s.keys[:2] {
			if left := s.client.PTTL(context.Background(), key).Val(); left < 30*time.Second {
				s.t.Errorf("a repeat should let %s live for its TTL, %v is left", key, left)
			}
		}
	})
}

func TestATicketThatWasGivenBackIsRefused(t *testing.T) {
	each(t, func(s seat) {
		s.want("a release before the take", s.release("a", "0", "1"), "0")
		s.want("the take that comes late", s.take("a"), "-1")
		s.want("another's take", s.take("b"), "1")
	})
}

func TestATokenIsAcceptedOnlyFromTheOwnerAndOnlyIfItIsGreater(t *testing.T) {
	each(t, func(s seat) {
		s.want("keep of a free one", s.keep("a", 7), "0")
		s.take("a")
		s.want("keep", s.keep("a", 7), "1")
		s.want("its repeat", s.keep("a", 7), "1")
		s.want("another's keep", s.keep("b", 9), "0")
		s.want("a smaller token", s.keep("a", 6), "2 7")
		s.want("a greater one", s.keep("a", 8), "1")
		s.release("a", "0", "0")
		s.want("a keep that comes late", s.keep("a", 9), "0")
		s.want("the next take reads it", s.take("b"), "1 8")
		s.want("a token as great", s.keep("b", 8), "2 8")
		s.want("a greater one", s.keep("b", 9), "1")
	})
}

func TestKeepExtendsAndMakesNoKey(t *testing.T) {
	each(t, func(s seat) {
		s.call(takeScript, "a", 10000, "meta")
		left := func() time.Duration { return s.client.PTTL(context.Background(), s.keys[0]).Val() }
		s.want("keep that only asks", s.call(keepScript, "a", 0, 7), "1")
		if d := left(); d <= 0 || d > 10*time.Second {
			s.t.Errorf("a keep that asks should change nothing, %v is left", d)
		}
		s.keep("a", 7)
		if d := left(); d < 30*time.Second {
			s.t.Errorf("keep should extend the lease, %v is left", d)
		}
		s.client.Del(context.Background(), s.keys[0])
		s.want("keep of a lost key", s.keep("a", 7), "0")
		if n := s.client.Exists(context.Background(), s.keys[0]).Val(); n != 0 {
			s.t.Error("keep should not make a key")
		}
	})
}

func TestAReleasedMemberRests(t *testing.T) {
	each(t, func(s seat) {
		s.take("a")
		s.want("release", s.release("a", "30000", "0"), "1")
		s.want("another's take", s.take("b"), "0 a")
		s.want("a take that comes late", s.take("a"), "-1")
		s.want("a keep that comes late", s.keep("a", 7), "0")
		s.want("a release that comes late", s.release("a", "0", "0"), "0")
		s.want("break of an earlier turn", s.call(breakScript, "7", ""), "over")
		s.want("another's take", s.take("b"), "0 a")
		s.want("break", s.call(breakScript, "0", ""), "over")
		s.want("another's take", s.take("b"), "1")
	})
}

func TestABrokenTurnIsNotKept(t *testing.T) {
	each(t, func(s seat) {
		s.want("break of a free one", s.call(breakScript, "0", ""), "over")
		s.take("a")
		s.keep("a", 7)
		s.want("break of another token", s.call(breakScript, "6", ""), "over")
		s.want("break of another ticket", s.call(breakScript, "0", "b"), "over")
		s.want("keep", s.keep("a", 7), "1")
		s.want("break", s.call(breakScript, "7", ""), "revoked")
		s.want("keep", s.keep("a", 7), "-1")
		s.release("a", "0", "0")
		s.want("break again", s.call(breakScript, "7", "a"), "over")
		s.take("b")
		s.want("the next one's keep", s.keep("b", 8), "1")
	})
}

func TestAKeyOfAnotherProgramIsHonoured(t *testing.T) {
	each(t, func(s seat) {
		s.client.Set(context.Background(), s.keys[0], "theirs", 0)
		s.want("take", s.take("a"), "0 theirs -1 0")
		s.want("keep", s.keep("theirs", 7), "0")
		s.want("release", s.release("theirs", "0", "0"), "0")
		s.want("break", s.call(breakScript, "0", ""), "foreign")
		s.want("state", s.call(stateScript), "theirs 0 0 -1")
		s.want("delete", s.call(deleteScript), "0")
	})
}

func TestWhatIsOfAnotherTypeIsNotTouched(t *testing.T) {
	each(t, func(s seat) {
		for i := range s.keys {
			for _, key := range s.keys {
				s.client.Del(context.Background(), key)
			}
			s.client.RPush(context.Background(), s.keys[i], "x")
			if got := s.take("a"); !strings.Contains(got, "WRONGTYPE") {
				s.t.Errorf("take with a list at %s should be refused, got %q", s.keys[i], got)
			}
			n := s.client.Exists(context.Background(), s.keys...).Val()
			if n != 1 || s.client.LLen(context.Background(), s.keys[i]).Val() != 1 {
				s.t.Errorf("take should leave what it finds, and nothing else; there are %d keys", n)
			}
		}
	})
}

// Three contenders, whose commands reach three members in any order, late, or never, and
// whose keys lapse at any moment: no two tokens are equal, and one that begins after
// another has returned gets a greater one.
func TestTokensGrowInAnyOrderOfEvents(t *testing.T) {
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	returned := 0
	for seed := range uint64(400) {
		g := &game{rand: rand.New(rand.NewPCG(seed, 0))}
		for i := range 3 {
			g.seats = append(g.seats, newSeat(t, client, fmt.Sprintf("%d-%d", seed, i)))
		}
		for i := range 4 {
			g.contenders = append(g.contenders, &contender{ticket: fmt.Sprintf("%d-ticket-%d", seed, i)})
		}
		for range 60 {
			g.step()
		}
		if g.fault != "" {
			t.Fatalf("seed %d: %s\n%s", seed, g.fault, strings.Join(g.log, "\n"))
		}
		returned += len(g.tokens)
	}
	if returned < 100 {
		t.Errorf("only %d turns began: the test shows too little", returned)
	}
}

type game struct {
	rand       *rand.Rand
	seats      []seat
	contenders []*contender
	tokens     []uint64 // of turns, as they began
	log        []string
	fault      string
}

type contender struct {
	ticket string
	asked  bool
	floor  uint64 // the greatest token that was there when it began
	taken  []uint64
	token  uint64 // proposed
	kept   map[int]bool
	begun  bool
	mail   []letter // sent and not arrived
}

type letter struct {
	seat  int
	token uint64 // 0: take
}

// step lets one thing happen: a contender begins or proposes, a command arrives, or a key lapses.
func (g *game) step() {
	c := g.contenders[g.rand.IntN(len(g.contenders))]
	switch {
	case g.rand.IntN(8) == 0:
		i := g.rand.IntN(3)
		g.seats[i].client.Del(context.Background(), g.seats[i].keys[0])
		g.note("the key of %d lapses", i)
	case !c.asked:
		c.asked = true
		if len(g.tokens) > 0 {
			c.floor = slices.Max(g.tokens)
		}
		c.send(0)
	case len(c.mail) > 0 && g.rand.IntN(4) > 0:
		i := g.rand.IntN(len(c.mail))
		l := c.mail[i]
		c.mail = slices.Delete(c.mail, i, i+1)
		g.deliver(c, l)
	case len(c.taken) >= 2 && !c.begun && (c.token == 0 || g.rand.IntN(3) == 0):
		c.token = max(c.token+1, slices.Max(c.taken)+1)
		c.kept = map[int]bool{}
		c.send(c.token)
		g.note("%s proposes %d", c.ticket, c.token)
	}
}

func (c *contender) send(token uint64) {
	for i := range 3 {
		c.mail = append(c.mail, letter{i, token})
	}
}

func (g *game) deliver(c *contender, l letter) {
	s := g.seats[l.seat]
	if l.token == 0 {
		// The clocks are left out: with them a token would hardly ever depend on
		// a counter.
		var x string
		if x = s.take(c.ticket); strings.HasPrefix(x, "1 ") {
			n, _ := number(strings.Fields(x)[1])
			c.taken = append(c.taken, n)
		}
		g.note("take of %s at %d: %s", c.ticket, l.seat, x)
		return
	}
	x := s.call(keepScript, c.ticket, 60000, l.token)
	g.note("keep of %s with %d at %d: %s", c.ticket, l.token, l.seat, x)
	if x != "1" || l.token != c.token || c.begun {
		return
	}
	c.kept[l.seat] = true
	if len(c.kept) == 2 {
		c.begun = true
		g.note("%s begins its turn with %d", c.ticket, c.token)
		if slices.Contains(g.tokens, c.token) {
			g.fault = fmt.Sprintf("%d is there twice", c.token)
		}
		if c.token <= c.floor {
			g.fault = fmt.Sprintf("%d is not greater than %d", c.token, c.floor)
		}
		g.tokens = append(g.tokens, c.token)
	}
}

func (g *game) note(format string, args ...any) { g.log = append(g.log, fmt.Sprintf(format, args...)) }
