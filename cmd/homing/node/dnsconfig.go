package node

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/tap"
)

// DNS is what the dns role does besides answering where the world says it
// listens. All of it is off unless it is set, but for the bound on what forged
// questions get back.
type DNS struct {
	DoT []string `yaml:"dot,omitempty"` // host:port for DNS over TLS, with tls.cert
	DoH []string `yaml:"doh,omitempty"` // host:port for DNS over HTTPS and HTTPDNS, with tls.cert
	DoQ []string `yaml:"doq,omitempty"` // host:port (UDP) for DNS over QUIC, with tls.cert
	// ZoneKeys sign the zone: a folder that "homing dns key" keeps, or PEM files of ECDSA P-256 keys, of which the first signs
	// and the others are published. The same on all DNS nodes.
	ZoneKeys []string `yaml:"zoneKeys,omitempty"`
	// Zones are zone files (RFC 1035) answered next to the world's zone; one of the world's own zone adds to it.
	Zones []string `yaml:"zones,omitempty"`
	// TransferKeys are files of who may have whole zones (AXFR) and what changes in them (IXFR): keys as tsig-keygen writes them, of hmac-sha256.
	TransferKeys []string `yaml:"transferKeys,omitempty"`
	// Notify are the secondaries (IP:port) that are told of a new serial, signed with the first transfer key.
	Notify []string `yaml:"notify,omitempty"`
	// CookieSecret is a file of 16 bytes, base64; the same on all nodes behind one address. Empty is a random one.
	CookieSecret string `yaml:"cookieSecret,omitempty"`
	// Unlimited are networks (CIDR) whose addresses nobody can forge, as behind a router that filters; loopback is one. To
	// all others that have no cookie UDP answers have no more bytes than their questions: what is longer is truncated, so
	// that a real client comes by TCP, which is good for the next ten thousand or so (authority.DefaultCredit).
	Unlimited []string `yaml:"unlimited,omitempty"`
	// RateLimit is the number of UDP answers per second for a network (IPv4 /24, IPv6 /56) without cookies; 0 is no such limit.
	RateLimit int    `yaml:"rateLimit,omitempty"`
	Slip      int    `yaml:"slip,omitempty"` // every so many'th answer beyond the limit goes out truncated; default 2
	NSID      string `yaml:"nsid,omitempty"` // what the node calls itself when asked; empty is nothing
	// Shadow is the present server (IP:port): clients get its answers, and "homing dns shadow" shows where this one differs.
	Shadow string `yaml:"shadow,omitempty"`
	// QueryLog is a file that gets every QueryLogEvery'th question (default 100); SIGHUP opens it anew. With dnstap it may be
	// unix:PATH, a collector's socket.
	QueryLog       string `yaml:"queryLog,omitempty"`
	QueryLogEvery  int    `yaml:"queryLogEvery,omitempty"`
	QueryLogFormat string `yaml:"queryLogFormat,omitempty"` // json (the default: a line each) or dnstap
	// Accounts is a file of who may ask HTTPDNS with signed questions: on each line an account and its secret.
	Accounts string `yaml:"accounts,omitempty"`
	// SignedOnly refuses all other questions to HTTPDNS.
	SignedOnly bool `yaml:"signedOnly,omitempty"`
}

// Formats of the query log.
const (
	formatJSON   = "json"
	formatDNSTap = "dnstap"
)

// resolve makes the paths relative to the file's folder.
func (d *DNS) resolve(dir string) {
	paths := []*string{&d.CookieSecret, &d.Accounts, &d.QueryLog}
	for _, list := range [][]string{d.ZoneKeys, d.Zones, d.TransferKeys} {
		for i := range list {
			paths = append(paths, &list[i])
		}
	}
	for _, p := range paths {
		scheme := ""
		if p == &d.QueryLog && strings.HasPrefix(*p, tap.Socket) {
			scheme = tap.Socket
		}
		if path := strings.TrimPrefix(*p, scheme); path != "" && !filepath.IsAbs(path) {
			*p = scheme + filepath.Join(dir, path)
		}
	}
}

func (d *DNS) validate(c *Config) error {
	for _, group := range []struct {
		name      string
		addresses []string
	}{{"dns.dot", d.DoT}, {"dns.doh", d.DoH}, {"dns.doq", d.DoQ}} {
		if len(group.addresses) > 0 && c.TLS.Cert == "" {
			return wrongf(group.name, "%s needs a certificate: set tls.cert and tls.key", group.name)
		}
		for _, a := range group.addresses {
			if _, _, err := net.SplitHostPort(a); err != nil {
				return wrongf(group.name, "%s %q: want host:port", group.name, a)
			}
		}
	}
	if d.RateLimit < 0 {
		return wrongf("dns.rateLimit", "dns.rateLimit %d: want answers per second, or 0 for no limit", d.RateLimit)
	}
	switch d.QueryLogFormat {
	case "", formatJSON, formatDNSTap:
	default:
		return wrongf("dns.queryLogFormat", "dns.queryLogFormat %q: want %s or %s", d.QueryLogFormat, formatJSON, formatDNSTap)
	}
	if strings.HasPrefix(d.QueryLog, tap.Socket) && d.QueryLogFormat != formatDNSTap {
		return wrongf("dns.queryLog", "dns.queryLog %s: a socket takes dnstap only: set dns.queryLogFormat", d.QueryLog)
	}
	if d.QueryLogEvery < 0 {
		return wrongf("dns.queryLogEvery", "dns.queryLogEvery %d: want 1 for every question, 100 for one in a hundred", d.QueryLogEvery)
	}
	if d.SignedOnly && d.Accounts == "" {
		return wrongf("dns.signedOnly", "dns.signedOnly without dns.accounts would refuse everybody: name a file of accounts")
	}
	for _, text := range d.Unlimited {
		if p, err := netip.ParsePrefix(text); err != nil || p != p.Masked() {
			return wrongf("dns.unlimited", "dns.unlimited %q: want networks such as 10.0.0.0/8 or fd00::/8", text)
		}
	}
	if d.Slip < 0 {
		return wrongf("dns.slip", "dns.slip %d: want 1 or more, or 0 for the default", d.Slip)
	}
	return nil
}

// unforgeable is loopback: what comes from elsewhere in its name is dropped by the kernel.
var unforgeable = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// options adds to those of the server, reading the files.
func (d *DNS) options(o *authority.Options) error {
	o.DoT, o.DoH, o.DoQ, o.NSID = d.DoT, d.DoH, d.DoQ, d.NSID
	o.RateLimit = authority.RateLimit{PerSecond: d.RateLimit, Credit: authority.DefaultCredit, Slip: d.Slip, Exempt: slices.Clone(unforgeable)}
	for _, text := range d.Unlimited {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return err // validate has seen that it is one
		}
		o.RateLimit.Exempt = append(o.RateLimit.Exempt, p)
	}
	if d.CookieSecret != "" {
		b, err := os.ReadFile(d.CookieSecret)
		if err != nil {
			return err
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
		if err != nil || len(raw) != 16 {
			return fmt.Errorf("%s: want the base64 of 16 bytes", d.CookieSecret)
		}
		o.CookieSecret = (*[16]byte)(raw)
	}
	ring, err := d.keyRing()
	if err != nil {
		return err
	}
	if ring != nil {
		o.Keys, o.Retiring = ring.Serving()
	}
	for _, path := range d.ZoneKeys {
		if ring != nil {
			break
		}
		key, err := readZoneKey(path)
		if err != nil {
			return err
		}
		o.Keys = append(o.Keys, key)
	}
	for _, path := range d.TransferKeys {
		key, err := readTransferKey(path)
		if err != nil {
			return err
		}
		o.TransferKeys = append(o.TransferKeys, *key)
	}
	o.Notify = d.Notify
	o.SignedOnly, o.Shadow = d.SignedOnly, d.Shadow
	if d.Accounts != "" {
		var err error
		if o.Accounts, err = readAccounts(d.Accounts); err != nil {
			return err
		}
	}
	return nil
}

// keyRing is the folder with the zone's keys, nil when the file names none.
func (d *DNS) keyRing() (*authority.KeyRing, error) {
	for _, path := range d.ZoneKeys {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		if len(d.ZoneKeys) > 1 {
			return nil, fmt.Errorf("dns.zoneKeys: %s is a folder, which has all keys: name it alone", path)
		}
		return authority.LoadKeyRing(path)
	}
	return nil, nil
}

// readAccounts reads a file of HTTPDNS accounts; what follows "#" is no part of it.
func readAccounts(path string) ([]authority.Account, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []authority.Account
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		switch f := strings.Fields(line); len(f) {
		case 0:
		case 2:
			out = append(out, authority.Account{ID: f[0], Secret: f[1]})
		default:
			return nil, fmt.Errorf("%s:%d: want an account and its secret, such as: 100000 %s", path, i+1, strings.Repeat("00", 16))
		}
	}
	return out, nil
}

// transferKeyFile is the form in which BIND's tools write a key.
var transferKeyFile = regexp.MustCompile(`(?s)^\s*key\s+"?([A-Za-z0-9._-]+)"?\s*\{\s*algorithm\s+"?([a-z0-9.-]+)"?\s*;\s*secret\s+"([A-Za-z0-9+/=]+)"\s*;\s*\}\s*;\s*$`)

// readTransferKey reads a file as tsig-keygen writes it.
func readTransferKey(path string) (*authority.TransferKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := transferKeyFile.FindSubmatch(b)
	if m == nil || strings.TrimSuffix(string(m[2]), ".") != "hmac-sha256" {
		return nil, fmt.Errorf("%s: want one key of hmac-sha256 (tsig-keygen -a hmac-sha256 NAME)", path)
	}
	secret, err := base64.StdEncoding.DecodeString(string(m[3]))
	if err != nil || len(secret) < 16 {
		return nil, fmt.Errorf("%s: the secret is not the base64 of 16 bytes or more (tsig-keygen -a hmac-sha256 NAME)", path)
	}
	return &authority.TransferKey{Name: string(m[1]), Secret: secret}, nil
}

// readZoneKey reads a PEM file as openssl writes it.
func readZoneKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := key.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: want a PEM file with an ECDSA P-256 key (openssl ecparam -name prime256v1 -genkey -noout)", path)
}
