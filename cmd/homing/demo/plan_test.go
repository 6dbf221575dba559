package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// No two listeners share an address, and all ports lie in the range that the
// message about --port-base states.
func TestPlan(t *testing.T) {
	for _, split := range []bool{true, false} {
		p, err := newPlan([]string{"sh", "hk", "ca", "eu"}, 7400, split)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]string{}
		for what, a := range p.listeners() {
			if was, ok := seen[a.String()]; ok {
				t.Errorf("%s and %s are both at %s", was, what, a)
			}
			seen[a.String()] = what
			if int(a.Port()) < 7400 || int(a.Port()) >= 7400+portsInAll || !a.Addr().IsLoopback() || a.Port() == 5353 {
				t.Errorf("%s is at %s", what, a)
			}
		}
		if len(p.regions) != 4 || len(p.pops) != 8 {
			t.Errorf("%d regions, %d POPs", len(p.regions), len(p.pops))
		}
	}
	p, err := newPlan([]string{"ca", "sh"}, 7400, true)
	if err != nil {
		t.Fatal(err)
	}
	if b := p.backups["ca"]; len(b) != 1 || b[0] != "sh" {
		t.Errorf("backups of ca in a world without hk: %v", b)
	}
}

func TestBadPlans(t *testing.T) {
	for want, f := range map[string]func() error{
		"want 1024 to 65235":              func() error { _, err := newPlan([]string{"sh"}, 80, true); return err },
		"300 ports":                       func() error { _, err := newPlan([]string{"sh"}, 65300, true); return err },
		"want some of sh,hk,ca,eu":        func() error { _, err := newPlan([]string{"xx"}, 7400, true); return err },
		"is there twice":                  func() error { _, err := newPlan([]string{"sh", "sh"}, 7400, true); return err },
		"--regions is empty: want some o": func() error { _, err := newPlan(nil, 7400, true); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// A directory belongs to one running demo, and to demos only.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	if err := prepare(dir, false); err != nil {
		t.Fatal(err)
	}
	l, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "is running in "+dir) {
		t.Errorf("a second lock: %v", err)
	}
	kept := filepath.Join(dir, "state")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir, true); err == nil {
		t.Error("--fresh under a running demo")
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error("state is gone without --fresh")
	}
	if err := prepare(dir, true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("state is there after --fresh")
	}
	m := made{Regions: []string{"sh"}, PortBase: 7400}
	if err := m.check(dir); err != nil {
		t.Fatal(err)
	}
	if err := m.check(dir); err != nil {
		t.Errorf("the same again: %v", err)
	}
	m.PortBase = 8400
	if err := m.check(dir); err == nil || !strings.Contains(err.Error(), "--port-base 7400") {
		t.Errorf("another port base: %v", err)
	}
}
