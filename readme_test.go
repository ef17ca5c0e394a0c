package multihost_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestTheReadmeShowsTestedExamples: each Go block of the README stands, but for
// its indentation, in an example that the tests run.
func TestTheReadmeShowsTestedExamples(t *testing.T) {
	files, err := filepath.Glob("redis*/example*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	var examples []string
	for _, file := range files {
		examples = append(examples, flatten(read(t, file)))
	}
	blocks := strings.Split(read(t, "README.md"), "```go\n")[1:]
	if len(blocks) < 3 {
		t.Errorf("the README has %d Go blocks, want one for each primitive and one for tests", len(blocks))
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		found := false
		for _, example := range examples {
			found = found || strings.Contains(example, flatten(code))
		}
		if !found {
			t.Errorf("no tested example has this code of the README:\n%s", code)
		}
	}
}

// flatten drops indentation and empty lines.
func flatten(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
