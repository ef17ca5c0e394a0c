package scenario

import (
	"fmt"
	"slices"
	"testing"
)

// fact is a line of a journal: the number of the worker, and what it did.
func fact(number int, what string, args ...any) Fact {
	f := Fact{Number: number, What: what}
	for _, a := range args {
		f.Args = append(f.Args, fmt.Sprint(a))
	}
	return f
}

// prints is a journal of print: "0r" and "0d" are the lines of worker 0.
func prints(lines ...string) []Fact {
	var journal []Fact
	for _, l := range lines {
		what := printRunning.key
		if l[1] == 'd' {
			what = printDone.key
		}
		journal = append(journal, fact(int(l[0]-'0'), what))
	}
	return journal
}

func TestVerdictsCanFail(t *testing.T) {
	type row struct {
		name    string
		verdict Verdict
		passed  bool
		showed  string
	}
	mixed := func(lines ...string) Verdict { return judgeMixed(prints(lines...), 3) }
	locked := func(lines ...string) Verdict { return judgeUnmixed(prints(lines...), 3, false) }
	joined := func(lines ...string) Verdict { return judgeUnmixed(prints(lines...), 3, true) }
	for _, r := range []row{
		{"print", mixed("0r", "1r", "2r", "1d", "0d", "2d"), true, "interleaved: 3 of 3 were interrupted, as expected without a lock"},
		{"print, one undisturbed", mixed("0r", "1r", "1d", "0d", "2r", "2d"), true, "interleaved: 1 of 3 were interrupted, as expected without a lock"},
		{"print, one after another", mixed("0r", "0d", "2r", "2d", "1r", "1d"), false, "not interleaved: the missing lock did not show"},
		{"print, one missing", mixed("0r", "1r", "1d", "0d"), false, "lines are missing: 3 workers, 2 began, 2 were done"},
		{"print, nobody", mixed(), false, "lines are missing: 3 workers, 0 began, 0 were done"},

		{"lock", locked("1r", "1d", "0r", "0d", "2r", "2d"), true, "each of 3 done before the next began"},
		{"lock, two inside", locked("1r", "0r", "1d", "0d", "2r", "2d"), false, "interleaved: 2 of 3 were interrupted"},
		{"lock, one not done", locked("1r", "1d", "0r", "0d", "2r"), false, "lines are missing: 3 workers, 3 began, 2 were done"},
		{"lock, one twice", locked("1r", "1d", "0r", "0d", "1r", "1d"), false, "lines are missing: 3 workers, 3 began, 3 were done"},
		{"lock, done first", locked("1d", "1r", "0r", "0d", "2r", "2d"), false, "lines are missing: 3 workers, 3 began, 3 were done"},

		{"join", joined("0r", "0d", "1r", "1d", "2r", "2d"), true, "one after another, in order [0 1 2]"},
		{"join, out of order", joined("1r", "1d", "0r", "0d", "2r", "2d"), false, "out of order: [1 0 2]"},
		{"join, two at once", joined("0r", "1r", "0d", "1d", "2r", "2d"), false, "interleaved: 2 of 3 were interrupted"},

		{"event, Wait that did not block", judgeEvent([]Fact{
			fact(0, eventSays.key, 1, "False"), fact(0, eventSays.key, 2, "False"), fact(0, eventPassed.key, 2),
		}), false, "False / False, passed /  / "},
		{"event, nothing", judgeEvent(nil), false, " /  /  / "},
	} {
		check(t, r.name, r.verdict, r.passed, r.showed)
	}
}

func check(t *testing.T, name string, v Verdict, passed bool, showed string) {
	t.Helper()
	if got := v.Showed(English); v.Passed != passed || got != showed {
		t.Errorf("%s: passed %v: %q, want %v: %q", name, v.Passed, got, passed, showed)
	}
}

// sale is a journal of five buyers, of whom the first sold get a ticket.
func sale(tickets, sold int, tokens []int, left int) []Fact {
	var journal []Fact
	for i := range 5 {
		journal = append(journal, fact(i, ticketsOpened, tickets))
	}
	for i := range 5 {
		if i >= sold {
			journal = append(journal, fact(i, ticketMissed.key))
			continue
		}
		journal = append(journal, fact(i, ticketWritten, tokens[i]), fact(i, ticketBought.key))
	}
	return append(journal, fact(0, ticketsClosed, left))
}

func TestVerdictsOnTicketsCanFail(t *testing.T) {
	none := make([]int, 5)
	for _, r := range []struct {
		name    string
		journal []Fact
		passed  bool
		showed  string
	}{
		{"oversold", sale(3, 5, none, 2), true, "oversold: 5 of 3, as expected without a lock"},
		{"one too many", sale(3, 4, none, 0), true, "oversold: 4 of 3, as expected without a lock"},
		{"all right in spite of it", sale(3, 3, none, 0), false, "not oversold: 3 of 3, the missing lock did not show"},
		{"one without an answer", sale(3, 5, none, 2)[1:], true, "oversold: 5 of 3, as expected without a lock"},
		{"nothing", nil, false, unopened.en},
		{"one buyer lost", slices.DeleteFunc(sale(3, 4, none, 0), func(f Fact) bool { return f.is(ticketMissed) }), false, "5 buyers, but 4 bought and 0 did not"},
	} {
		check(t, r.name, judgeOversold(r.journal, 5), r.passed, r.showed)
	}

	growing := []int{7, 8, 12, 13, 14}
	for _, r := range []struct {
		name    string
		journal []Fact
		passed  bool
		showed  string
	}{
		{"sold", sale(3, 3, growing, 0), true, "3 of 3 sold, 2 missed, 0 left"},
		{"more tickets than buyers", sale(7, 5, growing, 2), true, "5 of 7 sold, 0 missed, 2 left"},
		{"none to sell", sale(0, 0, growing, 0), true, "0 of 0 sold, 5 missed, 0 left"},
		{"oversold", sale(3, 5, growing, 0), false, "5 of 3 sold, 0 missed, 0 left"},
		{"undersold", sale(3, 2, growing, 1), false, "2 of 3 sold, 3 missed, 1 left"},
		{"a write was lost", sale(3, 3, growing, 1), false, "3 of 3 sold, 2 missed, 1 left"},
		{"the record was not read", sale(3, 3, growing, 0)[:13], false, "3 of 3 sold, 2 missed, -1 left"},
		{"a token twice", sale(3, 3, []int{7, 7, 8}, 0), false, "a write carried a token that is not newer than the one before"},
		{"a token back", sale(3, 3, []int{7, 9, 8}, 0), false, "a write carried a token that is not newer than the one before"},
		{"no token", sale(3, 3, none, 0), false, "a write carried a token that is not newer than the one before"},
		{"two records", append(sale(3, 3, growing, 0), fact(9, ticketsOpened, 4)), false, unopened.en},
	} {
		check(t, r.name, judgeSold(r.journal, 5), r.passed, r.showed)
	}
}

// drive is a journal of two cars: car 0 finds red at change 2, car 1 finds green at change 3.
func drive(change func(journal []Fact) []Fact) []Fact {
	return change([]Fact{
		fact(0, trafficRed.key),
		fact(0, trafficFound, false, 2),
		fact(0, trafficWaits.key, 0),
		fact(0, trafficGreen.key),
		fact(0, trafficPasses.key, 0),
		fact(0, trafficLeft, 3),
		fact(0, trafficSwitched, true, 3),
		fact(1, trafficFound, true, 3),
		fact(1, trafficPasses.key, 1),
		fact(0, trafficRed.key),
		fact(0, trafficSwitched, false, 4),
		fact(1, trafficLeft, 4),
		fact(0, trafficOut.key),
	})
}

func TestVerdictOnTrafficCanFail(t *testing.T) {
	replace := func(i int, f Fact) func([]Fact) []Fact {
		return func(journal []Fact) []Fact { journal[i] = f; return journal }
	}
	remove := func(i int) func([]Fact) []Fact {
		return func(journal []Fact) []Fact { return slices.Delete(journal, i, i+1) }
	}
	for _, r := range []struct {
		name   string
		change func([]Fact) []Fact
		passed bool
		showed string
	}{
		{"as it should be", func(j []Fact) []Fact { return j }, true, "2 cars passed, 1 of them waited for the next green"},
		{"passed at red", replace(5, fact(0, trafficLeft, 2)), false, "car 0 found red and passed before the next Set"},
		{"no Set at all", remove(6), false, "car 0 found red and passed before the next Set"},
		{"green by nobody", replace(7, fact(1, trafficFound, true, 5)), false, "car 1 passed, but no Set of the light made it green"},
		{"green of a Clear", replace(7, fact(1, trafficFound, true, 4)), false, "car 1 passed, but no Set of the light made it green"},
		{"one has not passed", remove(8), false, "car 1 came 1 times and passed 0 times"},
		{"one passed twice", replace(9, fact(1, trafficPasses.key, 1)), false, "car 1 came 1 times and passed 2 times"},
		{"a car too many", replace(9, fact(2, trafficPasses.key, 2)), false, "2 cars, 3 passed"},
		{"the light goes on", remove(12), false, "the light did not go out after the last car"},
		{"the light goes out early", func(j []Fact) []Fact { return append(j[12:], j[:12]...) }, false, "the light did not go out after the last car"},
	} {
		check(t, r.name, judgeTraffic(drive(r.change), 2), r.passed, r.showed)
	}
}

func TestFailedRunSaysTheFirstLineOfItsError(t *testing.T) {
	check(t, "crash", Failed(fmt.Errorf("buyer 2 failed\n  panic: 100%% wrong")), false, "buyer 2 failed")
}
