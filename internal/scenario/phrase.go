package scenario

import "fmt"

// A phrase is a line that a worker says, in both languages.
type phrase struct {
	key    string // its name in the journal
	colour colour
	en, zh string // formats for the same arguments
	named  bool   // the line itself says whose it is
}

func (p phrase) in(lang Lang, args ...any) string {
	return text{p.en, p.zh}.in(lang, args...)
}

// A text is a format in both languages.
type text struct{ en, zh string }

func (t text) in(lang Lang, args ...any) string {
	format := t.en
	if lang == Chinese {
		format = t.zh
	}
	return fmt.Sprintf(format, args...)
}

// Lang is the language that a demo speaks.
type Lang string

// The languages of the demos. Chinese is that of the programs they are modelled on.
const (
	English Lang = "en"
	Chinese Lang = "zh"
)

// A colour is an escape sequence that a terminal understands.
type colour string

const (
	plain     colour = ""
	red       colour = "\x1b[31m"
	green     colour = "\x1b[32m"
	yellow    colour = "\x1b[43m" // as background, like the next two
	onBlue    colour = "\x1b[44m"
	onMagenta colour = "\x1b[45m"
	faint     colour = "\x1b[2m"
)

// paint colours s if colours are wanted.
func (c colour) paint(s string, wanted bool) string {
	if !wanted || c == plain {
		return s
	}
	return string(c) + s + "\x1b[0m"
}
