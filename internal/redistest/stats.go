package redistest

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// What counts what, measured on Redis 7.0 and 8.0 and Valkey 8.1:
//
//	INFO commandstats              every command by name, those that scripts call included
//	INFO total_commands_processed  the sum of that
//	MONITOR                        every command but AUTH and administrative ones (CONFIG,
//	                               CLIENT LIST); those that scripts call are marked "lua"
//	miniredis, CommandCount        every command, those that scripts call included
//	Wire.Counts                    what the clients behind the wire sent, all of it
//
// So the commands that clients sent are counted by a Wire where all clients
// belong to the test, and by Monitor where they are in other processes.

// CommandStats returns the calls of each command since the server started,
// those made by scripts included, summed over the nodes. Names are in
// upper case, subcommands joined by a space ("CLIENT LIST").
func (s *Server) CommandStats(t testing.TB) map[string]int64 {
	t.Helper()
	s.SkipOn(t, !s.Real, "no INFO commandstats")
	all := map[string]int64{}
	for _, info := range s.infos(t, "commandstats") {
		for line := range strings.Lines(info) {
			name, fields, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
			if !found {
				continue
			}
			calls, _, _ := strings.Cut(fields, ",")
			n, err := strconv.ParseInt(calls, 10, 64)
			if err != nil {
				t.Fatalf("redistest: %q: %v", line, err)
			}
			all[strings.ToUpper(strings.ReplaceAll(name, "|", " "))] += n
		}
	}
	return all
}

// ConnectedClients returns how many connections of clients the server has,
// whosesoever they are, summed over the nodes. The one that asks is not counted.
func (s *Server) ConnectedClients(t testing.TB) int {
	t.Helper()
	if !s.Real {
		return s.Mini.CurrentConnectionCount()
	}
	sum := 0
	for _, info := range s.infos(t, "clients") {
		n, err := strconv.Atoi(infoField(info, "connected_clients"))
		if err != nil {
			t.Fatal("redistest: ", err)
		}
		sum += n - 1
	}
	return sum
}

// infos asks every node for a section of INFO, over one connection each that
// is closed before infos returns.
func (s *Server) infos(t testing.TB, section string) []string {
	t.Helper()
	var all []string
	err := s.eachNode(t, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx, section).Result()
		all = append(all, info)
		return err
	})
	if err != nil {
		t.Fatalf("redistest: INFO %s: %v", section, err)
	}
	return all
}

// A Conn is a connection at the server, as CLIENT LIST shows it.
type Conn struct {
	ID       int64
	Name     string
	Channels int    // subscribed to, patterns and sharded ones included
	Last     string // the last command
}

// Conns returns the connections that bear the name of this test's clients,
// those on which the code under test subscribed or works in private
// included. A server that cannot list them cannot be asked: see Clients.
func (s *Server) Conns(t testing.TB) []Conn {
	t.Helper()
	s.SkipOn(t, !s.Clients, "no CLIENT LIST")
	var all []Conn
	err := s.eachNode(t, func(ctx context.Context, node *redis.Client) error {
		list, err := node.ClientList(ctx).Result()
		for line := range strings.Lines(list) {
			if c := parseConn(line); c.Name == s.ClientName {
				all = append(all, c)
			}
		}
		return err
	})
	if err != nil {
		t.Fatalf("redistest: CLIENT LIST: %v", err)
	}
	return all
}

// parseConn reads a line "id=3 addr=… name=… sub=0 …"; names hold no blanks.
func parseConn(line string) Conn {
	var c Conn
	for field := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(field, "=")
		n, _ := strconv.ParseInt(value, 10, 64) // zero where it is not a number
		switch key {
		case "id":
			c.ID = n
		case "name":
			c.Name = value
		case "cmd":
			c.Last = value
		case "sub", "psub", "ssub":
			c.Channels += int(n)
		}
	}
	return c
}

// eachNode calls fn with a client of every node, one after another: of a
// cluster its masters, else of the one server.
func (s *Server) eachNode(t testing.TB, fn func(ctx context.Context, node *redis.Client) error) error {
	t.Helper()
	// Not t.Context(): cleanups ask too.
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for _, addr := range s.nodes(ctx, t) {
		err := func() error {
			o := s.in.options
			o.Addrs, o.MaintNotificationsConfig, o.PoolSize = []string{addr}, noMaintenance(), 1
			node := redis.NewClient(o.Simple())
			defer node.Close()
			return fn(ctx, node)
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// nodes returns the addresses of the masters.
func (s *Server) nodes(ctx context.Context, t testing.TB) []string {
	t.Helper()
	if !s.Cluster {
		return []string{s.Addr}
	}
	c := s.in.client()
	defer c.Close()
	var mu sync.Mutex
	var addrs []string
	err := c.(*redis.ClusterClient).ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		addrs = append(addrs, node.Options().Addr)
		return nil
	})
	if err != nil {
		t.Fatal("redistest: the cluster's nodes: ", err)
	}
	return addrs
}

// Monitor counts the commands that clients send to the server while during
// runs, whosesoever they are (take a server of the test's own), by name and without
// those that scripts call. AUTH and administrative commands do not show; HELLO
// and CLIENT do, once or twice for each new connection. A cluster is not
// supported.
func (s *Server) Monitor(t testing.TB, during func()) map[string]int {
	t.Helper()
	s.SkipOn(t, !s.Real || s.Cluster, "no MONITOR of the whole server")
	other := s.inline(t, "PING") // first, so that its dialogue is not counted
	monitor := s.inline(t, "MONITOR")
	during()

	// The server reports in the order in which it worked, so what comes
	// before this mark is all there was.
	mark := "end-" + randomHex(8)
	fmt.Fprintf(other, "ECHO %s\r\n", mark)
	_ = monitor.SetReadDeadline(time.Now().Add(startWithin))
	lines := bufio.NewScanner(monitor)
	counts := map[string]int{}
	for lines.Scan() {
		if strings.Contains(lines.Text(), mark) {
			return counts
		}
		if name := monitored(lines.Text()); name != "" {
			counts[name]++
		}
	}
	t.Fatal("redistest: MONITOR ended: ", lines.Err())
	return nil
}

// inline opens a connection by hand, sends a first command and reads its
// answer of one line.
func (s *Server) inline(t testing.TB, command string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal("redistest: ", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(startWithin))
	if password := s.in.options.Password; password != "" {
		fmt.Fprintf(conn, "AUTH %s %q\r\n", cmp.Or(s.in.options.Username, "default"), password)
		readLine(t, conn)
	}
	fmt.Fprintf(conn, "%s\r\n", command)
	if answer := readLine(t, conn); answer[0] != '+' {
		t.Fatalf("redistest: %s: %s", command, answer)
	}
	return conn
}

// readLine reads to the end of a line, byte by byte: what follows is for
// somebody else.
func readLine(t testing.TB, conn net.Conn) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := conn.Read(b); err != nil {
			t.Fatal("redistest: ", err)
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return string(line)
		}
	}
}

// monitored returns the command in a line +170.25 [0 127.0.0.1:5000] "get" "k",
// nothing for one that a script called.
func monitored(line string) string {
	_, rest, found := strings.Cut(line, " [")
	if !found {
		return ""
	}
	source, command, _ := strings.Cut(rest, "] ")
	if strings.HasSuffix(source, " lua") {
		return ""
	}
	name, err := strconv.QuotedPrefix(command)
	if err != nil {
		return ""
	}
	return strings.ToUpper(strings.Trim(name, `"`))
}
