package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func ensure(t *testing.T, dir string, names []string, ips []net.IP) Files {
	t.Helper()
	f, err := Ensure(dir, names, ips)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A certificate is good for its names and addresses, under its CA only.
func TestEnsure(t *testing.T) {
	dir := t.TempDir()
	names, ips := []string{"long.demo.test", "short.demo.test"}, []net.IP{net.IPv4(127, 10, 1, 1)}
	f := ensure(t, dir, names, ips)
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := Pool(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Pool(ensure(t, t.TempDir(), names, ips).CA)
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"long.demo.test": true, "short.demo.test": true, "127.10.1.1": true, "web.demo.test": false, "127.10.2.1": false} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: ours}); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: names[0], Roots: theirs}); err == nil {
		t.Error("another CA vouches for it")
	}
	for name, mode := range map[string]os.FileMode{"ca.key": 0o600, "server.key": 0o600, "ca.pem": 0o644, "server.pem": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want %v", name, info, err, mode)
		}
	}
}

// What is there and good stays; what does not cover is made anew by the same CA.
func TestEnsureAgain(t *testing.T) {
	dir := t.TempDir()
	f := ensure(t, dir, []string{"long.demo.test"}, nil)
	ca, cert := read(t, f.CA), read(t, f.Cert)
	ensure(t, dir, []string{"long.demo.test"}, nil)
	if !bytes.Equal(cert, read(t, f.Cert)) {
		t.Error("a good certificate was replaced")
	}
	ensure(t, dir, []string{"long.demo.test", "web.demo.test"}, nil)
	if bytes.Equal(cert, read(t, f.Cert)) || !bytes.Equal(ca, read(t, f.CA)) {
		t.Error("a certificate for more names has to come from the same CA")
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	f := ensure(t, dir, []string{"long.demo.test"}, nil)
	if err := os.WriteFile(f.CA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir, []string{"long.demo.test"}, nil); err == nil || !strings.Contains(err.Error(), "to have a new CA made") {
		t.Errorf("a damaged CA: %v", err)
	}
	if _, err := Pool(f.CA); err == nil || !strings.Contains(err.Error(), "no PEM certificate") {
		t.Errorf("a pool of nothing: %v", err)
	}
}
