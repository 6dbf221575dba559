package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homing-im/homing/dns/authority"
)

// What the file names is read, in either form of key; what is wrong is named.
func TestDNSOptions(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d := DNS{
		DoT: []string{"127.0.0.1:0"}, RateLimit: 5, NSID: "x", Unlimited: []string{"10.0.0.0/8"},
		ZoneKeys: []string{
			write("a.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})),
			write("b.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
		},
		TransferKeys: []string{write("t.key", []byte("key \"tsig-key\" {\n\talgorithm hmac-sha256;\n\tsecret \"MDEyMzQ1Njc4OWFiY2RlZg==\";\n};\n"))},
		Notify:       []string{"127.0.0.1:53"},
		Accounts:     write("accounts", []byte("# of the apps\n100000 00112233445566778899aabbccddeeff # ios\n\n")),
		SignedOnly:   true,
		CookieSecret: write("secret", []byte(base64.StdEncoding.EncodeToString(make([]byte, 16))+"\n")),
	}
	d.resolve(dir)
	var o authority.Options
	if err := d.options(&o); err != nil {
		t.Fatal(err)
	}
	if len(o.Keys) != 2 || !o.Keys[0].Equal(key) || !o.Keys[1].Equal(key) || o.CookieSecret == nil || o.RateLimit.PerSecond != 5 || o.RateLimit.Credit != authority.DefaultCredit || len(o.RateLimit.Exempt) != 3 || o.NSID != "x" || len(o.DoT) != 1 ||
		len(o.TransferKeys) != 1 || o.TransferKeys[0].Name != "tsig-key" || string(o.TransferKeys[0].Secret) != "0123456789abcdef" || len(o.Notify) != 1 ||
		len(o.Accounts) != 1 || o.Accounts[0] != (authority.Account{ID: "100000", Secret: "00112233445566778899aabbccddeeff"}) || !o.SignedOnly {
		t.Errorf("%+v", o)
	}
	for _, bad := range []DNS{{Accounts: write("one", []byte("100000\n"))}, {ZoneKeys: []string{write("c.pem", []byte("no key"))}}, {CookieSecret: write("short", []byte("AAAA"))}, {ZoneKeys: []string{"absent.pem"}},
		{TransferKeys: []string{write("weak.key", []byte(`key "k" { algorithm hmac-md5; secret "MDEyMzQ1Njc4OWFiY2RlZg=="; };`))}},
		{TransferKeys: []string{write("short.key", []byte(`key "k" { algorithm hmac-sha256; secret "AAAA"; };`))}},
	} {
		bad.resolve(dir)
		if err := bad.options(&authority.Options{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
