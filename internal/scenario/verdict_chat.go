package scenario

import (
	"maps"
	"slices"
	"strconv"
)

// judgeChat wants every message answered with the suffix, in order, the server to
// have printed all of them, and every client answered before the first has gone.
// With several servers every server must have printed all that any of them heard.
func judgeChat(journal []Fact, clients, servers int) Verdict {
	sent := make(map[int][]string)
	answers := make(map[int][]string)
	var all, heard []string
	atOnce, closed := 0, 0
	for _, f := range journal {
		switch {
		case f.What == chatSent:
			sent[f.Number] = append(sent[f.Number], f.arg(0)+chatSuffix)
			all = append(all, f.arg(0))
		case f.is(chatHeard):
			heard = append(heard, f.arg(1))
		case f.is(chatAnswer):
			answers[f.Number] = append(answers[f.Number], f.arg(1))
			if len(answers[f.Number]) == 1 && closed == 0 {
				atOnce++
			}
		case f.What == chatHungUp:
			closed++
		}
	}
	slices.Sort(all)
	slices.Sort(heard)
	for n := range clients {
		if len(sent[n]) == 0 || !slices.Equal(sent[n], answers[n]) {
			return verdict(false, text{"client %d wanted %q and got %q", "客户端 %d 应收到 %q, 实际收到 %q"}, n, sent[n], answers[n])
		}
	}
	switch {
	case !slices.Equal(all, heard):
		return verdict(false, text{"sent were %q, the server heard %q", "发出 %q, 服务端收到 %q"}, all, heard)
	case atOnce != clients:
		return verdict(false, text{"%d of %d clients were served at once", "同时得到服务的客户端: %d/%d"}, atOnce, clients)
	case servers > 1:
		return judgeRoom(journal, servers)
	}
	return verdict(true, text{"%d clients served at once, %d messages answered with %s", "同时服务 %d 个客户端, %d 条消息的回答都带 %s"}, clients, len(all), chatSuffix)
}

// judgeRoom wants every server to have printed what was heard: what each worker heard,
// in order.
func judgeRoom(journal []Fact, servers int) Verdict {
	type speaker struct{ server, worker string }
	heard := make(map[speaker][]string)
	printed := make(map[int]map[speaker][]string)
	total := 0
	for _, f := range journal {
		switch {
		case f.is(chatHeard):
			from := speaker{strconv.Itoa(f.Number), f.arg(0)}
			heard[from] = append(heard[from], f.arg(1))
			total++
		case f.is(chatRoom):
			if printed[f.Number] == nil {
				printed[f.Number] = make(map[speaker][]string)
			}
			from := speaker{f.arg(0), f.arg(1)}
			printed[f.Number][from] = append(printed[f.Number][from], f.arg(2))
		}
	}
	for n := range servers {
		if !maps.EqualFunc(heard, printed[n], slices.Equal) {
			return verdict(false, text{"heard was %v, server %d printed %v", "听到 %v, 服务器 %d 显示 %v"}, heard, n, printed[n])
		}
	}
	return verdict(true, text{"each of %d servers printed all %d messages, none twice", "%d 个服务器都显示了全部 %d 条消息, 没有重复"}, servers, total)
}
