package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The generated suite notices a file that a generator changed or added.
func TestDigestsNoticeChanges(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("pkg/im.pb.go", "one")
	write("bin/homing", "one")
	before, err := digests(root)
	if err != nil {
		t.Fatal(err)
	}
	write("pkg/im.pb.go", "two")
	write("pkg/new.mmdb", "one")
	write("bin/homing", "two")
	after, err := digests(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(changes(before, after), " "); got != filepath.Join(root, "pkg/im.pb.go")+" "+filepath.Join(root, "pkg/new.mmdb") {
		t.Errorf("changed: %q", got)
	}
}

// make demo on a machine with an old Go says in one line what to install.
func TestFindGo(t *testing.T) {
	script, err := os.ReadFile("../../../deploy/scripts/find-go")
	if err != nil {
		t.Fatal(err)
	}
	find := func(t *testing.T, version string) (string, error) {
		root := t.TempDir()
		dir := filepath.Join(root, "deploy", "scripts")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "go.mod"), []byte("module m\n\ngo "+version+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "find-go"), script, 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", filepath.Join(dir, "find-go")).Output()
		return string(out), err
	}
	if out, err := find(t, "1.20"); err != nil || !strings.HasPrefix(out, "/") {
		t.Errorf("Go 1.20 wanted: %q, %v", out, err)
	}
	out, err := find(t, "99.1")
	if err == nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, "needs Go 99.1") || !strings.Contains(out, "https://go.dev/dl/") {
		t.Errorf("Go 99.1 wanted: %q, %v", out, err)
	}
}
