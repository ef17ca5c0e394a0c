package multihost_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "bring docs/protocol.md up to date with the scripts")

// A page is a Markdown file of the repository.
type page struct {
	path string
	text string // without code blocks
	code []string
}

var (
	fenced    = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	inline    = regexp.MustCompile("`[^`\n]+`")
	link      = regexp.MustCompile(`\[([^\]]+)\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	testNamed = regexp.MustCompile(`\b(?:Test|Fuzz|Example)[A-Z_]\w*`)
)

// pages returns all pages; code holds those of their code blocks that are Go.
func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		p := page{path: path}
		p.text = fenced.ReplaceAllStringFunc(read(t, path), func(block string) string {
			if parts := fenced.FindStringSubmatch(block); parts[1] == "go" {
				p.code = append(p.code, parts[2])
			}
			return ""
		})
		all = append(all, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 5 {
		t.Fatalf("found only %d pages", len(all))
	}
	return all
}

func docsPage(t *testing.T, path string) page {
	t.Helper()
	for _, p := range pages(t) {
		if p.path == path {
			return p
		}
	}
	t.Fatalf("there is no %s", path)
	return page{}
}

// slug is the anchor that a heading gets.
func slug(title string) string {
	title = strings.ToLower(link.ReplaceAllString(title, "$1"))
	title = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(title, "")
	return strings.ReplaceAll(title, " ", "-")
}

func TestLinksOfTheDocsResolve(t *testing.T) {
	anchors := map[string]map[string]bool{}
	for _, p := range pages(t) {
		anchors[p.path] = map[string]bool{}
		for _, h := range heading.FindAllStringSubmatch(p.text, -1) {
			anchors[p.path][slug(h[1])] = true
		}
	}
	for _, p := range pages(t) {
		for _, l := range link.FindAllStringSubmatch(inline.ReplaceAllString(p.text, "x"), -1) {
			if strings.HasPrefix(l[2], "https://") {
				continue
			}
			file, anchor, _ := strings.Cut(l[2], "#")
			target := p.path
			if file != "" {
				target = filepath.Join(filepath.Dir(p.path), filepath.FromSlash(file))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", p.path, l[2])
			} else if anchor != "" && !anchors[target][anchor] {
				t.Errorf("%s links to %s: there is no such heading", p.path, l[2])
			}
		}
	}
}

// testsOf returns the names of the tests and examples in a file.
func testsOf(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Recv == nil && testNamed.MatchString(f.Name.Name+"X") {
			names[f.Name.Name] = true
		}
	}
	return names
}

// allTests returns the names of the tests of all modules, by file.
func allTests(t *testing.T) map[string]map[string]bool {
	t.Helper()
	files := map[string]map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			files[path] = testsOf(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestTheDocsNameTestsThatExist: a test that is named with a link is in that
// file, any other in some file.
func TestTheDocsNameTestsThatExist(t *testing.T) {
	files := allTests(t)
	exists := map[string]bool{}
	for _, names := range files {
		for name := range names {
			exists[name] = true
		}
	}
	named := 0
	for _, p := range pages(t) {
		for _, l := range link.FindAllStringSubmatch(p.text, -1) {
			if testNamed.FindString(l[1]) != l[1] {
				continue
			}
			named++
			file := filepath.Join(filepath.Dir(p.path), filepath.FromSlash(l[2]))
			if !files[file][l[1]] {
				t.Errorf("%s names %s, which is not in %s", p.path, l[1], file)
			}
		}
		for _, name := range testNamed.FindAllString(p.text, -1) {
			if !exists[name] {
				t.Errorf("%s names %s, which is nowhere", p.path, name)
			}
		}
	}
	if named < 50 {
		t.Errorf("found only %d links to tests", named)
	}
}

// TestEachGuaranteeIsShown: each row of docs/guarantees.md ends with the tests
// that show it, or says that none does.
func TestEachGuaranteeIsShown(t *testing.T) {
	rows := 0
	for line := range strings.Lines(docsPage(t, "docs/guarantees.md").text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 5 || strings.HasPrefix(cells[1], "-") || strings.Contains(line, "| shown by |") {
			continue
		}
		rows++
		shown := cells[len(cells)-2]
		if !strings.Contains(shown, "](") && !strings.Contains(shown, "not tested yet") {
			t.Errorf("neither shown by a test nor said to be untested: %s", line)
		}
	}
	if rows < 20 {
		t.Errorf("found only %d guarantees", rows)
	}
}

// TestTheDocsDoNotPromiseWhatNobodyCan.
func TestTheDocsDoNotPromiseWhatNobodyCan(t *testing.T) {
	never := regexp.MustCompile(`(?i)exactly[ -]once|safe under fail-?over|drop-in`)
	for _, p := range pages(t) {
		for _, words := range never.FindAllString(p.text, -1) {
			t.Errorf("%s says %q", p.path, words)
		}
	}
}

// TestTheDocsShowTestedCode: each Go block of a page stands, but for its
// indentation, in a file whose package has tests, or in an example.
func TestTheDocsShowTestedCode(t *testing.T) {
	var tested []string
	for _, pattern := range []string{"docs/examples/*/*.go", "redis*/example*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("nothing is %s: %v", pattern, err)
		}
		for _, file := range files {
			if tests, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*_test.go")); tests != nil {
				tested = append(tested, flatten(read(t, file)))
			}
		}
	}
	blocks := 0
	for _, p := range pages(t) {
		for _, code := range p.code {
			blocks++
			found := false
			for _, source := range tested {
				found = found || strings.Contains(source, flatten(code))
			}
			if !found {
				t.Errorf("no tested file has this code of %s:\n%s", p.path, code)
			}
		}
	}
	if blocks < 10 {
		t.Errorf("found only %d blocks of Go", blocks)
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

// TestTheProtocolShowsTheHeaderOfEveryScript: what docs/protocol.md says of KEYS, ARGV
// and answers is what the scripts say themselves. With -update the page is brought
// up to date, but for scripts that it does not name yet.
func TestTheProtocolShowsTheHeaderOfEveryScript(t *testing.T) {
	protocol := read(t, "docs/protocol.md")
	files, _ := filepath.Glob("*/lua/*.lua")
	inner, _ := filepath.Glob("internal/*/lua/*.lua")
	if files = append(files, inner...); len(files) < 10 {
		t.Fatalf("found only %d scripts", len(files))
	}
	for _, file := range files {
		header, _, _ := splitHeader(read(t, file))
		header = strings.ReplaceAll(strings.ReplaceAll(header, "--\n", "\n"), "-- ", "")
		name := "[" + filepath.Base(file) + "](../" + filepath.ToSlash(file) + ")\n\n```text\n"
		block := name + header + "```\n"
		if before, after, ok := strings.Cut(protocol, name); ok && *update {
			_, after, _ = strings.Cut(after, "```\n")
			protocol = before + block + after
		}
		if !strings.Contains(protocol, block) {
			t.Errorf("docs/protocol.md should show this:\n%s", block)
		}
	}
	if *update {
		if err := os.WriteFile("docs/protocol.md", []byte(protocol), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
