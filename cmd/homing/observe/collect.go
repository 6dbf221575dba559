package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"sort"
	"sync"
	"time"

	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/region"
)

// askTimeout bounds one question to one node: a dead node costs a picture at
// most this long.
const askTimeout = 700 * time.Millisecond

// Collector asks all nodes of a world for their status.
type Collector struct {
	view   func() *region.View
	client *http.Client

	mu    sync.Mutex
	last  map[string]sample // by admin address
	alarm map[string]time.Time
}

type sample struct {
	at      time.Time
	status  NodeStatus
	counter uint64
	rate    float64
}

// New returns a collector of the world that view returns.
func New(view func() *region.View, client *http.Client) *Collector {
	return &Collector{view: view, client: client, last: map[string]sample{}, alarm: map[string]time.Time{}}
}

// State asks every node at once and returns the picture. It blocks for at most
// about a second.
func (c *Collector) State(ctx context.Context) console.State {
	s := console.State{Time: time.Now()}
	v := c.view()
	if v == nil {
		s.Alarms = []console.Alarm{{Severity: console.Critical, Subject: "world", Text: "this node has no world yet", Hint: "wait, or push one: homing world push"}}
		return s
	}
	w := v.World
	s.World = console.World{Name: w.Name, Version: w.Version, Hash: v.Hash.String(), Zone: w.Zone, InForce: true}
	answers := c.ask(ctx, w)

	health := DNSStatus{POPs: map[string]bool{}, Regions: map[string]bool{}}
	for _, d := range w.DNS {
		if a := answers[d.Admin]; a.ok && a.status.DNS != nil {
			health = *a.status.DNS
			break
		}
	}
	for i := range w.Regions {
		s.Regions = append(s.Regions, regionState(v, &w.Regions[i], answers))
	}
	for i := range w.POPs {
		p := &w.POPs[i]
		a := answers[p.Admin]
		st := console.POP{ID: string(p.ID), Title: p.Title, Latitude: p.Place.Latitude, Longitude: p.Place.Longitude,
			Near: string(Nearest(w, p.Place)), Healthy: health.POPs[string(p.ID)], Drain: p.Drain}
		if a.ok && a.status.POP != nil {
			st.Connections, st.RTTMillis, st.Drain = uint64(a.status.POP.Connections), a.status.POP.RTTMillis, p.Drain || a.status.POP.Draining
		}
		s.POPs = append(s.POPs, st)
	}
	for _, to := range w.Regions {
		s.Pairs = append(s.Pairs, pairs(w, to.ID, answers[to.Admin])...)
	}
	for _, n := range w.DNS {
		a := answers[n.Admin]
		s.DNS = append(s.DNS, console.Node{Name: n.Name, Address: n.Address, Healthy: a.ok && a.status.Ready, Reason: a.reason(), Degraded: a.status.Degraded, PerSecond: a.rate})
	}
	for _, n := range w.IDs {
		a := answers[n.Admin]
		s.IDs = append(s.IDs, console.Node{Name: n.Name, Address: n.Address, Healthy: a.ok && a.status.Ready, Reason: a.reason()})
	}
	s.Alarms = c.alarms(&s)
	return s
}

type answer struct {
	ok     bool
	status NodeStatus
	rate   float64 // messages or questions per second
}

// reason says why a node that answers is not ready.
func (a answer) reason() string {
	if !a.ok || a.status.Ready {
		return ""
	}
	return a.status.NotReady
}

func (c *Collector) ask(ctx context.Context, w *region.World) map[string]answer {
	var admins []string
	for _, r := range w.Regions {
		admins = append(admins, r.Admin)
	}
	for _, p := range w.POPs {
		admins = append(admins, p.Admin)
	}
	for _, n := range append(append([]region.Node(nil), w.DNS...), w.IDs...) {
		admins = append(admins, n.Admin)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out := make(map[string]answer, len(admins))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, admin := range admins {
		wg.Go(func() {
			st, err := c.get(ctx, admin)
			a := c.note(admin, st, err == nil)
			mu.Lock()
			out[admin] = a
			mu.Unlock()
		})
	}
	wg.Wait()
	return out
}

func (c *Collector) get(ctx context.Context, admin string) (NodeStatus, error) {
	var st NodeStatus
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, region.AdminURL(admin)+"/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return st, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return st, fmt.Errorf("%s: %s", admin, resp.Status)
	}
	return st, json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&st)
}

// note keeps the sample and works out the rate since the one before. A node
// that does not answer keeps its last numbers, marked as not ok.
func (c *Collector) note(admin string, st NodeStatus, ok bool) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	prev, had := c.last[admin]
	if !ok {
		return answer{status: prev.status}
	}
	now := sample{at: time.Now(), status: st}
	if st.Region != nil {
		now.counter = st.Region.Messages
	} else if st.DNS != nil {
		now.counter = st.DNS.Questions
	}
	if dt := now.at.Sub(prev.at).Seconds(); had && dt < 0.2 {
		now.at, now.counter, now.rate = prev.at, prev.counter, prev.rate // too close for a rate
	} else if had && now.counter >= prev.counter {
		now.rate = float64(now.counter-prev.counter) / dt
	}
	c.last[admin] = now
	return answer{ok: true, status: st, rate: now.rate}
}

func regionState(v *region.View, r *region.Region, answers map[string]answer) console.Region {
	acting, term, _ := v.Acting(r.ID)
	s := console.Region{ID: string(r.ID), Title: r.Title, Latitude: r.Place.Latitude, Longitude: r.Place.Longitude,
		Acting: string(acting), Term: term.Counter, Capacity: r.Users, Away: r.Away}
	for _, b := range r.Backups {
		s.Backups = append(s.Backups, string(b))
	}
	a := answers[r.Admin]
	s.Reachable, s.WorldVersion = a.ok, a.status.World
	if st := a.status.Region; st != nil {
		s.Users, s.Connections = uint64(st.Users), uint64(st.Connections)
		if a.ok {
			s.Ready, s.MessagesPerSecond = a.status.Ready && st.Admitting, a.rate
			s.Refuses, s.Damaged = st.Refuses, st.Damaged
		}
	}
	s.Fenced = a.ok && (!s.Ready || acting != r.ID)
	s.Loss = loss(v.World, r, answers)
	return s
}

// loss finds what the home's second copy would lack if the region that acts for
// it died now, by that copy's own word: records of the acting region's journal
// that it has not applied.
func loss(w *region.World, r *region.Region, answers map[string]answer) *console.Loss {
	b, ok := r.Backup()
	if !ok {
		return nil
	}
	l := &console.Loss{Backup: string(b), Single: true}
	br, ok := w.Region(b)
	if !ok {
		return l
	}
	a := answers[br.Admin]
	if !a.ok || a.status.Region == nil {
		return l
	}
	if br.Users > 0 {
		l.Load = 100 * float64(a.status.Region.Connections) / float64(br.Users)
	}
	for _, lag := range a.status.Region.Lags {
		if lag.Origin == string(r.Acting.Region) && lag.Stream == "full" {
			l.Records, l.Seconds = lag.Records, lag.Seconds
			l.Single = lag.State != string(console.PairLive) && lag.State != string(console.PairBehind)
		}
	}
	return l
}

func pairs(w *region.World, to region.ID, a answer) []console.Pair {
	var out []console.Pair
	if a.status.Region == nil {
		for _, from := range w.Regions {
			if from.ID != to {
				out = append(out, console.Pair{From: string(from.ID), To: string(to), Stream: "shared", State: console.PairUnknown})
			}
		}
		return out
	}
	for _, l := range a.status.Region.Lags {
		p := console.Pair{From: l.Origin, To: string(to), Stream: l.Stream, Records: l.Records, Seconds: l.Seconds, State: console.PairState(l.State), Reason: l.Reason}
		if !a.ok {
			p.State = console.PairUnknown
		}
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].From != out[j].From {
			return out[i].From < out[j].From
		}
		return out[i].Stream < out[j].Stream
	})
	return out
}

// alarms derives what a person should know from the picture. An alarm keeps
// the time it was first seen.
func (c *Collector) alarms(s *console.State) []console.Alarm {
	var out []console.Alarm
	add := func(sev console.Severity, subject, text, hint string) {
		out = append(out, console.Alarm{Severity: sev, Subject: subject, Text: text, Hint: hint})
	}
	for _, r := range s.Regions {
		if r.Away {
			add(console.Notice, r.ID, "nobody waits for the region", "when it is back: homing region retire "+r.ID+" --undo")
		}
		switch {
		case !r.Reachable && r.Away:
		case !r.Reachable:
			add(console.Critical, r.ID, "the region does not answer", "look at its node; its users wait until it is back or failed over")
		case !r.Ready:
			add(console.Critical, r.ID, "the region admits no writes", cmp.Or(r.Refuses, "see /readyz on its admin listener"))
		}
		for _, d := range r.Damaged {
			add(console.Critical, r.ID, "rows were changed behind the store's back: "+d, "another region's copy: homing replicate repair; the region's own: homing store restore")
		}
		if r.Loss != nil && r.Loss.Single {
			add(console.Critical, r.ID, "single copy: home "+r.ID+" is caught up nowhere but in "+r.Acting, "look at "+r.Loss.Backup+"; if it is gone, name another with --new-backup, or retire it")
		}
		if r.Acting != r.ID {
			add(console.Notice, r.ID, "region "+r.Acting+" acts for it", "fail back when it is whole again")
		}
		if r.Reachable && r.WorldVersion != 0 && r.WorldVersion != s.World.Version {
			add(console.Warning, r.ID, fmt.Sprintf("follows world %d, not %d", r.WorldVersion, s.World.Version), "check that it reaches the other nodes")
		}
	}
	for _, p := range s.POPs {
		if !p.Healthy {
			add(console.Warning, p.ID, "the POP is not healthy; no client is sent to it", "look at its node")
		}
	}
	for _, p := range s.Pairs {
		subject, text := p.From+" -> "+p.To+" "+p.Stream, "replication is "+string(p.State)
		if p.Reason != "" {
			text += ": " + p.Reason
		}
		switch p.State {
		case console.PairDiffers, console.PairDiverged:
			add(console.Critical, subject, text, "look first, then mend: homing replicate repair "+p.From+" --in "+p.To+" --dry-run")
		case console.PairUnreadable:
			add(console.Critical, subject, text, "upgrade region "+p.To+"; it goes on by itself then, and nothing is lost unless "+p.From+" is lost before")
		case console.PairStalled, console.PairQuarantine:
			add(console.Warning, subject, text, "see the destination's /status and log")
		}
	}
	for _, n := range append(append([]console.Node(nil), s.DNS...), s.IDs...) {
		switch {
		case n.Reason != "":
			add(console.Critical, n.Name, "the node is not ready", n.Reason)
		case !n.Healthy:
			add(console.Critical, n.Name, "the node does not answer", "look at its process")
		}
		for _, without := range n.Degraded {
			add(console.Warning, n.Name, "the node does its work without something: "+without, "mend it; the node notices by itself")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]time.Time{}
	for i := range out {
		key := out[i].Subject + "\x00" + out[i].Text
		since, ok := c.alarm[key]
		if !ok {
			since = s.Time
		}
		seen[key], out[i].Since = since, since
	}
	c.alarm = seen
	order := map[console.Severity]int{console.Critical: 0, console.Warning: 1, console.Notice: 2}
	sort.SliceStable(out, func(i, j int) bool { return order[out[i].Severity] < order[out[j].Severity] })
	return out
}

// Nearest returns the region nearest to a place, by great circle.
func Nearest(w *region.World, p region.Place) region.ID {
	best, bestD := region.ID(""), math.Inf(1)
	for _, r := range w.Regions {
		if d := arc(p, r.Place); d < bestD {
			best, bestD = r.ID, d
		}
	}
	return best
}

// arc returns the central angle between two places, radians (haversine).
func arc(a, b region.Place) float64 {
	rad := math.Pi / 180
	dLat, dLon := (b.Latitude-a.Latitude)*rad, (b.Longitude-a.Longitude)*rad
	h := math.Pow(math.Sin(dLat/2), 2) + math.Cos(a.Latitude*rad)*math.Cos(b.Latitude*rad)*math.Pow(math.Sin(dLon/2), 2)
	return 2 * math.Asin(math.Min(1, math.Sqrt(h)))
}
