package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/dns/tap"
)

// degraded says what steering has to do without.
func degraded(db *geo.DB) (out []string) {
	for _, err := range db.Trouble() {
		out = append(out, err.Error())
	}
	return out
}

// serveTop serves who asked most, and for what: ?n=20.
func serveTop(server *authority.Server, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		count, err := strconv.ParseUint(cmp.Or(req.FormValue("n"), "20"), 10, 10)
		if err != nil || count == 0 {
			http.Error(w, "say how many: ?n=20, at most 1023", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(server.Top(int(count))); err != nil {
			log.Debug("top talkers not sent", "error", err)
		}
	}
}

// serveShadow serves where the present server's answers differ.
func serveShadow(server *authority.Server, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		found := server.Differences()
		if found == nil {
			found = []authority.Difference{}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(found); err != nil {
			log.Debug("differences not sent", "error", err)
		}
	}
}

// useKeys gives a server the keys of a folder, when there is one, as they are now;
// before there is a server it only checks them.
func useKeys(ring *authority.KeyRing, server *authority.Server, zone string) error {
	if ring == nil {
		return nil
	}
	if ring.Zone != zone {
		return fmt.Errorf("dns.zoneKeys has the keys of %s, not of %s", ring.Zone, zone)
	}
	if server == nil {
		return nil
	}
	return server.SetKeys(ring.Serving())
}

// queryLog is where the query log goes, for whoever opens and closes it.
type queryLog interface {
	Reopen() error
	Close() error
}

// openLog opens the query log for a server that is to be made, nil for none.
func (d *DNS) openLog(o *authority.Options, name string) (queryLog, error) {
	o.LogEvery = uint64(cmp.Or(d.QueryLogEvery, 100))
	switch {
	case d.QueryLog == "":
		return nil, nil
	case d.QueryLogFormat == formatDNSTap:
		l, err := tap.Open(tap.Options{Target: d.QueryLog, Identity: name, Version: "homing"})
		if err != nil {
			return nil, err
		}
		o.QueryLog = l
		return l, nil
	}
	l, err := openLog(d.QueryLog)
	if err != nil {
		return nil, err
	}
	o.QueryLog = authority.NewJSONLog(l)
	return l, nil
}
