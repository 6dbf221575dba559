package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/homing-im/homing/region"
)

const partitions = 2

var homes = []region.ID{"ca", "hk", "sh"}

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicOf(name string) region.PublicKey {
	return region.PublicKey(keyOf(name).Public().(ed25519.PublicKey))
}

// genesis is the first world: every region acts for itself, and has the next one
// as its backup.
func genesis() *region.Known {
	w := &region.World{Version: 1, Name: "sim", Zone: "im.test", Partitions: partitions,
		Operators: []region.PublicKey{publicOf("operator")}, Threshold: 1, Root: publicOf("root"),
		Steering: region.Steering{TTL: 30, Answers: 3, AllDown: "everything"}}
	for i, id := range homes {
		first := region.UIN(i+1) * 1_000_000
		w.Regions = append(w.Regions, region.Region{ID: id, Title: string(id), Acting: region.Acting{Region: id, Counter: 1},
			Key: publicOf("region/" + string(id)), Zones: []string{"a"}, Backups: []region.ID{homes[(i+1)%3], homes[(i+2)%3]},
			Serves: region.Endpoints{Long: netip.MustParseAddrPort(fmt.Sprintf("127.0.%d.1:7100", i+1))},
			Admin:  fmt.Sprintf("127.0.%d.1:7400", i+1), Queue: fmt.Sprintf("127.0.%d.1:9092", i+1)})
		w.Segments = append(w.Segments, region.Segment{First: first, Last: first + 999_999, Home: id})
	}
	return seal(w, nil, false)
}

func seal(w *region.World, parents []region.Hash, forced bool) *region.Known {
	payload, err := json.Marshal(w)
	if err != nil {
		panic(err) // numbers and texts
	}
	s := &region.Signed{Format: region.Format, Version: w.Version, Parents: parents, Payload: payload, Forced: forced}
	s.Sign(keyOf("operator"))
	if w.Version == 1 {
		s.Sign(keyOf("root"))
	}
	return &region.Known{Signed: s, World: w, Hash: s.Hash()}
}

// after is the content of a world that follows another one and makes a home change
// hands, or joins the sides of a fork, when home is "".
func after(home, to region.ID, parents ...*region.Known) *region.World {
	newest := parents[0]
	for _, p := range parents {
		if p.World.Version > newest.World.Version {
			newest = p
		}
	}
	w := *newest.World
	w.Version++
	w.Regions = slices.Clone(w.Regions)
	for i := range w.Regions {
		g := &w.Regions[i]
		acting, disputed := region.Dispute(g.ID, parents...)
		if g.ID == home {
			acting = to
		}
		counter := uint64(0)
		for _, p := range parents {
			other, _ := p.World.Region(g.ID)
			counter = max(counter, other.Acting.Counter)
		}
		switch {
		case disputed, g.ID == home:
			g.Acting = region.Acting{Region: acting, Counter: counter + 1}
		case g.Acting.Raised == nil:
			h := newest.Hash
			g.Acting.Raised = &h
		}
	}
	return &w
}

// operator is who signs worlds: there may be two, who do not know of each other.
type operator struct {
	name    string
	at      region.ID       // where the operator is
	newest  []*region.Known // to be followed; several when a fork has to be resolved
	pending *region.Envelope
	next    *region.Known // of pending
}

func (o *operator) parents() (hashes []region.Hash) {
	for _, k := range o.newest {
		hashes = append(hashes, k.Hash)
	}
	return hashes
}

// order has a home change hands.
func (r *run) order(o *operator, home, to region.ID, forced bool) {
	what := "switchover"
	if forced {
		what = "failover"
	}
	r.sign(o, after(home, to, o.newest...), forced, fmt.Sprintf("%s of %s to %s", what, home, to))
}

// join ends a fork.
func (r *run) join(o *operator) {
	r.sign(o, after("", "", o.newest...), true, fmt.Sprintf("%d sides are joined", len(o.newest)))
}

func (r *run) sign(o *operator, w *region.World, forced bool, what string) {
	k := seal(w, o.parents(), forced)
	o.pending, o.next = &region.Envelope{Signed: k.Signed}, k
	r.note("operator %s signs world %d %s: %s", o.name, w.Version, k.Hash.Short(), what)
	r.push(o)
}

// push offers the operator's world to the regions that can be reached.
func (r *run) push(o *operator) {
	if o.pending == nil {
		return
	}
	if !o.pending.Signed.Forced {
		for _, s := range r.sites {
			if s.up && r.reachable(o, s.id) {
				if a, err := s.accept(o.pending.Signed); err == nil && !slices.ContainsFunc(o.pending.Acceptances, func(b region.Acceptance) bool { return b.Voter == a.Voter }) {
					o.pending.Acceptances = append(o.pending.Acceptances, a)
				}
			}
		}
		if !region.TakesEffect(o.newest[0].World, o.pending) {
			return
		}
	}
	took := false
	for _, s := range r.sites {
		if s.up && r.reachable(o, s.id) && s.offer(o.pending) {
			took = true
		}
	}
	if took {
		r.tips = append(slices.DeleteFunc(r.tips, func(k *region.Known) bool { return slices.Contains(o.next.Signed.Parents, k.Hash) }), o.next)
		if len(r.tips) > 1 {
			r.stats.Forks++
			r.note("the worlds have forked: %d sides", len(r.tips))
		}
		o.newest, o.pending = []*region.Known{o.next}, nil
		r.worlds = append(r.worlds, o.next)
	}
}

// reachable says whether an operator has a way to a region.
func (r *run) reachable(o *operator, id region.ID) bool {
	return !r.weather || r.linked(o.at, id) && r.linked(id, o.at)
}
