package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/succession"
)

// deployedLedger is a witness of the world of deploy/.
func deployedLedger(t testing.TB, d *deployed) *ledger {
	return newLedger(t, map[string]any{
		"zone": "im.test", "httpdns": "http://127.0.20.1:7080", "dns": "127.0.20.1:7053", "ca_cert": filepath.Join(d.dir, "tls", "ca.pem"),
		"short": map[string]string{"sh": "http://127.0.1.1:7200", "hk": "http://127.0.2.1:7200", "ca": "http://127.0.3.1:7200"}, "users": 4, "pause": 5,
	})
}

// operator runs a command of the operator's and returns what it prints.
func (d *deployed) operator(args ...string) string {
	d.t.Helper()
	out, err := exec.Command(filepath.Join(bin, "homing"), append(args, "--dir", filepath.Join(d.dir, "world"))...).Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok {
			out = append(out, e.Stderr...)
		}
		d.t.Fatalf("homing %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Every process of a region dies at once, with messages that it acknowledged and
// that nobody else has. Another region acts for it; what is missing then is in the
// report. The region comes back and is given its home back, and every acknowledged
// message is there once.
func TestLedgerRegionKilled(t *testing.T) {
	d := startDeployed(t)
	l := deployedLedger(t, d)
	l.start()
	l.goesOn(100)

	// What the region acknowledges while all others stand still is its tail.
	others := []string{"hk", "hk-queue", "ca", "ca-queue"}
	for _, name := range others {
		_ = d.nodes[name].cmd.Process.Signal(syscall.SIGSTOP)
	}
	l.goesOn(20)
	d.kill("sh")
	d.kill("sh-queue")
	for _, name := range others {
		_ = d.nodes[name].cmd.Process.Signal(syscall.SIGCONT)
	}
	began := time.Now()
	said := d.operator("region", "failover", "sh", "--to", "hk", "--yes")
	t.Logf("failover commanded and reported after %.2f s:\n%s", time.Since(began).Seconds(), said)
	if !strings.Contains(said, "open ranges") {
		t.Errorf("the report of a failover has no open ranges:\n%s", said)
	}
	l.goesOn(100)
	t.Logf("100 more acknowledged %.2f s after the failover began", time.Since(began).Seconds())

	report := func() (h succession.HomeReport) {
		if err := json.Unmarshal([]byte(d.operator("region", "report", "sh", "--json")), &h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := report()
	open := map[region.Partition]bool{}
	for _, r := range h.Open {
		open[r.Partition] = true
	}
	covered := func(u region.UIN) bool { return homeOfDeployed(u) == "sh" && open[region.PartitionOf(u, h.Partitions)] }
	excused := 0
	until(t, 20*time.Second, "what is missing is in the report", func() bool {
		excused = 0
		for _, m := range l.look() {
			if !covered(m.From) && !covered(m.Inbox) {
				return false
			}
			excused++
		}
		return true
	})
	t.Logf("%d open ranges; %d entries of inboxes are missing, all of them in one", len(h.Open), excused)

	d.start("sh-queue")
	d.start("sh")
	d.ready()
	until(t, time.Minute, "the tail is merged", func() bool { h = report(); return h.Complete() })
	t.Logf("of the tail %d batches applied, %d known, %d conflicts", h.Merged.Applied, h.Merged.Known, h.Merged.Conflicts)
	if n := h.Merged.Applied + h.Merged.Known + h.Merged.Conflicts; n == 0 {
		t.Error("sh brought no tail, though it acknowledged messages that nobody else had")
	}
	t.Logf("%s", d.operator("region", "failback", "sh", "--yes"))
	l.goesOn(50)
	l.finish()
}

// homeOfDeployed is the home of a user of deploy/world.yaml's segments.
func homeOfDeployed(u region.UIN) region.ID {
	return map[region.UIN]region.ID{1: "sh", 2: "hk", 3: "ca"}[u/1_000_000]
}

// missing is a message that is not in an inbox.
type missing struct{ From, To, Inbox region.UIN }

// look returns what is missing now.
func (l *ledger) look() (all []missing) {
	l.t.Helper()
	out, err := exec.Command(filepath.Join(bin, "ledger"), "look", l.config).CombinedOutput()
	if err != nil {
		l.t.Fatalf("look: %v\n%s", err, tail(out, 2000))
	}
	for line := range bytes.Lines(out) {
		var m missing
		if err := json.Unmarshal(line, &m); err != nil {
			l.t.Fatalf("%s: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}
