package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/multihost/multihost/internal/scenario"
)

// runChat is multihost demo chat server, and multihost demo chat client.
func (d *demo) runChat(con *console, chat *scenario.Chat) error {
	switch {
	case d.Role != "":
		return usageError{errors.New("--role is for a chat that talks by itself, without server or client")}
	case chat.Servers != 1 || chat.Clients != 2:
		return usageError{errors.New("--servers and --clients are for a chat that talks by itself, without server or client")}
	case d.Namespace != "" && chat.Part == "client":
		return usageError{errors.New("--run is the room of the servers; a client needs only --addr")}
	case d.Namespace != "" && d.Redis == "":
		return usageError{errors.New("a room needs a Redis server that its servers share: --redis URL --run NAME")}
	case chat.Part == "client":
		return chatClient(con, chat.Addr)
	case d.Namespace != "":
		return d.serveRoom(con, chat.Addr)
	}
	return chatServer(con, chat.Addr, func(int, string) {})
}

// serveRoom is a server with a seat in a room: what any of the room's servers hears, on
// whatever host, each of them prints.
func (d *demo) serveRoom(con *console, addr string) error {
	client, err := connect(con.ctx, d.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	set := d.setting(con, 1)
	set.Client = client
	seat, err := scenario.EnterRoom(con.ctx, set)
	if err != nil {
		return fmt.Errorf("chat server: %w", err)
	}
	ctx, cancel := seat.Lease.Context(con.ctx)
	var printing sync.WaitGroup
	defer func() {
		cancel()
		printing.Wait()
		_ = seat.Leave(ctx) // what is left ends with the lease, or when somebody takes the seat
	}()
	complain := func(err error) {
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(con.stderr, "multihost: room:", err)
		}
	}
	fmt.Fprintf(con.stdout, "server %d in the room %s\n", seat.Number, d.Namespace)
	printing.Go(func() {
		complain(seat.Print(ctx, func(m scenario.RoomMessage) { fmt.Fprintln(con.stdout, m.Line(d.Lang)) }))
	})
	here := *con
	here.ctx = ctx
	err = chatServer(&here, addr, func(worker int, message string) { complain(seat.Tell(ctx, worker, message)) })
	if con.ctx.Err() == nil && seat.Lease.Err() != nil {
		return fmt.Errorf("chat server: the seat in the room: %w", seat.Lease.Err())
	}
	return err
}

// chatServer serves until it is interrupted, or until its input ends if that is
// somebody's: a terminal or a pipe. A service whose input is /dev/null serves on.
// tell hears each message, too.
func chatServer(con *console, addr string, tell func(worker int, message string)) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("chat server: %w; give another address with --addr HOST:PORT", err)
	}
	ctx, cancel := context.WithCancel(con.ctx)
	defer cancel()
	fmt.Fprintf(con.stdout, "listening on %v; to talk: multihost demo chat client --addr %v\n", listener.Addr(), listener.Addr())
	if isTalking(con.stdin) {
		ignoreBackgroundRead()
		go func() {
			if _, err := io.Copy(io.Discard, con.stdin); err == nil {
				cancel()
			}
		}()
	}
	err = scenario.ServeChat(ctx, listener, 0, func(worker int, message string) {
		fmt.Fprintf(con.stdout, "worker %d: %s\n", worker, message)
		tell(worker, message)
	}, func(worker int, err error) {
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(con.stderr, "worker %d: %v\n", worker, err)
		}
	})
	if ctx.Err() != nil && con.ctx.Err() == nil {
		return nil // the input has ended
	}
	return err
}

// isTalking tells whether somebody can write to the input.
func isTalking(stdin io.Reader) bool {
	f, ok := stdin.(*os.File)
	if !ok {
		return true
	}
	info, err := f.Stat()
	return err == nil && (info.Mode()&os.ModeNamedPipe != 0 || isTerminal(f))
}

// chatClient sends what is typed, a line at a time, and prints the answers, until
// its input ends.
func chatClient(con *console, addr string) error {
	conn, err := new(net.Dialer).DialContext(con.ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("chat client: %w; start a server with: multihost demo chat server; or give its address with --addr HOST:PORT", err)
	}
	defer conn.Close()
	typed, typedErr := lines(con.ctx, con.stdin, bufio.MaxScanTokenSize)
	answers, answersErr := lines(con.ctx, conn, 2*bufio.MaxScanTokenSize) // they are longer
	gone := func() error {
		return errors.Join(errors.New("chat client: the server has gone"), answersErr())
	}
	for {
		fmt.Fprint(con.stdout, ">>> ")
		select {
		case message, ok := <-typed:
			if !ok {
				fmt.Fprintln(con.stdout)
				if err := typedErr(); err != nil {
					return fmt.Errorf("chat client: %w", err)
				}
				return nil
			}
			if _, err := fmt.Fprintln(conn, message); err != nil {
				return fmt.Errorf("chat client: %w", err)
			}
		case _, ok := <-answers:
			if ok {
				continue
			}
			fmt.Fprintln(con.stdout)
			return gone()
		case <-con.ctx.Done():
			return con.ctx.Err()
		}
		select {
		case answer, ok := <-answers:
			if !ok {
				return gone()
			}
			fmt.Fprintln(con.stdout, answer)
		case <-con.ctx.Done():
			return con.ctx.Err()
		}
	}
}

// lines reads lines until there are no more or ctx ends. The function that it returns
// tells, once the channel is closed, what ended them.
func lines(ctx context.Context, from io.Reader, longest int) (found <-chan string, failed func() error) {
	each := make(chan string)
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, longest)
	go func() {
		defer close(each)
		for scanner.Scan() {
			select {
			case each <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return each, func() error { return scenario.ChatError(scanner.Err()) }
}
