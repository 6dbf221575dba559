package replicator

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// Heads says where the partitions of a region's journal stand.
type Heads struct {
	Region     region.ID `json:"region"`
	Copy       bool      `json:"copy,omitempty"` // as the backup has it, of which the journal may be ahead; First and Next are not told
	Partitions []Head    `json:"partitions"`     // in order
}

// Head is where one partition stands.
type Head struct {
	Incarnation uint64       `json:"incarnation"`
	First       uint64       `json:"first"` // oldest record still kept; Next when none
	Next        uint64       `json:"next"`
	UnixMilli   int64        `json:"unixMilli"` // of the newest record; 0 when none
	Streams     []StreamLast `json:"streams"`
	Taken       []HomeSum    `json:"taken,omitempty"` // of homes that the region took over: its journal alone does not make their rows
}

// HomeSum is the digest of a home's rows in a partition. It is read apart from
// the head, so while there are writes it may be of a moment later.
type HomeSum struct {
	Home   region.ID `json:"home"`
	Shared []byte    `json:"shared"` // 16 bytes, as Own
	Own    []byte    `json:"own"`
}

// tookOver returns the digests of the homes a region took over in a partition.
func tookOver(s interface {
	Turns(p region.Partition) map[region.ID]store.Turn
	Sums(p region.Partition, home region.ID) journal.Watermark
}, p region.Partition) []HomeSum {
	var out []HomeSum
	for home, turn := range s.Turns(p) {
		if turn.Owns() {
			w := s.Sums(p, home)
			out = append(out, HomeSum{home, w.SharedSum[:], w.OwnSum[:]})
		}
	}
	return out
}

// StreamLast is the last sequence of a stream, and its chain there.
type StreamLast struct {
	Stream journal.Stream `json:"stream"`
	Last   uint64         `json:"last"`
	Chain  []byte         `json:"chain,omitempty"` // 16 bytes; none from a region that does not tell
}

// streamLast spells a head.
func streamLast(h journal.StreamHead) StreamLast {
	return StreamLast{h.Stream, h.Last, h.Chain[:]}
}

// Last returns the last sequence of a stream; 0 when it has no record.
func (h *Head) Last(s journal.Stream) uint64 {
	for _, l := range h.Streams {
		if l.Stream == s {
			return l.Last
		}
	}
	return 0
}

// parted says whether the origin's stream ends where a replica does, with another
// history: it lost its end, and has written as much again.
func (h *Head) parted(at journal.StreamHead) bool {
	for _, l := range h.Streams {
		if l.Stream == at.Stream {
			return l.Last == at.Last && len(l.Chain) > 0 && at.Chain != (journal.Sum{}) && !bytes.Equal(l.Chain, at.Chain[:])
		}
	}
	return false
}

// Positions says how far a region has applied foreign streams.
type Positions struct {
	Region    region.ID       `json:"region"`
	Positions []PositionEntry `json:"positions"`
}

// PositionEntry is one of them.
type PositionEntry struct {
	Origin    region.ID        `json:"origin"`
	Stream    journal.Stream   `json:"stream"`
	Partition region.Partition `json:"partition"`
	Seq       uint64           `json:"seq"`

	Incarnation uint64 `json:"incarnation,omitempty"` // of the origin's store, of that record; 0 from a region that does not tell
}

// of returns the position of one stream; 0 when there is none.
func (p *Positions) of(origin region.ID, s journal.Stream, part region.Partition) uint64 {
	for _, e := range p.Positions {
		if e.Origin == origin && e.Stream == s && e.Partition == part {
			return e.Seq
		}
	}
	return 0
}

// Peers asks other regions about their journals. Calls block until answered or
// ctx ends.
type Peers interface {
	// Journal returns batches of a stream from the first that has a record at or
	// after from; none when the stream ends before. Errors: region.NotFound when
	// the origin has trimmed that part.
	Journal(ctx context.Context, origin region.ID, p region.Partition, s journal.Stream, from uint64) ([]*journal.Batch, error)
	Heads(ctx context.Context, origin region.ID) (*Heads, error)
	Positions(ctx context.Context, of region.ID) (*Positions, error)
}

const (
	// journalBytes is about how much one answer of GET /journal holds.
	journalBytes = 1 << 20
	// maxAnswer bounds what is read of an answer.
	maxAnswer = journalBytes + 2*journal.MaxEncoded
)

// httpPeers asks over the admin listeners that the world names. Of a region that
// another one acts for, it asks that one's copy too: the region may be gone, and
// with it the only journal that has its last commands.
type httpPeers struct {
	client *http.Client
	view   func() *region.View
	self   region.ID
	copies Copies
	at     positioned
}

// positioned says how far streams are applied. [store.Store] satisfies it.
type positioned interface {
	Partitions() int
	Position(ctx context.Context, origin region.ID, s journal.Stream, p region.Partition) (journal.Position, error)
}

// keeper returns who has a copy of a region's journal and acts for it.
func (h *httpPeers) keeper(origin region.ID) (region.ID, bool) {
	v := h.view()
	if v == nil {
		return "", false
	}
	acting, _, ok := v.Acting(origin)
	return acting, ok && acting != origin
}

func (h *httpPeers) Journal(ctx context.Context, origin region.ID, p region.Partition, s journal.Stream, from uint64) ([]*journal.Batch, error) {
	q := url.Values{"partition": {strconv.Itoa(int(p))}, "stream": {string(s)}, "from": {strconv.FormatUint(from, 10)}}
	body, err := h.get(ctx, origin, "/journal?"+q.Encode())
	if err != nil {
		keeper, ok := h.keeper(origin)
		switch {
		case !ok || region.KindOf(err) == region.NotFound:
			return nil, err
		case keeper == h.self:
			if s == journal.Full {
				return nil, err // this region's copy ends where its replay does
			}
			return h.copies.Copy(ctx, origin, p, s, from, journalBytes)
		}
		q.Set("of", string(origin))
		if body, err = h.get(ctx, keeper, "/journal?"+q.Encode()); err != nil {
			return nil, err
		}
	}
	return decodeBatches(spot{origin, s, p}, body)
}

func (h *httpPeers) Heads(ctx context.Context, origin region.ID) (*Heads, error) {
	heads := new(Heads)
	if err := h.getJSON(ctx, origin, "/heads", heads); err != nil {
		keeper, ok := h.keeper(origin)
		switch {
		case !ok:
			return nil, err
		case keeper == h.self:
			return copyHeads(ctx, h.at, origin)
		}
		if err := h.getJSON(ctx, keeper, "/heads?of="+url.QueryEscape(string(origin)), heads); err != nil {
			return nil, err
		}
	}
	if heads.Region != origin {
		return nil, fmt.Errorf("region %s answered as %q", origin, heads.Region)
	}
	return heads, nil
}

// copyHeads says how far the copy of a region's journal reaches. It names stream
// full only: whoever asks for another finds out where that ends.
func copyHeads(ctx context.Context, s positioned, origin region.ID) (*Heads, error) {
	heads := &Heads{Region: origin, Copy: true}
	for p := range s.Partitions() {
		at, err := s.Position(ctx, origin, journal.Full, region.Partition(p))
		if err != nil {
			return nil, err
		}
		heads.Partitions = append(heads.Partitions, Head{Incarnation: at.Incarnation, UnixMilli: at.UnixMilli, Streams: []StreamLast{{Stream: journal.Full, Last: at.Seq}}})
	}
	return heads, nil
}

func (h *httpPeers) Positions(ctx context.Context, of region.ID) (*Positions, error) {
	positions := new(Positions)
	if err := h.getJSON(ctx, of, "/positions", positions); err != nil {
		return nil, err
	}
	if positions.Region != of {
		return nil, fmt.Errorf("region %s answered as %q", of, positions.Region)
	}
	return positions, nil
}

func (h *httpPeers) getJSON(ctx context.Context, of region.ID, path string, into any) error {
	body, err := h.get(ctx, of, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("region %s: %s: %w", of, path, err)
	}
	return nil
}

func (h *httpPeers) get(ctx context.Context, of region.ID, path string) ([]byte, error) {
	res, err := h.open(ctx, of, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("region %s: the answer to %s is over %d bytes", of, path, maxAnswer)
	}
	return body, nil
}

// open asks a region's admin listener; the caller closes the body of what it
// answers well.
func (h *httpPeers) open(ctx context.Context, of region.ID, path string) (*http.Response, error) {
	view := h.view()
	if view == nil {
		return nil, errors.New("no world yet")
	}
	r, ok := view.World.Region(of)
	if !ok {
		return nil, fmt.Errorf("world %d has no region %s", view.World.Version, of)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, region.AdminURL(r.Admin)+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := h.client.Do(req)
	if err != nil || res.StatusCode == http.StatusOK {
		return res, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 200))
	if err != nil {
		return nil, err
	}
	kind := region.Unavailable
	if res.StatusCode == http.StatusGone {
		kind = region.NotFound
	}
	text, _, _ := bytes.Cut(body, []byte("\n"))
	return nil, region.Errorf(kind, "region %s answered %s: %s", of, res.Status, text)
}

// appendBatch appends a batch as GET /journal spells it.
func appendBatch(dst []byte, b *journal.Batch) []byte {
	start := len(dst)
	dst = journal.AppendBatch(append(dst, 0, 0, 0, 0), b)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// decodeBatches reads the body of GET /journal, up to the first batch of a newer
// format if there are any before it.
func decodeBatches(s spot, body []byte) ([]*journal.Batch, error) {
	var out []*journal.Batch
	for len(body) > 0 {
		if len(body) < 4 {
			return nil, region.Errorf(region.BadInput, "%d bytes after the last batch", len(body))
		}
		n := binary.BigEndian.Uint32(body)
		body = body[4:]
		if uint64(n) > uint64(len(body)) {
			return nil, region.Errorf(region.BadInput, "a batch of %d bytes where %d are left", n, len(body))
		}
		b, err := journal.Decode(body[:n])
		if len(out) > 0 && region.KindOf(err) == region.Unsupported {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if err := s.owns(b); err != nil {
			return nil, err
		}
		out, body = append(out, b), body[n:]
	}
	return out, nil
}
