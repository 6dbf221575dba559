package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/homing-im/homing/deploy/lab/script"
)

// Every scenario can be played: it names only what there is, and has its trace.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("scenarios/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d scenarios: %v", len(files), err)
	}
	for _, name := range files {
		s, err := read(name)
		if err != nil {
			t.Error(err)
			continue
		}
		last := s.Steps[len(s.Steps)-1]
		if s.Title == "" || len(last.Trace) != 1 {
			t.Errorf("%s: title %q, the check's trace %q", name, s.Title, last.Trace)
		}
		for _, st := range s.Steps {
			speaks := st.Verb == script.Do && st.What != "traffic" && st.What != "link" && st.What != "phones"
			if speaks != (len(st.Trace) > 0) {
				t.Errorf("%s:%d: %s has the trace %q", name, st.Line, st.Text, st.Trace)
			}
		}
	}
}

// Directories of runs that were killed are removed, and no others.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	running, dead := scratch+strconv.Itoa(os.Getpid()), scratch+"2147483646" // above any pid_max
	for _, name := range []string{running, dead, scratch + "mine", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "state"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{running: true, dead: false, scratch + "mine": true, "other": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
}

// Sites have addresses of their own, and each region a POP and people beside it.
func TestSites(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sites() {
		if seen[s.address.String()] || !s.address.IsLoopback() {
			t.Errorf("%s has the address %s", s.name, s.address)
		}
		seen[s.address.String()] = true
	}
	v := vocabulary()
	if len(v.Regions) != 3 || len(v.Clients) != 3 || len(v.Members) != 6 || len(v.Sites) != len(seen) {
		t.Errorf("%+v", v)
	}
	if far(shanghai, hongkong) != far(hongkong, shanghai) || far(shanghai, toronto) <= far(shanghai, hongkong) || far(toronto, toronto) != near {
		t.Error("distances are not symmetric, or make no sense")
	}
}
