package sim

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutant is one line of production code, made wrong.
type mutant struct {
	name string
	file string // below the top of the tree
	from string // has to be there exactly once
	to   string
	says string // what is noticed, of a mutant of moves: they are played, too, then
}

// mutants is the list of what the simulator has to notice. That a commit is
// acknowledged before Pebble has synced it, only Pebble's own tests can.
var mutants = []mutant{
	{name: "the region's own world is not asked who acts", file: "region/view.go",
		from: "if p.Acting != self {", to: "if p.Acting != self && false {"},
	{name: "the epoch is not tested by the store", file: "region/store/internal/partition/step.go",
		from: "if !s.State.Fence.Allows(b.Home, b.Epoch.Term) {", to: "if !s.State.Fence.Allows(b.Home, b.Epoch.Term) && false {"},
	{name: "the position is outside the transaction", file: "region/store/internal/partition/replay.go",
		from: "	s.move(at)\n	if news {", to: "	s.Engine.Move(&at)\n	if news {"},
	{name: "the chain is not checked", file: "region/journal/stream.go",
		from: "if want.Chain != link.Chain || !numbered(head, filtered) {", to: "if want.Chain != link.Chain && false || !numbered(head, filtered) {"},
	{name: "a conflict is dropped", file: "region/core/merge.go",
		from: "		*outcome = TailConflict\n", to: "		_ = reason\n"},
	{name: "a tombstone is ignored", file: "region/store/internal/partition/replay.go",
		from: "Row{Version: w.Version, Epoch: b.Epoch, Deleted: w.Deleted, Home", to: "Row{Version: w.Version, Epoch: b.Epoch, Home"},
	{name: "a command is acknowledged too early", file: "replicator/apply.go",
		from: "		if err := a.executor.Execute(ctx, run); err != nil {", to: "		if err := a.executor.Execute(ctx, run); err != nil && false {"},
	{name: "a tail is dropped", file: "region/core/merge.go",
		from: "		_, err := t.append(id, m, w.Value)\n		return err == nil, err", to: "		return true, nil"},
	{name: "a flip is sent before the fence is backed up", file: "region/core/carry.go",
		from: "if !c.HeldUpTo(m.From, m.Part, m.Fence) {", to: "if !c.HeldUpTo(m.From, m.Part, m.Fence) && false {", says: "does not have the fence"},
	{name: "a commit is acknowledged before it is synced", file: "region/store/memory/store.go",
		from: "if err != nil || sync {", to: "if err != nil {"},
}

// patch returns a mutant's file. The test fails when the line is not there
// exactly once: then it has to follow the code.
func (m *mutant) patch(t *testing.T, top string) []byte {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(top, m.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(src, []byte(m.from)); n != 1 {
		t.Fatalf("%s: %q is in %s %d times, want once", m.name, m.from, m.file, n)
	}
	return bytes.Replace(src, []byte(m.from), []byte(m.to), 1)
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestMutantsFit checks that every mutant is one of the code as it is.
func TestMutantsFit(t *testing.T) {
	for _, m := range mutants {
		m.patch(t, top(t))
	}
}

// mutantSeeds is within how many seeds a mutant has to be caught.
const mutantSeeds = "600"

var played = regexp.MustCompile(`played (\d+)`)

// TestMutants builds the simulator with each mutant and plays seeds until one
// fails: make test-mutants.
func TestMutants(t *testing.T) {
	if os.Getenv("HOMING_MUTANTS") == "" {
		t.Skip("set HOMING_MUTANTS=1; it builds the simulator once for each mutant")
	}
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			changed := filepath.Join(dir, "mutant.go")
			if err := os.WriteFile(changed, m.patch(t, top(t)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(top(t), m.file): changed}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			bin := filepath.Join(dir, "play")
			build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", bin, "./play")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("the mutant does not build: %v\n%s", err, out)
			}
			play := exec.CommandContext(t.Context(), bin, "-seeds", mutantSeeds)
			if m.says != "" {
				play.Args = append(play.Args, "-moves")
			}
			out, err := play.CombinedOutput()
			n := played.FindSubmatch(out)
			if n == nil {
				t.Fatalf("the mutant did not play: %v\n%s", err, out)
			}
			if err == nil {
				t.Fatalf("%s seeds do not notice that %s", n[1], m.name)
			}
			if !bytes.Contains(out, []byte(m.says)) {
				t.Fatalf("%s seeds notice something else than that %s:\n%s", n[1], m.name, out)
			}
			why := "a panic"
			for _, line := range strings.Split(string(out), "\n") {
				if strings.Contains(line, "invariant") || strings.Contains(line, "settle") {
					why = strings.TrimSpace(line)
					break
				}
			}
			t.Logf("caught within %s seeds: %.200s", n[1], why)
		})
	}
}
