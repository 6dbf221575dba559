package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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
