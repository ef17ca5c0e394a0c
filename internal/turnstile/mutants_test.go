package turnstile

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestEverySafetyPointIsTested takes out the code of each safety point in turn
// and expects the point's test to fail. It builds the package once for each: without
// MULTIHOST_MUTANTS (make mutants) it only looks whether that code is where it was.
func TestEverySafetyPointIsTested(t *testing.T) {
	run := os.Getenv("MULTIHOST_MUTANTS") != ""
	type edit struct{ file, code, instead string }
	for _, m := range []struct {
		name, file, code, instead, test string

		short *edit // of the short form, which does the same
	}{
		{
			"trust counts from receipt", "place.go",
			"l.settleGrant(p, s, floor, HowHanded)",
			"l.settleGrant(p, s, clock.Now(), HowHanded)",
			"TestTrustInAHandedOverGrantEndsBeforeTheServersLease",
			nil,
		},
		{
			"nobody asks who listens", "lua/line.lua",
			"elseif subscribed(p.channel) then", "elseif true then",
			"TestUnreachablePlaceIsPassedOverAndKept",
			&edit{"lua/quick_release.lua", "if tonumber(hear[2]) > 0 and tonumber(hear[4]) > 0 and", "if"},
		},
		{
			"an unreachable place is dropped", "lua/line.lua",
			"      at = at + 1\n", "      leave(ticket)\n",
			"TestUnreachablePlaceIsPassedOverAndKept",
			nil,
		},
		{
			"an offer lasts as long as a lease", "lua/shared.lua",
			"math.min(p.ttl, OFFER)", "p.ttl",
			"TestAnOfferLastsThreeSeconds",
			&edit{"lua/quick_release.lua", "math.min(ttl, 3000)", "ttl"},
		},
		{
			"the place behind an offer is not told", "lua/line.lua",
			"if p and p.due", "if false and p.due",
			"TestAnOfferLastsThreeSeconds",
			&edit{"lua/quick_release.lua", "(not line[2] or tonumber(due2) <= now + offer * 1000 + 100000)", "true"},
		},
		{
			"ended tickets are forgotten", "lua/join.lua",
			"if redis.call('ZSCORE', ENDED, ticket) then return {'ended'} end", "",
			"TestJoinThatArrivesAfterItsCleanUpIsRefused",
			nil,
		},
		{
			"ended tickets are forgotten, in short", "lua/quick_join.lua",
			"call('EXISTS', KEYS[1], KEYS[3], KEYS[5]) == 0", "call('EXISTS', KEYS[1], KEYS[3]) == 0",
			"TestJoinThatArrivesAfterItsCleanUpIsRefused",
			nil,
		},
		{
			"the semaphore: ended tickets are forgotten, in short", "lua/quick_sem_join.lua",
			"call('EXISTS', KEYS[3], KEYS[5])", "call('EXISTS', KEYS[3])",
			"TestJoinThatArrivesAfterItsCleanUpIsRefused",
			nil,
		},
		{
			"stray grants are kept", "inbox.go",
			"if l, ok := hub.Find[*Line](b.hub, key); ok && l.grantCame(ticket, s, after) {",
			"if l, ok := hub.Find[*Line](b.hub, key); ok && (l.grantCame(ticket, s, after) || true) {",
			"TestStrayGrantIsGivenBack",
			nil,
		},
		{
			"a repeated release is taken for a loss", "grant.go",
			"if err == nil && !mine && r.Attempts == 1 {", "if err == nil && !mine {",
			"TestRepeatedReleaseIsNoLoss",
			nil,
		},
		{
			"release sets before it deletes", "lua/release.lua",
			"  redis.call('DEL', LOCK)\n",
			"  redis.call('SET', FENCE, used, 'PX', DAY)\n  redis.call('DEL', LOCK)\n",
			"TestReleaseWithFullMemory",
			&edit{"lua/quick_release.lua", "        call('DEL', KEYS[1])\n        call('ZREM', KEYS[3], line[1])\n", "        call('SET', KEYS[2], last)\n        call('DEL', KEYS[1])\n        call('ZREM', KEYS[3], line[1])\n"},
		},
		{
			"break takes the lock away", "lua/break.lua",
			"rewrite(h)\n",
			"redis.call('DEL', LOCK) pump()\n",
			"TestBreakNeverMakesASecondHolder",
			nil,
		},
		{
			"the semaphore: an offer lasts as long as a lease", "lua/sem_shared.lua",
			"math.min(p.ttl, OFFER)", "p.ttl",
			"TestAnOfferLastsThreeSeconds",
			&edit{"lua/quick_sem_release.lua", "math.min(ttl, 3000)", "ttl"},
		},
		{
			"the semaphore: the place behind an offer is not told", "lua/sem_shared.lua",
			"if offered > 0 and at then look(at, offered) end", "",
			"TestAnOfferLastsThreeSeconds",
			&edit{"lua/quick_sem_release.lua", "(not line[2] or tonumber(due2) <= now + offer * 1000 + 100000)", "true"},
		},
		{
			"the semaphore: ended tickets are forgotten", "lua/sem_join.lua",
			"if redis.call('ZSCORE', ENDED, ticket) then return {'ended'} end", "",
			"TestJoinThatArrivesAfterItsCleanUpIsRefused",
			nil,
		},
		{
			"the semaphore: release adds before it removes", "lua/sem_release.lua",
			"  redis.call('HDEL', HOLDERS, ticket)\n",
			"  redis.call('HSET', HOLDERS, ticket, '')\n  redis.call('HDEL', HOLDERS, ticket)\n",
			"TestReleaseWithFullMemory",
			&edit{"lua/quick_sem_release.lua", "        call('HDEL', KEYS[2], ticket)\n        call('ZREM', KEYS[1], ticket)\n        call('ZREM', KEYS[3], line[1])\n", "        call('HSET', KEYS[2], ticket, '')\n        call('HDEL', KEYS[2], ticket)\n        call('ZREM', KEYS[1], ticket)\n        call('ZREM', KEYS[3], line[1])\n"},
		},
		{
			"the semaphore: a renewal only adds", "lua/sem_shared.lua",
			"  if type(added) == 'table' then\n", "  if false then\n",
			"TestReleaseWithFullMemory",
			nil,
		},
		{
			"the semaphore: break takes the permit away", "lua/sem_break.lua",
			"redis.call('HSET', HOLDERS, ticket, record(h))",
			"redis.call('ZREM', PERMITS, ticket) pump()",
			"TestBreakNeverMakesASecondHolder",
			nil,
		},
		{
			"the semaphore: a renewal makes a permit", "lua/sem_renew.lua",
			"if not h then return {0} end",
			"if not h then grant(ticket, tonumber(ttl), '1', '', '') return {1} end",
			"TestARenewalMakesNothing",
			nil,
		},
	} {
		t.Run(m.name, func(t *testing.T) {
			edits := []edit{{m.file, m.code, m.instead}}
			if m.short != nil {
				edits = append(edits, *m.short)
			}
			replace := map[string]string{}
			for _, e := range edits {
				source, err := os.ReadFile(e.file)
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(string(source), e.code); n != 1 {
					t.Fatalf("%s has the code to take out %d times, want once: %s", e.file, n, e.code)
				}
				original, err := filepath.Abs(e.file)
				if err != nil {
					t.Fatal(err)
				}
				mutant := filepath.Join(t.TempDir(), filepath.Base(e.file))
				if err := os.WriteFile(mutant, []byte(strings.Replace(string(source), e.code, e.instead, 1)), 0o600); err != nil {
					t.Fatal(err)
				}
				replace[original] = mutant
			}
			if !run {
				return
			}
			overlay, err := json.Marshal(map[string]any{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-timeout=2m",
				"-overlay="+file, "-run=^"+m.test+"$", ".").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+m.test) {
				t.Errorf("%s does not fail without it:\n%s", m.test, out)
			}
		})
	}
}
