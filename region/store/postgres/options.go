package postgres

import (
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
)

// Options of a store. DSNs, Region and Partitions are required; everything else
// has a default.
type Options struct {
	// DSNs are the databases, as lib/pq spells them; with several hosts each the
	// primary is found. Partition p is in the one numbered p modulo their number,
	// so their order and number never change.
	DSNs       []string
	Region     region.ID // a database belongs to one region for ever
	Partitions int       // 1 to 65,536; fixed when the databases are made

	Logger   *slog.Logger          // nil logs nothing
	Registry prometheus.Registerer // nil registers no metrics; one store per registry
	Now      func() time.Time      // time of records; nil is time.Now

	// Timeout is how long a transaction may take before its connection is cut,
	// and so how long a lost server or quorum goes unnoticed. 0 is 10 s.
	Timeout time.Duration

	// Patience is how long writes wait for a database that is not there before
	// they are refused: about what a failover takes. 0 is 5 s. Writes whose outcome is
	// unknown wait until it is known, or their context ends.
	Patience time.Duration

	// Readers is how many connections per database serve reads. 0 is 8.
	Readers int
}

// HasPassword says whether a DSN, in either spelling, has a password in it.
func HasPassword(dsn string) bool {
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "" {
		_, has := u.User.Password()
		return has || u.Query().Has("password")
	}
	return strings.Contains(strings.ReplaceAll(dsn, " ", ""), "password=")
}

// readerLife is how long a connection for reads is used: hosts are told apart
// only when connecting, so this is how long reads may go to a former primary.
const readerLife = time.Minute

func (o Options) withDefaults() (Options, error) {
	if len(o.DSNs) == 0 {
		return o, region.Errorf(region.BadInput, "store: no database given")
	}
	if err := o.Region.Valid(); err != nil {
		return o, region.Errorf(region.BadInput, "store: %v", err)
	}
	if o.Partitions < 1 || o.Partitions > 1<<16 {
		return o, region.Errorf(region.BadInput, "store: %d partitions: want 1 to 65536", o.Partitions)
	}
	if len(o.DSNs) > o.Partitions {
		return o, region.Errorf(region.BadInput, "store: %d databases for %d partitions", len(o.DSNs), o.Partitions)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.Readers == 0 {
		o.Readers = 8
	}
	return o, nil
}
