package scenario

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/homing-im/homing/cmd/homing/demo"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
)

// stopTimeout bounds the stop of the story's demo.
const stopTimeout = 3 * time.Second

// Names lists the stories.
func Names() string { return "hello" }

// sabotage breaks one part of a demo, before the start or after it.
type sabotage struct {
	name    string
	options func(nodeName string) node.Options
	apply   func(context.Context, *demo.Demo) error
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

// Sabotages lists what can be broken.
func Sabotages() string {
	var s []string
	for _, b := range sabotages {
		s = append(s, b.name)
	}
	return strings.Join(s, ", ")
}

// Run starts a demo, breaks the part that broken names (none when empty), plays
// the story, and stops the demo. The error names the step that failed.
func Run(ctx context.Context, w io.Writer, o demo.Options, story, broken string) error {
	if story != "hello" {
		return fmt.Errorf("--scenario %q: there is %s", story, Names())
	}
	var s sabotage
	if broken != "" {
		i := slices.IndexFunc(sabotages, func(b sabotage) bool { return b.name == broken })
		if i < 0 {
			return fmt.Errorf("--sabotage %q: want one of %s", broken, Sabotages())
		}
		s = sabotages[i]
		o.Node = s.options
	}
	for _, need := range []region.ID{"sh", "hk", "ca"} {
		if len(o.Regions) > 0 && !slices.Contains(o.Regions, string(need)) {
			return fmt.Errorf("the story %s is told in the regions sh, hk and ca", story)
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
	h := &hello{demo: d, at: d.Endpoints()}
	defer h.close()
	return Play(ctx, w, h.steps())
}
