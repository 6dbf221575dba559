package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

func startSigned(t testing.TB, keys int) (*harness, []*ecdsa.PrivateKey) {
	t.Helper()
	var made []*ecdsa.PrivateKey
	for range keys {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, k)
	}
	h := startWith(t, func(o *Options) { o.Keys = made })
	h.clock.Store(time.Now().UnixNano()) // validators have a clock of their own
	return h, made
}

// signedSets verifies every set of a section and returns their types.
func signedSets(t *testing.T, section []dns.RR, keys []*dns.DNSKEY) []string {
	t.Helper()
	sets := map[string][]dns.RR{}
	sigs := map[string][]*dns.RRSIG{}
	for _, rr := range section {
		if sig, ok := rr.(*dns.RRSIG); ok {
			id := sig.Hdr.Name + " " + dns.TypeToString[sig.TypeCovered]
			sigs[id] = append(sigs[id], sig)
			continue
		}
		id := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]
		sets[id] = append(sets[id], rr)
	}
	var out []string
	for id, set := range sets {
		if len(sigs[id]) == 0 {
			t.Errorf("%s is not signed", id)
		}
		for _, sig := range sigs[id] {
			i := slices.IndexFunc(keys, func(k *dns.DNSKEY) bool { return k.KeyTag() == sig.KeyTag })
			if i < 0 || sig.Verify(keys[i], set) != nil || !sig.ValidityPeriod(time.Now()) || sig.Hdr.Ttl != set[0].Header().Ttl {
				t.Errorf("%s: bad signature %s", id, sig)
			}
		}
		out = append(out, dns.TypeToString[set[0].Header().Rrtype])
	}
	slices.Sort(out)
	return out
}

// Every kind of answer is signed, and every denial proves just what was asked.
func TestSignedAnswers(t *testing.T) {
	h, made := startSigned(t, 2)
	var keys []*dns.DNSKEY
	for _, k := range made {
		key, err := DNSKEY("demo.test", &k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	for _, c := range []struct {
		name   string
		qtype  uint16
		answer string // types in the answer section
		denied string // types in the NSEC, when there is one
	}{
		{"long.demo.test.", dns.TypeA, "A", ""},
		{"LoNg.DEMO.test.", dns.TypeA, "A", ""},
		{"u-1000001.v-90003.long.demo.test.", dns.TypeSRV, "SRV", ""},
		{"long.demo.test.", dns.TypeAAAA, "", "A SRV RRSIG NSEC SVCB"},
		{"long.demo.test.", dns.TypeTXT, "", "A AAAA SRV RRSIG NSEC SVCB"},
		{"long.demo.test.", dns.TypeANY, "HINFO", ""},
		{"long.demo.test.", dns.TypeNSEC, "NSEC", ""},
		{"short.demo.test.", dns.TypeHTTPS, "HTTPS", ""},
		{"ShOrT.DEMO.test.", dns.TypeHTTPS, "HTTPS", ""}, // with the signature of the one before
		{"demo.test.", dns.TypeSOA, "SOA", ""},
		{"demo.test.", dns.TypeNS, "NS", ""},
		{"demo.test.", dns.TypeDNSKEY, "DNSKEY", ""},
		{"demo.test.", dns.TypeCDS, "CDS", ""},
		{"demo.test.", dns.TypeCDNSKEY, "CDNSKEY", ""},
		{"demo.test.", dns.TypeA, "", "NS SOA RRSIG NSEC DNSKEY CDS CDNSKEY"},
		{"pop-6.pop.demo.test.", dns.TypeAAAA, "AAAA", ""},
		{"pop-6.pop.demo.test.", dns.TypeA, "", "AAAA RRSIG NSEC"},
		{"pop.demo.test.", dns.TypeA, "", "RRSIG NSEC"},
		{"nobody.demo.test.", dns.TypeA, "", "RRSIG NSEC TYPE128"},
		{`\000a\.b.demo.test.`, dns.TypeA, "", "RRSIG NSEC TYPE128"},
	} {
		ask := question(c.name, c.qtype, netip.MustParsePrefix("223.5.5.0/24"))
		ask.IsEdns0().SetDo()
		for _, network := range []string{"udp", "tcp"} {
			m := h.exchange(t, network, ask)
			if got := strings.Join(signedSets(t, m.Answer, keys), " "); got != c.answer || m.Rcode != dns.RcodeSuccess || !m.Authoritative || len(m.Extra) != 1 {
				t.Errorf("%s %s: %q in\n%s", c.name, dns.TypeToString[c.qtype], got, m)
			}
			want := ""
			if c.denied != "" {
				want = "NSEC SOA"
			}
			if got := strings.Join(signedSets(t, m.Ns, keys), " "); got != want {
				t.Errorf("%s %s: %q in authority\n%s", c.name, dns.TypeToString[c.qtype], got, m)
			}
			for _, rr := range m.Ns {
				if nsec, ok := rr.(*dns.NSEC); ok {
					var types []string
					for _, n := range nsec.TypeBitMap {
						types = append(types, dns.Type(n).String())
					}
					got := strings.ReplaceAll(strings.Join(types, " "), "NXNAME", "TYPE128")
					if got != c.denied || nsec.Hdr.Name != c.name || nsec.NextDomain != `\000.`+c.name {
						t.Errorf("%s %s: %s", c.name, dns.TypeToString[c.qtype], nsec)
					}
				}
			}
		}
		ask.IsEdns0().SetDo(false) // who does not want signatures gets none
		if m := h.exchange(t, "udp", ask); strings.Contains(m.String(), "RRSIG") && c.qtype != dns.TypeNSEC {
			t.Errorf("unasked: %s", m)
		} else if (c.name == "nobody.demo.test.") != (m.Rcode == dns.RcodeNameError) && !strings.HasPrefix(c.name, `\000`) {
			t.Errorf("%s", m)
		}
	}
}

// Signatures are made once an hour, not per question, and renewed in time.
func TestSignaturesAreKept(t *testing.T) {
	h, _ := startSigned(t, 1)
	ask := question("long.demo.test.", dns.TypeA, netip.Prefix{})
	ask.SetEdns0(maxUDP, true)
	signature := func() *dns.RRSIG { return h.exchange(t, "udp", ask).Answer[3].(*dns.RRSIG) }
	first := signature()
	if again := signature(); again.Signature != first.Signature {
		t.Error("signed anew")
	}
	h.clock.Add(int64(signEvery))
	if later := signature(); later.Signature == first.Signature || later.Expiration != first.Expiration+3600 {
		t.Error("not signed anew after an hour")
	}
	kept := func(add int) int {
		h.signer.Load().mu.Lock()
		defer h.signer.Load().mu.Unlock()
		for n := range add {
			h.signer.Load().made[fmt.Sprint(n)] = first
		}
		return len(h.signer.Load().made)
	}
	kept(maxMade) // then it forgets rather than grow
	h.clock.Add(int64(signEvery))
	signature()
	if n := kept(0); n != 1 {
		t.Errorf("%d signatures kept", n)
	}
}

// anchor is a file that tells delv which key to trust.
func anchor(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	record, err := DNSKEY("demo.test", &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "anchor")
	if err := os.WriteFile(path, []byte(fmt.Sprintf("trust-anchors { demo.test. static-key 257 3 13 %q; };\n", record.PublicKey)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The real delv trusts the key and nothing else.
func TestDelv(t *testing.T) {
	if _, err := exec.LookPath("delv"); err != nil {
		t.Skip("delv is not installed (Debian: bind9-dnsutils)")
	}
	h, made := startSigned(t, 1)
	anchor := anchor(t, made[0])
	for _, c := range []struct{ name, qtype, want string }{
		{"long.demo.test", "A", "; fully validated"},
		{"u-1000001.long.demo.test", "A", "; fully validated"},
		{"long.demo.test", "SRV", "; fully validated"},
		{"demo.test", "DNSKEY", "; fully validated"},
		{"demo.test", "NS", "; fully validated"},
		{"long.demo.test", "AAAA", "; negative response, fully validated"},
		{"pop.demo.test", "A", "; negative response, fully validated"},
		{"nobody.demo.test", "A", "; negative response, fully validated"},
	} {
		out, err := exec.Command("delv", "@127.0.0.1", "-p", strconv.Itoa(int(h.Addrs()[0].Port())), "-a", anchor, "+root=demo.test", c.name, c.qtype).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s %s: %v\n%s", c.name, c.qtype, err, out)
		}
	}
}

// Keys of another kind are refused; the DS has the form parents want.
func TestKeysAndDS(t *testing.T) {
	h, made := startSigned(t, 1)
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{View: h.view.Load, Health: h.o.Health, Geo: h.geo, Keys: []*ecdsa.PrivateKey{other}}); region.KindOf(err) != region.BadInput {
		t.Error(err)
	}
	ds, err := DS("demo.test", &made[0].PublicKey)
	if fields := strings.Fields(ds); err != nil || len(fields) != 8 || fields[3] != "DS" || fields[5] != "13" || fields[6] != "2" || len(fields[7]) != 64 {
		t.Error(ds, err)
	}
}
