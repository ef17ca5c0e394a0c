//go:build unix

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// chatServer starts a server for people on a free port. It ends when stdin is closed.
func chatServer(t *testing.T) (p *program, addr string, stdin *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	p = start(t, read, "demo", "chat", "server", "--addr", "127.0.0.1:0")
	return p, p.until(t, `^listening on (\S+);`)[1], write
}

// typed is a standard input that somebody has typed and ended.
func typed(t *testing.T, text string) *os.File {
	t.Helper()
	name := t.TempDir() + "/typed"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestChatIsForPeopleToo(t *testing.T) {
	t.Parallel()
	server, addr, stdin := chatServer(t)

	// Somebody is connected all the time, and does not keep the others waiting.
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()

	client := start(t, typed(t, "hello\n你好"), "demo", "chat", "client", "--addr", addr)
	code, lines := client.end(t)
	if want := []string{">>> hello_sb", ">>> 你好_sb", ">>> "}; code != 0 || !slices.Equal(lines, want) {
		t.Errorf("the client ended with %d and printed %q, want 0 and %q", code, lines, want)
	}
	server.until(t, `^worker 1: hello$`)
	server.until(t, `^worker 1: 你好$`)

	// The end of its input is the end of the server, whoever is connected.
	stdin.Close()
	if code, _ := server.end(t); code != 0 {
		t.Errorf("the server ended with %d\n%s", code, server.stderr.String())
	}
}

// What nc sends: lines, with or without a carriage return, the last perhaps without an end.
func TestChatFramesByLines(t *testing.T) {
	t.Parallel()
	server, addr, _ := chatServer(t)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := "one\ntwo\r\n\n" + strings.Repeat("長", 10_000) + "\n\x1b[31mred\nlast"
	if _, err := fmt.Fprint(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var got []string
	answers := bufio.NewScanner(conn)
	for answers.Scan() {
		got = append(got, answers.Text())
	}
	want := []string{"one_sb", "two_sb", "_sb", strings.Repeat("長", 10_000) + "_sb", "\x1b[31mred_sb", "last_sb"}
	if !slices.Equal(got, want) {
		t.Errorf("got %.200q, want %.200q", got, want)
	}
	// What a stranger sends does not reach the terminal as it is.
	server.until(t, "^worker 0: \uFFFD\\[31mred$")
}

func TestChatServerServesOnWithoutInput(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	server := start(t, null, "demo", "chat", "server", "--addr", "127.0.0.1:0")
	addr := server.until(t, `^listening on (\S+);`)[1]
	client := start(t, typed(t, "hello\n"), "demo", "chat", "client", "--addr", addr)
	if code, _ := client.end(t); code != 0 {
		t.Errorf("the client ended with %d\n%s", code, client.stderr.String())
	}
	server.signal(t, os.Interrupt)
	if code, _ := server.end(t); code != 130 {
		t.Errorf("the server ended with %d, want 130\n%s", code, server.stderr.String())
	}
}

func TestChatClientSaysThatTheServerHasGone(t *testing.T) {
	t.Parallel()
	server, addr, _ := chatServer(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	client := start(t, read, "demo", "chat", "client", "--addr", addr)
	fmt.Fprintln(write, "hello")
	client.until(t, "hello_sb")
	server.signal(t, syscall.SIGKILL)
	if code, _ := client.end(t); code != 1 || !strings.Contains(client.stderr.String(), "the server has gone") {
		t.Errorf("the client ended with %d and said %q", code, client.stderr.String())
	}

	again := start(t, typed(t, ""), "demo", "chat", "client", "--addr", addr)
	if code, _ := again.end(t); code != 1 || !strings.Contains(again.stderr.String(), "multihost demo chat server") {
		t.Errorf("the client ended with %d and said %q", code, again.stderr.String())
	}
}

func TestChatServerSaysThatItsAddressIsTaken(t *testing.T) {
	t.Parallel()
	_, addr, _ := chatServer(t)
	second := start(t, typed(t, ""), "demo", "chat", "server", "--addr", addr)
	if code, _ := second.end(t); code != 1 || !strings.Contains(second.stderr.String(), "give another address with --addr") {
		t.Errorf("the second server ended with %d and said %q", code, second.stderr.String())
	}
}
