package node

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/postgres"
)

// Engine is what a region's store is made of.
type Engine string

// The engines.
const (
	EnginePebble   Engine = "pebble"   // embedded, in the node's dir
	EnginePostgres Engine = "postgres" // one or several databases
)

// Store says where a region keeps its rows and its journal. A region changes
// from one engine to the other by `homing store export` and `import` only.
type Store struct {
	Engine Engine `yaml:"engine,omitempty"` // default pebble
	// DSNs are the databases of engine postgres, as lib/pq spells them:
	// "host=a,b dbname=homing user=homing" or a URL. Partition p is in the one
	// numbered p modulo their number, so their order and number never change.
	// Nobody's password: that is in DSNFile, in the passfile a DSN names, or in
	// $PGPASSWORD.
	DSNs []string `yaml:"dsns,omitempty"`
	// DSNFile has them instead, one a line, mode 0600. Lines that begin with # do not count.
	DSNFile string `yaml:"dsnFile,omitempty"`
	// Timeout is how long a transaction may take before its connection is cut, and
	// so how long a lost server or quorum goes unnoticed. Default 10s.
	Timeout time.Duration `yaml:"timeout,omitempty"`
	// Patience is how long writes wait for a lost database before they are
	// refused: about what a failover takes. Default 5s.
	Patience time.Duration `yaml:"patience,omitempty"`
	// Readers is how many connections per database serve reads. Default 8.
	Readers int `yaml:"readers,omitempty"`
}

func (s *Store) resolve(dir string) {
	if s.DSNFile != "" && !filepath.IsAbs(s.DSNFile) {
		s.DSNFile = filepath.Join(dir, s.DSNFile)
	}
}

func (s *Store) validate(c *Config) error {
	if s.is(Store{}) {
		s.Engine = EnginePebble
		return nil
	}
	if !c.Has(RoleRegion) && !c.Has(RoleStore) {
		return wrongf("store", "store is of role region or store, which this node has not")
	}
	switch s.Engine {
	case "", EnginePebble:
		s.Engine = EnginePebble
		if !s.is(Store{Engine: EnginePebble}) {
			return wrongf("store", `the other settings of store are for engine postgres: set store.engine to postgres, or leave them out`)
		}
		return nil
	case EnginePostgres:
	default:
		return wrongf("store.engine", "store.engine %q is unknown: want pebble or postgres", s.Engine)
	}
	switch {
	case len(s.DSNs) == 0 && s.DSNFile == "":
		return wrongf("store.engine", "engine postgres needs store.dsns, or store.dsnFile with one DSN a line")
	case len(s.DSNs) > 0 && s.DSNFile != "":
		return wrongf("store.dsnFile", "store.dsns and store.dsnFile say the same thing: leave one out")
	case s.Timeout < 0:
		return wrongf("store.timeout", "store.timeout %s: want a positive duration, such as 10s", s.Timeout)
	case s.Patience < 0:
		return wrongf("store.patience", "store.patience %s: want a positive duration, such as 5s", s.Patience)
	case s.Readers < 0:
		return wrongf("store.readers", "store.readers %d: want a positive number", s.Readers)
	}
	for i, dsn := range s.DSNs {
		if postgres.HasPassword(dsn) {
			return wrongf(fmt.Sprintf("store.dsns[%d]", i), "store.dsns has a password: put the DSNs into a file of mode 0600 and name it in store.dsnFile")
		}
	}
	return nil
}

// is compares the settings, of which slices keep == from doing it.
func (s *Store) is(o Store) bool {
	return s.Engine == o.Engine && len(s.DSNs) == len(o.DSNs) && s.DSNFile == o.DSNFile && s.Timeout == o.Timeout && s.Patience == o.Patience && s.Readers == o.Readers
}

// dsns returns the databases, read from the file where they are in one.
func (s *Store) dsns() ([]string, error) {
	if s.DSNFile == "" {
		return s.DSNs, nil
	}
	info, err := os.Stat(s.DSNFile)
	if err != nil {
		return nil, fmt.Errorf("store.dsnFile: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("store.dsnFile: %s has mode %04o, and others could read its passwords: chmod 600 %s", s.DSNFile, info.Mode().Perm(), s.DSNFile)
	}
	b, err := os.ReadFile(s.DSNFile)
	if err != nil {
		return nil, fmt.Errorf("store.dsnFile: %w", err)
	}
	var dsns []string
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			dsns = append(dsns, line)
		}
	}
	if len(dsns) == 0 {
		return nil, fmt.Errorf("store.dsnFile: %s has no DSN: want one a line", s.DSNFile)
	}
	return dsns, nil
}

// OpenStore opens the store of the file's region, of the engine that it says. A
// running node has it open, and nobody else can.
func (c *Config) OpenStore(partitions int, log *slog.Logger, reg prometheus.Registerer) (dump.Engine, error) {
	id, err := c.RegionID()
	if err != nil {
		return nil, err
	}
	if c.Store.Engine != EnginePostgres {
		spareProcessors(spareStore)
		return pebble.Open(c.pebble(id, partitions, log, reg))
	}
	o, err := c.postgres(id, partitions, log, reg)
	if err != nil {
		return nil, err
	}
	return postgres.Open(o)
}

// LoadStore opens the store of the file's region to be filled from a dump. It
// has to be empty.
func (c *Config) LoadStore(partitions int, log *slog.Logger) (dump.Target, error) {
	id, err := c.RegionID()
	if err != nil {
		return nil, err
	}
	if c.Store.Engine != EnginePostgres {
		return pebble.Load(c.pebble(id, partitions, log, nil))
	}
	o, err := c.postgres(id, partitions, log, nil)
	if err != nil {
		return nil, err
	}
	return postgres.Load(o)
}

// HasStore says why there is no store to be opened, or nil. Without it OpenStore
// makes one.
func (c *Config) HasStore() error {
	if c.Store.Engine == EnginePostgres {
		return nil
	}
	if _, err := os.Stat(c.storeDir()); err != nil {
		return fmt.Errorf("node %s has no store in %s: check dir in its file", c.Name, c.storeDir())
	}
	return nil
}

func (c *Config) pebble(id region.ID, partitions int, log *slog.Logger, reg prometheus.Registerer) pebble.Options {
	return pebble.Options{Dir: c.storeDir(), Region: id, Partitions: partitions, Logger: log, Registry: reg}
}

func (c *Config) postgres(id region.ID, partitions int, log *slog.Logger, reg prometheus.Registerer) (postgres.Options, error) {
	dsns, err := c.Store.dsns()
	return postgres.Options{
		DSNs: dsns, Region: id, Partitions: partitions, Logger: log, Registry: reg,
		Timeout: c.Store.Timeout, Patience: c.Store.Patience, Readers: c.Store.Readers,
	}, err
}

// RegionID is the region whose store the node keeps.
func (c *Config) RegionID() (region.ID, error) {
	kind, name, err := c.member()
	if err != nil {
		return "", err
	}
	if kind != "region" || !c.Has(RoleRegion) && !c.Has(RoleStore) {
		return "", fmt.Errorf("node %s has no store: only roles region and store have", c.Name)
	}
	return region.ID(name), nil
}

// storeDir is where engine pebble keeps its files.
func (c *Config) storeDir() string { return filepath.Join(c.Dir, "store") }
