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

	Survivors []Survivor `json:"survivors"`        // who answers, but for From
	Gaps      []Gap      `json:"gaps"`             // that To is known to have
	Open      int        `json:"open"`             // ranges that a change before left open: not merged yet
	OpenOf    region.ID  `json:"openOf,omitempty"` // whose journal they are of

	PeakFrom  int  `json:"peakFrom"`  // most connections of From in the last week, as far as anybody knows
	PeakTo    int  `json:"peakTo"`    // of To
	PeakKnown bool `json:"peakKnown"` // somebody knows From's

	NewBackup region.ID `json:"newBackup,omitempty"` // that begins a second copy

	Lost *Lost `json:"lost,omitempty"` // what would vanish; nil: not asked for

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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, region.AdminURL(r.Admin)+path, nil)
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

// withNewest is withWorld for who only reads.
func (o *Operator) withNewest(do func(*region.World) error) error {
	return o.withWorld(func(_ *worldfile.Ledger, k *region.Known) error { return do(k.World) })
}

// Wish is what an operator wants of a change.
type Wish struct {
	Kind      Kind
	Home      region.ID
	To        region.ID // "": the home's backup, or the home itself for a failback
	NewBackup region.ID // "": none
}

// Plan makes a plan. A region that does not answer is asked several times.
//
// Errors: BadInput for a change that makes no sense; Unavailable when the region
// that would act, or the new backup, does not answer.
func (o *Operator) Plan(ctx context.Context, want Wish) (p *Plan, err error) {
	err = o.withNewest(func(w *region.World) error {
		p, err = o.plan(ctx, w, want)
		return err
	})
	return p, err
}

func (o *Operator) plan(ctx context.Context, w *region.World, want Wish) (*Plan, error) {
	p, err := wished(w, want)
	if err != nil {
		return nil, err
	}
	target, _ := w.Region(p.To)
	st, err := o.ask(ctx, target)
	if err != nil {
		return nil, err
	}
	if backup, ok := w.Region(p.NewBackup); ok {
		if _, err := o.ask(ctx, backup); err != nil {
			return nil, err
		}
	}
	p.Capacity = target.Users
	if st.Region != nil {
		p.Load, p.PeakTo = st.Region.Connections, max(st.Region.Peak, st.Region.Connections)
		p.PeakFrom, p.PeakKnown = st.Region.Peaks[string(p.From)]
		for _, l := range st.Region.Lags {
			if l.Origin == string(p.From) && l.Stream == string(journal.Full) {
				p.HasCopy = copied(l) && (p.From == p.Home || caughtUp(w, p.Home, p.To, st))
				p.Records, p.Seconds, p.State = l.Records, l.Seconds, l.State
			}
		}
	}
	from, ok := w.Region(p.From)
	if ok {
		if st, err := o.ask(ctx, from); err == nil {
			p.FromAnswers = true
			if st.Region != nil {
				p.Online = st.Region.Users
				p.PeakFrom, p.PeakKnown = max(st.Region.Peak, st.Region.Connections), true
			}
		}
	}
	p.Survivors = o.survivors(ctx, w, p.From)
	p.Gaps = gaps(p.Survivors, p.To)
	p.Open, p.OpenOf = o.unmerged(ctx, w, p)
	p.Single = p.Kind == Failover && !p.FromAnswers && p.NewBackup == ""
	return p, nil
}

// wished checks what an operator wants against the world.
func wished(w *region.World, want Wish) (*Plan, error) {
	home := want.Home
	r, ok := w.Region(home)
	if !ok {
		return nil, region.Errorf(region.BadInput, "world %d has no region %s", w.Version, home)
	}
	p := &Plan{Kind: want.Kind, Home: home, From: r.Acting.Region, To: want.To, World: w.Version, NewBackup: want.NewBackup}
	p.TTL, p.TTLRule = longestTTL(w)
	switch {
	case want.Kind == Failback:
		p.To = home
	case want.To == "":
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
	case target.Away:
		return nil, region.Errorf(region.BadInput, "nobody waits for region %s: it may lack what was trimmed", p.To).WithHint("homing region retire %s --undo", p.To)
	case p.NewBackup == "":
		return p, nil
	}
	switch backup, ok := w.Region(p.NewBackup); {
	case !ok:
		return nil, region.Errorf(region.BadInput, "world %d has no region %s", w.Version, p.NewBackup)
	case p.NewBackup == p.To || p.NewBackup == home || p.NewBackup == p.From || backup.Away:
		return nil, region.Errorf(region.BadInput, "region %s cannot be the new backup of %s", p.NewBackup, home).WithHint("name a third region, which is not away")
	case p.To == home:
		return nil, region.Errorf(region.BadInput, "the home acts for itself: its backups are in the world's file")
	}
	return p, nil
}

// unmerged returns how many ranges the change before left open: of who acts now,
// or when that does not answer, of the report that was written then.
func (o *Operator) unmerged(ctx context.Context, w *region.World, p *Plan) (int, region.ID) {
	count := func(h *succession.HomeReport) (int, region.ID) {
		if h.Home != p.Home || len(h.Open) == 0 {
			return 0, ""
		}
		return len(h.Open), h.Open[0].Origin
	}
	if from, ok := w.Region(p.From); ok && p.FromAnswers {
		if rep, err := o.Report(ctx, from); err == nil {
			for i := range rep.Homes {
				if n, of := count(&rep.Homes[i]); n > 0 {
					return n, of
				}
			}
			return 0, ""
		}
	}
	if last := newest(o.Dir.Dir, p.Home); last != nil && last.Home.Acting == p.From {
		if n, of := count(&last.Home); n > 0 {
			if r, ok := w.Region(of); ok && !r.Away {
				return n, of
			}
		}
	}
	return 0, ""
}

// caughtUp says whether a region that takes a home from another one than the
// home itself has what the home wrote before.
func caughtUp(w *region.World, home, to region.ID, st *observe.NodeStatus) bool {
	r, _ := w.Region(home)
	if to == home || to == r.NewBackup { // a new backup is called caught up when it has what came before, too
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

// Accepted is what an operator accepts in so many words.
type Accepted struct {
	Loss     bool // records may vanish
	Overload bool // there may be no room for everybody
}

// Refusal says why the plan must not be carried out.
func (p *Plan) Refusal(accepted Accepted) error {
	planned := p.Kind != Failover
	switch {
	case planned && !p.FromAnswers:
		return region.Errorf(region.Unavailable, "region %s does not answer, and would have to end its term", p.From).WithHint("homing region failover %s", p.Home)
	case planned && !p.HasCopy:
		return region.Errorf(region.Conflict, "region %s has no copy of %s's records that is caught up", p.To, p.Home).WithHint("name its backup with --to")
	case p.Open > 0 && (planned || !accepted.Loss):
		return region.Errorf(region.Conflict, "%d ranges of %s are open: what %s acknowledged in them is not merged yet", p.Open, p.Home, p.OpenOf).
			WithHint("wait until %s has returned (homing region report %s), or give it up: homing region retire %s", p.OpenOf, p.Home, p.OpenOf)
	case !p.HasCopy && !accepted.Loss:
		return region.Errorf(region.Conflict, "region %s has no copy of %s's records that is caught up: everything of %s that it lacks would vanish", p.To, p.Home, p.Home).
			WithHint("name another region with --to, or say --accept-loss")
	case p.crowded() && !accepted.Overload:
		return region.Errorf(region.Conflict, "region %s has room for %d connections, and the peaks of both are %d", p.To, p.Capacity, p.peak()).
			WithHint("name another region with --to, or say --accept-overload")
	}
	return nil
}

// peak is what the region that shall act would have at the worst of times.
func (p *Plan) peak() int { return max(p.PeakTo, p.Load) + max(p.PeakFrom, p.Online) }

func (p *Plan) crowded() bool { return p.Capacity > 0 && uint64(p.peak()) > p.Capacity }
