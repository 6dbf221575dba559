// Package acting is the operator's hand on who acts for a home: the commands
// homing region switchover, failover, failback and report.
//
// A change is planned first, and the plan says who is affected and what could be
// lost. Carrying it out signs the next world with the operator's key, delivers
// it, and waits until the new region serves every partition. Nothing but the key,
// this program and one region that answers is needed.
package acting

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/succession"
	"github.com/homing-im/homing/region/worldfile"
)

// Kind is why who acts changes.
type Kind string

// The kinds.
const (
	Switchover Kind = "switchover" // planned: nothing is lost
	Failover   Kind = "failover"   // forced: the region is gone, or cut off
	Failback   Kind = "failback"   // a switchover home
)

// Operator changes who acts.
type Operator struct {
	Dir    worldfile.Directory
	Client *http.Client // to nodes; its timeout is how long a dead one holds a plan up
	Out    io.Writer    // progress
}

// Plan is what a change would do. It is true of the moment it was made.
type Plan struct {
	Kind  Kind      `json:"kind"`
	Home  region.ID `json:"home"`
	From  region.ID `json:"from"` // who acts now
	To    region.ID `json:"to"`
	World uint64    `json:"world"` // the one that is there

	FromAnswers bool    `json:"fromAnswers"`
	Online      int     `json:"online"`   // users connected to From; 0 when it does not answer
	Capacity    uint64  `json:"capacity"` // connections To is made for; 0 is unstated
	Load        int     `json:"load"`     // connections To has
	HasCopy     bool    `json:"hasCopy"`  // To replays From's whole journal, and that has not stopped
	Records     uint64  `json:"records"`  // that To is known to lack
	Seconds     float64 `json:"seconds"`  // everything From wrote before that age is at To
	State       string  `json:"state"`    // of that replay
	Single      bool    `json:"single"`   // afterwards no other live region has a copy

	TTL     uint32 `json:"ttl"`               // seconds that resolvers and clients keep an old answer of the DNS
	TTLRule string `json:"ttlRule,omitempty"` // the steering rule that makes it longer than the world's default, if any
}

// longestTTL is how long an answer of the smart DNS may live on after a change,
// and the rule that is to blame when it is longer than the default.
func longestTTL(w *region.World) (seconds uint32, rule string) {
	seconds = w.Steering.TTL
	for i := range w.Rules {
		if ttl := w.Rules[i].Act.TTL; ttl > seconds {
			seconds, rule = ttl, w.Rules[i].Name
		}
	}
	return seconds, rule
}

// status is what a region's admin listener tells.
func (o *Operator) status(ctx context.Context, r *region.Region) (*observe.NodeStatus, error) {
	st := new(observe.NodeStatus)
	return st, o.get(ctx, r, "/status", st)
}

func (o *Operator) get(ctx context.Context, r *region.Region, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Admin+path, nil)
	if err != nil {
		return err
	}
	res, err := o.Client.Do(req)
	if err != nil {
		return region.Errorf(region.Unavailable, "region %s does not answer", r.ID).WithCause(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("region %s: %s: %s", r.ID, path, res.Status)
	}
	return json.Unmarshal(b, into)
}

// Report asks a region how the ownership of homes stands there.
func (o *Operator) Report(ctx context.Context, r *region.Region) (*succession.Report, error) {
	rep := new(succession.Report)
	return rep, o.get(ctx, r, "/region/report", rep)
}

// tip is the newest signed world, which a change follows.
func tip(l *worldfile.Ledger) (*region.Known, error) {
	tips := l.Tips()
	if len(tips) != 1 {
		return nil, region.Errorf(region.Conflict, "%d signed worlds have no successor", len(tips)).WithHint("sign one that names them all with `homing world sign --parent`")
	}
	return tips[0], nil
}

// withWorld opens the ledger for the newest signed world.
func (o *Operator) withWorld(do func(*worldfile.Ledger, *region.Known) error) error {
	l, err := o.Dir.Ledger()
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	k, err := tip(l)
	if err != nil {
		return err
	}
	return do(l, k)
}

// Plan makes a plan; to "" is the home's backup, or the home itself for a
// failback.
//
// Errors: BadInput for a change that makes no sense; Unavailable when the region
// that would act does not answer.
func (o *Operator) Plan(ctx context.Context, kind Kind, home, to region.ID) (p *Plan, err error) {
	err = o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error {
		p, err = o.plan(ctx, k.World, kind, home, to)
		return err
	})
	return p, err
}

func (o *Operator) plan(ctx context.Context, w *region.World, kind Kind, home, to region.ID) (*Plan, error) {
	r, ok := w.Region(home)
	if !ok {
		return nil, region.Errorf(region.BadInput, "world %d has no region %s", w.Version, home)
	}
	p := &Plan{Kind: kind, Home: home, From: r.Acting.Region, To: to, World: w.Version}
	p.TTL, p.TTLRule = longestTTL(w)
	switch {
	case kind == Failback:
		p.To = home
	case to == "":
		if p.To, ok = r.Backup(); !ok {
			return nil, region.Errorf(region.BadInput, "region %s has no backup", home).WithHint("name one with --to")
		}
	}
	target, ok := w.Region(p.To)
	switch {
	case !ok:
		return nil, region.Errorf(region.BadInput, "world %d has no region %s", w.Version, p.To)
	case p.To == p.From:
		return nil, region.Errorf(region.BadInput, "region %s acts for %s already", p.To, home)
	}
	st, err := o.status(ctx, target)
	if err != nil {
		return nil, err
	}
	p.Capacity = target.Users
	if st.Region != nil {
		p.Load = st.Region.Connections
		for _, l := range st.Region.Lags {
			if l.Origin == string(p.From) && l.Stream == string(journal.Full) {
				p.HasCopy = copied(l) && (p.From == home || caughtUp(w, home, p.To, st))
				p.Records, p.Seconds, p.State = l.Records, l.Seconds, l.State
			}
		}
	}
	if from, ok := w.Region(p.From); ok {
		if st, err := o.status(ctx, from); err == nil {
			p.FromAnswers = true
			if st.Region != nil {
				p.Online = st.Region.Users
			}
		}
	}
	p.Single = kind == Failover && !p.FromAnswers
	return p, nil
}

// caughtUp says whether a region that takes a home from another one than the
// home itself has what the home wrote before.
func caughtUp(w *region.World, home, to region.ID, st *observe.NodeStatus) bool {
	if to == home {
		return true
	}
	return slices.ContainsFunc(st.Region.Lags, func(l observe.Lag) bool {
		return l.Origin == string(home) && l.Stream == string(journal.Full) && copied(l)
	})
}

// copied says whether the replay of a whole journal goes on, and began before
// its origin went: a replica that never heard from it may lack everything.
func copied(l observe.Lag) bool {
	return l.State != "bootstrap" && l.State != "diverged" && !l.Unheard
}

// Refusal says why the plan must not be carried out; acceptLoss is the
// operator's word that records may vanish.
func (p *Plan) Refusal(acceptLoss bool) error {
	switch {
	case p.Kind != Failover && !p.FromAnswers:
		return region.Errorf(region.Unavailable, "region %s does not answer, and would have to end its term", p.From).WithHint("homing region failover %s", p.Home)
	case p.Kind != Failover && !p.HasCopy:
		return region.Errorf(region.Conflict, "region %s has no copy of %s's records that is caught up", p.To, p.Home).WithHint("name its backup with --to")
	case !p.HasCopy && !acceptLoss:
		return region.Errorf(region.Conflict, "region %s has no copy of %s's records that is caught up: everything of %s that it lacks would vanish", p.To, p.Home, p.Home).
			WithHint("name another region with --to, or say --accept-loss")
	}
	return nil
}

// Print says the plan to people.
func (p *Plan) Print(w io.Writer) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	say("plan: %s of %s, from %s to %s (world %d)", p.Kind, p.Home, p.From, p.To, p.World)
	if p.FromAnswers {
		say("  %s answers; %d users are connected to it", p.From, p.Online)
	} else {
		say("  %s does not answer", p.From)
	}
	switch {
	case !p.HasCopy:
		say("  %s HAS NO COPY that is caught up: everything it lacks would vanish until %s returns", p.To, p.From)
	case p.Kind == Failover:
		say("  %s has %s's records but for %d that it knows of; what was written in the last %.1f s may be missing until %s returns", p.To, p.From, p.Records, p.Seconds, p.From)
	default:
		say("  %s lacks %d records now, %.1f s; it serves when it has them all, and nothing is lost", p.To, p.Records, p.Seconds)
	}
	if p.Capacity > 0 {
		share := 100 * float64(p.Load+p.Online) / float64(p.Capacity)
		say("  %s would have %d of %d connections, %.0f %%", p.To, p.Load+p.Online, p.Capacity, share)
		if share > 100 {
			say("  %s IS TOO SMALL for both", p.To)
		}
	}
	because := "steering.ttl of the world"
	if p.TTLRule != "" {
		because = "ttl of rule " + p.TTLRule
	}
	say("  DNS answers already given lead to %s for up to %d s more (%s); clients behind a POP are not held up by them", p.From, p.TTL, because)
	if p.Single {
		say("  SINGLE COPY afterwards, until %s returns", p.From)
	}
}
