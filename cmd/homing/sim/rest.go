package sim

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// unsettled says what has still to happen, "" when the world is at rest.
func (r *run) unsettled() string {
	if open := r.underway(); open != "" {
		return open
	}
	for _, s := range r.sites {
		if s.view.Hash != r.sites[0].view.Hash {
			return fmt.Sprintf("%s is at world %d, %s at %d", s.id, s.view.World.Version, homes[0], r.sites[0].view.World.Version)
		}
	}
	for _, s := range r.sites {
		for _, h := range s.manager.Report().Homes {
			switch {
			case h.Acting == s.id && h.Opened < h.Partitions:
				return fmt.Sprintf("%s has taken %s over in %d of %d partitions", s.id, h.Home, h.Opened, h.Partitions)
			case h.Acting == s.id && len(h.Open) > 0:
				return fmt.Sprintf("%s reports %d open ranges of %s", s.id, len(h.Open), h.Home)
			}
		}
	}
	for _, o := range r.sites {
		for p := range region.Partition(partitions) {
			for _, h := range o.store.Head(p).Streams {
				for _, s := range r.sites {
					if !r.reads(s, o, h.Stream) {
						continue
					}
					at, err := s.store.Position(r.ctx, o.id, h.Stream, p)
					if err != nil || at.Seq < h.Last {
						return fmt.Sprintf("%s has applied %s %s/%d up to %d@%d of %d%s", s.id, o.id, h.Stream, p, at.Seq, at.Incarnation, h.Last, s.stands(o.id, h.Stream, p))
					}
				}
			}
		}
	}
	return ""
}

// atRest checks what must hold when everything has settled.
func (r *run) atRest() {
	w := r.sites[0].view.World
	for i := range w.Regions {
		g := &w.Regions[i]
		acting := r.site(g.Acting.Region)
		backup, _ := g.Backup()
		for _, s := range r.sites {
			if s != acting {
				r.equal(acting, s, g.ID, s.id == backup)
			}
		}
	}
	for _, u := range r.users {
		g, _ := w.Region(r.homeOf(u))
		s := r.site(g.Acting.Region)
		for range 3 {
			r.sync(u, s)
		}
		r.once(u, s)
	}
	r.merged(w)
	r.kept()
}

// equal checks that two copies of a home are the same (invariant 6).
func (r *run) equal(a, b *site, home region.ID, own bool) {
	for _, u := range r.owners(home) {
		for t := journal.Table(1); t < 200; t++ {
			if t.Class() == journal.ClassOwn && !own {
				break
			}
			x, y := r.content(a, u, t), r.content(b, u, t)
			if x != y {
				r.fail(6, "table %d of %d differs at rest: %s has\n%s, %s has\n%s", t, u, a.id, x, b.id, y)
			}
		}
	}
	for p := range region.Partition(partitions) {
		x, y := a.store.Sums(p, home), b.store.Sums(p, home)
		if !own {
			x.OwnSum, x.OwnRows, y.OwnSum, y.OwnRows = journal.Sum{}, 0, journal.Sum{}, 0
		}
		if x != y {
			r.fail(6, "%s/%d differs at rest: %s has %d shared and %d own rows, %s has %d and %d", home, p, a.id, x.SharedRows, x.OwnRows, b.id, y.SharedRows, y.OwnRows)
		}
	}
}

func (r *run) owners(home region.ID) (all []region.UIN) {
	for _, u := range r.users {
		if r.homeOf(u) == home {
			all = append(all, u.uin)
		}
	}
	for i, id := range homes {
		if id == home {
			all = append(all, r.groups[i])
		}
	}
	return all
}

func (r *run) content(s *site, owner region.UIN, t journal.Table) string {
	var out bytes.Buffer
	_ = s.store.Scan(r.ctx, owner, t, store.Range{Limit: 1 << 20, Deleted: true}, func(row *store.Row) bool {
		fmt.Fprintf(&out, "%x@%d %s %v %x\n", row.Row, row.Version, row.Epoch, row.Deleted, journal.SumOf(row.Value))
		return true
	})
	return out.String()
}

// once checks that every acknowledged message is in its sender's inbox once, and
// in that of its target.
func (r *run) once(u *user, s *site) {
	inbox := r.inbox(s, u.uin)
	for _, d := range u.sent {
		if n := inbox[string(d.id)]; n != 1 {
			r.whereabouts(d)
			r.fail(3, "message %s of %d is in its inbox %d times in the end", d.request.ClientMessageId, u.uin, n)
		}
		for _, to := range r.users {
			if to.uin != region.UIN(d.request.To) {
				continue
			}
			g, _ := s.view.World.Region(r.homeOf(to))
			at := r.site(g.Acting.Region)
			row, err := at.store.Get(r.ctx, to.uin, tableMessage, d.id)
			if n := r.inbox(at, to.uin)[string(d.id)]; err != nil || row.Version == 0 && !r.letter(at, to.uin, d) || n > 1 {
				r.whereabouts(d)
				r.fail(3, "message %s of %d to %d is in that inbox %d times in the end (index version %d)", d.request.ClientMessageId, u.uin, to.uin, n, row.Version)
			}
		}
	}
	sequence := uint64(0)
	_ = s.store.Scan(r.ctx, u.uin, tableInbox, store.Range{Limit: 1 << 20}, func(row *store.Row) bool {
		sequence++
		if !bytes.Equal(row.Row, []byte{0, 0, 0, 0, 0, 0, byte(sequence >> 8), byte(sequence)}) {
			r.fail(8, "the inbox of %d has %x as its message %d", u.uin, row.Row, sequence)
			return false
		}
		return true
	})
}

// letter says whether a message is kept as one that could not be delivered.
func (r *run) letter(s *site, owner region.UIN, d *deed) (kept bool) {
	_ = s.store.Scan(r.ctx, owner, tableLetter, store.Range{Limit: 1 << 20}, func(row *store.Row) bool {
		kept = kept || bytes.Contains(row.Value, d.id)
		return !kept
	})
	return kept
}

func (r *run) inbox(s *site, owner region.UIN) map[string]int {
	have := map[string]int{}
	_ = s.store.Scan(r.ctx, owner, tableInbox, store.Range{Limit: 1 << 20}, func(row *store.Row) bool {
		var m v1.Message
		if proto.Unmarshal(row.Value, &m) == nil {
			have[string(m.Id)]++
		}
		return true
	})
	return have
}

// merged checks that every batch that was a tail for who took its home over was
// merged or is a conflict (invariant 4).
func (r *run) merged(w *region.World) {
	var conflicts []core.Conflict // they move with their owners
	for _, s := range r.sites {
		all, err := s.core.Conflicts(r.ctx, true)
		must(err)
		conflicts = append(conflicts, all...)
	}
	for i := range w.Regions {
		home := w.Regions[i].ID
		acting := r.site(w.Regions[i].Acting.Region)
		for p := range region.Partition(partitions) {
			t := acting.store.Turns(p)[home]
			for _, o := range r.sites {
				if o == acting || t.After.Origin != o.id {
					continue
				}
				batches, err := o.store.Journal(r.ctx, p, journal.Full, max(t.After.Seq+1, o.store.Head(p).First), 1<<30)
				if err != nil {
					continue
				}
				for _, b := range batches {
					if b.Home != home || !t.Tail(b) {
						continue
					}
					had := r.tails[tailKey{o.id, p, b.First()}]
					if had == nil {
						r.fail(4, "%s/%d/%d-%d of %d is a tail, and was never merged", o.id, p, b.First(), b.Last(), b.Owner)
						continue
					}
					listed := false
					for _, c := range conflicts {
						listed = listed || c.ID == conflictID(b.Owner, tailKey{o.id, p, b.First()})
					}
					if (had.outcome == core.TailConflict) != listed && had.by == acting.id {
						r.fail(4, "%s/%d/%d is %s, listed as a conflict: %v", o.id, p, b.First(), had.outcome, listed)
					}
				}
			}
		}
	}
}

// stands says how the replay of a stream stands.
func (s *site) stands(origin region.ID, name journal.Stream, p region.Partition) string {
	for _, l := range s.stepper.Lag() {
		for _, at := range l.Partitions {
			if l.Origin == origin && l.Stream == name && at.Partition == p {
				return fmt.Sprintf(": %s %s", at.State, at.Reason)
			}
		}
	}
	return fmt.Sprintf("; succession: %v, commands: %v", s.stuck[0], s.stuck[1:])
}

// whereabouts adds to the trace which records of which journals speak of a message.
func (r *run) whereabouts(d *deed) {
	for _, s := range r.sites {
		for p := range region.Partition(partitions) {
			batches, err := s.store.Journal(r.ctx, p, journal.Full, s.store.Head(p).First, 1<<30)
			if err != nil {
				continue
			}
			for _, b := range batches {
				for i := range b.Records {
					rec := &b.Records[i]
					switch {
					case rec.Row != nil && (bytes.Contains(rec.Row.Row, d.id) || bytes.Contains(rec.Row.Value, d.id)):
						r.note("  %s/%d/%d of %d at %s: table %d, row %x@%d", s.id, p, rec.Seq, b.Owner, b.Epoch, rec.Row.Table, rec.Row.Row, rec.Row.Version)
					case rec.Command != nil && bytes.Contains(rec.Command.Payload, d.id):
						r.note("  %s/%d/%d of %d at %s: command to %d in %s", s.id, p, rec.Seq, b.Owner, b.Epoch, rec.Command.Target, rec.Command.To)
					}
				}
			}
		}
		for _, at := range positionsOf(r, s) {
			if home, ok := at.Stream.To(); ok && home == d.from.home || ok && at.Origin == d.by.id {
				r.note("  %s has executed %s %s/%d up to %d", s.id, at.Origin, at.Stream, at.Partition, at.Seq)
			}
		}
	}
}

func positionsOf(r *run, s *site) []journal.Position {
	all, _ := s.store.Positions(r.ctx)
	return all
}
