package storetest

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Memory is a store.Store in maps under one lock, as plain as can be: it keeps
// no sum and no index, and computes everything from the rows and the encoded
// journal when asked. It forgets everything with the process, so it is for
// tests only.
type Memory struct {
	config Config
	mu     sync.Mutex
	closed bool
	parts  []*memoryPart
	fence  region.Fence
}

type memoryPart struct {
	rows      map[memoryKey]memoryRow
	positions map[memoryStream]journal.Position
	journal   [][]byte // encoded batches, oldest first
	heads     map[journal.Stream]journal.StreamHead
	first     uint64
	next      uint64
	unixMilli int64
	unsettled map[region.ID]int  // watermarks of a home that are not compared
	dirty     map[region.ID]bool // homes with changes since their last watermark
	changed   chan struct{}

	incarnation uint64
	turns       map[region.ID]store.Turn
	kept        map[region.ID][][]byte // encoded batches of full streams, oldest first
}

type memoryKey struct {
	owner region.UIN
	table journal.Table
	row   string
}

type memoryRow struct {
	store.Row
	home region.ID
}

type memoryStream struct {
	origin region.ID
	stream journal.Stream
}

// NewMemory returns an empty store.
func NewMemory(c Config) *Memory {
	m := &Memory{config: c, fence: region.Fence{}}
	for range c.Partitions {
		m.parts = append(m.parts, &memoryPart{
			rows: map[memoryKey]memoryRow{}, positions: map[memoryStream]journal.Position{}, heads: map[journal.Stream]journal.StreamHead{},
			first: 1, next: 1, dirty: map[region.ID]bool{}, unsettled: map[region.ID]int{}, changed: make(chan struct{}),
			incarnation: 1, turns: map[region.ID]store.Turn{}, kept: map[region.ID][][]byte{},
		})
	}
	return m
}

var _ store.Store = (*Memory)(nil)

// Region implements store.Store.
func (m *Memory) Region() region.ID { return m.config.Region }

// Partitions implements store.Store.
func (m *Memory) Partitions() int { return len(m.parts) }

// enter locks the store; the caller unlocks it unless there is an error.
func (m *Memory) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return region.Errorf(region.Unavailable, "the store is closed")
	}
	return nil
}

func (m *Memory) part(p region.Partition) (*memoryPart, error) {
	if int(p) >= len(m.parts) {
		return nil, region.Errorf(region.BadInput, "no partition %d", p)
	}
	return m.parts[p], nil
}

// Get implements store.Store.
func (m *Memory) Get(ctx context.Context, owner region.UIN, t journal.Table, row []byte) (store.Row, error) {
	r := store.Row{Table: t, Row: bytes.Clone(row)}
	if err := m.enter(ctx); err != nil {
		return r, err
	}
	defer m.mu.Unlock()
	have, ok := m.parts[region.PartitionOf(owner, len(m.parts))].rows[memoryKey{owner, t, string(row)}]
	if ok {
		r = have.Row
		r.Row, r.Value = bytes.Clone(r.Row), bytes.Clone(r.Value)
	}
	return r, nil
}

// Owners implements store.Store.
func (m *Memory) Owners(ctx context.Context, p region.Partition, t journal.Table, after region.UIN, limit int) ([]region.UIN, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	part, err := m.part(p)
	if err != nil {
		return nil, err
	}
	var owners []region.UIN
	for k := range part.rows {
		if k.table == t && k.owner > after && k.owner <= math.MaxInt64 {
			owners = append(owners, k.owner)
		}
	}
	slices.Sort(owners)
	owners = slices.Compact(owners)
	return owners[:min(limit, len(owners))], nil
}

// Scan implements store.Store. It gives the rows as they were when it began.
func (m *Memory) Scan(ctx context.Context, owner region.UIN, t journal.Table, r store.Range, yield func(*store.Row) bool) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	var rows []store.Row
	for k, row := range m.parts[region.PartitionOf(owner, len(m.parts))].rows {
		in := k.owner == owner && k.table == t && k.row >= string(r.From) && (r.To == nil || k.row < string(r.To))
		if in && (r.Deleted || !row.Deleted) {
			rows = append(rows, row.Row)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(rows, func(a, b store.Row) int { return bytes.Compare(a.Row, b.Row) })
	if r.Reverse {
		slices.Reverse(rows)
	}
	limit := r.Limit
	if limit <= 0 {
		limit = 1000
	}
	for i := range rows[:min(limit, len(rows))] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(&rows[i]) {
			break
		}
	}
	return nil
}

// Commit implements store.Store.
func (m *Memory) Commit(ctx context.Context, b *store.Batch) (store.Receipt, error) {
	if err := b.Validate(); err != nil {
		return store.Receipt{}, err
	}
	if err := m.enter(ctx); err != nil {
		return store.Receipt{}, err
	}
	defer m.mu.Unlock()
	if !m.fence.Allows(b.Home, b.Epoch.Term) {
		return store.Receipt{}, region.Errorf(region.Unavailable, "fenced")
	}
	id := region.PartitionOf(b.Owner, len(m.parts))
	p := m.parts[id]
	for i := range b.Writes {
		w := &b.Writes[i]
		if have := p.rows[memoryKey{b.Owner, w.Table, string(w.Row)}]; !w.Expect.Holds(&have.Row) {
			return store.Receipt{}, region.Errorf(region.Conflict, "precondition failed")
		}
	}
	jb := &journal.Batch{Owner: b.Owner, Home: b.Home, Epoch: b.Epoch}
	for i := range b.Writes {
		w := &b.Writes[i]
		k := memoryKey{b.Owner, w.Table, string(w.Row)}
		before := p.rows[k]
		if b.Home == store.Departed && w.Delete && b.Epoch.Less(before.Epoch) {
			gone := memoryRow{Row: store.Row{Table: w.Table, Row: w.Row, Version: before.Version + 1, Epoch: b.Epoch, Deleted: true}}
			jb.Records = append(jb.Records, journal.Record{Kind: journal.KindRow, Row: &journal.RowRecord{
				Table: w.Table, Row: w.Row, Version: gone.Version, Deleted: true, After: gone.sum(b.Owner),
			}})
			continue
		}
		after := memoryRow{home: b.Home, Row: store.Row{
			Table: w.Table, Row: bytes.Clone(w.Row), Version: before.Version + 1, Epoch: b.Epoch, Deleted: w.Delete, Value: bytes.Clone(w.Value),
		}}
		p.rows[k] = after
		if w.Table.Class() == journal.ClassLocal {
			continue
		}
		p.dirty[b.Home] = true
		if before.home != "" {
			p.dirty[before.home] = true
		}
		p.rehome(before.home, b.Home)
		jb.Records = append(jb.Records, journal.Record{Kind: journal.KindRow, Row: &journal.RowRecord{
			Table: w.Table, Row: w.Row, Version: after.Version, Deleted: w.Delete, Value: w.Value,
			Before: before.sum(b.Owner), After: after.sum(b.Owner),
		}})
	}
	for i := range b.Commands {
		jb.Records = append(jb.Records, journal.Record{Kind: journal.KindCommand, Command: &b.Commands[i]})
	}
	receipt := store.Receipt{Partition: id}
	if len(jb.Records) > 0 {
		receipt.First, receipt.Last = m.append(id, jb)
	}
	return receipt, nil
}

func (r *memoryRow) sum(owner region.UIN) journal.Sum {
	if r.Version == 0 {
		return journal.Sum{}
	}
	return journal.RowSum(owner, r.Table, r.Row.Row, r.Version, r.Epoch, r.Deleted, r.Value)
}

// AppendNewer appends records of kinds that this version does not know to the
// journal, as a newer program that commits them for an owner.
func (m *Memory) AppendNewer(b *journal.Batch) (first, last uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.append(region.PartitionOf(b.Owner, len(m.parts)), b)
}

func (m *Memory) append(id region.Partition, b *journal.Batch) (first, last uint64) {
	p := m.parts[id]
	b.Origin, b.Partition, b.Incarnation, b.UnixMilli = m.config.Region, id, p.incarnation, m.config.Now().UnixMilli()
	for i := range b.Records {
		b.Records[i].Seq = p.next
		p.next++
	}
	streams := []journal.Stream{journal.Full, journal.Shared}
	for i := range b.Records {
		if c := b.Records[i].Command; c != nil && !slices.Contains(streams, journal.StreamTo(c.To)) {
			streams = append(streams, journal.StreamTo(c.To))
		}
	}
	slices.SortFunc(streams[1:], func(a, b journal.Stream) int { return strings.Compare(string(a), string(b)) })
	for _, s := range streams {
		if f := journal.Filter(b, s); f != nil {
			head := p.heads[s]
			head.Stream = s
			link, next := journal.Next(head, f)
			p.heads[s] = next
			b.Links = append(b.Links, link)
		}
	}
	p.journal = append(p.journal, journal.Encode(b))
	p.unixMilli = b.UnixMilli
	close(p.changed)
	p.changed = make(chan struct{})
	return b.First(), b.Last()
}

// watermark sums up every row of a home.
func (p *memoryPart) watermark(home region.ID) journal.Watermark {
	w := journal.Watermark{Home: home}
	for k, row := range p.rows {
		if row.home != home {
			continue
		}
		switch k.table.Class() {
		case journal.ClassShared:
			w.SharedSum, w.SharedRows = w.SharedSum.Add(row.sum(k.owner)), w.SharedRows+1
		case journal.ClassOwn:
			w.OwnSum, w.OwnRows = w.OwnSum.Add(row.sum(k.owner)), w.OwnRows+1
		}
	}
	return w
}

// Journal implements store.Store.
func (m *Memory) Journal(ctx context.Context, id region.Partition, s journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error) {
	p, err := m.part(id)
	if err != nil {
		return nil, err
	}
	if err := s.Valid(); err != nil {
		return nil, region.Errorf(region.BadInput, "%v", err)
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return pick(p.journal, s, max(from, 1), maxBytes, p.heads[s].Last)
}

// unknown is that newest record where nobody knows.
const unknown = math.MaxUint64

// pick returns what a stream carries of encoded batches from a sequence on. lost
// is the newest record of the stream when none of them is kept.
func pick(encoded [][]byte, s journal.Stream, from uint64, maxBytes int, lost uint64) ([]*journal.Batch, error) {
	var batches []*journal.Batch
	size := 0
	for _, data := range encoded {
		b, err := journal.Decode(bytes.Clone(data))
		if err != nil {
			return nil, err
		}
		f := journal.Filter(b, s)
		if f == nil || len(f.Links) == 0 {
			continue
		}
		lost = min(lost, f.Links[0].Prev)
		if f.Last() >= from && (len(batches) == 0 || size < maxBytes) {
			batches = append(batches, f)
			size += len(data)
		}
	}
	if lost >= from && lost != unknown {
		return nil, region.Errorf(region.NotFound, "trimmed")
	}
	return batches, nil
}

// Head implements store.Store.
func (m *Memory) Head(id region.Partition) store.Head {
	p, err := m.part(id)
	if err != nil {
		return store.Head{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := store.Head{Incarnation: p.incarnation, First: p.first, Next: p.next, UnixMilli: p.unixMilli}
	for _, head := range p.heads {
		h.Streams = append(h.Streams, head)
	}
	slices.SortFunc(h.Streams, func(a, b journal.StreamHead) int {
		if a.Stream == journal.Full || b.Stream == journal.Full {
			return map[bool]int{true: -1, false: 1}[a.Stream == journal.Full]
		}
		return strings.Compare(string(a.Stream), string(b.Stream))
	})
	return h
}

// Changed implements store.Store.
func (m *Memory) Changed(id region.Partition) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts[id].changed
}

// Watermark implements store.Store.
func (m *Memory) Watermark(ctx context.Context, id region.Partition) (int, error) {
	p, err := m.part(id)
	if err == nil {
		err = m.enter(ctx)
	}
	if err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	var homes []region.ID
	for home := range p.dirty {
		if turn := p.turns[home]; turn.Over() || home == store.Departed {
			delete(p.dirty, home)
			continue
		}
		homes = append(homes, home)
	}
	slices.Sort(homes)
	if len(homes) == 0 {
		return 0, nil
	}
	b := &journal.Batch{}
	for _, home := range homes {
		w := p.watermark(home)
		b.Records = append(b.Records, journal.Record{Kind: journal.KindWatermark, Watermark: &w})
	}
	clear(p.dirty)
	m.append(id, b)
	return len(homes), nil
}

// Sums implements store.Store.
func (m *Memory) Sums(id region.Partition, home region.ID) journal.Watermark {
	p, err := m.part(id)
	if err != nil {
		return journal.Watermark{Home: home}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return p.watermark(home)
}

// Fence implements store.Store.
func (m *Memory) Fence(ctx context.Context, home region.ID, t region.Term) error {
	if err := home.Valid(); err != nil {
		return region.Errorf(region.BadInput, "%v", err)
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.fence.Raise(home, t)
	return nil
}

// Trim implements store.Store.
func (m *Memory) Trim(ctx context.Context, id region.Partition, before uint64) error {
	p, err := m.part(id)
	if err == nil {
		err = m.enter(ctx)
	}
	if err != nil {
		return err
	}
	defer m.mu.Unlock()
	for len(p.journal) > 0 {
		b, err := journal.Decode(p.journal[0])
		if err != nil {
			return err
		}
		if b.Last() >= before {
			break
		}
		p.journal, p.first = p.journal[1:], b.Last()+1
	}
	return nil
}

// Writable implements store.Store.
func (m *Memory) Writable() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return region.Errorf(region.Unavailable, "the store is closed")
	}
	return nil
}

// Close implements store.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen opens a closed Memory again, with what it had.
func (m *Memory) Reopen(now func() time.Time) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	again := &Memory{config: m.config, parts: m.parts, fence: m.fence}
	again.config.Now = now
	return again
}
