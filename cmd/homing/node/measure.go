package node

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/dns/health"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/gossip"
	"github.com/homing-im/homing/region/peer"
)

// measureInterval is how often loads and round trips are looked at: often enough
// that a POP that fills up spills over before it is full, and rare enough that
// gossip and the memories of answers hardly notice.
const measureInterval = time.Second

// startMeasuring tells the others how loaded this node is, and gathers for
// steering what they tell, as far as a rule looks at it.
func (n *Node) startMeasuring() {
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(measureInterval)
		defer tick.Stop()
		told := uint32(0)
		for {
			w := n.world.View().World
			loads, rtts := steer.Measuring(w)
			told = n.tellLoad(w, told, loads)
			if n.steering != nil {
				was := n.measured.Load()
				if next := gather(w, loads, rtts, n.gossip.Members(), n.gossip.RTT, was); next != was {
					n.measured.Store(next)
				}
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	n.onClose("measuring", func(context.Context) error { close(stop); <-done; return nil })
}

// gather is what members tell, as far as it is wanted: was itself when that has
// not changed.
func gather(w *region.World, loads, rtts bool, members []gossip.Member, rtt func(a, b string) (time.Duration, bool), was *health.Measured) *health.Measured {
	var old, next health.Measured
	if was != nil {
		old = *was
	}
	if loads {
		next.Loads = loadsOf(members)
	}
	if rtts {
		next.RTTs = roundTrips(w, members, rtt, old.RTTs)
	}
	if maps.Equal(old.Loads, next.Loads) && maps.Equal(old.RTTs, next.RTTs) {
		return was
	}
	return &next
}

// tellLoad sets the load that the others see, and returns it.
func (n *Node) tellLoad(w *region.World, told uint32, wanted bool) uint32 {
	used, capacity := 0, uint64(0)
	switch {
	case !wanted:
	case n.pop != nil:
		if me, ok := w.POP(region.POPID(n.self.Name)); ok {
			used, capacity = n.pop.pop.Status().Connections.Long, me.Users
		}
	case n.region != nil && n.region.access != nil:
		if me, ok := w.Region(region.ID(n.self.Name)); ok {
			_, used = n.region.access.Online()
			capacity = me.Users
		}
	}
	load, text := uint32(0), ""
	if capacity > 0 {
		load = steady(told, uint32(min(uint64(used)*10_000/capacity, 100_000)), loadGrain)
		text = strconv.FormatUint(uint64(load), 10)
	}
	if err := n.gossip.SetTag(gossip.TagLoad, text); err != nil {
		n.log.Warn("the others are not told this node's load", "err", err)
		return told
	}
	return load
}

// getMeasured serves what steering goes by, for simulations.
func (n *Node) getMeasured(w http.ResponseWriter, _ *http.Request) {
	out := observe.Measured{Loads: []observe.Load{}, RTTs: []observe.RTT{}}
	if m := n.measured.Load(); m != nil {
		for s, load := range m.Loads {
			out.Loads = append(out.Loads, observe.Load{POP: s.POP, Region: s.Region, Load: load})
		}
		for p, ms := range m.RTTs {
			out.RTTs = append(out.RTTs, observe.RTT{POP: p.From.POP, Region: p.From.Region, To: p.To, Millis: ms})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		n.log.Debug("measures not sent", "error", err)
	}
}

// loadGrain is the change of load worth telling, in hundredths of a percent.
const loadGrain = 250

// steady keeps a value that has changed by less than a grain.
func steady(was, is, grain uint32) uint32 {
	if is+grain > was && was+grain > is {
		return was
	}
	return is
}

// siteOf is the POP or region a member is of.
func siteOf(m *gossip.Member) (steer.Site, bool) {
	name := m.Tags[gossip.TagRegion]
	switch m.Tags[gossip.TagKind] {
	case peer.KindPOP:
		return steer.Site{POP: region.POPID(name)}, name != ""
	case peer.KindRegion:
		return steer.Site{Region: region.ID(name)}, name != ""
	}
	return steer.Site{}, false
}

// loadsOf adds up what the living members of a site tell.
func loadsOf(members []gossip.Member) map[steer.Site]uint32 {
	out := make(map[steer.Site]uint32)
	for i := range members {
		m := &members[i]
		site, ok := siteOf(m)
		load, err := strconv.ParseUint(m.Tags[gossip.TagLoad], 10, 32)
		if ok && err == nil && m.Status == gossip.Alive {
			out[site] += uint32(load)
		}
	}
	return out
}

// roundTrips are those from every site of the world to every region, in
// milliseconds. One that has hardly changed stays as it was.
func roundTrips(w *region.World, members []gossip.Member, rtt func(a, b string) (time.Duration, bool), was map[steer.Path]uint32) map[steer.Path]uint32 {
	names := make(map[steer.Site]string)
	for i := range members {
		m := &members[i]
		if site, ok := siteOf(m); ok && m.Status == gossip.Alive && (names[site] == "" || m.Name < names[site]) {
			names[site] = m.Name
		}
	}
	out := make(map[steer.Path]uint32)
	for from, name := range names {
		for i := range w.Regions {
			to := w.Regions[i].ID
			target, ok := names[steer.Site{Region: to}]
			if !ok || from.Region == to {
				continue
			}
			d, ok := rtt(name, target)
			if !ok {
				continue
			}
			path := steer.Path{From: from, To: to}
			ms := uint32(d.Round(time.Millisecond).Milliseconds())
			if old, known := was[path]; known {
				ms = steady(old, ms, max(rttGrain, old/5))
			}
			out[path] = ms
		}
	}
	return out
}

// rttGrain is the change of a round trip worth another answer, in milliseconds;
// of long ones it takes a fifth.
const rttGrain = 5
