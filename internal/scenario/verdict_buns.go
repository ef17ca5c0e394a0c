package scenario

import (
	"slices"
	"strconv"
)

// A meal is what the journal tells of the buns.
type meal struct {
	made, eaten []int
	ended       map[string]int // how many consumers ended so

	// Where these stand in the journal; -1: nowhere.
	parent, stuck, firstMade, lastMade, lastEaten int
}

func watchMeal(journal []Fact) meal {
	m := meal{parent: -1, stuck: -1, firstMade: -1, lastMade: -1, lastEaten: -1, ended: make(map[string]int)}
	for i, f := range journal {
		switch {
		case f.is(bunsMade):
			if len(m.made) == 0 {
				m.firstMade = i
			}
			m.made, m.lastMade = append(m.made, bun(f)), i
		case f.is(bunsEaten):
			m.eaten, m.lastEaten = append(m.eaten, bun(f)), i
		case f.is(bunsParent):
			m.parent = i
		case f.is(bunsStuck):
			m.stuck = i
		case f.What == bunsEnded:
			m.ended[f.arg(0)]++
		}
	}
	return m
}

// bun is the number of a bun that is made or eaten.
func bun(f Fact) int {
	n, err := strconv.Atoi(f.arg(1))
	if err != nil {
		return -1
	}
	return n
}

// wrong says what is wrong with the buns, if anything is: each producer must have
// made all of its own, and each must have been eaten once; in order, if there is one
// of each.
func (m meal) wrong(producers, consumers int) (v Verdict, found bool) {
	eaten := slices.Clone(m.eaten)
	if producers > 1 || consumers > 1 {
		slices.Sort(eaten)
	}
	made := slices.Sorted(slices.Values(m.made))
	distinct := len(slices.Compact(slices.Sorted(slices.Values(m.eaten))))
	switch {
	case len(made) != producers*bunsEach || len(slices.Compact(slices.Clone(made))) != len(made):
		v = verdict(false, text{"%d of %d buns were made", "生产了 %d 个包子, 应为 %d 个"}, len(made), producers*bunsEach)
	case distinct != len(eaten):
		v = verdict(false, text{"%d buns were eaten twice", "%d 个包子被吃了两次"}, len(eaten)-distinct)
	case len(eaten) != len(made):
		v = verdict(false, text{"%d of %d eaten", "吃了 %d 个, 共 %d 个"}, len(eaten), len(made))
	case !slices.Equal(eaten, made):
		v = verdict(false, text{"eaten out of order: %v", "吃的次序不对: %v"}, m.eaten)
	default:
		return v, false
	}
	return v, true
}

// atOnce tells whether the parent went on before the first bun was made.
func (m meal) atOnce() bool { return m.parent >= 0 && m.parent < m.firstMade }

// judgeStuck wants all buns eaten, the parent to have gone on before the first was
// made, and its report that the consumers are stuck; they must have waited until
// they were stopped.
func judgeStuck(journal []Fact, producers, consumers int) Verdict {
	m := watchMeal(journal)
	v, found := m.wrong(producers, consumers)
	switch {
	case found:
		return v
	case !m.atOnce():
		return verdict(false, text{"the parent waited", "主进程等待了"})
	case m.stuck < m.lastEaten || m.ended["stopped"] != consumers:
		return verdict(false, text{"not stuck: the missing end marker did not show", "没有卡住: 这次看不出没有结束信号"})
	}
	return verdict(true, text{"stuck: %d of %d eaten, and the consumer waits for ever, as expected without an end marker", "卡住: 已吃 %d/%d 个, 消费者一直等待, 没有结束信号, 正如预期"}, len(m.eaten), len(m.made))
}

// judgeEaten wants all buns eaten and every consumer to have ended for the reason
// how. A parent that has something to do for it must do that after the last bun was made.
func judgeEaten(journal []Fact, producers, consumers int, how string, later bool) Verdict {
	m := watchMeal(journal)
	v, found := m.wrong(producers, consumers)
	switch {
	case found:
		return v
	case m.ended[how] != consumers || len(m.ended) != 1 || m.stuck >= 0:
		return verdict(false, text{"%d of %d consumers ended by the %s", "%d/%d 个消费者由 %s 结束"}, m.ended[how], consumers, how)
	case later && m.parent < m.lastMade, !later && !m.atOnce():
		return verdict(false, text{"the parent did not do its part when it should", "主进程没有在应当的时候做它的事"})
	case how == "shutdown":
		return verdict(true, text{"%d of %d eaten, none twice, all %d consumers ended, without a marker", "吃了 %d/%d 个, 没有重复, %d 个消费者都已结束, 没有结束信号"}, len(m.eaten), len(m.made), consumers)
	case producers == 1 && consumers == 1:
		return verdict(true, text{"%d of %d eaten, in order, and all ended", "吃了 %d/%d 个, 次序不变, 全部结束"}, len(m.eaten), len(m.made))
	}
	return verdict(true, text{"%d of %d eaten, none twice, all %d consumers ended", "吃了 %d/%d 个, 没有重复, %d 个消费者都已结束"}, len(m.eaten), len(m.made), consumers)
}
