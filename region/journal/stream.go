package journal

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/homing-im/homing/region"
)

const (
	toPrefix  = "to-"
	maxStream = len(toPrefix) + 16 // bytes of a stream's name
)

// Valid reports why the stream's name is none, or nil.
func (s Stream) Valid() error {
	if s == Full || s == Shared {
		return nil
	}
	home, ok := s.To()
	if !ok {
		return fmt.Errorf("stream %q: want full, shared or to-<region>", string(s))
	}
	if err := home.Valid(); err != nil {
		return fmt.Errorf("stream %q: %w", string(s), err)
	}
	return nil
}

// To returns the home of a command stream; false for full and shared.
func (s Stream) To() (region.ID, bool) {
	home, ok := strings.CutPrefix(string(s), toPrefix)
	return region.ID(home), ok
}

// compareStreams orders links: full first, then by name.
func compareStreams(a, b Stream) int {
	switch {
	case a == b:
		return 0
	case a == Full:
		return -1
	case b == Full:
		return 1
	}
	return cmp.Compare(a, b)
}

// Carries says whether the stream carries the record.
func (s Stream) Carries(r *Record) bool {
	switch s {
	case Full:
		return true
	case Shared:
		return r.Kind == KindWatermark || (r.Kind == KindRow && r.Row.Table.Class() == ClassShared) || r.Kind >= firstSharedKind
	}
	return r.Kind == KindCommand && len(s) == len(toPrefix)+len(r.Command.To) &&
		s[:len(toPrefix)] == toPrefix && string(s[len(toPrefix):]) == string(r.Command.To)
}

// Streams appends to dst the streams that carry something of the records, in
// the order of a batch's links.
func Streams(dst []Stream, records []Record) []Stream {
	start := len(dst)
	dst = append(dst, Full)
	for i := range records {
		r := &records[i]
		s := Shared
		if r.Kind == KindCommand {
			if slices.ContainsFunc(dst[start+1:], func(have Stream) bool { return have.Carries(r) }) {
				continue
			}
			s = StreamTo(r.Command.To)
		}
		if s.Carries(r) && !slices.Contains(dst[start+1:], s) {
			dst = append(dst, s)
		}
	}
	slices.SortFunc(dst[start+1:], compareStreams)
	return dst
}

// Filter returns the batch as the stream carries it, with that stream's link
// only (none when b has none); nil when nothing of it is in the stream. Stream
// full carries all links, so that whoever has it can serve the others too. The
// result shares memory with b. Filtering twice is the same as once.
func Filter(b *Batch, s Stream) *Batch {
	f := *b
	if s == Full {
		return &f
	}
	f.Links = nil
	for i := range b.Links {
		if b.Links[i].Stream == s {
			f.Links = b.Links[i : i+1 : i+1]
		}
	}
	f.Records = nil
	for i := range b.Records {
		r := &b.Records[i]
		if !s.Carries(r) {
			continue
		}
		if f.Records == nil {
			f.Records = make([]Record, 0, len(b.Records)-i)
		}
		f.Records = append(f.Records, *r)
		if r.Kind == KindWatermark {
			f.Records[len(f.Records)-1].Watermark = &Watermark{
				Home: r.Watermark.Home, SharedSum: r.Watermark.SharedSum, SharedRows: r.Watermark.SharedRows,
			}
		}
	}
	if len(f.Records) == 0 {
		return nil
	}
	return &f
}

// Next is the chain step: the link that puts a batch, as the stream carries it,
// behind the stream's head, and the head after it. The batch's own links do not
// matter.
func Next(head StreamHead, filtered *Batch) (Link, StreamHead) {
	var stack [hashedBytes]byte
	return next(head, filtered.Last(), SumOf(AppendBody(append(stack[:0], head.Chain[:]...), filtered)))
}

// NextBody is [Next] for a caller who has the body's bytes: the batch as the
// stream carries it ends with the record last.
func NextBody(head StreamHead, last uint64, body []byte) (Link, StreamHead) {
	var stack [hashedBytes]byte
	return next(head, last, SumOf(append(append(stack[:0], head.Chain[:]...), body...)))
}

// hashedBytes is the memory for what is hashed of most batches, so that hashing
// them allocates nothing.
const hashedBytes = 2048

func next(head StreamHead, last uint64, chain Sum) (Link, StreamHead) {
	return Link{Stream: head.Stream, Prev: head.Last, Chain: chain}, StreamHead{Stream: head.Stream, Last: last, Chain: chain}
}

// Break is how a batch fails to follow a stream's head.
type Break struct {
	Stream  Stream
	Have    uint64 // last sequence before the batch
	Want    uint64 // what the batch names as its predecessor
	Altered bool   // the predecessor fits, the chain does not: another history, or changed bytes
}

func (b *Break) Error() string {
	switch {
	case b.Altered:
		return fmt.Sprintf("stream %s: the chain differs after %d: another history, or altered records", b.Stream, b.Have)
	case b.Want < b.Have:
		return fmt.Sprintf("stream %s: the batch follows %d, but the reader is at %d: repeated, or another history", b.Stream, b.Want, b.Have)
	}
	return fmt.Sprintf("stream %s: records are missing between %d and %d", b.Stream, b.Have, b.Want)
}

// Follow checks that a batch, as the stream of the head carries it, comes right
// behind the head and was not altered, and returns the head after it. The error
// is a [*Break]; the head is then the old one.
func Follow(head StreamHead, filtered *Batch) (StreamHead, error) {
	i := slices.IndexFunc(filtered.Links, func(l Link) bool { return l.Stream == head.Stream })
	if i < 0 || len(filtered.Records) == 0 {
		return head, &Break{Stream: head.Stream, Have: head.Last, Altered: true}
	}
	link := filtered.Links[i]
	if link.Prev != head.Last {
		return head, &Break{Stream: head.Stream, Have: head.Last, Want: link.Prev}
	}
	want, next := Next(head, filtered)
	if want.Chain != link.Chain || !numbered(head, filtered) {
		return head, &Break{Stream: head.Stream, Have: head.Last, Want: link.Prev, Altered: true}
	}
	return next, nil
}

// numbered says whether the sequences ascend, and are dense where they must be.
func numbered(head StreamHead, b *Batch) bool {
	before := head.Last
	for i := range b.Records {
		r := &b.Records[i]
		if r.Seq <= before || (head.Stream == Full && r.Seq != before+1) || !head.Stream.Carries(r) {
			return false
		}
		before = r.Seq
	}
	return true
}

// Topic is the queue topic of a region's stream.
func Topic(origin region.ID, s Stream) string { return "homing." + string(origin) + "." + string(s) }

// QueueKey is the key of a batch's message in a queue: "<first>-<last>".
func QueueKey(b *Batch) []byte {
	k := strconv.AppendUint(make([]byte, 0, 24), b.First(), 10)
	return strconv.AppendUint(append(k, '-'), b.Last(), 10)
}
