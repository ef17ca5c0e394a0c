package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/scenario"
)

// demo is multihost demo [NAME].
type demo struct {
	Redis string        `env:"MULTIHOST_REDIS_URL" placeholder:"URL" help:"Redis server to use: redis://HOST:PORT. By default one that is embedded in the command."`
	Speed *float64      `placeholder:"N" help:"Divide all waits by N, 0.1 to 100. By default 1 for one demo and 10 for all."`
	Seed  uint64        `placeholder:"N" help:"Fix the random waits. By default, and with 0, they are others each time."`
	Lang  scenario.Lang `enum:"en,zh" default:"en" help:"Language of the lines: en or zh."`
	Color string        `enum:"auto,always,never" default:"auto" help:"Colours: auto, always or never. With auto, on a terminal, and if NO_COLOR is not set."`

	Namespace string        `name:"run" placeholder:"NAME" help:"Namespace of the run in Redis. By default a new one."`
	Role      string        `help:"Be one process of the demo, on the server and in the run that are given. The role verdict waits until all the others have ended, judges the run, and deletes what it left."`
	Patience  time.Duration `placeholder:"TIME" help:"With --role verdict: fail if the others have not ended within TIME, as 90s. By default, and with 0s, as long as any demo may take."`
	Index     int           `default:"-1" help:"With --role: the number of the process. By default the next free one."`
	UntilEOF  bool          `name:"until-eof" help:"With --role: end when standard input ends. So a parent holds its workers."`

	All     allDemos         `cmd:"" default:"withargs" hidden:""`
	Chat    scenario.Chat    `cmd:"" help:"A server that talks to many clients at once."`
	Print   scenario.Print   `cmd:"" help:"Processes that print: without a lock, under one, one after another."`
	Tickets scenario.Tickets `cmd:"" help:"Five buyers, three tickets."`
	KTV     scenario.KTV     `cmd:"" name:"ktv" help:"Five singers, and a room for four."`
	Event   scenario.Event   `cmd:"" help:"What an event does, in four small examples."`
	Traffic scenario.Traffic `cmd:"" help:"A light, and cars that wait for green."`
	Queue   scenario.Queue   `cmd:"" help:"One puts, the other gets: one way and both ways."`
	Buns    scenario.Buns    `cmd:"" help:"Producers and consumers: without an end marker, with one, with a shutdown."`
	Pipe    scenario.Pipe    `cmd:"" help:"A channel with two ends, made of two queues."`
}

// allDemos is multihost demo without a name. A name that is none of the others comes here.
type allDemos struct {
	Name string `arg:"" optional:""`
}

// Validate is called by kong.
func (a *allDemos) Validate() error {
	if a.Name == "" {
		return nil
	}
	return fmt.Errorf("unknown demo %q: there are %s", a.Name, strings.Join(demoNames(), ", "))
}

func demoNames() []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[demo]()) {
		if _, command := field.Tag.Lookup("cmd"); command && field.Name != "All" {
			names = append(names, strings.ToLower(field.Name))
		}
	}
	return names
}

// rows are the demos of the closing table, as one would write them. PATH stands for a
// file of the run's own.
var rows = []struct {
	title string
	extra []string // not in the title
}{
	{title: "chat", extra: []string{"--addr=127.0.0.1:0"}},
	{title: "chat --servers 2", extra: []string{"--addr=127.0.0.1:0"}},
	{title: "print"},
	{title: "print --lock"},
	{title: "print --join"},
	{title: "tickets --no-lock"},
	{title: "tickets"},
	{title: "tickets --file PATH"},
	{title: "tickets --queue"},
	{title: "ktv"},
	{title: "event"},
	{title: "traffic"},
	{title: "queue"},
	{title: "queue --both-ways"},
	{title: "buns"},
	{title: "buns --end-marker"},
	{title: "buns --end-marker --from parent"},
	{title: "buns --shutdown"},
	{title: "pipe"},
}

// Validate is called by kong.
func (d *demo) Validate() error {
	if d.Speed != nil && !(*d.Speed >= 0.1 && *d.Speed <= 100) {
		return fmt.Errorf("--speed is %v: allowed is 0.1 to 100", *d.Speed)
	}
	if d.Namespace != "" {
		if err := scenario.CheckNamespace(d.Namespace); err != nil {
			return fmt.Errorf("--run: %w", err)
		}
	}
	if d.Role != "" && (d.Redis == "" || d.Namespace == "") {
		return errors.New("--role needs a Redis server and a run that the processes share: --redis URL --run NAME")
	}
	if d.Role == "" && (d.UntilEOF || d.Index >= 0) {
		return errors.New("--index and --until-eof need --role")
	}
	if d.Index < -1 {
		return fmt.Errorf("--index is %d: allowed is 0 and above, and -1 for the next free one", d.Index)
	}
	if d.Patience < 0 || d.Patience > 0 && d.Role != "verdict" {
		return errors.New("--patience is a time above 0, and needs --role verdict")
	}
	return nil
}

// Run is called by kong, for every demo.
func (d *demo) Run(line *kong.Context, con *console) error {
	if line.Selected().Name == "all" {
		if d.Role != "" {
			return usageError{errors.New("--role needs the name of a demo: " + strings.Join(demoNames(), ", "))}
		}
		return d.runAll(con)
	}
	s := chosen(line)
	if chat, ok := s.(*scenario.Chat); ok && chat.Part != "" {
		return d.runChat(con, chat)
	}
	if d.Role != "" {
		return d.runRole(con, s)
	}
	return d.runOne(con, s, words(line))
}

// chosen is the scenario that the command line names, with its options.
func chosen(line *kong.Context) scenario.Scenario {
	return line.Selected().Target.Addr().Interface().(scenario.Scenario)
}

// words is the scenario with its options as one would write it. Options that were
// left out are not among them.
func words(line *kong.Context) []string {
	found := []string{line.Selected().Name}
	for _, part := range line.Path {
		if part.Flag == nil || !slices.Contains(line.Selected().Flags, part.Flag) {
			continue
		}
		if part.Flag.IsBool() {
			found = append(found, "--"+part.Flag.Name)
		} else {
			found = append(found, fmt.Sprintf("--%s=%v", part.Flag.Name, part.Flag.Target.Interface()))
		}
	}
	return found
}

// setting is what the processes of the run have in common; the client is still missing.
func (d *demo) setting(con *console, speed float64) scenario.Setting {
	set := scenario.Setting{
		Namespace: d.Namespace,
		Seed:      d.Seed,
		Speed:     speed,
		Lang:      d.Lang,
		Colour:    d.Color == "always" || d.Color == "auto" && wantsColour(con.stdout),
	}
	var random [8]byte
	rand.Read(random[:])
	if set.Namespace == "" {
		set.Namespace = fmt.Sprintf("demo-%x", random[:])
	}
	if set.Seed == 0 {
		set.Seed = uint64(random[0])<<8 | uint64(random[1]) | 1
	}
	if d.Speed != nil {
		set.Speed = *d.Speed
	}
	return set
}

// runRole is one process of a demo.
func (d *demo) runRole(con *console, s scenario.Scenario) error {
	ctx, cancel := context.WithCancelCause(con.ctx)
	defer cancel(nil)
	if d.UntilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, con.stdin) // however it ends
			cancel(scenario.ErrInterrupted)
			// Whatever the work is stuck in: nobody is left to end this process.
			time.AfterFunc(5*time.Second, func() { os.Exit(exitInterrupted) })
		}()
	}
	client, err := connect(ctx, d.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	set := d.setting(con, 1)
	set.Client = client
	if d.Role != "verdict" {
		return scenario.Work(ctx, s, set, scenario.Post{Role: d.Role, Index: d.Index, Parent: d.UntilEOF}, con.stdout)
	}
	v, err := scenario.Conclude(ctx, s, set, d.Patience)
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		v = scenario.Failed(err)
	}
	return report(con, set, scenario.Row{Title: d.Namespace, Verdict: v})
}

func report(con *console, set scenario.Setting, row scenario.Row) error {
	if err := scenario.PrintRow(con.stdout, row, set.Lang, set.Colour); err != nil {
		return err
	}
	if !row.Passed {
		return errShown
	}
	return nil
}

// runOne is multihost demo NAME.
func (d *demo) runOne(con *console, s scenario.Scenario, words []string) error {
	st, stop, err := d.stage(con, 1)
	if err != nil {
		return err
	}
	defer stop()
	row, err := play(con, st, s, strings.Join(words, " "), words)
	if err != nil {
		return err
	}
	return report(con, st.Setting, row)
}

// runAll is multihost demo.
func (d *demo) runAll(con *console) error {
	st, stop, err := d.stage(con, 10)
	if err != nil {
		return err
	}
	defer stop()
	files, err := os.MkdirTemp("", "multihost-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(files)

	var table []scenario.Row
	failed := false
	namespace := st.Namespace
	for i, r := range rows {
		words := append(strings.Fields(r.title), r.extra...)
		for j := range words {
			if words[j] == "PATH" {
				words[j] = filepath.Join(files, "tickets.json")
			}
		}
		line, code := parse(append([]string{"demo"}, words...), con.stdout, con.stderr)
		if line == nil {
			return fmt.Errorf("demo %s: exit code %d", r.title, code)
		}
		st.Namespace = fmt.Sprintf("%s.%d", namespace, i)
		row, err := play(con, st, chosen(line), r.title, words)
		if err != nil {
			return err
		}
		fmt.Fprintln(con.stdout)
		table = append(table, row)
		failed = failed || !row.Passed
	}
	if err := scenario.PrintTable(con.stdout, table, st.Lang, st.Colour); err != nil {
		return err
	}
	if failed {
		return errShown
	}
	return nil
}

// play runs one scenario; the error is only for what ends the whole demo.
func play(con *console, st *scenario.Stage, s scenario.Scenario, title string, words []string) (scenario.Row, error) {
	if _, err := fmt.Fprintf(con.stdout, "%s (%s, --speed %g, --seed %d)\n", title, s.Cast().Source, st.Speed, st.Seed); err != nil {
		return scenario.Row{}, err
	}
	st.Args = append([]string{"demo"}, words...)
	v, err := st.Run(con.ctx, s)
	if errors.Is(err, scenario.ErrInterrupted) {
		fmt.Fprintln(con.stderr, "multihost: interrupted, and every worker has ended")
		return scenario.Row{}, err
	}
	if err != nil {
		fmt.Fprintf(con.stderr, "multihost: %s: %v\n", title, err)
		v = scenario.Failed(err)
	}
	return scenario.Row{Title: title, Verdict: v}, nil
}

// stage makes the stage, with a server of its own if none is given.
func (d *demo) stage(con *console, speed float64) (st *scenario.Stage, stop func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	url, stopServer := d.Redis, func() {}
	if url == "" {
		if url, stopServer, err = embed(); err != nil {
			return nil, nil, err
		}
	}
	var client redis.UniversalClient
	if client, err = connect(con.ctx, url); err != nil {
		stopServer()
		return nil, nil, err
	}
	set := d.setting(con, speed)
	set.Client = client
	return &scenario.Stage{
			Setting: set,
			Program: program,
			// Not an argument: everybody on the machine can read those, and it may hold a password.
			Env: []string{redisVariable + "=" + url},
			Out: con.stdout,
		}, func() {
			_ = client.Close() // the last thing this process does
			stopServer()
		}, nil
}
