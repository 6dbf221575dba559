package geo

import (
	"context"
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
	// Degrade opens although a file is missing or unusable. Countries then come from
	// EmbeddedCountry, where nobody else knows them, until [DB.Watch] finds the file.
	Degrade bool
}

// DB answers lookups. It is safe for concurrent use.
type DB struct {
	view   func() *region.View
	log    *slog.Logger
	errors prometheus.Counter

	sources atomic.Pointer[[]*source]
	trouble atomic.Pointer[[]error]
	places  atomic.Pointer[worldPlaces]
	reloads atomic.Uint64

	mu    sync.Mutex // one reading at a time
	files []*file
}

// file is one of the options' files.
type file struct {
	path  string
	stamp stamp
	good  *source // as it was when it could last be read; nil when it never could
	err   error   // why it cannot be read now
}

// stamp tells versions of a file apart; zero is that of an embedded database, and
// of what is not there.
type stamp struct {
	size     int64
	modified time.Time
}

func stampOf(path string) stamp {
	if Embedded(path) {
		return stamp{}
	}
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.Size(), info.ModTime()}
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

// Open reads the databases. Unlike [DB.Reload] it fails when one is unusable,
// unless it is told to degrade: there is no last good one to fall back to.
func Open(o Options) (*DB, error) {
	db := &DB{view: o.View, log: o.Logger}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if db.view == nil {
		db.view = func() *region.View { return nil }
	}
	db.errors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "homing_dns_geo_reload_errors_total",
		Help: "Geo databases that could not be read, at the start or later; the last good one stays in use.",
	})
	paths := o.Files
	if len(paths) == 0 {
		paths = []string{EmbeddedCountry}
	}
	for _, path := range paths {
		f := &file{path: path}
		if err := db.load(f); err != nil && !o.Degrade {
			return nil, err
		}
		db.files = append(db.files, f)
	}
	db.use()
	db.export(o.Registry)
	return db, nil
}

// load reads a file anew; on error what was read of it before stays.
func (db *DB) load(f *file) error {
	f.stamp = stampOf(f.path) // before the reading: who writes in between is read again
	var fresh *source
	if fresh, f.err = read(f.path); f.err == nil {
		f.good = fresh
		return nil
	}
	db.errors.Inc()
	if f.good != nil {
		db.log.Error("geo database not read, the last good one stays", "file", f.path, "built", f.good.built, "err", f.err)
	} else {
		db.log.Error("geo database not read, steering goes by what remains", "file", f.path, "err", f.err)
	}
	return f.err
}

// use makes what was read what lookups ask.
func (db *DB) use() {
	var sources []*source
	var trouble []error
	missing, country := false, false
	for _, f := range db.files {
		if f.err != nil {
			trouble = append(trouble, f.err)
		}
		if f.good == nil {
			missing = true
			continue
		}
		sources = append(sources, f.good)
		country = country || f.path == EmbeddedCountry
	}
	if missing && !country {
		if s, err := read(EmbeddedCountry); err == nil { // it is part of the program
			sources = append(sources, s)
		}
	}
	db.trouble.Store(&trouble)
	db.sources.Store(&sources)
	db.reloads.Add(1) // after the sources: see Generation
}

// Trouble says which of the files cannot be used as they are now.
func (db *DB) Trouble() []error { return *db.trouble.Load() }

// Watch reads files anew soon after they change, appear or disappear, until the
// context ends; it blocks.
func (db *DB) Watch(ctx context.Context) {
	look := time.NewTicker(watchEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			db.look()
		case <-ctx.Done():
			return
		}
	}
}

// watchEvery is how long a new file may wait. What replaces databases does it
// once a day.
const watchEvery = 2 * time.Second

// look reads the files that are not what they were.
func (db *DB) look() {
	db.mu.Lock()
	defer db.mu.Unlock()
	changed := false
	for _, f := range db.files {
		if now := stampOf(f.path); now == f.stamp {
			continue
		}
		changed = true
		if db.load(f) == nil {
			db.log.Info("geo database read anew", "file", f.path, "built", f.good.built)
		}
	}
	if changed {
		db.use()
	}
}

func (db *DB) export(r prometheus.Registerer) {
	if r == nil {
		return
	}
	r.MustRegister(db.errors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "homing_dns_geo_unusable_files",
		Help: "Geo databases whose files cannot be used as they are now; not 0 is an alarm.",
	}, func() float64 { return float64(len(db.Trouble())) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
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
	for _, f := range db.files {
		errs = append(errs, db.load(f))
	}
	db.use()
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
