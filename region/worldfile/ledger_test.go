package worldfile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

func start(t *testing.T) *Directory {
	t.Helper()
	d, _, err := Init(Options{Dir: t.TempDir(), Name: "demo", Zone: "demo.test", Regions: []region.ID{"sh", "hk", "ca"}, Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// edit replaces text in the world file, or fails.
func edit(t *testing.T, d *Directory, from, to string) {
	t.Helper()
	data, err := os.ReadFile(d.File())
	if err != nil {
		t.Fatal(err)
	}
	out := strings.Replace(string(data), from, to, 1)
	if out == string(data) {
		t.Fatalf("no %q in\n%s", from, data)
	}
	if err := os.WriteFile(d.File(), []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
}

func withLedger(t *testing.T, d *Directory, do func(*Ledger)) {
	t.Helper()
	l, err := d.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	do(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func tips(t *testing.T, d *Directory) (out []*region.Known) {
	withLedger(t, d, func(l *Ledger) { out = l.Tips() })
	return out
}

func acting(w *region.World, id region.ID) region.Acting {
	r, _ := w.Region(id)
	return r.Acting
}

// Counters follow from the file and the world before; nobody writes them.
func TestSignNextCounts(t *testing.T) {
	d := start(t)
	genesis := tips(t, d)[0]
	edit(t, d, `  - id: sh`, "  - id: sh\n    acting: hk")
	e, err := d.SignNext(false)
	if err != nil {
		t.Fatal(err)
	}
	two, err := region.VerifySuccessor(genesis, e.Signed)
	if err != nil {
		t.Fatal(err)
	}
	if a := acting(two.World, "sh"); a.Region != "hk" || a.Counter != 2 || a.Raised != nil {
		t.Fatalf("%+v", a)
	}
	if a := acting(two.World, "hk"); a.Counter != 1 || a.Raised == nil || *a.Raised != genesis.Hash {
		t.Fatalf("%+v", a)
	}
	edit(t, d, "ttl: 30", "ttl: 31")
	if e, err = d.SignNext(true); err != nil {
		t.Fatal(err)
	}
	three, err := region.VerifySuccessor(two, e.Signed)
	if err != nil {
		t.Fatal(err)
	}
	if a := acting(three.World, "sh"); a.Region != "hk" || a.Counter != 2 || a.Raised == nil || *a.Raised != two.Hash || !e.Signed.Forced {
		t.Fatalf("%+v", a)
	}
	// The old file again is a rollback: old content, today's counters.
	edit(t, d, "\n    acting: hk", "")
	if e, err = d.SignNext(false); err != nil {
		t.Fatal(err)
	}
	four, err := region.VerifySuccessor(three, e.Signed)
	if err != nil {
		t.Fatal(err)
	}
	if a := acting(four.World, "sh"); a.Region != "sh" || a.Counter != 3 || a.Raised != nil {
		t.Fatalf("%+v", a)
	}
}

func TestLedgerWillNotSplitTheNodes(t *testing.T) {
	d := start(t)
	genesis := tips(t, d)[0]
	edit(t, d, `  - id: sh`, "  - id: sh\n    acting: hk")
	if _, err := d.SignNext(false); err != nil {
		t.Fatal(err)
	}
	two := tips(t, d)[0]
	edit(t, d, "acting: hk", "acting: ca")
	_, err := d.SignNext(true, genesis)
	if region.KindOf(err) != region.Conflict || !strings.Contains(err.Error(), "--parent "+two.Hash.Short().String()) {
		t.Fatal(err)
	}
	if got := tips(t, d); len(got) != 1 || got[0].Hash != two.Hash {
		t.Fatal("the refused world is in the ledger")
	}
	// Naming the first, the second comes after both, at a term of its own.
	e, err := d.SignNext(false, genesis, two)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*region.Known{genesis, two} {
		k, err := region.VerifySuccessor(p, e.Signed)
		if err != nil {
			t.Fatal(err)
		}
		if a := acting(k.World, "sh"); k.World.Version != 3 || a.Region != "ca" || a.Counter != 3 || a.Raised != nil {
			t.Fatalf("version %d, %+v", k.World.Version, a)
		}
	}
	withLedger(t, d, func(l *Ledger) {
		if _, err := l.Sign(genesis.World, nil, false); region.KindOf(err) != region.Forbidden && region.KindOf(err) != region.Conflict {
			t.Fatal(err)
		}
		other := *genesis.World
		other.Zone = "other.test"
		if _, err := l.Sign(&other, nil, false); region.KindOf(err) != region.Conflict {
			t.Fatalf("a second first world: %v", err)
		}
	})
}

func TestLedgerFile(t *testing.T) {
	d := start(t)
	path := filepath.Join(d.Dir, LedgerName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	withLedger(t, d, func(*Ledger) {
		if _, err := d.Ledger(); region.KindOf(err) != region.Unavailable {
			t.Fatalf("opened twice: %v", err)
		}
	})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(append(bytes.Clone(whole), `{"time":"20`...)) // a crash before the sync
	if got := tips(t, d); len(got) != 1 {
		t.Fatalf("%d tips after a torn line", len(got))
	}
	write(bytes.Replace(whole, []byte(`"version":1`), []byte(`"version":2`), 1))
	if _, err := d.Ledger(); region.KindOf(err) != region.Internal || !strings.Contains(err.Error(), LedgerName+":1: damaged") {
		t.Fatal(err)
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	made, err := MakeKey(dir, "k")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "k.pem")
	if got, err := ReadKey(path); err != nil || !got.Equal(made) {
		t.Fatal(err)
	}
	if _, err := MakeKey(dir, "k"); region.KindOf(err) != region.Conflict {
		t.Fatalf("a key was replaced: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(path); region.KindOf(err) != region.Forbidden || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	bad := filepath.Join(dir, "bad.pem")
	if err := os.WriteFile(bad, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(bad); region.KindOf(err) != region.BadInput {
		t.Error(err)
	}
	if _, err := ReadKey(filepath.Join(dir, "none.pem")); region.KindOf(err) != region.NotFound {
		t.Error(err)
	}
}

func TestDiffInWords(t *testing.T) {
	d := start(t)
	old := tips(t, d)[0]
	for _, c := range []struct{ from, to, text, affects string }{
		{"  - id: sh", "  - id: sh\n    acting: hk", "acting region of sh: hk instead of sh (counter 1 to 2)", "all owners at home in sh (1000000-1999999)"},
		{"ttl: 30", "ttl: 60", "TTL:60", "every answer"},
		{`zone: "demo.test"`, `zone: "im.test"`, "zone im.test instead of demo.test", "every client"},
		{`backups: ["hk", "ca"]`, `backups: ["ca", "hk"]`, "backups of sh: [ca hk] instead of [hk ca]", "follows sh's journal"},
		{"home: ca}", "home: ca}\n  - {uins: 9000000-9000999, home: hk}", "segment 9000000-9000999 for hk", "new owners of hk"},
		{`127.0.1.1:7100`, `127.0.1.9:7100`, "listeners of sh: long 127.0.1.9:7100", "clients of sh"},
		{"segments:", "rules:\n  - {name: r, match: {homes: [sh]}, act: {regions: [sh]}}\nsegments:", `new rule r: {regions: ["sh"]}`, `clients with {homes: ["sh"]}`},
	} {
		text, err := os.ReadFile(d.File())
		if err != nil {
			t.Fatal(err)
		}
		src := strings.Replace(string(text), c.from, c.to, 1)
		w, err := Compile("edited.yaml", []byte(src), nil, old)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		changes := Diff(old.World, w)
		if len(changes) != 1 || !strings.Contains(changes[0].Text, c.text) || !strings.Contains(changes[0].Affects, c.affects) {
			t.Errorf("want %q, got %v", c.text, changes)
		}
	}
	if same, err := CompileFile(d.File(), old); err != nil || len(Diff(old.World, same)) != 0 {
		t.Errorf("the same file: %v, %v", Diff(old.World, same), err)
	}
}

// What may not follow is said with its file, before anything is signed.
func TestCompileChecksTheParent(t *testing.T) {
	d := start(t)
	edit(t, d, "partitions: 8", "partitions: 16")
	if _, err := d.SignNext(false); err == nil || !strings.Contains(err.Error(), "cannot follow world 1: the number of partitions never changes") {
		t.Fatal(err)
	}
}
