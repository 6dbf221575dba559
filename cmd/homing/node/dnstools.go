package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/homing-im/homing/dns/authority"
)

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

// openLog opens the query log for a server that is to be made, nil for none.
func (d *DNS) openLog(o *authority.Options) (*logFile, error) {
	if d.QueryLog == "" {
		return nil, nil
	}
	l, err := openLog(d.QueryLog)
	if err != nil {
		return nil, err
	}
	o.QueryLog, o.LogEvery = l, uint64(cmp.Or(d.QueryLogEvery, 100))
	return l, nil
}
