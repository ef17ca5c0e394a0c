package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of our own.
type server struct {
	addr   string
	client *redis.Client
	stop   func()
}

// startServer starts the program on a free port.
func startServer(ctx context.Context, program string) (*server, error) {
	var err error
	for range 5 { // somebody else may take the port meanwhile
		var s *server
		if s, err = tryServer(ctx, program); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func tryServer(ctx context.Context, program string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = l.Close()
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	s := &server{addr: addr, client: client, stop: func() {
		_ = client.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}}
	for range 100 {
		info, err := client.Info(ctx, "server").Result()
		if err == nil && field(info, "process_id") == strconv.Itoa(cmd.Process.Pid) {
			return s, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("%s does not answer on %s", program, addr)
}

func field(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// reset begins a count of commands.
func (s *server) reset(ctx context.Context) error { return s.client.ConfigResetStat(ctx).Err() }

// sent is how many of these commands were carried out since. Redis counts
// those that scripts call too, so the caller names what clients send themselves.
func (s *server) sent(ctx context.Context, names []string) (int, error) {
	info, err := s.client.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, name := range names {
		calls, _, _ := strings.Cut(strings.TrimPrefix(field(info, "cmdstat_"+name), "calls="), ",")
		n, _ := strconv.Atoi(calls) // 0 where it was never sent
		sum += n
	}
	return sum, nil
}

// connections is how many there are, but for ours.
func (s *server) connections(ctx context.Context) (int, error) {
	info, err := s.client.Info(ctx, "clients").Result()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(field(info, "connected_clients"))
	return n - 1, err
}

// cpu is the processor time that the server has used.
func (s *server) cpu(ctx context.Context) (time.Duration, error) {
	info, err := s.client.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, err
	}
	user, err1 := strconv.ParseFloat(field(info, "used_cpu_user"), 64)
	system, err2 := strconv.ParseFloat(field(info, "used_cpu_sys"), 64)
	return time.Duration((user + system) * float64(time.Second)), errors.Join(err1, err2)
}
