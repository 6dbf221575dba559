package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/cmd/homing/backup"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/worldfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place makes a world of one region and the file of its node.
func place(t *testing.T, id region.ID, partitions int) (config string) {
	t.Helper()
	dir := t.TempDir()
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	w := &region.World{
		Name: "t", Zone: "t.test", Partitions: partitions, Steering: region.Steering{TTL: 10, Answers: 2, AllDown: "everything"},
		Regions: []region.Region{{ID: id, Title: "T", Place: region.Place{City: "T", Country: "CN", Continent: "AS"}, Zones: []string{"a"},
			Serves: region.Endpoints{Long: at(1), Short: at(2), Web: at(3)}, Admin: at(4).String(), Queue: at(5).String(), Users: 10}},
		Segments: []region.Segment{{First: 1, Last: 1000, Home: id}},
	}
	if _, _, err := worldfile.Init(worldfile.Options{Dir: filepath.Join(dir, "world"), World: w}); err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(dir, "node.yaml")
	text := fmt.Sprintf("name: n\nmember: region %s\nroles: [region, replicator]\ndir: state\nkey: world/keys/region-%s.pem\nworld: world/genesis.json\nroot: world/keys/root.pub\n", id, id)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

func run(args ...string) (string, error) {
	var out bytes.Buffer
	c := backup.NewCommand(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(io.Discard)
	c.SetArgs(args)
	err := c.ExecuteContext(context.Background())
	return out.String(), err
}

// use opens the node's store, as the node would.
func use(t *testing.T, config string, partitions int, f func(store.Store)) {
	t.Helper()
	c, err := node.ReadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.OpenStore(partitions, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	f(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What is refused is refused in one line that says why, and leaves no file and
// no store.
func TestExportImport(t *testing.T) {
	from, to := place(t, "sh", 4), place(t, "sh", 4)
	file := filepath.Join(t.TempDir(), "sh.dump")
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := run(args...)
		if err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%v: want %q, got %v, %q", args, want, err, out)
		}
	}
	refused("say which node", "export", "--to", file)
	refused("say which node", "import", "-c", from)
	refused("has no store in", "export", "-c", from, "--to", file)
	use(t, from, 4, func(s store.Store) {
		for u := region.UIN(1); u <= 20; u++ {
			if _, err := s.Commit(context.Background(), &store.Batch{Owner: u, Home: "sh", Writes: []store.Write{{Table: 101, Row: []byte("a"), Value: fmt.Append(nil, u)}}}); err != nil {
				t.Fatal(err)
			}
		}
		refused("in use", "export", "-c", from, "--to", file)
		refused("is the node running?", "backup", "-c", from, "--to", file)
	})
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) > 0 {
		t.Errorf("refusals leave %q", left)
	}
	out, err := run("export", "-c", from, "--to", file)
	if err != nil || !strings.Contains(out, "region sh") || !strings.Contains(out, "4 partitions, 20 rows, 20 batches") || strings.Count(out, "\n") != 1 {
		t.Fatalf("export: %q, %v", out, err)
	}
	refused("is there already", "export", "-c", from, "--to", file)
	if out, err := run("check", file); err != nil || !strings.Contains(out, "whole") {
		t.Errorf("check: %q, %v", out, err)
	}

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := file + ".cut"
	if err := os.WriteFile(cut, whole[:len(whole)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	refused("before its end", "check", cut)
	refused("no dump", "check", from)
	refused("no such file", "import", "-c", to, "--from", file+".not")
	refused("is of region sh", "import", "-c", place(t, "hk", 4), "--from", file)
	refused("has 4 partitions, and the world 8", "import", "-c", place(t, "sh", 8), "--from", file)
	refused("before its end", "import", "-c", to, "--from", cut)
	c, err := node.ReadConfig(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenStore(4, slog.New(slog.DiscardHandler), nil); region.KindOf(err) != region.Conflict {
		t.Errorf("half of a store is opened: %v", err)
	}
	if out, err := run("import", "-c", to, "--from", file); err != nil || !strings.Contains(out, "loaded") {
		t.Fatalf("import: %q, %v", out, err)
	}
	refused("has a store already", "restore", "-c", to, "--from", file)
	use(t, to, 4, func(s store.Store) {
		refused("in use", "import", "-c", to, "--from", file)
		for u := region.UIN(1); u <= 20; u++ {
			if r, err := s.Get(context.Background(), u, 101, []byte("a")); err != nil || string(r.Value) != fmt.Sprint(u) {
				t.Errorf("the row of %d is %q, %v", u, r.Value, err)
			}
		}
		if h := s.Head(0); h.Incarnation != 2 {
			t.Errorf("the incarnation is %d", h.Incarnation)
		}
	})
}
