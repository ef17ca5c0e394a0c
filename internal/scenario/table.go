package scenario

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A Row is a scenario that has run, in the closing table.
type Row struct {
	Title string // its name and options: "print --lock"
	Verdict
}

var (
	tableScenario = text{"scenario", "场景"}
	tableShowed   = text{"what it showed", "结果说明"}
	tableResult   = text{"result", "结果"}
	tablePassed   = text{"passed", "通过"}
	tableFailed   = text{"failed", "失败"}
	tableSum      = text{"%d of %d passed", "通过 %d/%d"}
	tableOne      = text{"%s: %s: %s", "%s: %s: %s"}
)

func (r Row) result(lang Lang, coloured bool) string {
	if r.Passed {
		return green.paint(tablePassed.in(lang), coloured)
	}
	return red.paint(tableFailed.in(lang), coloured)
}

// PrintRow prints the verdict on a single run.
func PrintRow(out io.Writer, row Row, lang Lang, coloured bool) error {
	_, err := fmt.Fprintln(out, tableOne.in(lang, row.Title, row.result(lang, coloured), row.Showed(lang)))
	return err
}

// PrintTable prints the verdicts on several runs.
func PrintTable(out io.Writer, rows []Row, lang Lang, coloured bool) error {
	lines := [][3]string{{tableScenario.in(lang), tableShowed.in(lang), tableResult.in(lang)}}
	passed := 0
	for _, r := range rows {
		lines = append(lines, [3]string{r.Title, r.Showed(lang), r.result(lang, coloured)})
		if r.Passed {
			passed++
		}
	}
	var wide [2]int
	for _, l := range lines {
		for i := range wide {
			wide[i] = max(wide[i], width(l[i]))
		}
	}
	var b strings.Builder
	for _, l := range lines {
		for i := range wide {
			b.WriteString(l[i] + strings.Repeat(" ", wide[i]-width(l[i])+2))
		}
		b.WriteString(l[2] + "\n")
	}
	fmt.Fprintln(&b, tableSum.in(lang, passed, len(rows)))
	_, err := io.WriteString(out, b.String())
	return err
}

// width is how many columns of a terminal s takes: a Chinese character takes two.
func width(s string) int {
	n := 0
	for _, r := range s {
		n++
		if unicode.Is(unicode.Han, r) {
			n++
		}
	}
	return n
}
