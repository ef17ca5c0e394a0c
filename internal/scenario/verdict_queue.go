package scenario

import (
	"cmp"
	"slices"
	"strings"
)

// judgeGot wants exactly these to have been got, in order: "worker 0: hi".
func judgeGot(journal []Fact, want ...string) Verdict {
	var got, shown []string
	for _, f := range journal {
		if f.is(queueGot) {
			got = append(got, f.Worker+": "+f.arg(0))
			shown = append(shown, f.arg(0))
		}
	}
	return verdict(slices.Equal(got, want), text{"%s", "%s"}, cmp.Or(strings.Join(shown, ", "), "-"))
}

// judgeKTV wants every singer to enter and to leave once, and as many inside at a
// time as the room holds, never more. A singer says both while inside, so those whom
// the journal shows inside were inside at that moment.
func judgeKTV(journal []Fact, singers, room int) Verdict {
	inside := make(map[int]bool)
	been := make(map[int]bool)
	most := 0
	for _, f := range journal {
		switch n := f.Number; {
		case f.is(ktvEnters) && (been[n] || inside[n]), f.is(ktvLeaves) && !inside[n]:
			return verdict(false, text{"singer %d did not enter and leave once", "%d 没有进出各一次"}, n)
		case f.is(ktvEnters):
			inside[n] = true
			most = max(most, len(inside))
		case f.is(ktvLeaves):
			delete(inside, n)
			been[n] = true
		}
	}
	right := len(been) == singers && len(inside) == 0 && most == min(room, singers)
	return verdict(right, text{"%d of %d singers have left, at most %d inside at once, room for %d", "%d/%d 人已走出, 同时最多 %d 人在内, 可容 %d 人"}, len(been), singers, most, room)
}

// judgeTaken wants what judgeSold wants, and each of those sold to be another ticket.
func judgeTaken(journal []Fact, buyers int) Verdict {
	taken := make(map[string]bool)
	for _, f := range notes(journal, ticketTaken) {
		taken[f.arg(0)] = true
	}
	if sold := count(journal, ticketBought); len(taken) != sold {
		return verdict(false, text{"%d sold, but only %d different tickets", "售出 %d 张, 其中不同的只有 %d 张"}, sold, len(taken))
	}
	v := judgeSold(journal, buyers)
	if v.Passed {
		v.text = text{v.text.en + ", without a lock", v.text.zh + ", 没有加锁"}
	}
	return v
}

// judgePipe wants each end to receive what the other sent, in order, and the child
// then to see the end, and to be refused.
func judgePipe(journal []Fact, rounds int) Verdict {
	sent, received := make(map[string][]string), make(map[string][]string)
	saw, refused := 0, 0
	for _, f := range journal {
		role, _, _ := strings.Cut(f.Worker, " ")
		switch {
		case f.What == pipeSent:
			sent[role] = append(sent[role], f.arg(0))
		case f.is(pipeReceived):
			if saw > 0 {
				return verdict(false, text{"%q was received after the end", "关闭之后仍收到 %q"}, f.arg(1))
			}
			received[role] = append(received[role], f.arg(1))
		case f.is(pipeEnded):
			saw++
		case f.What == pipeRefused:
			refused++
		}
	}
	for _, way := range [][2]string{{"parent", "child"}, {"child", "parent"}} {
		from, to := way[0], way[1]
		if len(sent[from]) < rounds || !slices.Equal(sent[from], received[to]) {
			return verdict(false, text{"the %s sent %q, the %s received %q", "%s 发出 %q, %s 收到 %q"}, from, sent[from], to, received[to])
		}
	}
	switch {
	case saw != 1:
		return verdict(false, text{"the child did not see the end", "child 没有看到管道关闭"})
	case refused != 1:
		return verdict(false, text{"the child could send through a closed pipe", "管道关闭后 child 仍能发送"})
	}
	return verdict(true, text{"%d down, %d up, in order, and the end was seen", "下行 %d 条, 上行 %d 条, 次序不变, 并看到管道关闭"}, len(sent["parent"]), len(sent["child"]))
}
