package cli

import (
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"

	"github.com/multihost/multihost/internal/scenario"
)

// A service is what these tests read of compose.yaml.
type service struct {
	Profiles   []string
	Entrypoint []string
	Command    any // a string, but for Redis
	Deploy     struct{ Replicas int }
	DependsOn  map[string]struct{ Condition string } `yaml:"depends_on"`
	Networks   []string
	ReadOnly   bool     `yaml:"read_only"`
	CapDrop    []string `yaml:"cap_drop"`
	Security   []string `yaml:"security_opt"`
	Ports      []any
}

var variables = regexp.MustCompile(`\$\{(\w+):-([^}]*)\}`)

// services reads compose.yaml as it is with some variables set.
func services(t *testing.T, set map[string]string) map[string]service {
	t.Helper()
	data, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := variables.ReplaceAllStringFunc(string(data), func(v string) string {
		parts := variables.FindStringSubmatch(v)
		if value, ok := set[parts[1]]; ok {
			return value
		}
		return parts[2]
	})
	var file struct{ Services map[string]service }
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

// profile is the name of a row's profile: tickets-no-lock for tickets --no-lock.
func profile(title string) string {
	return strings.NewReplacer(" --", "-", " PATH", "", " ", "-").Replace(title)
}

// commandLine parses a command line that must be right.
func commandLine(t *testing.T, args []string) *kong.Context {
	t.Helper()
	var complaint strings.Builder
	line, _ := parse(args, io.Discard, &complaint)
	if line == nil {
		t.Fatalf("%q: %s", args, complaint.String())
	}
	return line
}

// ignoringAddr is a scenario without what its processes need not agree on.
func ignoringAddr(s scenario.Scenario) scenario.Scenario {
	if chat, ok := s.(*scenario.Chat); ok {
		same := *chat
		same.Addr = ""
		return &same
	}
	return s
}

// Each row of the closing table is a profile, with a service for each role and one for
// the verdict, and all of them have the row's options.
func TestEachScenarioIsAProfile(t *testing.T) {
	t.Setenv(redisVariable, "")
	all := services(t, nil)
	expected := map[string]bool{"redis": true}
	for _, row := range rows {
		words := strings.Fields(strings.Replace(row.title, "PATH", "/data/tickets.json", 1))
		wanted := chosen(commandLine(t, append([]string{"demo"}, words...)))
		name := profile(row.title)
		needs := map[string]string{"redis": "service_healthy"}
		for _, role := range wanted.Cast().Roles {
			expected[role.Name+"-"+name] = true
			checkService(t, all, role.Name, name, wanted, needs)
		}
		for _, role := range wanted.Cast().Roles {
			needs[role.Name+"-"+name] = "service_started"
		}
		expected["verdict-"+name] = true
		checkService(t, all, "verdict", name, wanted, needs)
	}
	for name := range all {
		if !expected[name] {
			t.Errorf("compose.yaml has a service %s, which is of no scenario", name)
		}
	}
}

func checkService(t *testing.T, all map[string]service, role, profile string, wanted scenario.Scenario, needs map[string]string) {
	t.Helper()
	name := role + "-" + profile
	s, ok := all[name]
	if !ok {
		t.Errorf("compose.yaml has no service %s", name)
		return
	}
	line := commandLine(t, arguments(t, name, s))
	options := line.Model.Target.Interface().(commands).Demo
	if options.Role != role || options.Namespace != profile || options.Redis != "redis://redis:6379" {
		t.Errorf("%s is --role=%s --run=%s --redis=%s", name, options.Role, options.Namespace, options.Redis)
	}
	if got := ignoringAddr(chosen(line)); !reflect.DeepEqual(got, ignoringAddr(wanted)) {
		t.Errorf("%s is %+v, the row is %+v", name, got, wanted)
	}
	if !slices.Equal(s.Profiles, []string{profile}) {
		t.Errorf("%s is in the profiles %v", name, s.Profiles)
	}
	got := map[string]string{}
	for other, d := range s.DependsOn {
		got[other] = d.Condition
	}
	if !maps.Equal(got, needs) {
		t.Errorf("%s depends on %v, should on %v", name, got, needs)
	}
}

// arguments are those of the command in a service.
func arguments(t *testing.T, name string, s service) []string {
	t.Helper()
	command, ok := s.Command.(string)
	if !ok || len(s.Entrypoint) == 0 {
		t.Fatalf("%s has the entrypoint %q and the command %v", name, s.Entrypoint, s.Command)
	}
	return append(slices.Clone(s.Entrypoint[1:]), strings.Fields(command)...)
}

// A number that is set reaches everybody: there are as many containers of each role as
// each of them and the verdict know of.
func TestNumbersReachWorkersAndVerdict(t *testing.T) {
	t.Setenv(redisVariable, "")
	for _, set := range []map[string]string{
		nil,
		{"BUYERS": "20", "TICKETS": "7", "WORKERS": "6", "CARS": "4", "CLIENTS": "9", "SERVERS": "3", "SINGERS": "8", "ROOM": "6",
			"PRODUCERS": "2", "CONSUMERS": "5", "SPEED": "5", "SEED": "3", "DEMO_LANG": "zh"},
	} {
		all := services(t, set)
		byRole := map[string]int{}
		for name, s := range all {
			if name == "redis" {
				continue
			}
			line := commandLine(t, arguments(t, name, s))
			options := line.Model.Target.Interface().(commands).Demo
			for _, role := range chosen(line).Cast().Roles {
				worker := all[role.Name+"-"+s.Profiles[0]]
				if got := max(worker.Deploy.Replicas, 1); got != role.Count {
					t.Errorf("%s knows of %d %ss, and there are %d", name, role.Count, role.Name, got)
				}
				byRole[role.Name] = role.Count
			}
			if set != nil && (*options.Speed != 5 || options.Seed != 3 || options.Lang != scenario.Chinese) {
				t.Errorf("%s has --speed=%v --seed=%d --lang=%s", name, *options.Speed, options.Seed, options.Lang)
			}
			if tickets, ok := chosen(line).(*scenario.Tickets); ok && set != nil && tickets.Tickets != 7 {
				t.Errorf("%s has %d tickets", name, tickets.Tickets)
			}
		}
		if set != nil && (byRole["buyer"] != 20 || byRole["car"] != 4 || byRole["client"] != 9 ||
			byRole["singer"] != 8 || byRole["consumer"] != 5) {
			t.Errorf("the numbers that were set became %v", byRole)
		}
	}
}

// No container can do more than it must, and none can be reached from outside.
func TestContainersAreShutOff(t *testing.T) {
	for name, s := range services(t, nil) {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.Security, []string{"no-new-privileges:true"}) ||
			!slices.Equal(s.Networks, []string{"demo"}) || s.Ports != nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
