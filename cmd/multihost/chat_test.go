//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/multihost/multihost/internal/redistest"
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

// The longest message is answered, and whoever types a longer one hears of it: the client
// ended as if all had been said.
func TestChatSaysThatAMessageIsTooLong(t *testing.T) {
	t.Parallel()
	server, addr, _ := chatServer(t)
	longest := strings.Repeat("a", 64<<10-1)
	client := start(t, typed(t, longest+"\n"+longest+"a\nhello\n"), "demo", "chat", "client", "--addr", addr)
	code, _ := client.end(t)
	if want := "multihost: chat client: a message must be shorter than 64 KiB\n"; code != 1 || client.stderr.String() != want {
		t.Errorf("the client ended with %d and said %q, want 1 and %q", code, client.stderr.String(), want)
	}
	server.until(t, "^worker 0: "+longest[:100])

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, longest+"a"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes of an answer to a message that is too long", n)
	}
	server.signal(t, os.Interrupt)
	server.end(t)
	if want := "worker 1: a message must be shorter than 64 KiB\n"; server.stderr.String() != want {
		t.Errorf("the server said %q, want %q", server.stderr.String(), want)
	}
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

// Servers that people start share a room, too. One that dies keeps nobody waiting.
func TestChatServersShareARoom(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		run := "room-" + strconv.Itoa(os.Getpid())
		enter := func(seat int) (server *program, say func(message string)) {
			server = start(t, nil, "demo", "chat", "server", "--addr=127.0.0.1:0", "--redis="+url(s), "--run="+run)
			server.until(t, fmt.Sprintf("^server %d in the room %s$", seat, run))
			addr := server.until(t, `^listening on (\S+);`)[1]
			return server, func(message string) {
				client := start(t, typed(t, message+"\n"), "demo", "chat", "client", "--addr", addr)
				if code, _ := client.end(t); code != 0 {
					t.Errorf("the client ended with %d\n%s", code, client.stderr.String())
				}
			}
		}
		first, sayFirst := enter(0)
		second, saySecond := enter(1)
		sayFirst("hello")
		saySecond("你好")
		for _, server := range []*program{first, second} {
			server.until(t, `^room: server 0, worker 0: hello$`)
			server.until(t, `^room: server 1, worker 0: 你好$`)
		}

		second.signal(t, syscall.SIGKILL)
		second.end(t)
		third, _ := enter(2)
		sayFirst("again")
		for _, server := range []*program{first, third} {
			server.until(t, `^room: server 0, worker 1: again$`)
		}
		third.signal(t, os.Interrupt)
		if code, _ := third.end(t); code != 130 {
			t.Errorf("the server ended with %d, want 130\n%s", code, third.stderr.String())
		}

		// The seat of the one that died is free when its lease has ended, and has
		// nothing of the past on it.
		client := s.Client(t)
		redistest.Eventually(t, patience, func() error {
			n, err := client.Exists(t.Context(), "mh1:"+run+":lock:{seat 1}").Result()
			return errors.Join(err, map[bool]error{true: errors.New("the seat is taken")}[n > 0])
		})
		heir, sayHeir := enter(1)
		sayHeir("new here")
		heir.until(t, `^room: server 1, worker 0: new here$`)
		for _, line := range heir.seen {
			if strings.Contains(line, "again") {
				t.Errorf("the heir of the seat printed %q", line)
			}
		}
		for _, server := range []*program{heir, first} {
			server.signal(t, os.Interrupt)
			server.end(t)
			if said := server.stderr.String(); said != "" {
				t.Errorf("a server said %q", said)
			}
		}
		if left := keys(t, s, run); len(left) > 0 {
			t.Errorf("keys are left: %q", left)
		}
	})
}

// A server that is cut off from its room for so long that others may have its seat ends, and
// says why.
func TestAChatServerWithoutItsSeatEnds(t *testing.T) {
	t.Parallel()
	s := redistest.StartOwn(t)
	server := start(t, nil, "demo", "chat", "server", "--addr=127.0.0.1:0", "--redis="+s.URL(), "--run=lost")
	server.until(t, `^listening on `)
	s.Kill(t)
	if code, _ := server.end(t); code != 1 || !strings.Contains(server.stderr.String(), "the seat in the room: the lease was lost") {
		t.Errorf("the server ended with %d and said %q", code, server.stderr.String())
	}
}

func TestARoomIsAskedForInFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"server --run=x", "--redis URL --run NAME"},
		{"client --run=x", "a client needs only --addr"},
		{"server --servers=2", "--servers and --clients are for"},
		{"server --redis=redis://127.0.0.1:1 --run=x --role=server", "--role is for"},
	} {
		p := start(t, nil, append([]string{"demo", "chat"}, strings.Fields(c.args)...)...)
		if code, _ := p.end(t); code != 2 || !strings.Contains(p.stderr.String(), c.says) {
			t.Errorf("chat %s ended with %d and said %q, want 2 and %q", c.args, code, p.stderr.String(), c.says)
		}
	}
}
