package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures are what one round has shown: a number, of milliseconds for waits, by name.
type figures map[string]float64

var shown = []string{"turns/s", "Jain", "p50 wait", "p99 wait", "max wait", "commands/turn", "connections", "µs of CPU/turn", "in Redis"}

func (t *tally) add(o *tally) {
	t.Turns = append(t.Turns, o.Turns...)
	t.Waits = append(t.Waits, o.Waits...)
	t.Longest = max(t.Longest, o.Longest)
	t.CPU += o.CPU
}

func (t *tally) figures(d time.Duration) figures {
	slices.Sort(t.Waits)
	at := func(q float64) float64 {
		if len(t.Waits) == 0 {
			return milliseconds(t.Longest)
		}
		return milliseconds(t.Waits[int(q*float64(len(t.Waits)-1))])
	}
	return figures{
		"turns/s": float64(len(t.Waits)) / d.Seconds(), "Jain": jain(t.Turns),
		"p50 wait": at(0.5), "p99 wait": at(0.99), "max wait": milliseconds(t.Longest),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// jain is Jain's index of fairness: 1 if all have had the same, 1/n if one has had all.
func jain(turns []int) float64 {
	var sum, squares float64
	for _, n := range turns {
		sum += float64(n)
		squares += float64(n) * float64(n)
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(turns)) * squares)
}

// spread is a median, and what lies on both sides.
type spread struct{ least, median, most float64 }

func spreadOf(all []float64) spread {
	slices.Sort(all)
	return spread{all[0], all[len(all)/2], all[len(all)-1]}
}

func (s spread) String() string {
	return fmt.Sprintf("%s (%s to %s)", short(s.median), short(s.least), short(s.most))
}

// short is x with three digits.
func short(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

// results are all rounds of one work: by contestant.
type results map[string][]figures

func (r results) spread(who, figure string) spread {
	all := make([]float64, len(r[who]))
	for i, f := range r[who] {
		all[i] = f[figure]
	}
	return spreadOf(all)
}

// ratio compares each round of one contestant with that of the other next to it.
func (r results) ratio(who, other, figure string) spread {
	all := make([]float64, len(r[who]))
	for i, f := range r[who] {
		all[i] = f[figure] / r[other][i][figure]
	}
	return spreadOf(all)
}

// print writes the work's two tables.
func (w *work) print(r results) {
	fmt.Printf("### %s\n\n| | %s |\n|---%s|\n", w.name, strings.Join(shown, " | "), strings.Repeat("|---", len(shown)))
	for _, who := range w.contestants {
		fmt.Printf("| %s", who)
		for _, figure := range shown {
			s := r.spread(who, figure)
			if figure == "turns/s" {
				fmt.Printf(" | %v", s)
			} else {
				fmt.Printf(" | %s", strings.TrimSuffix(short(s.median), ".00"))
			}
		}
		fmt.Println(" |")
	}
	fmt.Println()
	ours := w.contestants[0]
	for _, g := range w.goals {
		if len(g.than) == 0 {
			g.print(g.figure, r.spread(ours, g.figure))
		}
		for _, other := range g.than {
			g.print(g.figure+" / "+other, r.ratio(ours, other, g.figure))
		}
	}
	fmt.Println()
}

func (g goal) print(what string, s spread) {
	verdict := "reached"
	if s.median < g.least || g.most > 0 && s.median > g.most {
		verdict = "**missed**"
	}
	bound := "at least " + strconv.FormatFloat(g.least, 'g', -1, 64)
	if g.most > 0 {
		bound = "at most " + strconv.FormatFloat(g.most, 'g', -1, 64)
	}
	fmt.Printf("- %s: %v, to be %s: %s\n", what, s, bound, verdict)
}
