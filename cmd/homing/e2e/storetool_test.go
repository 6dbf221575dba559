package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A region moves to PostgreSQL and back, and its users notice nothing; then it is
// restored from an early backup, and the copies that have more say so and keep it.
func TestStoreMovesAndIsRestored(t *testing.T) {
	pg := postgresServer(t)
	w := startDemo(t)
	file := func(name string) string { return filepath.Join(w.home, name) }
	config := filepath.Join(w.dir, "nodes", "sh.yaml")
	embedded, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(w.dir, "state", "sh", "store")
	// has says whether a user has been sent all of these; on a busy machine a
	// question may take too long, and is asked again.
	has := func(user string, texts ...string) func() bool {
		return func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			out, err := w.sh(ctx, "homing sync --all --as "+user)
			return err == nil && !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(out, text) })
		}
	}
	say := func(from, to, text string) {
		t.Helper()
		w.must("homing send --as " + from + " --to @" + strings.ToLower(to) + " '" + text + "'")
		until(t, time.Minute, to+" has "+text, has(to, text))
	}
	stop := func() {
		t.Helper()
		w.stop()
		_ = os.Remove(filepath.Join(w.dir, "endpoints.json"))
	}
	for _, u := range []struct{ name, region string }{{"Alice", "sh"}, {"Bob", "hk"}} {
		w.must("homing user register --region " + u.region + " --nickname " + u.name)
		w.must("homing id claim " + strings.ToLower(u.name) + " --as " + u.name)
	}
	say("Alice", "Bob", "one")
	say("Bob", "Alice", "two")
	if out := w.must("homing store backup -c " + config + " --to " + file("early")); !strings.Contains(out, "(in use)") {
		t.Errorf("backup: %s", out)
	}
	// A region gives itself to itself only, not to another with a key of its own.
	other, err := os.ReadFile(filepath.Join(w.dir, "nodes", "hk.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	thief := filepath.Join(w.dir, "nodes", "thief.yaml")
	if err := os.WriteFile(thief, append(other, "admin: "+strings.TrimPrefix(w.endpoints().Regions["sh"].Admin, "http://")+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := w.refused("homing store backup -c " + thief + " --to " + file("x")); !strings.Contains(out, "region/hk may not call") {
		t.Errorf("a backup of another region: %s", out)
	}
	if _, err := os.Stat(file("x") + ".part"); !os.IsNotExist(err) {
		t.Errorf("a refused backup leaves a file: %v", err)
	}
	if out := w.must("homing store purge -c " + config); !strings.Contains(out, "the files of region sh are rewritten") {
		t.Errorf("purge: %s", out)
	}
	if out := w.refused("homing store purge -c " + thief); !strings.Contains(out, "region/hk may not call") {
		t.Errorf("a purge by another region: %s", out)
	}
	if out := w.refused("homing store export -c " + config + " --to " + file("x")); !strings.Contains(out, "in use") {
		t.Errorf("an export of a running node: %s", out)
	}
	say("Alice", "Bob", "three")

	stop()
	w.must("homing store export -c " + config + " --to " + file("pebble"))
	if err := os.WriteFile(file("dsn"), []byte(pg.DSN()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append(embedded, "store: {engine: postgres, dsnFile: "+file("dsn")+"}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	w.must("homing store import -c " + config + " --from " + file("pebble"))
	if out := w.refused("homing store import -c " + config + " --from " + file("pebble")); !strings.Contains(out, "has a store already") {
		t.Errorf("a second import: %s", out)
	}
	w.start()
	say("Bob", "Alice", "four")
	say("Alice", "Bob", "five")

	stop()
	w.must("homing store export -c " + config + " --to " + file("postgres"))
	if err := os.WriteFile(config, embedded, 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("homing store import -c " + config + " --from " + file("postgres"))
	w.start()
	say("Alice", "Bob", "six")
	say("Bob", "Alice", "seven")
	if out := w.must("homing status"); strings.Contains(out, "diverged") {
		t.Errorf("a copy does not follow a region that was moved:\n%s", out)
	}

	stop()
	if err := os.Rename(dir, dir+".lost"); err != nil {
		t.Fatal(err)
	}
	w.must("homing store restore -c " + config + " --from " + file("early"))
	w.start()
	until(t, time.Minute, "hk says that its copy of sh has more", func() bool {
		for line := range strings.Lines(w.must("homing status")) {
			if strings.HasPrefix(line, "sh -> hk") && strings.Contains(line, "full") && strings.Contains(line, "diverged") {
				return true
			}
		}
		return false
	})
	// What Alice had sent is with Bob, and what Bob sent behind the backup comes
	// again.
	until(t, time.Minute, "Alice has all that was sent to her", has("Alice", "two", "four", "seven"))
	until(t, time.Minute, "Bob has what was sent to him", has("Bob", "one", "three", "five", "six"))
}
