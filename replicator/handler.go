package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// JournalStore is what [JournalHandler] reads. [store.Store] satisfies it.
type JournalStore interface {
	Source
	Positions(ctx context.Context) ([]journal.Position, error)
	Position(ctx context.Context, origin region.ID, s journal.Stream, p region.Partition) (journal.Position, error)
	Copy(ctx context.Context, origin region.ID, p region.Partition, s journal.Stream, from uint64, maxBytes int) ([]*journal.Batch, error)
	Turns(p region.Partition) map[region.ID]store.Turn
	Sums(p region.Partition, home region.ID) journal.Watermark
}

// JournalHandler serves a region's journal, heads and positions: GET /journal,
// GET /heads, GET /positions, as the package comment spells them. Whoever may
// call it reads every record of the region, private ones included: wrap it so
// that only the world's regions may (peer.Require).
func JournalHandler(s JournalStore, l *slog.Logger) http.Handler {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	h := &journalHandler{s, l}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /journal", h.journal)
	mux.HandleFunc("GET /heads", h.heads)
	mux.HandleFunc("GET /positions", h.positions)
	return mux
}

type journalHandler struct {
	store  JournalStore
	logger *slog.Logger
}

func (h *journalHandler) journal(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p, err := strconv.ParseUint(q.Get("partition"), 10, 16)
	if err != nil || int(p) >= h.store.Partitions() {
		h.fail(w, region.Errorf(region.BadInput, "partition %.20q: want 0 to %d", q.Get("partition"), h.store.Partitions()-1))
		return
	}
	stream := journal.Stream(q.Get("stream"))
	if err := stream.Valid(); err != nil {
		h.fail(w, region.Errorf(region.BadInput, "%.100v", err))
		return
	}
	from, err := strconv.ParseUint(q.Get("from"), 10, 64)
	if err != nil || from == 0 {
		h.fail(w, region.Errorf(region.BadInput, "from %.30q: want a sequence from 1", q.Get("from")))
		return
	}
	var batches []*journal.Batch
	if of := region.ID(q.Get("of")); of == "" || of == h.store.Region() {
		batches, err = h.store.Journal(r.Context(), region.Partition(p), stream, from, journalBytes)
	} else {
		batches, err = h.store.Copy(r.Context(), of, region.Partition(p), stream, from, journalBytes)
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	var body []byte
	for _, b := range batches {
		body = appendBatch(body, b)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a reader who is gone asks again
}

func (h *journalHandler) heads(w http.ResponseWriter, r *http.Request) {
	if of := region.ID(r.URL.Query().Get("of")); of != "" && of != h.store.Region() {
		if err := of.Valid(); err != nil {
			h.fail(w, region.Errorf(region.BadInput, "%.100v", err))
			return
		}
		heads, err := copyHeads(r.Context(), h.store, of)
		if err != nil {
			h.fail(w, err)
			return
		}
		h.answer(w, heads)
		return
	}
	heads := Heads{Region: h.store.Region()}
	for p := range h.store.Partitions() {
		s := h.store.Head(region.Partition(p))
		head := Head{Incarnation: s.Incarnation, First: s.First, Next: s.Next, UnixMilli: s.UnixMilli, Taken: tookOver(h.store, region.Partition(p))}
		for _, l := range s.Streams {
			head.Streams = append(head.Streams, streamLast(l))
		}
		heads.Partitions = append(heads.Partitions, head)
	}
	h.answer(w, heads)
}

func (h *journalHandler) positions(w http.ResponseWriter, r *http.Request) {
	all, err := h.store.Positions(r.Context())
	if err != nil {
		h.fail(w, err)
		return
	}
	h.answer(w, entries(h.store.Region(), all))
}

func entries(of region.ID, all []journal.Position) *Positions {
	positions := &Positions{Region: of}
	for _, p := range all {
		positions.Positions = append(positions.Positions, PositionEntry{p.Origin, p.Stream, p.Partition, p.Seq, p.Incarnation})
	}
	return positions
}

func (h *journalHandler) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// fail answers with one line of text: message and hint, without the cause.
// 410 says that the journal was trimmed there.
func (h *journalHandler) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch region.KindOf(err) {
	case region.BadInput:
		status = http.StatusBadRequest
	case region.NotFound:
		status = http.StatusGone
	case region.Unavailable, region.Overloaded:
		status = http.StatusServiceUnavailable
	}
	text := "internal error"
	var e *region.Error
	if errors.As(err, &e) {
		text = e.Message
		if e.Hint != "" {
			text += " (" + e.Hint + ")"
		}
	}
	if status == http.StatusInternalServerError {
		h.logger.Error("journal not served", "error", err)
	}
	http.Error(w, text, status)
}
