package multihost_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryScriptSaysWhatItDoes: a script's header names its purpose, its ARGV
// and every answer, and its Go function is the only one that knows them. The
// KEYS are those of the package, described in shared.lua. A package with two
// kinds of scripts has a prefix for the second; "quick" is the prefix of the short
// form of a script, for the usual case.
func TestEveryScriptSaysWhatItDoes(t *testing.T) {
	files, err := filepath.Glob("*/lua/*.lua")
	if err != nil {
		t.Fatal(err)
	}
	inner, err := filepath.Glob("internal/*/lua/*.lua")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, inner...)
	if len(files) < 10 {
		t.Fatalf("found only %d scripts: %v", len(files), files)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(filepath.Base(file), ".lua")
		verb := base[strings.LastIndexByte(base, '_')+1:]
		header, body, _ := splitHeader(string(source))
		demand := func(ok bool, what string) {
			if !ok {
				t.Errorf("%s: %s", file, what)
			}
		}
		dir := filepath.Dir(filepath.Dir(file))
		scripts := read(t, filepath.Join(dir, "scripts.go"))
		embedded := regexp.MustCompile(`//go:embed lua/` + base + `\.lua\n\t*(?:var )?(\w+) `).FindStringSubmatch(scripts)
		demand(embedded != nil, "scripts.go does not embed it")
		demand(embedded == nil || strings.Count(scripts, embedded[1]) > 1, "scripts.go embeds it and makes no script of it")
		if verb == "shared" || verb == "line" {
			demand(strings.Contains(header, "KEYS"), "the header does not describe KEYS")
			continue
		}
		demand(strings.HasPrefix(header, "-- "+verb+" "), "the header does not begin with the script's verb and what it does")
		demand(strings.Contains(header, "Returns"), "the header does not say what it returns")
		readsArgs := strings.Contains(body, "ARGV") || strings.Contains(body, "arg(")
		demand(readsArgs == strings.Contains(header, "ARGV:"), "the header and the code do not agree on ARGV")
		quick := strings.HasPrefix(base, "quick_") // stands in front of the shared files
		demand(quick || !strings.Contains(body, "KEYS["), "KEYS are named in the shared files alone")

		used := regexp.MustCompile(`\b` + verb + `Script\b`)
		found := false
		others, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range others {
			if !strings.HasSuffix(other, "_test.go") && filepath.Base(other) != "scripts.go" && used.MatchString(read(t, other)) {
				found = true
			}
		}
		demand(found, "nothing calls it")
	}
}

func splitHeader(source string) (header, body string, ok bool) {
	lines := strings.SplitAfter(source, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "--") {
			return strings.Join(lines[:i], ""), strings.Join(lines[i:], ""), true
		}
	}
	return source, "", false
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
