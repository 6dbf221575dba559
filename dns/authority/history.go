package authority

import (
	"maps"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/region"
)

// Bounds of what is kept of a zone besides its newest version. Secondaries are told
// of each version and ask soon, so that the last few differences serve nearly all;
// who is further behind gets the whole zone.
const (
	keptSteps = 64
	keptBytes = 4 << 20
	oneAnswer = 4 << 10 // bytes of differences that are no burden even where the zone has less
)

// source is what a version of a zone is made of: the same source makes the same
// records, on every node that has it. Of static zones it is the file alone.
type source struct {
	world  *region.World
	file   *static.Zone
	signer *signer
	serial uint32
}

// edition is a zone as it is transferred under one serial. It never changes.
type edition struct {
	source
	records []dns.RR // the SOA first
	size    int      // bytes
	torn    bool     // the serial had other records before: who has it may have either
}

func (e *edition) soa() dns.RR { return e.records[0] }

// step leads from one edition of a zone to the next.
type step struct {
	from, to       dns.RR // their SOA records, which are not among the others
	removed, added []dns.RR
	size           int // bytes
}

// history is the newest edition of a zone and the last steps to it, oldest first.
type history struct {
	newest *edition
	steps  []step
}

// archive has the histories of the zones that secondaries may have. It is safe for
// concurrent use.
type archive struct {
	mu    sync.Mutex
	zones map[string]history // by canonical name
}

// history returns what there is of a zone now; its newest is nil for a zone that is
// not ours. It blocks while another caller makes a new edition, which takes a
// signature for each set of records of a signed zone.
func (s *Server) history(name string) (history, error) {
	name = dns.CanonicalName(name)
	s.archive.mu.Lock()
	defer s.archive.mu.Unlock()
	of, view, ok := s.source(name)
	if !ok {
		delete(s.archive.zones, name)
		return history{}, nil
	}
	h := s.archive.zones[name]
	if h.newest != nil && h.newest.source == of {
		return h, nil
	}
	records, err := s.wholeZone(name, of, view)
	if err != nil {
		return history{}, err
	}
	h = h.advance(&edition{source: of, records: records, size: sizeOf(records)})
	s.archive.zones[name] = h
	return h, nil
}

// forget drops the histories of zones that are not served any more.
func (a *archive) forget(served map[string]uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.zones {
		if _, ok := served[name]; !ok {
			delete(a.zones, name)
		}
	}
}

// advance returns the history with a newer edition, without changing this one.
func (h history) advance(e *edition) history {
	if h.newest == nil {
		return history{newest: e}
	}
	from, to := h.newest.soa().(*dns.SOA), e.soa().(*dns.SOA)
	removed, added := between(h.newest.records[1:], e.records[1:])
	if from.Serial == to.Serial {
		e.torn = h.newest.torn || len(removed)+len(added) > 0
		if e.torn {
			return history{newest: e}
		}
		return history{newest: e, steps: h.steps}
	}
	if h.newest.torn || !older(from.Serial, to.Serial) {
		return history{newest: e}
	}
	next := step{from: from, to: to, removed: removed, added: added}
	next.size = sizeOf([]dns.RR{from, to}) + sizeOf(removed) + sizeOf(added)
	steps := append(slices.Clone(h.steps), next)
	return history{newest: e, steps: bounded(steps, min(keptBytes, max(oneAnswer, e.size)))}
}

// bounded drops the oldest of too many steps: differences that are together longer
// than the zone serve nobody.
func bounded(steps []step, size int) []step {
	first := len(steps)
	for first > 0 && len(steps)-first < keptSteps && steps[first-1].size <= size {
		first--
		size -= steps[first].size
	}
	return slices.Clone(steps[first:])
}

// since is the answer to who has the zone with a serial: the SOA record alone when
// it is the newest, the differences (RFC 1995 section 4), or the whole zone when
// they are not kept.
func (h history) since(serial uint32) ([]dns.RR, transferred) {
	soa := h.newest.soa()
	if !older(serial, soa.(*dns.SOA).Serial) {
		return []dns.RR{soa}, transferredNothing
	}
	at := slices.IndexFunc(h.steps, func(s step) bool { return s.from.(*dns.SOA).Serial == serial })
	if at < 0 {
		return h.whole(), transferredZone
	}
	out := []dns.RR{soa}
	for _, s := range h.steps[at:] {
		out = append(append(out, s.from), s.removed...)
		out = append(append(out, s.to), s.added...)
	}
	return append(out, soa), transferredChanges
}

// whole are all records, between two of the SOA (RFC 5936 section 2.2).
func (h history) whole() []dns.RR {
	return append(slices.Clone(h.newest.records), h.newest.soa())
}

// between lists what one set of records has and the other has not. A record with
// another TTL is another record.
func between(old, now []dns.RR) (removed, added []dns.RR) {
	had, have := wires(old), wires(now)
	for _, w := range slices.Sorted(maps.Keys(had)) {
		if have[w] == nil {
			removed = append(removed, had[w])
		}
	}
	for _, w := range slices.Sorted(maps.Keys(have)) {
		if had[w] == nil {
			added = append(added, have[w])
		}
	}
	return removed, added
}

// wires are records by what they are on the wire.
func wires(records []dns.RR) map[string]dns.RR {
	out := make(map[string]dns.RR, len(records))
	var room [maxMessage]byte
	for _, rr := range records {
		if n, err := dns.PackRR(dns.Copy(rr), room[:], 0, nil, false); err == nil { // a copy, because it notes a length in the record; what cannot be packed is never sent
			out[string(room[:n])] = rr
		}
	}
	return out
}

func sizeOf(records []dns.RR) int {
	n := 0
	for _, rr := range records {
		n += dns.Len(rr)
	}
	return n
}
