package scenario

import (
	"slices"
	"strconv"
	"strings"
)

// A Verdict is what a run showed, and whether that is what it had to show.
type Verdict struct {
	Passed bool
	text   text
	args   []any
}

func verdict(passed bool, t text, args ...any) Verdict { return Verdict{passed, t, args} }

// Failed is the verdict on a run that came to no end of its own.
func Failed(err error) Verdict {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return verdict(false, text{"%s", "%s"}, first)
}

// Showed says in words what the run showed.
func (v Verdict) Showed(lang Lang) string { return v.text.in(lang, v.args...) }

// count is how many facts say p.
func count(journal []Fact, p phrase) int {
	n := 0
	for _, f := range journal {
		if f.is(p) {
			n++
		}
	}
	return n
}

// notes gives the facts of one kind.
func notes(journal []Fact, what string) []Fact {
	var found []Fact
	for _, f := range journal {
		if f.What == what {
			found = append(found, f)
		}
	}
	return found
}

// pairs goes through the lines of print. It tells whether every worker has said
// both of its lines, in order; how many "running" were not followed at once by
// the same worker's "done"; and the workers in the order of their first lines.
func pairs(journal []Fact, workers int) (complete bool, mixed int, order []int) {
	var lines []Fact
	for _, f := range journal {
		if f.is(printRunning) || f.is(printDone) {
			lines = append(lines, f)
		}
	}
	running := make(map[int]bool)
	complete = len(lines) == 2*workers
	for i, f := range lines {
		if f.is(printDone) {
			complete = complete && running[f.Number]
			continue
		}
		complete = complete && !running[f.Number]
		running[f.Number] = true
		order = append(order, f.Number)
		if i+1 == len(lines) || !lines[i+1].is(printDone) || lines[i+1].Number != f.Number {
			mixed++
		}
	}
	return complete, mixed, order
}

var incomplete = text{"lines are missing: %d workers, %d began, %d were done", "缺行: %d 个进程, %d 个开始, %d 个结束"}

// judgeMixed wants the lines of different workers to interleave.
func judgeMixed(journal []Fact, workers int) Verdict {
	complete, mixed, _ := pairs(journal, workers)
	switch {
	case !complete:
		return verdict(false, incomplete, workers, count(journal, printRunning), count(journal, printDone))
	case mixed == 0:
		return verdict(false, text{"not interleaved: the missing lock did not show", "没有交错: 这次看不出没有加锁"})
	}
	return verdict(true, text{"interleaved: %d of %d were interrupted, as expected without a lock", "交错: %d/%d 被打断, 没有加锁, 正如预期"}, mixed, workers)
}

// judgeUnmixed wants each "running" to be followed by the same worker's "done",
// and the workers in the order of their numbers if inOrder.
func judgeUnmixed(journal []Fact, workers int, inOrder bool) Verdict {
	complete, mixed, order := pairs(journal, workers)
	switch {
	case !complete:
		return verdict(false, incomplete, workers, count(journal, printRunning), count(journal, printDone))
	case mixed > 0:
		return verdict(false, text{"interleaved: %d of %d were interrupted", "交错: %d/%d 被打断"}, mixed, workers)
	case inOrder && !slices.IsSorted(order):
		return verdict(false, text{"out of order: %v", "次序不对: %v"}, order)
	case inOrder:
		return verdict(true, text{"one after another, in order %v", "依次执行, 次序 %v"}, order)
	}
	return verdict(true, text{"each of %d done before the next began", "%d 个进程, 一个结束后下一个才开始"}, len(order))
}

// opening is how many tickets there were before anyone bought.
func opening(journal []Fact) (tickets int, known bool) {
	for i, f := range notes(journal, ticketsOpened) {
		n, err := strconv.Atoi(f.arg(0))
		if err != nil || i > 0 && n != tickets {
			return 0, false
		}
		tickets, known = n, true
	}
	return tickets, known
}

var unopened = text{"the buyers disagree on how many tickets there were", "购票者所见的初始票数不一致"}

// judgeOversold wants more tickets sold than there were.
func judgeOversold(journal []Fact, buyers int) Verdict {
	tickets, known := opening(journal)
	sold, missed := count(journal, ticketBought), count(journal, ticketMissed)
	switch {
	case !known:
		return verdict(false, unopened)
	case sold+missed != buyers:
		return verdict(false, text{"%d buyers, but %d bought and %d did not", "%d 人购票, %d 人成功, %d 人失败"}, buyers, sold, missed)
	case sold <= tickets:
		return verdict(false, text{"not oversold: %d of %d, the missing lock did not show", "没有超卖: 售出 %d 张, 共 %d 张, 这次看不出没有加锁"}, sold, tickets)
	}
	return verdict(true, text{"oversold: %d of %d, as expected without a lock", "超卖: 售出 %d 张, 共 %d 张, 没有加锁, 正如预期"}, sold, tickets)
}

// judgeSold wants as many sold as there were, the rest of the buyers without a
// ticket, the record's count to say so, and each write under a newer token than
// the one before.
func judgeSold(journal []Fact, buyers int) Verdict {
	tickets, known := opening(journal)
	sold, missed := count(journal, ticketBought), count(journal, ticketMissed)
	left := -1
	if closed := notes(journal, ticketsClosed); len(closed) == 1 {
		if n, err := strconv.Atoi(closed[0].arg(0)); err == nil {
			left = n
		}
	}
	var last uint64
	inTurn := true
	for _, f := range notes(journal, ticketWritten) {
		token, err := strconv.ParseUint(f.arg(0), 10, 64)
		inTurn = inTurn && err == nil && token > last
		last = token
	}
	switch {
	case !known:
		return verdict(false, unopened)
	case !inTurn:
		return verdict(false, text{"a write carried a token that is not newer than the one before", "有一次写入的令牌不比前一次新"})
	}
	right := sold == min(tickets, buyers) && sold+missed == buyers && left == tickets-sold
	return verdict(right, text{"%d of %d sold, %d missed, %d left", "售出 %d 张, 共 %d 张, %d 人失败, 剩余 %d 张"}, sold, tickets, missed, left)
}

// judgeEvent wants the four examples to say what the original's do.
func judgeEvent(journal []Fact) Verdict {
	said := make([][]string, len(eventExamples))
	for _, f := range journal {
		n, err := strconv.Atoi(f.arg(0))
		if err != nil || n < 1 || n > len(said) {
			continue
		}
		word := f.What
		if f.is(eventSays) {
			word = f.arg(1)
		}
		said[n-1] = append(said[n-1], word)
	}
	var all []string
	for _, words := range said {
		all = append(all, strings.Join(words, ", "))
	}
	got := strings.Join(all, " / ")
	right := got == "False / False, blocked / False, True / False, True, False, blocked"
	return verdict(right, text{"%[1]s", "%[2]s"}, got, strings.ReplaceAll(got, "blocked", "阻塞"))
}
