package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// work is what the contestants do side by side.
type work struct {
	name                  string
	processes, goroutines int // goroutines of each process
	own                   bool
	contestants           []string // the first is ours
	goals                 []goal
}

// goal is what a figure must reach: so many times that of another contestant,
// or if there is none, so much.
type goal struct {
	figure string
	least  float64
	most   float64 // 0: no bound
	than   []string
}

var peers = []string{"redsync", "bsm/redislock", "rueidislock"}

var locks, semaphores = works("lock", "multihost", append(peers, "bare SET NX"), append(peers, "bare token")),
	works("semaphore", "multihost, 4 permits", []string{"4 bare tokens"}, []string{"4 bare tokens"})

// works are the five works, with who else does those without and those with contention.
func works(what, ours string, apart, together []string) []work {
	apart, together = append([]string{ours}, apart...), append([]string{ours}, together...)
	all := []work{
		{name: "1 goroutine, no contention", processes: 1, goroutines: 1, contestants: apart},
		{name: "256 goroutines, own " + what + "s, 1 process", processes: 1, goroutines: 256, own: true, contestants: apart},
		{name: "4 processes x 16 goroutines, one " + what, processes: 4, goroutines: 16, contestants: together},
		{name: "1 process x 500 goroutines, one " + what, processes: 1, goroutines: 500, contestants: together},
		{name: "4 processes x 1 goroutine, one " + what, processes: 4, goroutines: 1, contestants: together},
	}
	fair := goal{figure: "Jain", least: 0.99}
	two := goal{figure: "commands/turn", most: 2.05}
	if what == "lock" {
		all[0].goals = []goal{{figure: "turns/s", least: 0.9, than: []string{"bare SET NX"}}, {figure: "turns/s", least: 1, than: peers}}
		all[1].goals = []goal{{figure: "turns/s", least: 2.5, than: peers[:2]}, {figure: "turns/s", least: 1.3, than: peers[2:]}}
		all[2].goals = []goal{{figure: "turns/s", least: 20, than: peers}, fair, {figure: "max wait", most: 0.1, than: peers[:1]}}
		all[3].goals = []goal{{figure: "turns/s", least: 30, than: peers}, fair}
		all[4].goals = []goal{{figure: "turns/s", least: 0.5, than: []string{"bare token"}}, {figure: "turns/s", least: 1, than: peers}, fair, two}
		return all
	}
	floor := []string{"4 bare tokens"}
	all[0].goals = []goal{{figure: "turns/s", least: 0.9, than: floor}}
	all[1].goals = []goal{{figure: "turns/s", least: 2.5, than: floor}}
	all[2].goals = []goal{{figure: "turns/s", least: 20, than: floor}, fair, {figure: "max wait", most: 0.1, than: floor}}
	all[3].goals = []goal{{figure: "turns/s", least: 30, than: floor}, fair}
	all[4].goals = []goal{{figure: "turns/s", least: 0.5, than: floor}, fair, two}
	return all
}

// round lets one contestant do the work for a while.
func (w *work) round(ctx context.Context, s *server, who *contestant, name string, d time.Duration) (figures, error) {
	started := make([]*worker, w.processes)
	for i := range started {
		p, err := start("worker", "--contestant="+who.name, "--addr="+s.addr, "--name="+name,
			fmt.Sprintf("--own=%v", w.own), fmt.Sprintf("--fill=%v", !w.own && i == 0),
			"--goroutines="+strconv.Itoa(w.goroutines), "--for="+d.String(), "--process="+strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		defer p.stop()
		started[i] = p
	}
	for _, p := range started {
		if err := p.ready(); err != nil {
			return nil, err
		}
	}
	if err := s.reset(ctx); err != nil {
		return nil, err
	}
	used, err := s.cpu(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range started {
		if err := p.begin(); err != nil {
			return nil, err
		}
	}
	time.Sleep(d / 2)
	connections, err := s.connections(ctx)
	if err != nil {
		return nil, err
	}
	all := tally{}
	for _, p := range started {
		var t tally
		if err := p.report(&t); err != nil {
			return nil, err
		}
		if t.Err != "" {
			fmt.Fprintf(os.Stderr, "%s, %s: %d errors, the last: %s\n", w.name, who.name, t.Errors, t.Err)
		}
		all.add(&t)
	}
	sent, err1 := s.sent(ctx, who.sends)
	usedNow, err2 := s.cpu(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	f, turns := all.figures(d), max(1, float64(len(all.Waits)))
	f["commands/turn"] = float64(sent) / turns
	f["µs of CPU/turn"] = float64(all.CPU.Microseconds()) / turns
	f["in Redis"] = float64((usedNow - used).Microseconds()) / turns
	f["connections"] = float64(connections)
	return f, nil
}

// worker is a process of ours.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(args ...string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &worker{cmd: cmd, in: in, out: bufio.NewReader(out)}, cmd.Start()
}

func (p *worker) ready() error {
	_, err := p.out.ReadString('\n')
	return err
}

func (p *worker) begin() error {
	_, err := io.WriteString(p.in, "go\n")
	return err
}

func (p *worker) report(v any) error { return gob.NewDecoder(p.out).Decode(v) }

func (p *worker) stop() {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
