package geo

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// Options configure a [DB].
type Options struct {
	// Files are paths in order of preference, or the names of embedded databases,
	// [EmbeddedCountry] and [EmbeddedDemo]. A path that ends in .csv is an overlay.
	// None means EmbeddedCountry.
	Files    []string
	View     func() *region.View   // for the world's places; nil, or returning nil, means none
	Logger   *slog.Logger          // nil is silent
	Registry prometheus.Registerer // nil exports nothing
}

// DB answers lookups. It is safe for concurrent use.
type DB struct {
	view   func() *region.View
	log    *slog.Logger
	errors prometheus.Counter

	sources atomic.Pointer[[]*source]
	places  atomic.Pointer[worldPlaces]
	reloads atomic.Uint64

	mu sync.Mutex // one Reload at a time
}

// source is one database, in memory, so that replacing or truncating its file
// disturbs nobody.
type source struct {
	path  string // or the name of an embedded one
	kind  string // for people
	built time.Time
	facts
}

// facts answer lookups: what is known about an address, and the length of the
// network for which just that is known.
type facts interface {
	lookup(netip.Addr) (steer.Facts, int)
}

// Open reads the databases; unlike [DB.Reload] it fails when one is unusable,
// because there is no last good one to fall back to.
func Open(o Options) (*DB, error) {
	db := &DB{view: o.View, log: o.Logger}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if db.view == nil {
		db.view = func() *region.View { return nil }
	}
	files := o.Files
	if len(files) == 0 {
		files = []string{EmbeddedCountry}
	}
	sources := make([]*source, 0, len(files))
	for _, path := range files {
		s, err := read(path)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	db.sources.Store(&sources)
	db.export(o.Registry)
	return db, nil
}

func (db *DB) export(r prometheus.Registerer) {
	db.errors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "homing_dns_geo_reload_errors_total",
		Help: "Geo databases that could not be read; the last good one stays in use.",
	})
	if r == nil {
		return
	}
	r.MustRegister(db.errors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "homing_dns_geo_build_timestamp_seconds",
		Help: "Build time of the oldest geo database in use.",
	}, func() float64 {
		oldest := 0.0
		for _, s := range *db.sources.Load() {
			if t := float64(s.built.Unix()); oldest == 0 || t < oldest {
				oldest = t
			}
		}
		return oldest
	}))
}

// maxFile is the largest database accepted, in bytes. GeoIP2 Enterprise has
// less than half of it; the bound keeps a wrong path from filling the memory.
const maxFile = 1 << 30

func read(path string) (*source, error) {
	bad := func(err error) error {
		return region.Errorf(region.BadInput, "geo database %s cannot be used", path).WithCause(err).
			WithHint("name a readable file in MaxMind's format (.mmdb) with city, country or ASN data, an overlay (.csv), " + EmbeddedCountry + " or " + EmbeddedDemo)
	}
	raw, modified, err := contents(path)
	if err != nil {
		return nil, bad(err)
	}
	if strings.HasSuffix(path, ".csv") {
		o, err := readOverlay(raw)
		if err != nil {
			return nil, bad(err)
		}
		return &source{path: path, kind: "overlay", built: modified, facts: o}, nil
	}
	reader, err := maxminddb.OpenBytes(raw)
	if err != nil {
		return nil, bad(err)
	}
	if !Embedded(path) {
		// A truncated copy opens without complaint and fails on lookups; Verify
		// walks all of it once.
		if err := reader.Verify(); err != nil {
			return nil, bad(err)
		}
	}
	meta := reader.Metadata
	return &source{path: path, kind: meta.DatabaseType, built: time.Unix(int64(meta.BuildEpoch), 0).UTC(), facts: (*database)(reader)}, nil
}

// contents reads a file, or finds an embedded one.
func contents(path string) (raw []byte, modified time.Time, err error) {
	switch path {
	case EmbeddedCountry:
		return country, modified, nil
	case EmbeddedDemo:
		return demo, modified, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, modified, err
	}
	if info.Size() > maxFile {
		return nil, modified, fmt.Errorf("%d bytes are more than %d", info.Size(), maxFile)
	}
	raw, err = os.ReadFile(path)
	return raw, info.ModTime().UTC(), err
}

// Reload reads all files again. Each that is good replaces its predecessor;
// the errors of the others are returned together. It blocks for the reading.
func (db *DB) Reload() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	var errs []error
	old := *db.sources.Load()
	sources := make([]*source, len(old))
	for i, s := range old {
		fresh, err := read(s.path)
		if err != nil {
			errs = append(errs, err)
			db.errors.Inc()
			db.log.Error("geo database not reloaded, the last good one stays", "file", s.path, "built", s.built, "err", err)
			fresh = s
		}
		sources[i] = fresh
	}
	db.sources.Store(&sources)
	db.reloads.Add(1) // after the sources: see Generation
	return errors.Join(errs...)
}

// Generation changes after the databases have been reloaded. Facts looked up
// after it was read are as new as it or newer; what a caller derives from them
// holds until it, or the view, is another.
func (db *DB) Generation() uint64 { return db.reloads.Load() }

// String names the databases in use, for people.
func (db *DB) String() string {
	var out []string
	for _, s := range *db.sources.Load() {
		out = append(out, fmt.Sprintf("%s (%s, built %s)", s.path, s.kind, s.built.Format(time.DateOnly)))
	}
	return strings.Join(out, ", ")
}

// LookupPrefix returns the facts about a network's first address, which is how
// dns/steer sees a network.
func (db *DB) LookupPrefix(p netip.Prefix) steer.Facts {
	if !p.IsValid() {
		return steer.Facts{}
	}
	return db.Lookup(p.Masked().Addr())
}

// Lookup returns the facts about an address. An unreadable record counts as
// nothing known; no facts at all come back for an invalid address.
func (db *DB) Lookup(addr netip.Addr) steer.Facts {
	if !addr.IsValid() {
		return steer.Facts{}
	}
	addr = addr.Unmap().WithZone("")
	configured, bits := db.worldPlaces().lookup(addr)
	if configured != nil {
		return steer.Facts{Prefix: network(addr, bits), Known: true, Place: configured.Place, ASN: configured.ASN}
	}
	var f steer.Facts
	for _, s := range *db.sources.Load() {
		found, n := s.lookup(addr)
		bits = max(bits, n)
		merge(&f, &found)
	}
	f.Prefix = network(addr, bits)
	return f
}

func network(addr netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(addr, bits).Masked() }
