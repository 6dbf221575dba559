package authority

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/region"
)

const (
	// beside is a file of the world's own zone.
	beside = `$ORIGIN demo.test.
$TTL 300
@       SOA unused unused 1 2 3 4 5
@       NS  unused
@       MX  10 mail
@       TXT "v=spf1 -all"
mail    A   192.0.2.25
www     CNAME long
far     CNAME u-3000001.long
gone    CNAME nothing
long    A   192.0.2.66 ; the world's
child   NS  ns.child
ns.child A  192.0.2.99
safe    NS  ns.child
safe    DS  12345 13 2 0000000000000000000000000000000000000000000000000000000000000001
*.wild  TXT "found"
`
	// alone is a zone that the world knows nothing of.
	alone = `$ORIGIN corp.test.
$TTL 300
@    SOA ns1 hostmaster 41 2 3 4 60
@    NS  ns1
ns1  A   192.0.2.53
www  A   192.0.2.80
`
)

func withZones(t testing.TB, texts ...string) func(*Options) {
	t.Helper()
	var zones []*static.Zone
	for _, text := range texts {
		z, err := static.Parse("test.zone", text)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, z)
	}
	set, err := static.NewSet(zones...)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Static = func() *static.Set { return set } }
}

// What a file adds to the world's zone, and what it does not.
func TestZoneFiles(t *testing.T) {
	h := startWith(t, withZones(t, beside, alone))
	for _, c := range []struct {
		args  string
		want  []string
		never []string
	}{
		{"demo.test MX", []string{"10 mail.demo.test.", "mail.demo.test.\t\t300\tIN\tA\t192.0.2.25"}, nil},
		{"demo.test SOA", []string{"ns1.demo.test. hostmaster.demo.test. 7 "}, []string{"unused"}},
		{"demo.test NS", []string{"ns1.demo.test."}, []string{"unused"}},
		{"demo.test CAA", []string{"NOERROR", "ANSWER: 0", "hostmaster.demo.test. 7 "}, nil},
		{"long.demo.test +subnet=223.5.5.0/24", []string{"127.2.0.1"}, []string{"192.0.2.66"}},
		{"www.demo.test +subnet=223.5.5.0/24", []string{"www.demo.test.\t\t300\tIN\tCNAME\tlong.demo.test.", "long.demo.test.\t\t20\tIN\tA\t127.2.0.1", "223.5.5.0/24/24"}, nil},
		{"www.demo.test +subnet=99.230.0.0/16", []string{"127.2.0.5", "99.230.0.0/16/11"}, nil},
		{"far.demo.test +subnet=223.5.5.0/24", []string{"CNAME\tu-3000001.long.demo.test."}, nil},
		{"gone.demo.test", []string{"NOERROR", "CNAME\tnothing.demo.test."}, nil},
		{"nothing.demo.test", []string{"NXDOMAIN", "hostmaster.demo.test. 7 "}, nil},
		{"a.child.demo.test +norec", []string{"NOERROR", "flags: qr;", "child.demo.test.\t300\tIN\tNS\tns.child.demo.test.", "192.0.2.99"}, nil},
		{"x.wild.demo.test TXT", []string{`x.wild.demo.test.	300	IN	TXT	"found"`}, nil},
		{"wild.demo.test TXT", []string{"NOERROR", "ANSWER: 0"}, nil},
		{"www.corp.test", []string{"flags: qr aa rd", "192.0.2.80"}, nil},
		{"nobody.corp.test", []string{"NXDOMAIN", "corp.test.\t\t60\tIN\tSOA"}, nil},
		{"elsewhere.test", []string{"REFUSED"}, nil},
	} {
		out := h.dig(t, strings.Fields(c.args)...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s lacks %q:\n%s", c.args, want, out)
			}
		}
		for _, never := range c.never {
			if strings.Contains(out, never) {
				t.Errorf("%s has %q:\n%s", c.args, never, out)
			}
		}
	}
	h.view.Store(nil)
	if out := h.dig(t, "www.corp.test"); !strings.Contains(out, "192.0.2.80") {
		t.Errorf("a zone of its own needs no world:\n%s", out)
	}
}

// What a file adds to a signed zone is signed, and so is what it does not have.
func TestZoneFilesAreSigned(t *testing.T) {
	signed, made := startSigned(t, 1)
	set, err := static.Parse("test.zone", beside)
	if err != nil {
		t.Fatal(err)
	}
	zones, err := static.NewSet(set)
	if err != nil {
		t.Fatal(err)
	}
	signed.o.Static = func() *static.Set { return zones }
	key, err := DNSKEY("demo.test.", &made[0].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(name string, qtype uint16) *dns.Msg {
		t.Helper()
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		m.SetEdns0(maxUDP, true)
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		got := new(dns.Msg)
		if err := got.Unpack(signed.respond(packet, netip.MustParseAddr("127.0.0.1"), overTCP)); err != nil {
			t.Fatal(err)
		}
		return got
	}
	keys := []*dns.DNSKEY{key}
	for name, want := range map[string]string{
		"demo.test.": "MX", "mail.demo.test.": "A", "www.demo.test.": "A CNAME", "x.wild.demo.test.": "TXT",
	} {
		types := strings.Fields(want)
		m := ask(name, dns.StringToType[types[0]])
		if got := signedSets(t, m.Answer, keys); len(got) != len(types) {
			t.Errorf("%s: %v signed, want %v\n%s", name, got, want, m)
		}
	}
	bitmap := func(m *dns.Msg, rcode int) []uint16 {
		t.Helper()
		signedSets(t, m.Ns, keys)
		for _, rr := range m.Ns {
			if nsec, ok := rr.(*dns.NSEC); ok && m.Rcode == rcode {
				return nsec.TypeBitMap
			}
		}
		t.Fatalf("no NSEC, or not %s:\n%s", dns.RcodeToString[rcode], m)
		return nil
	}
	if got := bitmap(ask("mail.demo.test.", dns.TypeTXT), dns.RcodeSuccess); !slices.Equal(got, []uint16{dns.TypeA, dns.TypeRRSIG, dns.TypeNSEC}) {
		t.Errorf("mail has %v", got)
	}
	if got := bitmap(ask("demo.test.", dns.TypeCAA), dns.RcodeSuccess); !slices.Contains(got, dns.TypeMX) || !slices.Contains(got, dns.TypeDNSKEY) {
		t.Errorf("the zone itself has %v", got)
	}
	if got := bitmap(ask("nothing.demo.test.", dns.TypeA), dns.RcodeSuccess); !slices.Contains(got, uint16(typeNXNAME)) {
		t.Errorf("what does not exist has %v", got)
	}
	if got := bitmap(ask("child.demo.test.", dns.TypeDS), dns.RcodeSuccess); !slices.Equal(got, []uint16{dns.TypeNS, dns.TypeRRSIG, dns.TypeNSEC}) {
		t.Errorf("the delegation has %v", got)
	}

	// Referrals: signed is that there is no DS record, or the one there is.
	insecure := ask("a.child.demo.test.", dns.TypeA)
	if insecure.Authoritative || len(insecure.Answer) > 0 || len(insecure.Ns) != 3 || len(insecure.Extra) != 2 {
		t.Errorf("%s", insecure)
	}
	signedSets(t, insecure.Ns[1:], keys)
	secure := ask("a.safe.demo.test.", dns.TypeA)
	if got := signedSets(t, secure.Ns[1:], keys); len(got) != 1 || got[0] != "DS" {
		t.Errorf("%v\n%s", got, secure)
	}
}

func transferSecret(n byte) TransferKey {
	return TransferKey{Name: "secondary.key.", Secret: []byte(strings.Repeat(string('a'+rune(n)), 32))}
}

// Whole zones go to who signs with the key, over TCP, and to nobody else.
func TestTransfer(t *testing.T) {
	key := transferSecret(0)
	h := startWith(t, func(o *Options) {
		withZones(t, beside, alone)(o)
		o.TransferKeys = []TransferKey{key}
	})
	addr := h.Addrs()[0].String()
	get := func(zone string, ixfr uint32, k *TransferKey) ([]dns.RR, error) {
		m := new(dns.Msg)
		if m.SetAxfr(zone); ixfr > 0 {
			m.SetIxfr(zone, ixfr, "ns1."+zone, "hostmaster."+zone)
		}
		tr := &dns.Transfer{DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second}
		if k != nil {
			m.SetTsig(k.Name, dns.HmacSHA256, 300, time.Now().Unix())
			tr.TsigSecret = map[string]string{k.Name: k.secret()}
		}
		in, err := tr.In(m, addr)
		if err != nil {
			return nil, err
		}
		var out []dns.RR
		for e := range in {
			if e.Error != nil {
				return nil, e.Error
			}
			out = append(out, e.RR...)
		}
		return out, nil
	}
	has := func(records []dns.RR, want string) bool {
		return slices.ContainsFunc(records, func(rr dns.RR) bool { return strings.ReplaceAll(rr.String(), "\t", " ") == want })
	}
	records, err := get("demo.test.", 0, &key)
	if err != nil || len(records) < 20 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for _, want := range []string{
		"demo.test. 300 IN MX 10 mail.demo.test.", "ns1.demo.test. 300 IN A 127.3.0.1", "pop-6.pop.demo.test. 20 IN AAAA 2001:db8::6",
		"ca.region.demo.test. 20 IN A 127.1.0.3", "www.demo.test. 300 IN CNAME long.demo.test.", "child.demo.test. 300 IN NS ns.child.demo.test.",
	} {
		if !has(records, want) {
			t.Errorf("lacks %s", want)
		}
	}
	for _, never := range []string{"long.demo.test. 300 IN A 192.0.2.66", "demo.test. 300 IN NS unused.demo.test."} {
		if has(records, never) {
			t.Errorf("has %s", never)
		}
	}
	if first, last := records[0], records[len(records)-1]; first.Header().Rrtype != dns.TypeSOA || first.String() != last.String() {
		t.Errorf("from %s to %s", first, last)
	}
	if records, err = get("corp.test.", 0, &key); err != nil || len(records) != 5 {
		t.Errorf("%v, %v", records, err)
	}
	if records, err = get("corp.test.", 41, &key); err != nil || len(records) != 1 {
		t.Errorf("who has serial 41 gets %v, %v", records, err)
	}
	if records, err = get("corp.test.", 40, &key); err != nil || len(records) != 5 {
		t.Errorf("who has serial 40 gets %v, %v", records, err)
	}
	other := transferSecret(1)
	for name, k := range map[string]*TransferKey{"no key": nil, "another secret": &other, "another name": {Name: "who.key.", Secret: key.Secret}} {
		if records, err := get("corp.test.", 0, k); err == nil {
			t.Errorf("%s: %v", name, records)
		}
	}
	if records, err := get("elsewhere.test.", 0, &key); err == nil {
		t.Errorf("a zone that is not here: %v", records)
	}
	if out := h.dig(t, "-y", "hmac-sha256:secondary.key:"+key.secret(), "corp.test", "AXFR"); !strings.Contains(out, "XFR size: 5 records") {
		t.Errorf("dig:\n%s", out)
	}
	if out := h.dig(t, "corp.test", "AXFR", "+notcp"); strings.Contains(out, "192.0.2.80") {
		t.Errorf("dig, unsigned:\n%s", out)
	}
}

// A large zone takes many messages, each signed with the one before in it.
func TestTransferOfManyMessages(t *testing.T) {
	var text strings.Builder
	text.WriteString(alone)
	for i := range 5000 {
		text.WriteString("host" + strconv.Itoa(i) + " A 192.0.2.1\n")
	}
	key := transferSecret(0)
	h := startWith(t, func(o *Options) {
		withZones(t, text.String())(o)
		o.TransferKeys = []TransferKey{key}
	})
	out := h.dig(t, "-y", "hmac-sha256:secondary.key:"+key.secret(), "corp.test", "AXFR")
	if !strings.Contains(out, "XFR size: 5005 records (messages ") || strings.Contains(out, "messages 1,") {
		t.Errorf("%s", out[max(0, len(out)-300):])
	}
}

func TestNotifyNeedsAddresses(t *testing.T) {
	h := start(t)
	o := Options{View: h.view.Load, Health: h.o.Health, Geo: h.geo, Notify: []string{"ns2.demo.test"}}
	if _, err := New(o); region.KindOf(err) != region.BadInput || !strings.Contains(err.Error(), "IP:port") {
		t.Errorf("%v", err)
	}
}
