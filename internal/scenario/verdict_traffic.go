package scenario

import (
	"slices"
	"strconv"
)

// A crossing is what the journal tells of one car.
type crossing struct {
	found, passed, left int    // how often it was noted
	green               bool   // what the car found
	before, after       uint64 // the change of the light that it found, and that it left behind
}

// judgeTraffic wants every car to pass once: one that found green under a Set of the
// light's, one that found red only after the next Set; and then the light to end.
//
// It goes by the numbers of the event's changes. The order of the journal would not
// do: a car may well pass before the light has noted what it did.
func judgeTraffic(journal []Fact, cars int) Verdict {
	all := make(map[int]crossing)
	var greens []uint64
	passed, waited, out := 0, 0, -1
	for _, f := range journal {
		c := all[f.Number]
		switch {
		case f.What == trafficSwitched && f.arg(0) == "true":
			greens = append(greens, change(f.arg(1)))
		case f.What == trafficFound:
			c.found++
			c.green, c.before = f.arg(0) == "true", change(f.arg(1))
			all[f.Number] = c
		case f.is(trafficWaits):
			waited++
		case f.is(trafficPasses):
			passed++
			c.passed++
			all[f.Number] = c
		case f.What == trafficLeft:
			c.left++
			c.after = change(f.arg(0))
			all[f.Number] = c
		case f.is(trafficOut):
			out = passed
		}
	}
	for n := range cars {
		c := all[n]
		next := func(g uint64) bool { return g > c.before && g <= c.after }
		switch {
		case c.found != 1 || c.passed != 1 || c.left != 1:
			return verdict(false, text{"car %d came %d times and passed %d times", "car%d 到达 %d 次, 通过 %d 次"}, n, c.found, c.passed)
		case c.green && !slices.Contains(greens, c.before):
			return verdict(false, text{"car %d passed, but no Set of the light made it green", "car%d 通过, 但绿灯不是由 Set 点亮的"}, n)
		case !c.green && !slices.ContainsFunc(greens, next):
			return verdict(false, text{"car %d found red and passed before the next Set", "car%d 遇到红灯, 却在下一次 Set 之前通过"}, n)
		}
	}
	switch {
	case passed != cars || len(all) != cars:
		return verdict(false, text{"%d cars, %d passed", "%d 辆车, 通过 %d 辆"}, cars, passed)
	case out != passed:
		return verdict(false, text{"the light did not go out after the last car", "最后一辆车通过后灯没有灭"})
	}
	return verdict(true, text{"%d cars passed, %d of them waited for the next green", "%d 辆车都已通过, 其中 %d 辆等到了下一次绿灯"}, passed, waited)
}

// change reads the number of a change; what is no number is 0, and no Set's.
func change(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
