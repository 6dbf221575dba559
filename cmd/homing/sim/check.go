package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Failure is an invariant that does not hold.
type Failure struct {
	Invariant int // 0: a run that does not settle
	What      string
}

func (f *Failure) Error() string {
	if f.Invariant == 0 {
		return f.What
	}
	return fmt.Sprintf("invariant %d: %s", f.Invariant, f.What)
}

// fail notes the first failure; the run ends after the step.
func (r *run) fail(invariant int, format string, args ...any) {
	if r.failure == nil {
		r.failure = &Failure{invariant, fmt.Sprintf(format, args...)}
		r.note("%s", r.failure)
	}
}

// histories is what every region ever wrote: the chain of each stream at each of
// its records. It is kept by watching the journals as they grow.
type histories struct {
	chains map[historyKey]journal.Sum
	seen   map[place]uint64 // by region and partition: Next
}

type place struct {
	id        region.ID
	partition region.Partition
}

type historyKey struct {
	place
	stream journal.Stream
	seq    uint64
}

// learn reads what a region's journal has grown by.
func (h *histories) learn(s *site) {
	for p := range region.Partition(partitions) {
		at := place{s.id, p}
		next := s.store.Head(p).Next
		from := max(h.seen[at], s.store.Head(p).First, 1)
		if next <= from {
			continue
		}
		batches, err := s.store.Journal(s.r.ctx, p, journal.Full, from, 1<<30)
		if err != nil {
			continue
		}
		for _, b := range batches {
			for _, l := range b.Links {
				f := journal.Filter(b, l.Stream)
				h.chains[historyKey{at, l.Stream, f.Last()}] = l.Chain
			}
		}
		h.seen[at] = next
	}
}

// acknowledged checks invariant 1 of a commit that was acknowledged.
func (r *run) acknowledged(s *site, owner region.UIN, home region.ID, e region.Epoch) {
	k := ownerEpoch{owner, e}
	if who, ok := r.admitted[k]; ok && who != s.id {
		r.fail(1, "%s acknowledges a write of %d at epoch %s, and so did %s", s.id, owner, e, who)
	}
	r.admitted[k] = s.id
	if t := s.term(home); e.Term.Compare(t) < 0 {
		r.fail(1, "%s acknowledges a write of %d at term %s, and holds a world with term %s", s.id, owner, e.Term, t)
	}
}

type ownerEpoch struct {
	owner region.UIN
	epoch region.Epoch
}

// advanced checks invariant 2 of a position.
func (r *run) advanced(s *site, origin region.ID, name journal.Stream, p region.Partition) {
	at, err := s.store.Position(r.ctx, origin, name, p)
	if err != nil || at.Seq == 0 {
		return
	}
	if o := r.site(origin); o.up {
		r.histories.learn(o)
	}
	k := positionKey{s.id, place{origin, p}, name}
	if before := r.positions[k]; at.Seq < before {
		r.fail(2, "%s: the position in %s %s/%d fell from %d to %d", s.id, origin, name, p, before, at.Seq)
	}
	r.positions[k] = at.Seq
	if want, ok := r.histories.chains[historyKey{place{origin, p}, name, at.Seq}]; ok && want != at.Chain {
		r.fail(2, "%s: what is applied of %s %s/%d up to %d is not what %s wrote", s.id, origin, name, p, at.Seq, origin)
	}
}

type positionKey struct {
	at     region.ID
	of     place
	stream journal.Stream
}

// rowIs checks invariant 7 of a row that was replayed.
func (r *run) rowIs(s *site, owner region.UIN, t journal.Table, row []byte) {
	now, err := s.store.Get(r.ctx, owner, t, row)
	if err != nil {
		return
	}
	k := rowKey{s.id, owner, t, string(row)}
	before, ok := r.rows[k]
	if c := now.Epoch.Compare(before.epoch); ok && (c < 0 || c == 0 && now.Version < before.version) {
		r.fail(7, "%s: row %x of table %d of %d is at %s@%d, and was at %s@%d", s.id, row, t, owner, now.Epoch, now.Version, before.epoch, before.version)
	}
	if ok && now.Epoch == before.epoch && now.Version == before.version && before.deleted && !now.Deleted {
		r.fail(7, "%s: row %x of table %d of %d was deleted, and is back", s.id, row, t, owner)
	}
	r.rows[k] = rowState{now.Epoch, now.Version, now.Deleted}
}

type rowKey struct {
	at    region.ID
	owner region.UIN
	table journal.Table
	row   string
}

type rowState struct {
	epoch   region.Epoch
	version uint64
	deleted bool
}

// tookOver is told that a region has taken a home over in a partition.
func (r *run) tookOver(s *site, p region.Partition, h store.Handover, t store.Turn) {
	c, _ := s.chain.Change(h.Home)
	switch {
	case c.Forced:
		r.stats.Failovers++
	case c.Acting == h.Home:
		r.stats.Failbacks++
	default:
		r.stats.Switchovers++
	}
	r.accounts(s, p, h.Home, t)
}

// accounts checks invariant 3 for a home that a region serves in a partition.
func (r *run) accounts(s *site, p region.Partition, home region.ID, t store.Turn) {
	for _, u := range r.users {
		at, _ := s.view.Placement(u.uin)
		if at.Home != home || u.partition != p {
			continue
		}
		for _, d := range u.sent { // those before a move are looked for at the end
			if d.by == s || d.home != home || d.epoch.Moves != at.Epoch.Moves || d.epoch.Term.Compare(t.Opened) >= 0 {
				continue
			}
			row, err := s.store.Get(r.ctx, u.uin, tableMessage, d.id)
			if err == nil && row.Version == 0 && !r.reported(d, home, p) {
				r.fail(3, "message %s of %d, which %s acknowledged as record %d of partition %d, is not at %s, which has taken %s over, nor in anybody's report",
					d.request.ClientMessageId, u.uin, d.by.id, d.seq, p, s.id, home)
			}
		}
	}
}

// reported says whether an open range covers a message.
func (r *run) reported(d *deed, home region.ID, p region.Partition) bool {
	for _, s := range r.sites {
		if !s.up {
			continue
		}
		if t := s.store.Turns(p)[home]; t.After.Origin == d.by.id && d.seq > t.After.Seq {
			for _, h := range s.manager.Report().Homes {
				for _, o := range h.Open {
					if h.Home == home && o.Partition == p && o.Origin == d.by.id && d.seq > o.After {
						return true
					}
				}
			}
		}
	}
	return false
}

// mayTrim checks invariant 11 before records are trimmed.
func (r *run) mayTrim(s *site, p region.Partition, before uint64) {
	r.histories.learn(s)
	all, err := s.store.Journal(r.ctx, p, journal.Full, 1, 1<<30)
	if err != nil {
		all, err = s.store.Journal(r.ctx, p, journal.Full, s.store.Head(p).First, 1<<30)
	}
	if err != nil {
		return
	}
	for _, b := range all {
		if b.Last() >= before {
			return
		}
		for _, l := range b.Links {
			f := journal.Filter(b, l.Stream)
			for _, o := range r.sites {
				if !r.needs(o, s, l.Stream) || r.appliedAt(o, s.id, l.Stream, p) >= f.Last() {
					continue
				}
				r.fail(11, "%s trims %s/%d up to %d, but %s has %s up to %d only", s.id, s.id, p, before, o.id, l.Stream, r.appliedAt(o, s.id, l.Stream, p))
				return
			}
		}
	}
}

// needs says whether a region needs a stream of another: because it reads it, or,
// of commands, because it succeeds who does.
func (r *run) needs(o, s *site, name journal.Stream) bool {
	home, command := name.To()
	if !command {
		return o != s && r.reads(o, s, name)
	}
	g, _ := s.view.World.Region(home)
	backup, ok := g.Backup()
	return g.Acting.Region == o.id || ok && backup == o.id
}

// reads says whether a region has to have a stream of another, under the world of
// the one that trims.
func (r *run) reads(o, s *site, name journal.Stream) bool {
	w := s.view.World
	origin, _ := w.Region(s.id)
	full := origin.Backups[0] == o.id
	for i := range w.Regions {
		g := &w.Regions[i]
		if g.Acting.Region == s.id && slices.Contains(g.Copies(), o.id) {
			full = true
		}
		if g.Acting.Region == o.id && g.Acting.Counter > 1 {
			full = true
		}
	}
	if home, ok := name.To(); ok {
		g, _ := w.Region(home)
		return g.Acting.Region == o.id
	}
	return o != s && (name == journal.Full) == full
}

func (r *run) appliedAt(o *site, origin region.ID, name journal.Stream, p region.Partition) uint64 {
	if o.up {
		at, _ := o.store.Position(r.ctx, origin, name, p)
		return at.Seq
	}
	return r.positions[positionKey{o.id, place{origin, p}, name}]
}

type tailKey struct {
	origin    region.ID
	partition region.Partition
	first     uint64
}

// tail is a batch of a tail, and what became of it.
type tail struct {
	batch   *journal.Batch
	outcome string
	by      region.ID
}

// judge checks invariant 4 of a batch that was just merged.
func (r *run) judge(s *site, t *tail, first bool) {
	b := t.batch
	if t.outcome == core.TailConflict {
		all, err := s.core.Conflicts(r.ctx, true)
		if err != nil {
			return
		}
		for _, c := range all {
			if c.ID == conflictID(b.Owner, tailKey{b.Origin, b.Partition, b.First()}) {
				row, err := s.store.Get(r.ctx, b.Owner, tableTail, tailRow(b))
				var kept v1.TailRow
				if err != nil || proto.Unmarshal(row.Value, &kept) != nil || !bytes.Equal(kept.Batch, journal.Encode(b)) {
					r.fail(4, "%s: the conflict %s/%d/%d does not have its batch", s.id, b.Origin, b.Partition, b.First())
				}
				return
			}
		}
		r.fail(4, "%s: %s/%d/%d conflicts, and is not listed", s.id, b.Origin, b.Partition, b.First())
		return
	}
	if !first {
		return
	}
	for i := range b.Records {
		w := b.Records[i].Row
		if w == nil || w.Deleted {
			continue
		}
		have, err := s.store.Get(r.ctx, b.Owner, w.Table, w.Row)
		if err != nil {
			return
		}
		switch w.Table {
		case tableMessage:
			if have.Version == 0 {
				r.fail(4, "%s: %s/%d/%d is %s, but its message is not here", s.id, b.Origin, b.Partition, b.First(), t.outcome)
			}
		case tableSetting:
			var want, is v1.SettingRow
			if proto.Unmarshal(w.Value, &want) != nil || proto.Unmarshal(have.Value, &is) != nil || want.Value != is.Value || want.Removed != is.Removed {
				r.fail(4, "%s: %s/%d/%d is %s, but setting %s is %q here and %q there: dropped", s.id, b.Origin, b.Partition, b.First(), t.outcome, want.Name, is.Value, want.Value)
			}
		}
	}
}

// hasAll checks that a client that has synced to the end has all of its inbox.
func (r *run) hasAll(u *user, s *site) {
	_ = s.store.Scan(r.ctx, u.uin, tableInbox, store.Range{Limit: 1 << 20}, func(row *store.Row) bool {
		var m v1.Message
		if proto.Unmarshal(row.Value, &m) == nil && u.known[string(m.Id)] == 0 {
			r.fail(8, "%d synced to the end at %s without %s, which is in the inbox as %x", u.uin, s.id, m.ClientMessageId, row.Row)
			return false
		}
		return true
	})
}

// lags checks invariant 10. What is shown before everything was applied for the
// first time is the age of the replay itself, and no claim.
func (r *run) lags(s *site) {
	for _, l := range s.stepper.Lag() {
		o := r.site(l.Origin)
		if _, command := l.Stream.To(); command {
			continue // what ran is known by a position that is stored later
		}
		for _, p := range l.Partitions {
			k := positionKey{s.id, place{l.Origin, p.Partition}, l.Stream}
			if _, ok := s.began[k]; !ok {
				s.began[k] = r.now
			}
			if !o.up {
				continue
			}
			last := uint64(0)
			for _, h := range o.store.Head(p.Partition).Streams {
				if h.Stream == l.Stream {
					last = h.Last
				}
			}
			at, err := s.store.Position(r.ctx, l.Origin, l.Stream, p.Partition)
			have := at.Seq
			if err != nil || last <= have || at.Incarnation == 0 {
				continue
			}
			missing, err := o.store.Journal(r.ctx, p.Partition, l.Stream, have+1, 1)
			if err != nil || len(missing) == 0 {
				continue
			}
			if told := r.toldBy(o, p.Partition, l.Stream, have, p.Asked.Add(-s.skew)); p.Records < told {
				r.fail(10, "%s says that it is %d records behind %s %s/%d, and lacks %d", s.id, p.Records, l.Origin, l.Stream, p.Partition, told)
			}
			age := r.now.Sub(o.wrote(missing[0])).Seconds()
			if p.Seconds+0.002 < age && p.Seconds+0.01 < r.now.Sub(s.began[k]).Seconds() {
				r.fail(10, "%s says that it is %.3f s behind %s %s/%d, but a record of %.3f s ago is missing", s.id, p.Seconds, l.Origin, l.Stream, p.Partition, age)
			}
		}
	}
}

// toldBy is how many records behind a sequence an origin had when it was asked last.
func (r *run) toldBy(o *site, p region.Partition, name journal.Stream, have uint64, asked time.Time) (n uint64) {
	batches, err := o.store.Journal(r.ctx, p, name, have+1, 1<<30)
	if err != nil {
		return 0
	}
	for _, b := range batches {
		if o.wrote(b).Add(time.Millisecond).Before(asked) { // times of records are whole milliseconds
			n = b.Last() - have
		}
	}
	return n
}

// replayAgain checks invariant 5: a region is given again what it has.
func (r *run) replayAgain(s *site) {
	o := r.sites[r.dice.IntN(len(r.sites))]
	p := region.Partition(r.dice.IntN(partitions))
	if o == s || !o.up || !s.up {
		return
	}
	name := journal.Shared
	if at, err := s.store.Position(r.ctx, o.id, journal.Full, p); err == nil && at.Seq > 0 {
		name = journal.Full
	}
	at, err := s.store.Position(r.ctx, o.id, name, p)
	if err != nil || at.Seq == 0 {
		return
	}
	batches, err := o.store.Journal(r.ctx, p, name, o.store.Head(p).First, 1<<30)
	if err != nil {
		return
	}
	n := 0
	for n < len(batches) && batches[n].Last() <= at.Seq {
		n++
	}
	if n == 0 {
		return
	}
	from := r.dice.IntN(n)
	before := r.digest(s, p)
	if _, err := s.store.Store.Apply(r.ctx, name, batches[from:n]); err != nil {
		return
	}
	if now := r.digest(s, p); now != before {
		r.fail(5, "%s was given %d batches of %s %s/%d again, which it has, and changed", s.id, n-from, o.id, name, p)
	}
}

// digest sums up a partition.
func (r *run) digest(s *site, p region.Partition) string {
	h := s.store.Head(p)
	out := fmt.Sprint(h.Next, h.Incarnation)
	for _, home := range homes {
		out += fmt.Sprint(s.store.Sums(p, home))
	}
	all, _ := s.store.Positions(r.ctx)
	return out + fmt.Sprint(all)
}

func conflictID(owner region.UIN, k tailKey) core.ConflictID {
	return core.ConflictID{Owner: owner, Origin: k.origin, Partition: k.partition, Sequence: k.first}
}

// tailRow is the key under which a batch of a tail is remembered.
func tailRow(b *journal.Batch) []byte { return letterRow(b.Origin, b.Partition, b.First()) }

// letterRow is the key of a dead letter.
func letterRow(origin region.ID, p region.Partition, seq uint64) []byte {
	k := append([]byte(origin), 0)
	k = binary.BigEndian.AppendUint16(k, uint16(p))
	return binary.BigEndian.AppendUint64(k, seq)
}
