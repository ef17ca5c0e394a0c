package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/multihost/multihost/internal/scenario"
)

// runChat is multihost demo chat server, and multihost demo chat client.
func runChat(con *console, chat *scenario.Chat) error {
	if chat.Part == "server" {
		return chatServer(con, chat.Addr)
	}
	return chatClient(con, chat.Addr)
}

// chatServer serves until it is interrupted, or until its input ends if that is
// somebody's: a terminal or a pipe. A service whose input is /dev/null serves on.
func chatServer(con *console, addr string) error {
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
	typed, answers := lines(con.ctx, con.stdin), lines(con.ctx, conn)
	for {
		fmt.Fprint(con.stdout, ">>> ")
		select {
		case message, ok := <-typed:
			if !ok {
				fmt.Fprintln(con.stdout)
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
			return errors.New("chat client: the server has gone")
		case <-con.ctx.Done():
			return con.ctx.Err()
		}
		select {
		case answer, ok := <-answers:
			if !ok {
				return errors.New("chat client: the server has gone")
			}
			fmt.Fprintln(con.stdout, answer)
		case <-con.ctx.Done():
			return con.ctx.Err()
		}
	}
}

// lines reads lines until there are no more or ctx ends.
func lines(ctx context.Context, from io.Reader) <-chan string {
	found := make(chan string)
	go func() {
		defer close(found)
		scanner := bufio.NewScanner(from)
		for scanner.Scan() {
			select {
			case found <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return found
}
