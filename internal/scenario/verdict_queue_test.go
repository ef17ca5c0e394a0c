package scenario

import (
	"slices"
	"testing"
)

// by is a line of a journal with the name of the worker: "parent 0".
func by(worker, what string, args ...any) Fact {
	f := fact(0, what, args...)
	f.Worker = worker
	return f
}

func TestVerdictOnQueueCanFail(t *testing.T) {
	hi, answer := by("worker 0", queueGot.key, "hi"), by("parent 0", queueGot.key, "你好")
	for _, r := range []struct {
		name    string
		journal []Fact
		passed  bool
		showed  string
	}{
		{"as it should be", []Fact{hi, answer}, true, "hi, 你好"},
		{"no answer", []Fact{hi}, false, "hi"},
		{"nothing", nil, false, "-"},
		{"the parent takes its own", []Fact{by("parent 0", queueGot.key, "hi")}, false, "hi"},
		{"the worker takes its own", []Fact{hi, by("worker 0", queueGot.key, "你好")}, false, "hi, 你好"},
		{"twice", []Fact{hi, hi, answer}, false, "hi, hi, 你好"},
	} {
		check(t, r.name, judgeGot(r.journal, "worker 0: hi", "parent 0: 你好"), r.passed, r.showed)
	}
}

// visits is a journal of ktv: "0e" and "0l" are the lines of singer 0.
func visits(lines ...string) []Fact {
	var journal []Fact
	for _, l := range lines {
		what := ktvEnters.key
		if l[1] == 'l' {
			what = ktvLeaves.key
		}
		journal = append(journal, fact(int(l[0]-'0'), what))
	}
	return journal
}

func TestVerdictOnKTVCanFail(t *testing.T) {
	for _, r := range []struct {
		name   string
		lines  []string
		passed bool
		showed string
	}{
		{"as it should be", []string{"0e", "1e", "0l", "2e", "1l", "2l"}, true, "3 of 3 singers have left, at most 2 inside at once, room for 2"},
		{"one too many", []string{"0e", "1e", "2e", "0l", "1l", "2l"}, false, "3 of 3 singers have left, at most 3 inside at once, room for 2"},
		{"one at a time", []string{"0e", "0l", "1e", "1l", "2e", "2l"}, false, "3 of 3 singers have left, at most 1 inside at once, room for 2"},
		{"one stays", []string{"0e", "1e", "0l", "2e", "1l"}, false, "2 of 3 singers have left, at most 2 inside at once, room for 2"},
		{"one does not come", []string{"0e", "1e", "0l", "1l"}, false, "2 of 3 singers have left, at most 2 inside at once, room for 2"},
		{"one comes again", []string{"0e", "1e", "0l", "0e", "1l", "0l"}, false, "singer 0 did not enter and leave once"},
		{"one leaves first", []string{"0l", "0e"}, false, "singer 0 did not enter and leave once"},
		{"nobody", nil, false, "0 of 3 singers have left, at most 0 inside at once, room for 2"},
	} {
		check(t, r.name, judgeKTV(visits(r.lines...), 3, 2), r.passed, r.showed)
	}
	check(t, "room for all", judgeKTV(visits("0e", "1e", "1l", "0l"), 2, 9), true, "2 of 2 singers have left, at most 2 inside at once, room for 9")
}

// handed is a journal of five buyers who get these tickets of three.
func handed(left int, tickets ...int) []Fact {
	journal := []Fact{fact(0, ticketsOpened, 3)}
	for i := range 5 {
		if i >= len(tickets) {
			journal = append(journal, fact(i, ticketMissed.key))
			continue
		}
		journal = append(journal, fact(i, ticketTaken, tickets[i]), fact(i, ticketBought.key))
	}
	return append(journal, fact(0, ticketsClosed, left))
}

func TestVerdictOnTicketsInAQueueCanFail(t *testing.T) {
	for _, r := range []struct {
		name    string
		journal []Fact
		passed  bool
		showed  string
	}{
		{"sold", handed(0, 1, 0, 2), true, "3 of 3 sold, 2 missed, 0 left, without a lock"},
		{"one sold twice", handed(0, 1, 0, 2, 1), false, "4 sold, but only 3 different tickets"},
		{"one made up", handed(0, 1, 0, 2, 3), false, "4 of 3 sold, 1 missed, 0 left"},
		{"one lost", handed(0, 1, 0), false, "2 of 3 sold, 3 missed, 0 left"},
		{"one left", handed(1, 1, 0), false, "2 of 3 sold, 3 missed, 1 left"},
		{"one put twice", handed(1, 1, 0, 2), false, "3 of 3 sold, 2 missed, 1 left"},
		{"nothing", nil, false, unopened.en},
	} {
		check(t, r.name, judgeTaken(r.journal, 5), r.passed, r.showed)
	}
}

// conversation is a journal of a pipe.
func conversation(change func(journal []Fact) []Fact) []Fact {
	return change([]Fact{
		by("parent 0", pipeSent, "hi"),
		by("child 0", pipeReceived.key, "child", "hi"),
		by("child 0", pipeSent, "你好"),
		by("parent 0", pipeReceived.key, "parent", "你好"),
		by("parent 0", pipeSent, "bye"),
		by("child 0", pipeReceived.key, "child", "bye"),
		by("child 0", pipeEnded.key, "child"),
		by("child 0", pipeRefused),
	})
}

func TestVerdictOnPipeCanFail(t *testing.T) {
	remove := func(i int) func([]Fact) []Fact {
		return func(j []Fact) []Fact { return slices.Delete(j, i, i+1) }
	}
	for _, r := range []struct {
		name   string
		change func([]Fact) []Fact
		passed bool
		showed string
	}{
		{"as it should be", func(j []Fact) []Fact { return j }, true, "2 down, 1 up, in order, and the end was seen"},
		{"one lost before the end", remove(5), false, `the parent sent ["hi" "bye"], the child received ["hi"]`},
		{"no way up", remove(3), false, `the child sent ["你好"], the parent received []`},
		{"nobody answers", func(j []Fact) []Fact { return slices.Delete(j, 2, 4) }, false, `the child sent [], the parent received []`},
		{"out of order", func(j []Fact) []Fact { j[1], j[5] = j[5], j[1]; return j }, false, `the parent sent ["hi" "bye"], the child received ["bye" "hi"]`},
		{"its own message", func(j []Fact) []Fact { j[3] = by("parent 0", pipeReceived.key, "parent", "hi"); return j }, false, `the child sent ["你好"], the parent received ["hi"]`},
		{"no end", remove(6), false, "the child did not see the end"},
		{"a message after the end", func(j []Fact) []Fact { j[5], j[6] = j[6], j[5]; return j }, false, `"bye" was received after the end`},
		{"not refused", remove(7), false, "the child could send through a closed pipe"},
	} {
		check(t, r.name, judgePipe(conversation(r.change), 1), r.passed, r.showed)
	}
}
