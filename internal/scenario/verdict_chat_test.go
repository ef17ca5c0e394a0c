package scenario

import (
	"slices"
	"testing"
)

// talk is a journal of two clients with a message each.
func talk(change func(journal []Fact) []Fact) []Fact {
	return change([]Fact{
		fact(0, chatSent, "a"),
		fact(0, chatHeard.key, 1, "a"),
		fact(0, chatAnswer.key, 0, "a_sb"),
		fact(1, chatSent, "b"),
		fact(0, chatHeard.key, 0, "b"),
		fact(1, chatAnswer.key, 1, "b_sb"),
		fact(0, chatHungUp, 0, nil),
		fact(0, chatHungUp, 1, nil),
	})
}

func TestVerdictOnChatCanFail(t *testing.T) {
	for _, r := range []struct {
		name   string
		change func([]Fact) []Fact
		passed bool
		showed string
	}{
		{"as it should be", func(j []Fact) []Fact { return j }, true, "2 clients served at once, 2 messages answered with _sb"},
		{"no suffix", func(j []Fact) []Fact { j[2] = fact(0, chatAnswer.key, 0, "a"); return j }, false, `client 0 wanted ["a_sb"] and got ["a"]`},
		{"no answer", func(j []Fact) []Fact { return slices.Delete(j, 5, 6) }, false, `client 1 wanted ["b_sb"] and got []`},
		{"a client that says nothing", func(j []Fact) []Fact { return j[:3] }, false, `client 1 wanted [] and got []`},
		{"run together", func(j []Fact) []Fact { j[4] = fact(0, chatHeard.key, 0, "ab"); return j }, false, `sent were ["a" "b"], the server heard ["a" "ab"]`},
		{"one after the other", func(j []Fact) []Fact { return slices.Insert(slices.Delete(j, 6, 7), 3, fact(0, chatHungUp, 1, nil)) }, false, "1 of 2 clients were served at once"},
	} {
		check(t, r.name, judgeChat(talk(r.change), 2, 1), r.passed, r.showed)
	}
}

// gathering is a journal of two servers with a client each.
func gathering(change func(journal []Fact) []Fact) []Fact {
	return change([]Fact{
		fact(0, chatSent, "a"),
		fact(0, chatHeard.key, 0, "a"),
		fact(0, chatAnswer.key, 0, "a_sb"),
		fact(1, chatSent, "b"),
		fact(1, chatHeard.key, 0, "b"),
		fact(1, chatAnswer.key, 1, "b_sb"),
		fact(0, chatSent, "c"),
		fact(0, chatHeard.key, 0, "c"),
		fact(0, chatAnswer.key, 0, "c_sb"),
		fact(0, chatRoom.key, 0, 0, "a"),
		fact(1, chatRoom.key, 0, 0, "a"),
		fact(0, chatRoom.key, 1, 0, "b"),
		fact(0, chatRoom.key, 0, 0, "c"),
		fact(1, chatRoom.key, 0, 0, "c"),
		fact(1, chatRoom.key, 1, 0, "b"),
	})
}

func TestVerdictOnTheRoomCanFail(t *testing.T) {
	for _, r := range []struct {
		name   string
		change func([]Fact) []Fact
		passed bool
		showed string
	}{
		{"as it should be", func(j []Fact) []Fact { return j }, true, "each of 2 servers printed all 3 messages, none twice"},
		{"one missing", func(j []Fact) []Fact { return j[:14] }, false, "heard was map[{0 0}:[a c] {1 0}:[b]], server 1 printed map[{0 0}:[a c]]"},
		{"one twice", func(j []Fact) []Fact { return append(j, j[14]) }, false, "heard was map[{0 0}:[a c] {1 0}:[b]], server 1 printed map[{0 0}:[a c] {1 0}:[b b]]"},
		{"order", func(j []Fact) []Fact { j[10], j[13] = j[13], j[10]; return j }, false, "heard was map[{0 0}:[a c] {1 0}:[b]], server 1 printed map[{0 0}:[c a] {1 0}:[b]]"},
		{"a server alone", func(j []Fact) []Fact { return slices.Delete(slices.Delete(j, 13, 15), 10, 11) }, false, "heard was map[{0 0}:[a c] {1 0}:[b]], server 1 printed map[]"},
		{"no answer", func(j []Fact) []Fact { return slices.Delete(j, 5, 6) }, false, `client 1 wanted ["b_sb"] and got []`},
	} {
		check(t, r.name, judgeChat(gathering(r.change), 2, 2), r.passed, r.showed)
	}
}
