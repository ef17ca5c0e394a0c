package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/multihost/multihost/internal/redistest"
)

// TestMain makes the test binary be the command when it is called so: the scripts run
// it under that name, and so does the parent of a demo, for its workers.
func TestMain(m *testing.M) {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "multihost" {
		main()
	}
	// Under nohup SIGHUP is ignored, by every child too. One that is caught is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	if os.Getenv("GORACE") == "" {
		// Under -race every process would sleep for a second before it exits.
		os.Setenv("GORACE", "atexit_sleep_ms=10")
	}
	redistest.Main(m)
}

// command gives the test binary the name of the command, in a directory for PATH.
func command(t *testing.T) (dir string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	name := filepath.Join(dir, "multihost"+filepath.Ext(strings.TrimSuffix(program, ".test")))
	if os.Link(program, name) == nil {
		return dir
	}
	from, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// url is the server as --redis takes it.
func url(s *redistest.Server) string {
	if s.Cluster {
		return s.URL() + "?addr=" + s.Addr
	}
	return s.URL()
}

// TestDemo runs the scripts of testdata/demo: each row of the closing table, on the
// embedded server and on every real one.
func TestDemo(t *testing.T) {
	bin := command(t)
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		var vars []string
		if s.Real {
			vars = append(vars, "MULTIHOST_REDIS_URL="+url(s))
		}
		runScripts(t, "testdata/demo", bin, append(vars, "SERVER="+url(s)))
	})
}

// TestCommand runs the scripts of testdata/command: the command line.
func TestCommand(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/command", command(t), nil)
}

func runScripts(t *testing.T, dir, bin string, vars []string) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			path := bin + string(filepath.ListSeparator) + env.Getenv("PATH")
			env.Vars = append(append(env.Vars, "PATH="+path, "GORACE="+os.Getenv("GORACE")), vars...)
			return nil
		},
		// Conditions on the server, for scripts that say the same on each.
		Condition: func(cond string) (bool, error) {
			if cond == "cluster" {
				return slices.ContainsFunc(vars, func(v string) bool { return strings.Contains(v, "addr=") }), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode},
	})
}

// exitCode runs a command and wants an exit code: exitcode 2 multihost …
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode code program [args...]")
	}
	want := args[0]
	got := "exit status 0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = err.Error()
	}
	if got != "exit status "+want {
		ts.Fatalf("%v, want exit status %s", errors.New(got), want)
	}
}
