package scenario

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/homing-im/homing/cmd/homing/demo"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
)

// stopTimeout bounds the stop of the story's demo.
const stopTimeout = 3 * time.Second

// story is what a demo is started for.
type story struct {
	name      string
	sabotages []sabotage
	play      func(*demo.Demo, sabotage) (steps []Step, end func())
}

var stories = []story{
	{"hello", sabotages, func(d *demo.Demo, _ sabotage) ([]Step, func()) {
		h := &hello{demo: d, at: d.Endpoints()}
		return h.steps(), h.close
	}},
	{"switchover", handoverSabotages, func(d *demo.Demo, _ sabotage) ([]Step, func()) {
		h := newHandover(d)
		return h.switchoverSteps(), h.close
	}},
	{"disaster", append(disasterSabotages, handoverSabotages...), func(d *demo.Demo, s sabotage) ([]Step, func()) {
		h := newHandover(d)
		h.lost = s.returns
		return h.disasterSteps(), h.close
	}},
	{"relapse", handoverSabotages, func(d *demo.Demo, _ sabotage) ([]Step, func()) {
		r := &relapse{handover: newHandover(d)}
		return r.steps(), r.close
	}},
	{"cutoff", append(cutoffSabotages, handoverSabotages...), func(d *demo.Demo, s sabotage) ([]Step, func()) {
		c := &cutoff{handover: newHandover(d), silent: s.name == "deaf"}
		return c.steps(), c.close
	}},
	{"move", append(moveSabotages, handoverSabotages...), func(d *demo.Demo, s sabotage) ([]Step, func()) {
		m := &move{handover: newHandover(d), stuck: s.name == "target"}
		return m.steps(), m.close
	}},
}

// Names lists the stories.
func Names() string {
	var names []string
	for _, s := range stories {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

// sabotage breaks one part of a demo, before the start or after it.
type sabotage struct {
	name    string
	options func(nodeName string) node.Options
	apply   func(context.Context, *demo.Demo) error
	returns func(*demo.Demo) error // called before a region that died comes back
}

var sabotages = []sabotage{
	{name: "queue", apply: func(_ context.Context, d *demo.Demo) error { return d.Node("sh").StopQueue() }},
	{name: "replay", apply: func(_ context.Context, d *demo.Demo) error { d.Node("hk").Replicator().Replay().Pause(); return nil }},
	{name: "pop", apply: func(ctx context.Context, d *demo.Demo) error {
		for name := range d.Endpoints().POPs {
			if err := d.Stop(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "epoch", apply: func(ctx context.Context, d *demo.Demo) error {
		// The store believes in a newer term than the world: whoever wrote at the
		// world's epoch has been superseded.
		_, term, _ := d.View().Acting("sh")
		term.Counter++
		return d.Node("sh").Store().Fence(ctx, "sh", term)
	}},
	{name: "key", options: func(name string) node.Options {
		if name != "sh" {
			return node.Options{}
		}
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			panic(err) // the system has no randomness
		}
		return node.Options{TicketKey: key}
	}},
	{name: "dns", apply: func(ctx context.Context, d *demo.Demo) error { return d.Stop(ctx, "dns-1") }},
}

// handoverSabotages break what a change of region needs.
var handoverSabotages = []sabotage{
	// Somebody signs with the key of a region, which is no operator's.
	{name: "operator", apply: func(_ context.Context, d *demo.Demo) error {
		path := d.Endpoints().OperatorKey
		b, err := os.ReadFile(filepath.Join(filepath.Dir(path), "region-sh.pem"))
		if err != nil {
			return err
		}
		return os.WriteFile(path, b, 0o600)
	}},
	{name: "replay", apply: func(_ context.Context, d *demo.Demo) error { d.Node("hk").Replicator().Replay().Pause(); return nil }},
}

// disasterSabotages break the return.
var disasterSabotages = []sabotage{
	{name: "disk", returns: func(d *demo.Demo) error {
		return os.RemoveAll(filepath.Join(d.Endpoints().Dir, "state", "sh", "store"))
	}},
}

// cutoffSabotages break how a region that was cut off learns that it was
// replaced.
var cutoffSabotages = []sabotage{
	{name: "deaf"}, // its line to the others stays cut
}

// moveSabotages break the end of a move.
var moveSabotages = []sabotage{
	{name: "target"}, // the new home stays away
}

// Sabotages lists what can be broken, by story.
func Sabotages() string {
	var out []string
	for _, t := range stories {
		var names []string
		for _, b := range t.sabotages {
			names = append(names, b.name)
		}
		out = append(out, t.name+": "+strings.Join(names, ", "))
	}
	return strings.Join(out, "; ")
}

// Run starts a demo, breaks the part that broken names (none when empty), plays
// the story, and stops the demo. The error names the step that failed.
func Run(ctx context.Context, w io.Writer, o demo.Options, name, broken string) error {
	i := slices.IndexFunc(stories, func(t story) bool { return t.name == name })
	if i < 0 {
		return fmt.Errorf("--scenario %q: there is %s", name, Names())
	}
	told := stories[i]
	var s sabotage
	if broken != "" {
		i := slices.IndexFunc(told.sabotages, func(b sabotage) bool { return b.name == broken })
		if i < 0 {
			return fmt.Errorf("--sabotage %q: there is %s", broken, Sabotages())
		}
		s = told.sabotages[i]
		o.Node = s.options
	}
	for _, need := range []region.ID{"sh", "hk", "ca"} {
		if len(o.Regions) > 0 && !slices.Contains(o.Regions, string(need)) {
			return fmt.Errorf("the story %s is told in the regions sh, hk and ca", name)
		}
	}
	began := time.Now()
	d, err := demo.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := d.Close(stop); err != nil {
			fmt.Fprintln(w, "stopping:", err)
		}
	}()
	fmt.Fprintf(w, "world up in %s\n", time.Since(began).Round(time.Millisecond))
	if s.apply != nil {
		if err := s.apply(ctx, d); err != nil {
			return fmt.Errorf("sabotage %s: %w", broken, err)
		}
	}
	if broken != "" {
		fmt.Fprintf(w, "sabotaged: %s\n", broken)
	}
	steps, end := told.play(d, s)
	defer end()
	return Play(ctx, w, steps)
}
