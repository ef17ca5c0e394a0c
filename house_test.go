// Package multihost_test keeps the house in order: which package may import
// which, what a program that imports one primitive links, and how large
// files may grow.
package multihost_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/multihost/multihost"

// floors are the storeys of the house, the highest first. A package imports
// only from floors below its own, so packages of one floor never import each other.
var floors = [][]string{
	{"cmd/multihost"},
	{"internal/cli"},
	{"internal/scenario"},
	{"redislock", "redissem", "redisevent", "redisqueue"},
	{"internal/quorum"},
	{"internal/turnstile"},
	{"internal/lease", "internal/hub"},
	{"internal/keyspace", "internal/clock"},
}

// testOnly stands beside the house.
const testOnly = "internal/redistest"

// embedders may import miniredis outside tests: they serve it to the demos.
var embedders = []string{"internal/cli", "internal/scenario", testOnly}

const (
	maxLines     = 400 // of a file; it is split when it nears them
	maxTestLines = 450 // of a test file, before a warning
)

// A listed package is what this test reads of go list -json.
type listed struct {
	ImportPath   string
	Name         string
	Doc          string
	Standard     bool
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// list runs go list.
func list(args ...string) ([]listed, error) {
	out, err := exec.Command("go", append([]string{"list", "-json"}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(string(exit.Stderr))
		}
		return nil, err
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
}

var listHouse = sync.OnceValues(func() ([]listed, error) { return list("./...") })

// house returns the packages of the module that have code outside tests.
func house(t *testing.T) []listed {
	t.Helper()
	all, err := listHouse()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Clone(all), func(p listed) bool { return len(p.GoFiles) == 0 })
}

// inModule returns the path inside the module, and whether it is in there.
func inModule(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// floor returns the floor of a package, -1 when it has none.
func floor(path string) int {
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, path) })
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range house(t) {
		path, _ := inModule(p.ImportPath)
		if path == testOnly {
			continue
		}
		if floor(path) < 0 {
			t.Errorf("%s has no floor in this test", path)
			continue
		}
		for _, imported := range p.Imports {
			below, ours := inModule(imported)
			if ours && floor(below) <= floor(path) {
				t.Errorf("%s imports %s, which is not below it", path, below)
			}
		}
	}
}

func TestOnlyTestsImportTheTestSupport(t *testing.T) {
	for _, p := range house(t) {
		path, _ := inModule(p.ImportPath)
		for _, imported := range p.Imports {
			below, ours := inModule(imported)
			switch {
			case below == testOnly:
				t.Errorf("%s imports %s outside its tests", path, below)
			case path == testOnly && ours:
				t.Errorf("%s imports %s, whose internal tests could then not import it", path, below)
			case strings.HasPrefix(imported, "github.com/alicebob/miniredis/") && !slices.Contains(embedders, path):
				t.Errorf("%s imports %s outside its tests", path, imported)
			}
		}
	}
}

// TestAPrimitiveLinksGoRedisAndNothingElse: but for the lock, whose quorum counts
// votes with redsync: its core, without the drivers of other clients.
func TestAPrimitiveLinksGoRedisAndNothingElse(t *testing.T) {
	const client = "github.com/redis/go-redis/v9"
	const votes = "github.com/go-redsync/redsync/v4"
	allowed := map[string]bool{}
	for _, p := range deps(t, client, client+"/maintnotifications") {
		allowed[p.ImportPath] = true
	}
	for _, p := range house(t) {
		path, _ := inModule(p.ImportPath)
		if strings.Contains(path, "/") {
			continue
		}
		for _, d := range deps(t, p.ImportPath) {
			_, ours := inModule(d.ImportPath)
			counts := path == "redislock" && (d.ImportPath == votes || d.ImportPath == votes+"/redis")
			if !d.Standard && !ours && !allowed[d.ImportPath] && !counts {
				t.Errorf("%s links %s, which go-redis does not need", path, d.ImportPath)
			}
		}
	}
}

// deps returns what the packages link.
func deps(t *testing.T, packages ...string) []listed {
	t.Helper()
	all, err := list(append([]string{"-deps"}, packages...)...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range house(t) {
		path, _ := inModule(p.ImportPath)
		if p.Doc == "" {
			t.Errorf("%s has no package comment", path)
		}
		if p.Name != "main" && !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go", path)
		}
	}
}

func TestFilesStayShort(t *testing.T) {
	for path, source := range goFiles(t) {
		lines := bytes.Count(source, []byte("\n"))
		switch test := strings.HasSuffix(path, "_test.go"); {
		case !test && lines > maxLines:
			t.Errorf("%s has %d lines, at most %d are allowed", path, lines, maxLines)
		case test && lines > maxTestLines:
			t.Logf("%s has %d lines; think of splitting it", path, lines)
		}
	}
}

// goFiles returns the Go files of the module with their text.
func goFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if path == "." {
				return nil
			}
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if err == nil || strings.HasPrefix(d.Name(), ".") { // another module
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".go":
			return nil
		}
		source, err := os.ReadFile(path)
		files[path] = source
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestNothingKnowsTheTimeOfDay: deadlines lie on internal/clock, and Redis gets
// durations. A clock reading that becomes a number is of the wall clock, which
// may be wrong and jump.
func TestNothingKnowsTheTimeOfDay(t *testing.T) {
	wall := regexp.MustCompile(`\btime\.(Now|Since|Until)\(|\.Unix(Milli|Micro|Nano)?\(`)
	read := 0
	for path, source := range goFiles(t) {
		path = filepath.ToSlash(path)
		if strings.HasSuffix(path, "_test.go") || !strings.HasPrefix(path, "redis") &&
			!regexp.MustCompile(`^internal/(hub|keyspace|lease|turnstile)/`).MatchString(path) {
			continue
		}
		read++
		if found := wall.Find(source); found != nil {
			t.Errorf("%s has %s; the time is that of internal/clock, or the server's", path, found)
		}
	}
	if read < 30 {
		t.Errorf("found only %d files", read)
	}
}

// TestTestsSleepOnlyInBubbles: a sleep on a real clock is either too short on
// a loaded machine or too long on every other. In a bubble it costs nothing. A helper
// that is only called from bubbles says "in a bubble" behind its sleep.
func TestTestsSleepOnlyInBubbles(t *testing.T) {
	set := token.NewFileSet()
	packages := map[string][]*ast.File{} // by directory
	for path, source := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			file, err := parser.ParseFile(set, path, source, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], file)
		}
	}
	for _, files := range packages {
		for _, at := range sleeps(set, files) {
			t.Errorf("%s: time.Sleep outside a bubble; wait for what the test needs, with a channel or redistest.Eventually", at)
		}
	}
}

// sleeps returns where the test files of a package sleep outside of functions
// that are given to a bubble: to redistest.Bubble or synctest.Test, or to a function
// of these files that calls one of them.
func sleeps(set *token.FileSet, files []*ast.File) []token.Position {
	bubbles := map[string]bool{"redistest.Bubble": true, "Bubble": true, "synctest.Test": true}
	excused := map[string]bool{} // file:line
	line := func(p token.Pos) string {
		at := set.Position(p)
		return at.Filename + ":" + strconv.Itoa(at.Line)
	}
	for _, file := range files {
		for _, group := range file.Comments {
			for _, c := range group.List {
				if strings.Contains(c.Text, "in a bubble") {
					excused[line(c.Pos())] = true
				}
			}
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if ok && (callee(call) == "redistest.Bubble" || callee(call) == "synctest.Test") {
					bubbles[f.Name.Name] = true
				}
				return true
			})
		}
	}
	var found []token.Position
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			switch {
			case !ok:
				return true
			case bubbles[callee(call)]:
				return false // time is fake in there
			case callee(call) == "time.Sleep" && !excused[line(call.Pos())]:
				found = append(found, set.Position(call.Pos()))
			}
			return true
		})
	}
	return found
}

// callee names the function of a call: f or pkg.f.
func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}

func TestSleepsAreFound(t *testing.T) {
	const source = `package p
func TestX(t *testing.T) {
	time.Sleep(1)
	redistest.Bubble(t, func() { time.Sleep(2); go func() { time.Sleep(3) }() })
	func() { time.Sleep(4) }()
	inBubble(t, func() { time.Sleep(5) })
	elsewhere(t, func() { time.Sleep(6) })
}
func inBubble(t *testing.T, fn func()) {
	synctest.Test(t, func(*testing.T) { fn() })
}
func elsewhere(t *testing.T, fn func()) { fn() }
func helper() {
	time.Sleep(7) // in a bubble
}`
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "x_test.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, at := range sleeps(set, []*ast.File{file}) {
		lines = append(lines, at.Line)
	}
	if want := []int{3, 5, 7}; !slices.Equal(lines, want) {
		t.Errorf("found in lines %v, should be %v", lines, want)
	}
}
