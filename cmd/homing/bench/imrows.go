package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// IMStored is what the region's store and disk took for a message, everything
// that the region wrote meanwhile included.
type IMStored struct {
	Rows    float64 `json:"rows_per_message"`          // of state, written or written over
	Commits float64 `json:"commits_per_message"`       // batches of one owner
	Journal float64 `json:"journal_bytes_per_message"` // rows, commands and digests as the journal has them
	Disk    float64 `json:"disk_bytes_per_message"`    // that the region's process wrote, log and compactions included
}

// stored are the counters of a region's store.
type stored struct {
	rows, commits, journal, disk float64
}

// storedBy reads the counters of the region that bench started; zero of somebody
// else's, and of a server that stores nothing.
func (b *imBench) storedBy(ctx context.Context) (s stored, err error) {
	if b.site == nil || b.o.Echo {
		return s, nil
	}
	to := map[string]*float64{
		"homing_store_row_writes_total":    &s.rows,
		"homing_store_commits_total":       &s.commits,
		"homing_store_journal_bytes_total": &s.journal,
	}
	if err := counters(ctx, "http://"+b.site.admin+"/metrics", to); err != nil {
		return s, err
	}
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", b.pid)); err == nil {
		s.disk = float64(writeBytes(raw))
	}
	return s, nil
}

// per returns what was stored between two readings for each of n messages.
func (s stored) per(before stored, n float64) *IMStored {
	if n <= 0 || s.commits == before.commits {
		return nil
	}
	return &IMStored{(s.rows - before.rows) / n, (s.commits - before.commits) / n, (s.journal - before.journal) / n, (s.disk - before.disk) / n}
}

// counters reads counters without labels from a Prometheus endpoint.
func counters(ctx context.Context, url string, to map[string]*float64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	found := 0
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, ok := to[name]; ok {
			if *v, err = strconv.ParseFloat(value, 64); err != nil {
				return fmt.Errorf("%s: %s is %q", url, name, value)
			}
			found++
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if found < len(to) {
		return fmt.Errorf("%s has %d of %d counters", url, found, len(to))
	}
	return nil
}
