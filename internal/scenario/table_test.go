package scenario

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	rows := []Row{
		{"tickets --no-lock", judgeOversold(sale(3, 5, make([]int, 5), 0), 5)},
		{"chat", Failed(errors.New("client 0 failed\nits output"))},
	}
	for _, want := range []struct {
		lang     Lang
		coloured bool
		table    string
	}{
		{English, false, `
scenario           what it showed                                result
tickets --no-lock  oversold: 5 of 3, as expected without a lock  passed
chat               client 0 failed                               failed
1 of 2 passed
`},
		// A Chinese character is as wide as two others.
		{Chinese, true, `
场景               结果说明                                      结果
tickets --no-lock  超卖: 售出 5 张, 共 3 张, 没有加锁, 正如预期  GREEN通过PLAIN
chat               client 0 failed                               RED失败PLAIN
通过 1/2
`},
	} {
		var b strings.Builder
		if err := PrintTable(&b, rows, want.lang, want.coloured); err != nil {
			t.Fatal(err)
		}
		table := strings.NewReplacer("GREEN", "\x1b[32m", "RED", "\x1b[31m", "PLAIN", "\x1b[0m").Replace(want.table[1:])
		if b.String() != table {
			t.Errorf("got\n%s\nwant\n%s", b.String(), table)
		}
	}
	if err := PrintTable(brokenPipe{}, rows, English, false); err == nil {
		t.Error("a table that nobody could read is no error")
	}
}

// Both languages format the same arguments.
func TestPhrasesAgree(t *testing.T) {
	verbs := regexp.MustCompile(`%[a-z]`)
	for _, p := range []phrase{
		printRunning, printDone, ticketsLeft, ticketBought, ticketMissed, eventSays, eventBlocked, eventPassed,
		trafficRed, trafficGreen, trafficOut, trafficWaits, trafficPasses, chatHeard, chatAnswer, chatRoom,
		ktvEnters, ktvLeaves, queueGot, bunsParent, bunsMade, bunsEaten, bunsStuck, pipeReceived, pipeEnded,
	} {
		en, zh := verbs.FindAllString(p.en, -1), verbs.FindAllString(p.zh, -1)
		if p.key == "" || p.zh == "" || strings.Join(en, "") != strings.Join(zh, "") {
			t.Errorf("%+v: %v and %v", p, en, zh)
		}
	}
}
