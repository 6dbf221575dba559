package worldfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/homing-im/homing/region"
)

// Change is one difference between two worlds, in words.
type Change struct {
	Text    string // what changes
	Affects string // who notices
}

func (c Change) String() string { return c.Text + "; affects " + c.Affects }

// Diff says what a successor changes, the gravest first: who acts for whom,
// then regions, segments, keys, POPs, steering.
func Diff(old, now *region.World) []Change {
	d := &differ{old: old, now: now}
	d.acting()
	d.regions()
	d.segments()
	d.operators()
	d.pops()
	d.nodes("DNS node", old.DNS, now.DNS)
	d.nodes("ids node", old.IDs, now.IDs)
	d.steering()
	return d.changes
}

type differ struct {
	old, now *region.World
	changes  []Change
}

func (d *differ) add(affects, format string, args ...any) {
	d.changes = append(d.changes, Change{Text: fmt.Sprintf(format, args...), Affects: affects})
}

// owners of a home in words, by its segments.
func owners(w *region.World, id region.ID) string {
	var parts []string
	for _, s := range w.Segments {
		if s.Home == id {
			parts = append(parts, fmt.Sprintf("%d-%d", s.First, s.Last))
		}
	}
	if len(parts) == 0 {
		return "nobody yet: " + string(id) + " has no segment"
	}
	return "all owners at home in " + string(id) + " (" + strings.Join(parts, ", ") + ")"
}

func (d *differ) acting() {
	for i := range d.now.Regions {
		now := &d.now.Regions[i]
		was, ok := d.old.Region(now.ID)
		if !ok || was.Acting.Counter == now.Acting.Counter {
			continue
		}
		what := "acting region of %s: %s instead of %s (counter %d to %d)"
		if now.Acting.Region == was.Acting.Region {
			what = "acting region of %s: %s as before %s, at a new term (counter %d to %d)"
		}
		d.add(owners(d.now, now.ID), what, now.ID, now.Acting.Region, was.Acting.Region, was.Acting.Counter, now.Acting.Counter)
	}
}

func (d *differ) regions() {
	for i := range d.now.Regions {
		now := &d.now.Regions[i]
		was, ok := d.old.Region(now.ID)
		if !ok {
			d.add("every region: it votes, and is a destination of every journal", "new region %s (%s)", now.ID, now.Title)
			continue
		}
		if !slices.Equal(was.Backups, now.Backups) {
			d.add("who follows "+string(now.ID)+"'s journal in full", "backups of %s: %v instead of %v", now.ID, now.Backups, was.Backups)
		}
		if was.NewBackup != now.NewBackup {
			d.add("who follows the journal of "+string(now.Acting.Region)+" in full", "new backup of %s: %s instead of %s", now.ID, orNone(now.NewBackup), orNone(was.NewBackup))
		}
		if was.Away != now.Away {
			what := "region %s is back: it is waited for again"
			if now.Away {
				what = "region %s is away: journals are trimmed without it, and what it alone has counts as lost"
			}
			d.add("every region's journal", what, now.ID)
		}
		if !reflect.DeepEqual(was.Key, now.Key) {
			d.add("tickets and votes of "+string(now.ID)+" under the old key", "key of region %s is replaced", now.ID)
		}
		if !was.Serves.Equal(now.Serves) {
			d.add("clients of "+string(now.ID)+" when they connect next", "listeners of %s: %s instead of %s", now.ID, endpoints(now.Serves), endpoints(was.Serves))
		}
		if was.Admin != now.Admin || was.Queue != now.Queue {
			d.add("the other nodes", "node addresses of %s: admin %s, queue %s", now.ID, now.Admin, now.Queue)
		}
		if was.Title != now.Title || was.Place != now.Place || was.Users != now.Users || !slices.Equal(was.Zones, now.Zones) {
			d.add("steering by distance and capacity", "title, place, zones or capacity of %s", now.ID)
		}
	}
	for i := range d.old.Regions {
		if id := d.old.Regions[i].ID; !has(d.now, id) {
			d.add(owners(d.old, id)+" who have not been moved: nobody serves them", "region %s is retired for ever", id)
		}
	}
}

func has(w *region.World, id region.ID) bool {
	_, ok := w.Region(id)
	return ok
}

func (d *differ) segments() {
	for _, s := range d.now.Segments {
		if o, ok := d.old.SegmentOf(s.First); !ok || o.Last < s.Last {
			d.add("new owners of "+string(s.Home), "segment %d-%d for %s", s.First, s.Last, s.Home)
		}
	}
}

func (d *differ) operators() {
	if !reflect.DeepEqual(d.old.Operators, d.now.Operators) || d.old.Threshold != d.now.Threshold {
		d.add("who can sign the world after this one", "operators: %d keys of which %d sign, instead of %d of which %d", len(d.now.Operators), d.now.Threshold, len(d.old.Operators), d.old.Threshold)
	}
	if !reflect.DeepEqual(d.old.Root, d.now.Root) {
		d.add("nodes installed from now on: they pin the new one", "the root key is replaced")
	}
	if d.old.Zone != d.now.Zone {
		d.add("every client: it asks for names in the zone", "zone %s instead of %s", d.now.Zone, d.old.Zone)
	}
}

func (d *differ) pops() {
	for i := range d.now.POPs {
		now := &d.now.POPs[i]
		was, ok := d.old.POP(now.ID)
		if !ok {
			d.add("clients nearest to it", "new POP %s (%s)", now.ID, now.Title)
			continue
		}
		if was.Drain != now.Drain {
			verb := "drains: no new clients"
			if was.Drain {
				verb = "takes clients again"
			}
			d.add("clients nearest to it", "POP %s %s", now.ID, verb)
		}
		if was.Witness != now.Witness {
			d.add("what makes a majority on later worlds", "POP %s: witness %v instead of %v", now.ID, now.Witness, was.Witness)
		}
		if !reflect.DeepEqual(was.Key, now.Key) {
			d.add("whoever holds the old key: it is worth nothing", "key of POP %s is replaced", now.ID)
		}
		if !was.Serves.Equal(now.Serves) || was.Admin != now.Admin {
			d.add("its clients when they connect next", "addresses of POP %s: %s, admin %s", now.ID, endpoints(now.Serves), now.Admin)
		}
		if was.Title != now.Title || was.Place != now.Place || was.Users != now.Users {
			d.add("steering by distance and capacity", "title, place or capacity of POP %s", now.ID)
		}
	}
	for i := range d.old.POPs {
		if _, ok := d.now.POP(d.old.POPs[i].ID); !ok {
			d.add("its clients: they connect elsewhere; its key is worth nothing", "POP %s is gone", d.old.POPs[i].ID)
		}
	}
}

func (d *differ) nodes(kind string, old, now []region.Node) {
	was := make(map[string]region.Node)
	for _, n := range old {
		was[n.Name] = n
	}
	for _, n := range now {
		o, ok := was[n.Name]
		delete(was, n.Name)
		switch {
		case !ok:
			d.add("who asks it", "new %s %s", kind, n.Name)
		case !reflect.DeepEqual(o, n):
			d.add("who asks it", "addresses or key of %s %s", kind, n.Name)
		}
	}
	for _, n := range old {
		if _, gone := was[n.Name]; gone {
			d.add("who asks it", "%s %s is gone", kind, n.Name)
		}
	}
}

func (d *differ) steering() {
	if d.old.Steering != d.now.Steering {
		d.add("every answer without a rule of its own", "steering: %+v instead of %+v", d.now.Steering, d.old.Steering)
	}
	if !reflect.DeepEqual(d.old.Carriers, d.now.Carriers) || !reflect.DeepEqual(d.old.Places, d.now.Places) {
		d.add("clients whose place or carrier is looked up there", "carriers or places")
	}
	was := make(map[string]region.Rule)
	for _, r := range d.old.Rules {
		was[r.Name] = r
	}
	for _, r := range d.now.Rules {
		o, ok := was[r.Name]
		switch {
		case !ok:
			d.add("clients with "+matchText(r.Match), "new rule %s: %s", r.Name, actText(r.Act))
		case !reflect.DeepEqual(o, r):
			d.add("clients with "+matchText(r.Match)+", were "+matchText(o.Match), "rule %s: %s instead of %s", r.Name, actText(r.Act), actText(o.Act))
		}
		delete(was, r.Name)
	}
	for _, r := range d.old.Rules {
		if _, gone := was[r.Name]; gone {
			d.add("clients with "+matchText(r.Match), "rule %s is gone", r.Name)
		}
	}
	if a, b := names(d.old.Rules, d.now.Rules), names(d.now.Rules, d.old.Rules); !slices.Equal(a, b) {
		d.add("clients that several rules match", "order of rules: %s", strings.Join(b, ", "))
	}
}

// names of the rules that are in both lists, in the order of the first.
func names(rules, other []region.Rule) []string {
	var out []string
	for _, r := range rules {
		if slices.ContainsFunc(other, func(o region.Rule) bool { return o.Name == r.Name }) {
			out = append(out, r.Name)
		}
	}
	return out
}

func orNone(id region.ID) string {
	if id == "" {
		return "none"
	}
	return string(id)
}

func endpoints(e region.Endpoints) string {
	var parts []string
	for _, s := range []region.Service{region.Long, region.Short, region.Web} {
		if a, ok := e.Of(s); ok {
			parts = append(parts, string(s)+" "+a.String())
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
