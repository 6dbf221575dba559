package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/worldfile"
)

func newDNSCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "dns", Short: "Try changes of steering before they are signed, keep the zone's keys, see who asks, move from another server"}
	cmd.AddCommand(newSimulateCommand(e), newKeyCommand(e), newTopCommand(e), newImportCommand(e), newShadowCommand(e))
	return cmd
}

// simulate is what the command's flags say.
type simulate struct {
	world, traffic string
	live           time.Duration
	geo, down      []string
	json, each     bool
}

// prediction is what one question is answered before and after.
type prediction struct {
	authority.Question
	Before []steer.Endpoint `json:"before"`
	After  []steer.Endpoint `json:"after"`
}

func newSimulateCommand(e *env) *cobra.Command {
	var s simulate
	cmd := &cobra.Command{
		Use: "simulate --world new.yaml", Short: "Say which clients a world file would send elsewhere", Args: cobra.NoArgs,
		Long: `Answers questions by the newest world of the nodes and by a world file that nobody
has signed yet, and says what differs. The questions are those that the DNS
nodes were asked lately (--from-live), or those of a file (--traffic) with one
JSON object on each line:

  {"service":"long","uin":1000001,"version":80003,"client":"223.5.5.0/24"}

Everybody is taken to be healthy, but for --down. Loads and round trips are those
that a DNS node measures now; it does so while a rule of the running world looks
at them, else nobody is loaded and distances come from the map alone. Owners who moved out of their
segment are answered as if they had not. It signs nothing and changes nothing.`,
		Example: "  homing dns simulate --world new.yaml --from-live 5m\n  homing dns simulate --world new.yaml --traffic questions.json --down pop-1",
		RunE:    func(c *cobra.Command, _ []string) error { return s.run(c.Context(), e) },
	}
	f := cmd.Flags()
	f.StringVar(&s.world, "world", "", "world file to try")
	f.StringVar(&s.traffic, "traffic", "", "file of questions, one JSON object a line")
	f.DurationVar(&s.live, "from-live", 0, "take the questions of so long before now from the DNS nodes")
	f.StringSliceVar(&s.geo, "geo", nil, "geo databases for the clients of --traffic (default: the built-in countries)")
	f.StringSliceVar(&s.down, "down", nil, "POPs and regions that are not healthy in the new world")
	f.BoolVar(&s.each, "each", false, "print every question with its two answers, a JSON object a line, instead of what differs")
	f.BoolVar(&s.json, "json", false, "print the outcome as JSON")
	return cmd
}

func (s *simulate) run(ctx context.Context, e *env) error {
	switch {
	case s.world == "":
		return errors.New("say which world to try: --world new.yaml")
	case (s.traffic == "") == (s.live <= 0):
		return errors.New("say where the questions come from: --traffic FILE, or --from-live 5m")
	}
	before, err := s.current(ctx, e)
	if err != nil {
		return err
	}
	after, err := worldfile.CompileFile(s.world, before)
	if err != nil {
		return err
	}
	health, err := s.health(after)
	if err != nil {
		return err
	}
	v1, v2 := region.NewView(before.World, before.Hash, nil), region.NewView(after, region.Hash{}, nil)
	questions, err := s.questions(ctx, before.World, v2)
	if err != nil {
		return err
	}
	clients := make([]steer.Client, len(questions))
	for i := range questions {
		clients[i] = questions[i].Steered()
	}
	each := json.NewEncoder(e.out)
	var failed error
	was := allHealthy(before.World)
	s.measured(ctx, before.World).Into(was)
	health.Loads, health.RTTs = was.Loads, was.RTTs
	outcome := steer.Simulate(v1, v2, was, health, clients, func(i int, a, b steer.Answer) {
		if s.each && failed == nil {
			failed = each.Encode(prediction{questions[i], a.Endpoints, b.Endpoints})
		}
	})
	if s.each || failed != nil {
		return failed
	}
	faults := steer.Faults(after)
	if s.json {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Before uint64 `json:"before"`
			steer.Simulation
			Faults []steer.Fault `json:"faults"`
		}{before.World.Version, outcome, faults})
	}
	s.print(e, before.World, outcome, faults)
	return nil
}

// current is the newest world that a region has.
func (s *simulate) current(ctx context.Context, e *env) (*region.Known, error) {
	at, err := e.find()
	if err != nil {
		return nil, err
	}
	var last error
	for _, r := range at.Regions {
		got, err := keeper.Newest(ctx, http.DefaultClient, r.Admin)
		if err != nil {
			last = err
			continue
		}
		w, err := got.Signed.Decode()
		if err != nil {
			return nil, err
		}
		return &region.Known{Signed: got.Signed, World: w, Hash: got.Signed.Hash()}, nil
	}
	return nil, fmt.Errorf("no region tells its world: %w", last)
}

// measured is what the first DNS node that answers knows of loads and round
// trips; nothing when none does, as while no rule looks at them.
func (s *simulate) measured(ctx context.Context, w *region.World) *observe.Measured {
	for _, node := range w.DNS {
		b, err := get(ctx, fmt.Sprintf("http://%s/dns/measured", node.Admin))
		m := new(observe.Measured)
		if err == nil && json.Unmarshal(b, m) == nil {
			return m
		}
	}
	return new(observe.Measured)
}

func allHealthy(w *region.World) *steer.Up {
	up := &steer.Up{POPs: map[region.POPID]bool{}, Regions: map[region.ID]bool{}}
	for i := range w.POPs {
		up.POPs[w.POPs[i].ID] = true
	}
	for i := range w.Regions {
		up.Regions[w.Regions[i].ID] = true
	}
	return up
}

// health is everybody's but for those who are down.
func (s *simulate) health(w *region.World) (*steer.Up, error) {
	up := allHealthy(w)
	for _, name := range s.down {
		switch {
		case up.POPs[region.POPID(name)]:
			delete(up.POPs, region.POPID(name))
		case up.Regions[region.ID(name)]:
			delete(up.Regions, region.ID(name))
		default:
			return nil, fmt.Errorf("--down %s: the world has no such POP or region", name)
		}
	}
	return up, nil
}

func (s *simulate) questions(ctx context.Context, w *region.World, v *region.View) ([]authority.Question, error) {
	if s.live > 0 {
		return liveQuestions(ctx, w, s.live)
	}
	text, err := os.ReadFile(s.traffic)
	if err != nil {
		return nil, err
	}
	db, err := geo.Open(geo.Options{Files: s.geo, View: func() *region.View { return v }})
	if err != nil {
		return nil, err
	}
	var out []authority.Question
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var q authority.Question
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			return nil, fmt.Errorf("%s:%d: %w: want an object such as {\"service\":\"long\",\"uin\":1000001,\"client\":\"223.5.5.0/24\"}", s.traffic, n, err)
		}
		if q.Service != region.Long && q.Service != region.Short && q.Service != region.Web {
			return nil, fmt.Errorf("%s:%d: service %q: want long, short or web", s.traffic, n, q.Service)
		}
		q.Facts = db.LookupPrefix(q.Client)
		out = append(out, q)
	}
	return out, lines.Err()
}

// liveQuestions asks all DNS nodes what they were asked.
func liveQuestions(ctx context.Context, w *region.World, before time.Duration) ([]authority.Question, error) {
	var out []authority.Question
	var last error
	answered := false
	for _, node := range w.DNS {
		b, err := get(ctx, fmt.Sprintf("http://%s/dns/questions?seconds=%d", node.Admin, max(1, int(before.Seconds()))))
		if err != nil {
			last = err
			continue
		}
		var some []authority.Question
		if err := json.Unmarshal(b, &some); err != nil {
			return nil, fmt.Errorf("DNS node %s: %w", node.Name, err)
		}
		answered = true
		out = append(out, some...)
	}
	if !answered {
		return nil, fmt.Errorf("no DNS node tells what it was asked: %w", last)
	}
	return out, nil
}

func (s *simulate) print(e *env, before *region.World, outcome steer.Simulation, faults []steer.Fault) {
	fmt.Fprintf(e.out, "%d questions, world %d against %s\n", outcome.Clients, before.Version, s.world)
	fmt.Fprintf(e.out, "%d go somewhere else, %d keep their first choice with another order, TTL or scope, %d would find nobody\n",
		outcome.Moved, outcome.Changed, outcome.Nobody)
	for _, c := range outcome.Changes {
		to := c.To
		if to == "" {
			to = "nobody"
		}
		fmt.Fprintf(e.out, "%8d  %s -> %s  (rule %s -> %s)  such as %s\n", c.Clients, c.From, to, c.RuleFrom, c.RuleTo, describeClients(c.Examples))
	}
	for _, f := range faults {
		fmt.Fprintf(e.out, "homing world sign would refuse it: %s\n", f)
	}
}

func describeClients(clients []steer.Client) string {
	var out []string
	for _, c := range clients {
		text := c.Prefix.String()
		if c.UIN != 0 {
			text += fmt.Sprintf(" UIN %d", c.UIN)
		}
		if c.Version != 0 {
			text += fmt.Sprintf(" version %d", c.Version)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}
