package acting

import (
	"context"
	"slices"
	"time"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
)

const (
	// asks is how often a region is asked before a plan says that it does not
	// answer: one lost packet must not make a region dead.
	asks = 3

	// askTimeout is how long one of them goes without the next: several round trips
	// of any ocean. All are waited for until the last one's time is up, because a busy
	// region may take longer over the first, with its handshakes, than over the rest.
	askTimeout = time.Second

	// asksApart is the pause in between.
	asksApart = 300 * time.Millisecond

	// heardLately is how recent a region's last word to another one is for it to
	// be alive, although the operator does not reach it: a few of their polls.
	heardLately = 3.0 // seconds

	// countPatience bounds counting what a region has of a home.
	countPatience = 30 * time.Second
)

// Survivor is a region that answers, and what it has of the journal of the one
// that acts now.
type Survivor struct {
	Region region.ID  `json:"region"`
	Heard  *float64   `json:"heardSeconds,omitempty"` // ago: when the region that acts now told it where it stood; nil: not since the start
	Full   []Position `json:"full"`                   // of the whole journal; none unless it is a copy
	Known  []Position `json:"known"`                  // of any stream: it has some record with that sequence, or has heard of it
}

// Position is a sequence of a partition's journal.
type Position struct {
	Partition region.Partition `json:"partition"`
	Sequence  uint64           `json:"sequence"`
}

// Gap is what the region that shall act is known to lack of a partition's journal.
type Gap struct {
	Partition region.Partition `json:"partition"`
	After     uint64           `json:"after"` // it has everything up to here
	Known     uint64           `json:"known"` // a record with this sequence is known to exist
	By        region.ID        `json:"by"`    // who knows most of it
}

// Lost is what would vanish, as far as the regions that answer can tell: what the
// best of them has of the home and the one that shall act does not.
type Lost struct {
	Best     region.ID        `json:"best"`  // who has most
	Parts    []LostPart       `json:"parts"` // partitions in which something would
	Owners   int              `json:"owners"`
	Messages uint64           `json:"messages"`
	Rows     uint64           `json:"rows"` // deleted ones too
	Silent   map[string]error `json:"-"`    // who could not count
}

// LostPart is Lost of one partition.
type LostPart struct {
	Partition region.Partition `json:"partition"`
	Owners    int              `json:"owners"`
	Messages  uint64           `json:"messages"`
	Rows      uint64           `json:"rows"`
}

// ask is [Operator.status], several times before it fails.
func (o *Operator) ask(ctx context.Context, r *region.Region) (st *observe.NodeStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, asks*askTimeout+(asks-1)*asksApart)
	defer cancel()
	type answer struct {
		status *observe.NodeStatus
		err    error
	}
	answers := make(chan answer, asks)
	for asked, failed := 0, 0; failed < asks; {
		var next <-chan time.Time
		if asked < asks {
			go func() {
				st, err := o.status(ctx, r)
				answers <- answer{st, err}
			}()
			asked++
			next = time.After(askTimeout + asksApart)
		}
		for waiting := true; waiting && failed < asks; {
			select {
			case a := <-answers:
				if a.err == nil {
					return a.status, nil
				}
				failed, err = failed+1, a.err
				if asked < asks && failed == asked {
					next = time.After(asksApart)
				}
			case <-next:
				waiting = false
			}
		}
	}
	return nil, err
}

// survivors asks every region but from what it has of from's journal.
func (o *Operator) survivors(ctx context.Context, w *region.World, from region.ID) (out []Survivor) {
	found := make([]*Survivor, len(w.Regions))
	done := make(chan struct{}, len(w.Regions))
	for i := range w.Regions {
		go func() {
			defer func() { done <- struct{}{} }()
			r := &w.Regions[i]
			var st replicator.Status
			if r.ID != from && o.operate(ctx, r, "/operate/replicate", node.ReplicateRequest{}, &st) == nil {
				found[i] = survivor(r.ID, from, st.Replay)
			}
		}()
	}
	for range w.Regions {
		<-done
	}
	for _, s := range found {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// survivor reads what a region says of its replay of an origin.
func survivor(id, origin region.ID, lags []replicator.Lag) *Survivor {
	s := &Survivor{Region: id, Full: []Position{}, Known: []Position{}}
	for _, l := range lags {
		if l.Origin != origin {
			continue
		}
		whole := l.Stream == journal.Full && l.State != replicator.StateBootstrap && l.State != replicator.StateDiverged
		for _, p := range l.Partitions {
			if !p.Asked.IsZero() {
				if ago := time.Since(p.Asked).Seconds(); s.Heard == nil || ago < *s.Heard {
					s.Heard = &ago
				}
			}
			if whole {
				s.Full = append(s.Full, Position{p.Partition, p.Position})
			}
			at := slices.IndexFunc(s.Known, func(k Position) bool { return k.Partition == p.Partition })
			if at < 0 {
				at, s.Known = len(s.Known), append(s.Known, Position{Partition: p.Partition})
			}
			s.Known[at].Sequence = max(s.Known[at].Sequence, p.Position, p.Head)
		}
	}
	return s
}

// gaps compares what the region that shall act has with what anybody knows of.
func gaps(survivors []Survivor, to region.ID) (out []Gap) {
	most := map[region.Partition]Gap{}
	for _, s := range survivors {
		for _, k := range s.Known {
			g := most[k.Partition]
			if k.Sequence > g.Known || k.Sequence == g.Known && s.Region == to {
				g.Known, g.By = k.Sequence, s.Region
			}
			g.Partition = k.Partition
			most[k.Partition] = g
		}
	}
	for _, s := range survivors {
		if s.Region != to {
			continue
		}
		for _, f := range s.Full {
			g := most[f.Partition]
			g.After = f.Sequence
			most[f.Partition] = g
		}
	}
	for _, g := range most {
		if g.Known > g.After {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b Gap) int { return int(a.Partition) - int(b.Partition) })
	return out
}

// Lose finds out what of the plan's home would vanish. It blocks while the regions
// that answer count what they have of it.
func (o *Operator) Lose(ctx context.Context, p *Plan) (*Lost, error) {
	patient := *o
	client := *o.Client
	client.Timeout = countPatience
	patient.Client = &client
	lost := &Lost{Silent: map[string]error{}}
	err := patient.withNewest(func(w *region.World) error {
		var have []core.Holding
		others := map[region.ID][]core.Holding{}
		for i := range w.Regions {
			r := &w.Regions[i]
			var h []core.Holding
			if err := patient.operate(ctx, r, "/operate/holdings", node.HoldingsRequest{Home: p.Home}, &h); err != nil {
				lost.Silent[string(r.ID)] = err
				continue
			}
			if r.ID == p.To {
				have = h
			}
			others[r.ID] = h
		}
		if have == nil {
			return region.Errorf(region.Unavailable, "region %s does not count what it has of %s", p.To, p.Home).WithCause(lost.Silent[string(p.To)])
		}
		lost.compare(p.To, have, others)
		return nil
	})
	return lost, err
}

// compare is the pure part of it.
func (l *Lost) compare(to region.ID, have []core.Holding, others map[region.ID][]core.Holding) {
	l.Best = to
	var most uint64
	for _, id := range sorted(others) {
		var rows uint64
		for _, h := range others[id] {
			rows += h.SharedRows + h.OwnRows
		}
		if rows > most || rows == most && id == to {
			l.Best, most = id, rows
		}
	}
	for i, best := range others[l.Best] {
		if i >= len(have) {
			break
		}
		part := LostPart{Partition: best.Partition, Owners: max(0, best.Owners-have[i].Owners),
			Messages: less(best.Messages, have[i].Messages), Rows: less(best.SharedRows+best.OwnRows, have[i].SharedRows+have[i].OwnRows)}
		if part.Owners == 0 && part.Messages == 0 && part.Rows == 0 {
			continue
		}
		l.Parts = append(l.Parts, part)
		l.Owners += part.Owners
		l.Messages += part.Messages
		l.Rows += part.Rows
	}
}

// less is a-b, and never below 0.
func less(a, b uint64) uint64 { return a - min(a, b) }

func sorted(m map[region.ID][]core.Holding) (ids []region.ID) {
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
