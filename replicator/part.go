package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store/dump"
)

const (
	// partsAtOnce bounds how many parts are read from a store at a time: each
	// reads a partition whole, and holds its old files meanwhile.
	partsAtOnce = 2

	// partStall is how long whoever asked for a part may take nothing of it.
	partStall = 30 * time.Second

	// partError is the trailer that says why a part ends early: it is found out
	// when the answer has begun.
	partError = "Homing-Error"
)

// PartHandler serves parts of a region's store: GET /part, as the package comment
// spells it. What it serves is as private as the journal.
func PartHandler(s dump.Source, l *slog.Logger) http.Handler {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	h := &partHandler{store: s, logger: l, busy: make(chan struct{}, partsAtOnce)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /part", h.part)
	return mux
}

type partHandler struct {
	store  dump.Source
	logger *slog.Logger
	busy   chan struct{}
}

func (h *partHandler) part(w http.ResponseWriter, r *http.Request) {
	part, err := partOf(r.URL.Query(), h.store.Partitions())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case h.busy <- struct{}{}:
		defer func() { <-h.busy }()
	default:
		http.Error(w, "other parts are being read", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Trailer", partError)
	w.Header().Set("Content-Type", "application/zstd")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.Flush() // adding up the rows comes first, and takes its time
	out, err := zstd.NewWriter(&pacedWriter{w, control}, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err == nil {
		err = dump.WritePart(r.Context(), out, h.store, part)
		err = errors.Join(err, out.Close())
	}
	if err != nil && r.Context().Err() == nil {
		h.logger.Warn("a part of the store was not served whole", "partition", part.Partition, "error", err)
		text, _, _ := strings.Cut(err.Error(), "\n")
		w.Header().Set(partError, text)
	}
}

// partOf reads the query of GET /part.
func partOf(q url.Values, partitions int) (dump.Part, error) {
	p, err := strconv.ParseUint(q.Get("partition"), 10, 16)
	if err != nil || int(p) >= partitions {
		return dump.Part{}, fmt.Errorf("partition %.20q: want 0 to %d", q.Get("partition"), partitions-1)
	}
	part := dump.Part{Partition: region.Partition(p), Own: q.Get("own") == "1", Journal: q.Get("journal") == "1"}
	for _, home := range strings.FieldsFunc(q.Get("homes"), func(r rune) bool { return r == ',' }) {
		if err := region.ID(home).Valid(); err != nil {
			return dump.Part{}, fmt.Errorf("homes: %.100w", err)
		}
		part.Homes = append(part.Homes, region.ID(home))
	}
	return part, nil
}

func partQuery(part dump.Part) string {
	homes := make([]string, len(part.Homes))
	for i, home := range part.Homes {
		homes[i] = string(home)
	}
	q := url.Values{"partition": {strconv.Itoa(int(part.Partition))}, "homes": {strings.Join(homes, ",")}}
	if part.Own {
		q.Set("own", "1")
	}
	if part.Journal {
		q.Set("journal", "1")
	}
	return q.Encode()
}

// pacedWriter gives a reader who takes nothing up.
type pacedWriter struct {
	w       io.Writer
	control *http.ResponseController
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(partStall))
	return p.w.Write(b)
}

// parts asks other regions for parts of their stores.
type parts interface {
	// Part returns a part's bytes, as package dump spells them, until the caller
	// closes it. A part that ends early says why when it is closed.
	Part(ctx context.Context, origin region.ID, part dump.Part) (io.ReadCloser, error)
}

// Part implements parts.
func (h *httpPeers) Part(ctx context.Context, origin region.ID, part dump.Part) (io.ReadCloser, error) {
	res, err := h.open(ctx, origin, "/part?"+partQuery(part))
	if err != nil {
		return nil, err
	}
	in, err := zstd.NewReader(res.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	return &partBody{in, res, origin}, nil
}

type partBody struct {
	*zstd.Decoder
	res    *http.Response
	origin region.ID
}

// Close returns what the origin said of an early end, if anything.
func (b *partBody) Close() error {
	_, _ = io.CopyN(io.Discard, b.res.Body, 1) // a trailer is known at the end only
	said := b.res.Trailer.Get(partError)
	b.Decoder.Close()
	_ = b.res.Body.Close()
	if said != "" {
		return region.Errorf(region.Unavailable, "region %s did not give the part whole: %.300s", b.origin, said)
	}
	return nil
}
