package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Chat is a server that talks to many clients at once, over TCP. Each connection
// is served by a worker of its own, which prints every message and answers it with
// a suffix. A message is a line, so two that are sent quickly do not run together
// and no character is cut; nc can talk to it.
type Chat struct {
	Part    string `arg:"" optional:"" default:"" enum:"server,client," help:"server or client: that part alone, for you to use; servers with the same --redis and --run share a room. By default a server and clients that talk by themselves."`
	Addr    string `default:"127.0.0.1:9595" help:"TCP address of the server (port 0: one that is free)."`
	Servers int    `default:"1" help:"Number of servers. Several share a room: each prints what any of them hears."`
	Clients int    `default:"2" help:"Number of clients, not less than there are servers."`
}

var (
	chatHeard    = phrase{key: "heard", colour: green, en: "worker %d: %s", zh: "服务 %d: %s"}
	chatAnswer   = phrase{key: "answer", en: "client %d got: %s", zh: "客户端 %d 收到: %s"}
	chatSent     = "sent"   // by a client, with the message
	chatHungUp   = "closed" // by the server: a connection has ended
	chatSuffix   = "_sb"
	chatMessages = []string{"hello", "你好", "two lines in one write", "naïve café 🎫"}
)

// Validate is called when the command line has been read.
func (c *Chat) Validate() error {
	if _, err := c.address(c.Servers - 1); err != nil {
		return fmt.Errorf("--addr: %w: allowed is HOST:PORT, with a port for each server", err)
	}
	return errors.Join(inRange("--servers", c.Servers, 1, atMost), inRange("--clients", c.Clients, c.Servers, atMost))
}

// Cast implements Scenario.
func (c *Chat) Cast() Cast {
	cast := Cast{
		Source: "internal/scenario/chat.go",
		Roles:  []Role{{Name: "server", Count: c.Servers}, {Name: "client", Count: c.Clients}},
		Events: []string{"open", "answered", "served"},
		Keys:   []string{"open", "answered", "served"},
	}
	for n := range c.Servers {
		cast.Keys = append(cast.Keys, addressKey(n))
		if c.Servers > 1 {
			cast.Queues = append(cast.Queues, roomName(n))
		}
	}
	return cast
}

// Work implements Scenario.
func (c *Chat) Work(ctx context.Context, w *Worker) error {
	if w.Role() == "server" {
		return c.server(ctx, w)
	}
	return c.client(ctx, w)
}

func (c *Chat) server(ctx context.Context, w *Worker) error {
	addr, err := c.address(w.Index)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w; give another address with --addr HOST:PORT", err)
	}
	defer listener.Close()
	reached, err := reachable(listener.Addr())
	if err != nil {
		return err
	}
	if err := w.Client.Set(ctx, w.Key(addressKey(w.Index)), reached, lapse).Err(); err != nil {
		return err
	}
	if err := w.Together(ctx, "open", c.Servers+c.Clients); err != nil {
		return err
	}
	clients := (c.Clients + c.Servers - 1 - w.Index) / c.Servers // every so many talk to this one
	serve := func(heard func(worker int, message string)) error {
		return ServeChat(ctx, listener, clients, heard, func(worker int, err error) {
			w.Note(ctx, chatHungUp, worker, err)
		})
	}
	if c.Servers > 1 {
		return c.inRoom(ctx, w, serve)
	}
	return serve(func(worker int, message string) { w.Say(ctx, chatHeard, worker, message) })
}

// address is where a server listens: the first at the given port, each at the one
// after that of the server before.
func (c *Chat) address(server int) (string, error) {
	host, name, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return "", err
	}
	port, err := net.LookupPort("tcp", name)
	if port != 0 {
		port += server
	}
	if err == nil && port > math.MaxUint16 {
		err = fmt.Errorf("port %d is above %d", port, math.MaxUint16)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), err
}

// reachable is where others find a listener: by the name of the host, if it listens
// at all addresses.
func reachable(addr net.Addr) (string, error) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String(), nil
	}
	host, err := os.Hostname()
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port)), err
}

func addressKey(server int) string { return fmt.Sprint("address ", server) }

// ChatError explains the end of a connection's or a person's lines.
func ChatError(err error) error {
	if errors.Is(err, bufio.ErrTooLong) {
		return errors.New("a message must be shorter than 64 KiB")
	}
	return err
}

// ServeChat accepts connections, up to count of them (0: any number), and serves all
// of them at once. It tells of each message and of each end, and returns when ctx
// ends or when the last has ended.
func ServeChat(ctx context.Context, listener net.Listener, count int, heard func(worker int, message string), ended func(worker int, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	defer workers.Wait()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for n := 0; count == 0 || n < count; n++ {
		conn, err := listener.Accept()
		if err != nil {
			err = errors.Join(ctx.Err(), err)
			cancel()
			return err
		}
		workers.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				heard(n, visible(lines.Text()))
				if _, err := fmt.Fprint(conn, lines.Text(), chatSuffix, "\n"); err != nil {
					break // the next read says why
				}
			}
			ended(n, ChatError(lines.Err()))
		})
	}
	return nil
}

// visible keeps what a stranger sends from steering the terminal.
func visible(message string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, message)
}

func (c *Chat) client(ctx context.Context, w *Worker) error {
	if err := w.Together(ctx, "open", c.Servers+c.Clients); err != nil {
		return err
	}
	addr, err := w.Client.Get(ctx, w.Key(addressKey(w.Index%c.Servers))).Result()
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return c.talk(ctx, w, conn, bufio.NewScanner(conn))
}

func (c *Chat) talk(ctx context.Context, w *Worker, conn net.Conn, answers *bufio.Scanner) error {
	send := func(messages ...string) error {
		for _, m := range messages {
			w.Note(ctx, chatSent, m)
		}
		// The text goes out in two writes that cut its last character in two:
		// neither the number of writes nor where they end changes a message.
		data := []byte(strings.Join(messages, "\n") + "\n")
		for _, part := range [][]byte{data[:len(data)-2], data[len(data)-2:]} {
			if _, err := conn.Write(part); err != nil {
				return err
			}
		}
		for range messages {
			if !answers.Scan() {
				return errors.Join(errors.New("the server has gone"), answers.Err())
			}
			w.Say(ctx, chatAnswer, w.Index, answers.Text())
		}
		return w.Pause(ctx, 0, time.Second)
	}
	if err := send(chatMessages[0]); err != nil {
		return err
	}
	// Nobody goes on before all have been answered: a server that serves one at a
	// time would never get here.
	if err := w.Together(ctx, "answered", c.Clients); err != nil {
		return err
	}
	return errors.Join(send(chatMessages[1]), send(chatMessages[2:]...))
}

// Judge implements Scenario.
func (c *Chat) Judge(journal []Fact) Verdict { return judgeChat(journal, c.Clients, c.Servers) }
