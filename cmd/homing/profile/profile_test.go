package profile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	p, err := New(dir, "Alice")
	if err != nil {
		t.Fatal(err)
	}
	p.Nickname, p.UIN, p.Region, p.DeviceSeed, p.Ticket, p.Snapshot = "Alice", 1_000_001, "sh", bytes.Repeat([]byte{7}, 32), "v4.public.x", []byte{1, 2}
	if err := p.Save(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "profiles", "alice.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: it holds a private key", info, err)
	}
	got, err := Load(dir, "ALICE") // in any case of letters
	if err != nil || got.UIN != p.UIN || got.Ticket != p.Ticket || !bytes.Equal(got.Snapshot, p.Snapshot) || !got.DeviceKey().Equal(p.DeviceKey()) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := New(dir, "alice"); err == nil || !strings.Contains(err.Error(), "--as") {
		t.Errorf("a second one of that name: %v", err)
	}
}

func TestBadProfiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir, "Bob"); err == nil || !strings.Contains(err.Error(), "homing user register --region sh --nickname Bob") {
		t.Errorf("none at all: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "profiles"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"half": `{"nickname":`, "short": `{"device_seed":"AAAA"}`, "number": `{"uin":"x"}`} {
		if err := os.WriteFile(filepath.Join(dir, "profiles", name+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, name); err == nil || !strings.Contains(err.Error(), name+".json is damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(dir, "Bob"); err == nil || !strings.Contains(err.Error(), "there are: half, number, short") {
		t.Errorf("another: %v", err)
	}
	for _, name := range []string{"", "a/b", "../a", "a b", strings.Repeat("x", 65)} {
		if _, err := Load(dir, name); err == nil {
			t.Errorf("the name %q is accepted", name)
		}
	}
}
