package bench

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/homing-im/homing/deploy/test/pgtest"
)

func run(t *testing.T, ctx context.Context, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := NewCommand(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(io.Discard)
	c.SetArgs(append([]string{"store"}, args...))
	err := c.ExecuteContext(ctx)
	return out.String(), err
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--dir", dir, "--duration", "100ms", "--callers", "16", "--owners", "100", "--partitions", "4", "--cpuprofile", filepath.Join(dir, "cpu")}
	out, err := run(t, t.Context(), append(args, "-o", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	var r StoreReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	for name, rate := range map[string]Rate{"write": r.Write, "read": r.Read, "half": r.Half} {
		if rate.Calls == 0 || rate.PerSecond <= 0 || rate.CPU <= 0 || rate.Cores <= 0 || rate.P50 <= 0 || rate.P99 < rate.P50 || rate.P999 < rate.P99 {
			t.Errorf("%s: %+v", name, rate)
		}
	}
	if f := r.Floor; f == nil || f.Plain.Calls == 0 || f.Disk.Calls == 0 || f.Plain.P99 <= 0 || f.Disk.P99 <= 0 || f.TimesPlain <= 0 || f.TimesDisk <= 0 {
		t.Errorf("floor %+v", f)
	}
	if r.Memory.Peak <= 0 || r.Memory.Heap == 0 || r.Disk <= 0 || r.Slowdown != nil {
		t.Errorf("memory %+v, disk %d, slowdown %v", r.Memory, r.Disk, r.Slowdown)
	}
	if r.Machine.CPUs < 1 || r.Machine.Fsync <= 0 || r.Options.Callers != 16 {
		t.Errorf("machine %+v, options %+v", r.Machine, r.Options)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "cpu" {
		t.Errorf("the directory has %v, %v; want the profile only", left, err)
	}
	out, err = run(t, t.Context(), args...)
	if err != nil || !strings.Contains(out, "durable writes") || !strings.Contains(out, "point reads") || !strings.Contains(out, "plain Pebble then") || strings.Contains(out, "NaN") {
		t.Errorf("for people: %q, %v", out, err)
	}
}

// TestStoreSizes fills a store to one size and then to another.
func TestStoreSizes(t *testing.T) {
	args := []string{"--dir", t.TempDir(), "--duration", "50ms", "--callers", "16", "--owners", "100", "--partitions", "4", "--rows", "2k,6000"}
	out, err := run(t, t.Context(), append(args, "-o", "json")...)
	if err != nil {
		t.Fatal(err)
	}
	var r StoreReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Sizes) != 2 || r.Sizes[0].Rows != 2000 || r.Sizes[1].Rows != 6000 || r.Write != r.Sizes[1].Write {
		t.Fatalf("sizes %+v", r.Sizes)
	}
	if s := r.Sizes[0]; s.Fill.Calls*uint64(r.Options.Fresh) < s.Rows || s.Write.PerSecond <= 0 || s.Read.PerSecond <= 0 || s.Disk <= 0 {
		t.Errorf("size %+v", s)
	}
	if s := r.Slowdown; s == nil || s.Write <= 0 || s.Read <= 0 || s.WriteCPU <= 0 || s.ReadCPU <= 0 {
		t.Errorf("slowdown %+v", s)
	}
	out, err = run(t, t.Context(), args...)
	if err != nil || !strings.Contains(out, "filled to 6k") || !strings.Contains(out, "from 2k to 6k rows writes are") || strings.Contains(out, "NaN") {
		t.Errorf("for people: %q, %v", out, err)
	}
}

// TestStoreKept goes on with what the run before left.
func TestStoreKept(t *testing.T) {
	args := []string{"--dir", t.TempDir(), "--keep", filepath.Join(t.TempDir(), "kept"), "--duration", "50ms", "--callers", "16", "--owners", "100", "--partitions", "4", "-o", "json"}
	for i, rows := range []string{"2k", "2k"} {
		out, err := run(t, t.Context(), append(args, "--rows", rows)...)
		if err != nil {
			t.Fatal(err)
		}
		var r StoreReport
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if s := r.Sizes[0]; (i == 0) != (s.Fill.Calls > 0) || s.Write.Calls == 0 || s.Read.Calls == 0 || s.Disk <= 0 {
			t.Errorf("run %d: %+v", i+1, s)
		}
	}
}

// TestStorePostgres measures a server that is started for it, next to the peer,
// and the same server by its DSN; nothing is left in it.
func TestStorePostgres(t *testing.T) {
	if err := pgtest.Available(); err != nil {
		t.Skip(err)
	}
	pg, err := pgtest.New(pgtest.Memory())
	if err == nil {
		err = pg.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	}()
	args := []string{"--engine", "postgres", "--dir", pgtest.Memory(), "--duration", "200ms", "--callers", "8", "--partitions", "4", "-o", "json"}
	for _, more := range [][]string{nil, {"--dsn", pg.DSN()}} {
		out, err := run(t, t.Context(), append(args, more...)...)
		if err != nil {
			t.Fatal(err)
		}
		var r StoreReport
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Peer == nil || r.Peer.Calls == 0 || r.Write.Calls == 0 || r.Read.Calls == 0 || r.Half.Calls == 0 || r.TimesPeer <= 0 || strings.Contains(out, pg.Password()) {
			t.Errorf("%s", out)
		}
	}
	c, err := pq.NewConnector(pg.DSN())
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	defer func() { _ = db.Close() }()
	var left int
	if err := db.QueryRow(`SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'homing%'`).Scan(&left); err != nil || left > 0 {
		t.Errorf("%d schemas are left behind, %v", left, err)
	}
}

func TestStoreBadInput(t *testing.T) {
	for _, c := range []struct{ want, args string }{
		{"--engine mysql", "--engine mysql"},
		{"--dsn is for", "--dsn host=x"},
		{"cannot be read", "--engine postgres --dsn postgres://u:secret@h:port/d"},
		{"--keep is for", "--engine postgres --keep /tmp/x"},
		{"--duration 0s", "--duration 0s"},
		{"--callers 0", "--callers 0"},
		{"--owners 0", "--owners 0"},
		{"--batch 101", "--batch 101"},
		{"no number of rows", "--rows 1x"},
		{"no number of rows", "--rows 0"},
		{"more than the one before", "--rows 2k,1k"},
		{"--new 5", "--new 5"},
		{"--value -1", "--value -1"},
		{"--partitions 0", "--partitions 0"},
		{"want json", "-o yaml"},
		{"no such file", "--dir /nowhere/at/all"},
		{"no such file", "--cpuprofile /nowhere/at/all"},
	} {
		if _, err := run(t, t.Context(), strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.args, err, c.want)
		}
	}
}

// TestStoreStops ends a long run at once, and leaves nothing behind.
func TestStoreStops(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := run(t, ctx, "--dir", dir, "--duration", "1h", "--callers", "4")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the directory has %v, %v", left, err)
	}
}

func TestHistogram(t *testing.T) {
	var h, other histogram
	for i := range 1000 {
		h.add(time.Duration(i) * time.Millisecond)
		other.add(24 * time.Hour)
	}
	for q, want := range map[float64]float64{0.5: 500, 0.99: 990, 0: 0} {
		if got := h.quantile(q); got < want || got > want*17/16+1 {
			t.Errorf("quantile %g is %g ms, want %g to a sixteenth more", q, got, want)
		}
	}
	h.merge(&other)
	if got := h.quantile(0.75); h.n != 2000 || got < 1000_000 {
		t.Errorf("after a merge: %d values, quantile %g", h.n, got)
	}
}
