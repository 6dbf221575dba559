package worldfile

import (
	"os"
	"reflect"
	"testing"

	"github.com/homing-im/homing/region"
)

// The sample in deploy/ compiles, is signed, and shows as a file that means the
// same world.
func TestSample(t *testing.T) {
	src, err := os.ReadFile("../../deploy/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d, e, err := Init(Options{Dir: dir, Source: src})
	if err != nil {
		t.Fatal(err)
	}
	root, err := d.Root()
	if err != nil {
		t.Fatal(err)
	}
	k, err := region.VerifyFirst(e.Signed, root)
	if err != nil {
		t.Fatal(err)
	}
	w := k.World
	if len(w.Regions) != 3 || len(w.POPs) != 6 || len(w.Rules) != 3 || len(w.Voters()) != 4 {
		t.Fatalf("regions %d, POPs %d, rules %d, voters %d", len(w.Regions), len(w.POPs), len(w.Rules), len(w.Voters()))
	}
	if s, ok := w.SegmentOf(2_000_001); !ok || s.Home != "hk" {
		t.Fatalf("2000001 lives in %q", s.Home)
	}
	again, err := Compile("shown.yaml", []byte(Show(w)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if Show(again) != Show(w) {
		t.Fatalf("shown:\n%s\nread again:\n%s", Show(w), Show(again))
	}
	if !reflect.DeepEqual(again.Rules, w.Rules) || !reflect.DeepEqual(again.POPs, w.POPs) {
		t.Fatal("rules or POPs changed on the way through text")
	}
	for _, name := range nodeKeys(w) {
		if _, err := d.Key(name); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := Init(Options{Dir: dir, Source: src}); region.KindOf(err) != region.Conflict {
		t.Fatalf("a second init: %v", err)
	}
	if g, err := d.Genesis(); err != nil || g.Signed.Hash() != e.Signed.Hash() {
		t.Fatalf("genesis: %v", err)
	}
}
