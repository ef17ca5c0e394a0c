package redisevent_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

// What is no Set and no Pulse releases nobody, for minutes; and the Set after
// it does.
func TestNothingButASetOrAPulseReleasesAWait(t *testing.T) {
	for what, happens := range map[string]func(t *testing.T, b bubble){
		"nothing": func(*testing.T, bubble) {},
		"Clear": func(t *testing.T, b bubble) {
			change(t, newEvent(t, b.direct, b.name, nil), "Clear")
		},
		"Delete": func(t *testing.T, b bubble) {
			change(t, newEvent(t, b.direct, b.name, nil), "Delete")
		},
		"the end of its TTL": func(t *testing.T, b bubble) {
			b.direct.PExpire(t.Context(), key(b.name, ""), 50*time.Millisecond)
			b.direct.PExpire(t.Context(), key(b.name, "count"), 50*time.Millisecond)
		},
		"a server that begins anew": func(_ *testing.T, b bubble) {
			b.wire.Down()
			b.m.FlushAll()
			b.wire.Up()
		},
		"a lost key":  func(t *testing.T, b bubble) { b.direct.Del(t.Context(), key(b.name, "")) },
		"lost counts": func(t *testing.T, b bubble) { b.direct.Del(t.Context(), key(b.name, "count")) },
		"a number that goes back": func(t *testing.T, b bubble) {
			b.direct.Set(t.Context(), key(b.name, ""), 42, 0)
			b.wire.CutPubSub()
		},
		"messages of changes before it": func(t *testing.T, b bubble) {
			now, err := b.direct.Get(t.Context(), key(b.name, "")).Int()
			if err != nil {
				t.Fatal(err)
			}
			for _, stale := range []string{"%d %d 1 0", "%d %d 1 1000"} {
				publish(t, b.direct, b.name, fmt.Sprintf(stale, now-2, now-1))
				publish(t, b.direct, b.name, fmt.Sprintf(stale, now-1, now))
				publish(t, b.direct, b.name, fmt.Sprintf(stale, 0, 1))
			}
		},
		"messages of another program": func(t *testing.T, b bubble) {
			for _, garbage := range []string{
				"", " ", "   ", "set", "1", "1 1", "1 1 1", "1 2 3 4 5", "a b c d", "0 -1 1 0", "0 1e300 1 0", "0 +1 1 0",
				"0 0x7fffffffffffffff 1 0", "0 18446744073709551617 1 0", "0 9007199254740993.5 1 0", "0 9007199254740991 1 -1",
				"0 9007199254740991 x 0", "0 9007199254740991 1 0\n", "0\t9007199254740991\t1\t0", "\x00\xff", "{\"set\":true}",
			} {
				publish(t, b.direct, b.name, garbage)
			}
		},
		"cut connections": func(_ *testing.T, b bubble) {
			for range 5 {
				b.wire.CutAll()
				time.Sleep(time.Second) // in a bubble
			}
		},
		"another event": func(t *testing.T, b bubble) {
			change(t, newEvent(t, b.direct, b.name+"2", nil), "Set", "Clear", "Pulse")
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b bubble) {
				change(t, newEvent(t, b.direct, b.name, nil), "Set", "Clear")
				w := begin(t, b.client, b.name)
				time.Sleep(time.Second)
				happens(t, b)
				time.Sleep(5 * time.Minute)
				w.stillWaits(t, what+" is no reason to return")
				change(t, newEvent(t, b.direct, b.name, nil), "Pulse")
				time.Sleep(fallback + time.Second)
				w.released(t)
			})
		})
	}
}

// A message alone proves nothing: it may be older than what this Wait has seen
// of the event, or be of somebody else.
func TestAMessageAloneReleasesNobody(t *testing.T) {
	t.Run("of a Set before Delete, late", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b bubble) {
			e := newEvent(t, b.direct, b.name, nil)
			early := begin(t, b.client, b.name)
			time.Sleep(time.Second) // until it is subscribed
			message := b.wire.HoldMessage(b.name)
			change(t, e, "Set", "Delete")
			message.Await(t)
			time.Sleep(time.Millisecond)
			late := begin(t, b.client, b.name)
			time.Sleep(time.Second)
			message.Release()
			time.Sleep(time.Second)
			early.released(t)
			late.stillWaits(t, "the event was deleted before")
			change(t, e, "Pulse")
			time.Sleep(fallback + time.Second)
			late.released(t)
		})
	})
	t.Run("of a Set whose TTL is over, late", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b bubble) {
			early := begin(t, b.client, b.name)
			time.Sleep(time.Second)
			message := b.wire.HoldMessage(b.name)
			change(t, newEvent(t, b.direct, b.name, &redisevent.Options{TTL: 100 * time.Millisecond}), "Set")
			message.Await(t)
			time.Sleep(200 * time.Millisecond)
			late := begin(t, b.client, b.name)
			message.Release()
			time.Sleep(time.Second)
			early.released(t)
			late.stillWaits(t, "the event had ended before")
		})
	})
	t.Run("of the same name in another database, to a client of a type that hides which it uses", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b bubble) {
			hidden := struct{ redis.UniversalClient }{redistest.BubbleClient(t, b.m, func(o *redis.Options) { o.DB = 1 })}
			w := begin(t, &hidden, b.name)
			time.Sleep(time.Second)
			change(t, newEvent(t, b.direct, b.name, nil), "Set")
			time.Sleep(5 * time.Minute)
			w.stillWaits(t, "the event of its database was not set")
			w.ended(t)
			time.Sleep(time.Second)
		})
	})
}

func TestAWaitSurvivesTheEndOfItsTTLAndEndsWithTheNextSet(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		short := newEvent(t, client, name, &redisevent.Options{TTL: 30 * time.Millisecond})
		change(t, short, "Set", "Clear")
		w := begin(t, s.Client(t), name)
		redistest.EventuallyTrue(t, soon, "the event has ended", func() bool {
			st, err := short.State(soonCtx(t))
			return err == nil && st == redisevent.State{}
		})
		w.stillWaits(t, "the end of a TTL is no Set")
		change(t, newEvent(t, client, name, nil), "Set")
		w.released(t)
	})
}

func TestAWaitSurvivesDelete(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		e := newEvent(t, s.Client(t), name, nil)
		change(t, e, "Pulse")
		w := begin(t, client, name)
		for range 3 {
			change(t, e, "Delete")
			w.stillWaits(t, "Delete wakes nobody")
		}
		for how, ops := range releases {
			change(t, e, ops...)
			w.released(t)
			change(t, e, "Delete")
			w = begin(t, client, name)
			w.stillWaits(t, "after "+how+" the event was deleted")
		}
		wantErr(t, "a cancelled Wait", w.ended(t), context.Canceled)
	})
}
