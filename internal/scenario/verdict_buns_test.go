package scenario

import (
	"slices"
	"testing"
)

// feast is a journal of producers who make their buns in turn, each bun eaten by the
// next consumer, with what follows.
func feast(producers, consumers int, after ...Fact) []Fact {
	var journal []Fact
	for i := range bunsEach {
		for p := range producers {
			n := p*bunsEach + i
			journal = append(journal, fact(p, bunsMade.key, "pid", n), fact(n%consumers, bunsEaten.key, "pid", n))
		}
	}
	return append(journal, after...)
}

func TestVerdictOnBunsCanFail(t *testing.T) {
	parent, stuck := fact(0, bunsParent.key), fact(0, bunsStuck.key)
	ended := func(how string) []Fact {
		var all []Fact
		for n := range 4 {
			all = append(all, fact(n, bunsEnded, how))
		}
		return all
	}
	one := func(how string) Fact { return ended(how)[0] }
	first := func(journal []Fact) []Fact { return append([]Fact{parent}, journal...) }
	last := func(journal []Fact) []Fact { return append(journal, parent) }
	without := func(journal []Fact, i int) []Fact { return slices.Delete(journal, i, i+1) }
	swap := func(journal []Fact, i, j int) []Fact {
		journal[i], journal[j] = journal[j], journal[i]
		return journal
	}
	for _, r := range []struct {
		name    string
		verdict Verdict
		passed  bool
		showed  string
	}{
		{"stuck", judgeStuck(first(feast(1, 1, stuck, one("stopped"))), 1, 1), true, "stuck: 10 of 10 eaten, and the consumer waits for ever, as expected without an end marker"},
		{"stuck, three of four", judgeStuck(first(feast(3, 4, append(ended("stopped")[1:], stuck)...)), 3, 4), false, "not stuck: the missing end marker did not show"},
		{"not stuck", judgeStuck(first(feast(1, 1, one("marker"))), 1, 1), false, "not stuck: the missing end marker did not show"},
		{"not reported", judgeStuck(first(feast(1, 1, one("stopped"))), 1, 1), false, "not stuck: the missing end marker did not show"},
		{"reported too early", judgeStuck(swap(first(feast(1, 1, stuck, one("stopped"))), 20, 21), 1, 1), false, "not stuck: the missing end marker did not show"},
		{"the parent waits", judgeStuck(last(feast(1, 1, stuck, one("stopped"))), 1, 1), false, "the parent waited"},
		{"the parent says nothing", judgeStuck(feast(1, 1, stuck, one("stopped")), 1, 1), false, "the parent waited"},
		{"nothing", judgeStuck(nil, 1, 1), false, "0 of 10 buns were made"},

		{"marker", judgeEaten(first(feast(1, 1, one("marker"))), 1, 1, "marker", false), true, "10 of 10 eaten, in order, and all ended"},
		{"marker of the parent", judgeEaten(last(feast(1, 1, one("marker"))), 1, 1, "marker", true), true, "10 of 10 eaten, in order, and all ended"},
		{"many markers", judgeEaten(last(feast(3, 4, ended("marker")...)), 3, 4, "marker", true), true, "30 of 30 eaten, none twice, all 4 consumers ended"},
		{"one made twice", judgeEaten(first(append(feast(1, 1, one("marker")), fact(0, bunsMade.key, "pid", 3))), 1, 1, "marker", false), false, "11 of 10 buns were made"},
		{"one not made", judgeEaten(first(without(feast(1, 1, one("marker")), 4)), 1, 1, "marker", false), false, "9 of 10 buns were made"},
		{"one not eaten", judgeEaten(first(without(feast(1, 1, one("marker")), 5)), 1, 1, "marker", false), false, "9 of 10 eaten"},
		{"out of order", judgeEaten(first(swap(feast(1, 1, one("marker")), 1, 3)), 1, 1, "marker", false), false, "eaten out of order: [1 0 2 3 4 5 6 7 8 9]"},
		{"no end", judgeEaten(first(feast(1, 1)), 1, 1, "marker", false), false, "0 of 1 consumers ended by the marker"},
		{"another end", judgeEaten(first(feast(1, 1, one("shutdown"))), 1, 1, "marker", false), false, "0 of 1 consumers ended by the marker"},
		{"stopped after all", judgeEaten(first(feast(1, 1, one("marker"), stuck)), 1, 1, "marker", false), false, "1 of 1 consumers ended by the marker"},
		{"the parent waits though it need not", judgeEaten(last(feast(1, 1, one("marker"))), 1, 1, "marker", false), false, "the parent did not do its part when it should"},
		{"the parent does not wait", judgeEaten(first(feast(1, 1, one("marker"))), 1, 1, "marker", true), false, "the parent did not do its part when it should"},

		{"shutdown", judgeEaten(last(feast(3, 4, ended("shutdown")...)), 3, 4, "shutdown", true), true, "30 of 30 eaten, none twice, all 4 consumers ended, without a marker"},
		{"any order will do", judgeEaten(last(swap(feast(3, 4, ended("shutdown")...), 1, 3)), 3, 4, "shutdown", true), true, "30 of 30 eaten, none twice, all 4 consumers ended, without a marker"},
		{"one eaten twice", judgeEaten(last(append(feast(3, 4, ended("shutdown")...), fact(1, bunsEaten.key, "pid", 7))), 3, 4, "shutdown", true), false, "1 buns were eaten twice"},
		{"a consumer lost", judgeEaten(last(feast(3, 4, ended("shutdown")[1:]...)), 3, 4, "shutdown", true), false, "3 of 4 consumers ended by the shutdown"},
		{"shut down too early", judgeEaten(first(feast(3, 4, ended("shutdown")...)), 3, 4, "shutdown", true), false, "the parent did not do its part when it should"},
	} {
		check(t, r.name, r.verdict, r.passed, r.showed)
	}
}
