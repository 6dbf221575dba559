package static

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/region"
)

func parse(t testing.TB, text string) *Zone {
	t.Helper()
	z, err := Parse("test.zone", text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// told is an answer in one line: rcode, flags, then the records.
func told(a Answer) string {
	var b strings.Builder
	b.WriteString(dns.RcodeToString[a.Rcode])
	if a.Authoritative {
		b.WriteString(" aa")
	}
	for _, section := range []struct {
		name    string
		records []dns.RR
	}{{"an", a.Records}, {"ns", a.Authority}, {"ad", a.Additional}} {
		for _, rr := range section.records {
			if rr.Header().Rrtype == dns.TypeSOA && section.name == "ns" {
				b.WriteString("; ns SOA")
				continue
			}
			fmt.Fprintf(&b, "; %s %s %s %s", section.name, rr.Header().Name, dns.TypeToString[rr.Header().Rrtype], strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	return b.String()
}

// The zone of RFC 4592 section 2.2.1, and what section 2.2.1 says of it.
const wildcards = `
$ORIGIN example.
@                 3600 IN  SOA   ns hostmaster 1 7200 3600 86400 300
@                 3600     NS    ns.example.com.
@                 3600     NS    ns.example.net.
*                 3600     TXT   "this is a wildcard"
*                 3600     MX    10 host1.example.
sub.*             3600     TXT   "this is not a wildcard"
host1             3600     A     192.0.2.1
_ssh._tcp.host1   3600     SRV   0 0 22 host1
_ssh._tcp.host2   3600     SRV   0 0 22 host1
subdel            3600     NS    ns.example.com.
subdel            3600     NS    ns.example.net.
`

// The zone of the tests that are not from an RFC.
const rest = `
$TTL 300
@ORIGIN@
$ORIGIN corp.test.
@        IN SOA ns1 hostmaster 2026112201 7200 3600 1209600 60
@        NS ns1
@        NS ns2.elsewhere.test.
@        MX 10 mail
@        CAA 0 issue "ca.test"
ns1      A 192.0.2.53
ns1      AAAA 2001:db8::53
mail     A 192.0.2.25
www      CNAME web
web      A 192.0.2.80
out      CNAME www.elsewhere.test.
dead     CNAME nobody
loop     CNAME pool
pool     CNAME loop
a.b.c    TXT "deep"
old      DNAME new
new      A 192.0.2.1
x.new    A 192.0.2.2
long     DNAME aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc.test.
child    NS ns.child
child    NS ns1
child    DS 12345 13 2 0000000000000000000000000000000000000000000000000000000000000001
ns.child A 192.0.2.99
_sip._udp SRV 1 1 5060 mail
*.wild   CNAME web
x.wild   TXT "hides the wildcard"
`

func TestLookup(t *testing.T) {
	zones := map[string]*Zone{
		"example.":   parse(t, wildcards),
		"corp.test.": parse(t, strings.Replace(rest, "@ORIGIN@", "", 1)),
	}
	for _, c := range []struct{ name, qtype, want string }{
		// RFC 4592 section 2.2.1: synthesized
		{"host3.example.", "MX", "NOERROR aa; an host3.example. MX 10 host1.example.; ad host1.example. A 192.0.2.1"},
		{"host3.example.", "A", "NOERROR aa; ns SOA"},
		{"foo.bar.example.", "TXT", `NOERROR aa; an foo.bar.example. TXT "this is a wildcard"`},
		// and not
		{"host1.example.", "MX", "NOERROR aa; ns SOA"},
		{"sub.*.example.", "MX", "NOERROR aa; ns SOA"},
		{"_telnet._tcp.host1.example.", "SRV", "NXDOMAIN aa; ns SOA"},
		{"host.subdel.example.", "A", "NOERROR; ns subdel.example. NS ns.example.com.; ns subdel.example. NS ns.example.net."},
		{"ghost.*.example.", "MX", "NXDOMAIN aa; ns SOA"},
		{"*.example.", "TXT", `NOERROR aa; an *.example. TXT "this is a wildcard"`},

		{"corp.test.", "SOA", "NOERROR aa; an corp.test. SOA ns1.corp.test. hostmaster.corp.test. 2026112201 7200 3600 1209600 60"},
		{"corp.test.", "NS", "NOERROR aa; an corp.test. NS ns1.corp.test.; an corp.test. NS ns2.elsewhere.test.; ad ns1.corp.test. A 192.0.2.53; ad ns1.corp.test. AAAA 2001:db8::53"},
		{"corp.test.", "MX", "NOERROR aa; an corp.test. MX 10 mail.corp.test.; ad mail.corp.test. A 192.0.2.25"},
		{"Corp.TEST.", "CAA", `NOERROR aa; an Corp.TEST. CAA 0 issue "ca.test"`},
		{"www.corp.test.", "A", "NOERROR aa; an www.corp.test. CNAME web.corp.test.; an web.corp.test. A 192.0.2.80"},
		{"www.corp.test.", "CNAME", "NOERROR aa; an www.corp.test. CNAME web.corp.test."},
		{"www.corp.test.", "AAAA", "NOERROR aa; an www.corp.test. CNAME web.corp.test.; ns SOA"},
		{"out.corp.test.", "A", "NOERROR aa; an out.corp.test. CNAME www.elsewhere.test."},
		{"dead.corp.test.", "A", "NXDOMAIN aa; an dead.corp.test. CNAME nobody.corp.test.; ns SOA"}, // RFC 6604
		{"loop.corp.test.", "A", "NOERROR aa; an loop.corp.test. CNAME pool.corp.test.; an pool.corp.test. CNAME loop.corp.test."},
		{"b.c.corp.test.", "A", "NOERROR aa; ns SOA"}, // RFC 8020
		{"c.corp.test.", "TXT", "NOERROR aa; ns SOA"},
		{"z.b.c.corp.test.", "TXT", "NXDOMAIN aa; ns SOA"},
		{"old.corp.test.", "A", "NOERROR aa; ns SOA"}, // RFC 6672: not the owner itself
		{"old.corp.test.", "DNAME", "NOERROR aa; an old.corp.test. DNAME new.corp.test."},
		{"x.old.corp.test.", "A", "NOERROR aa; an old.corp.test. DNAME new.corp.test.; an x.old.corp.test. CNAME x.new.corp.test.; an x.new.corp.test. A 192.0.2.2"},
		{"y.old.corp.test.", "A", "NXDOMAIN aa; an old.corp.test. DNAME new.corp.test.; an y.old.corp.test. CNAME y.new.corp.test.; ns SOA"},
		{strings.Repeat("d", 63) + ".long.corp.test.", "A", "YXDOMAIN aa; an long.corp.test. DNAME " + strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + ".test."},
		{"child.corp.test.", "A", "NOERROR; ns child.corp.test. NS ns.child.corp.test.; ns child.corp.test. NS ns1.corp.test.; ns child.corp.test. DS 12345 13 2 0000000000000000000000000000000000000000000000000000000000000001; ad ns.child.corp.test. A 192.0.2.99; ad ns1.corp.test. A 192.0.2.53; ad ns1.corp.test. AAAA 2001:db8::53"},
		{"ns.child.corp.test.", "DS", "NOERROR; ns child.corp.test. NS ns.child.corp.test.; ns child.corp.test. NS ns1.corp.test.; ns child.corp.test. DS 12345 13 2 0000000000000000000000000000000000000000000000000000000000000001; ad ns.child.corp.test. A 192.0.2.99; ad ns1.corp.test. A 192.0.2.53; ad ns1.corp.test. AAAA 2001:db8::53"},
		{"child.corp.test.", "DS", "NOERROR aa; an child.corp.test. DS 12345 13 2 0000000000000000000000000000000000000000000000000000000000000001"},
		{"_sip._udp.corp.test.", "SRV", "NOERROR aa; an _sip._udp.corp.test. SRV 1 1 5060 mail.corp.test.; ad mail.corp.test. A 192.0.2.25"},
		{"q.wild.corp.test.", "A", "NOERROR aa; an q.wild.corp.test. CNAME web.corp.test.; an web.corp.test. A 192.0.2.80"},
		{"x.wild.corp.test.", "A", "NOERROR aa; ns SOA"},
		{"y.x.wild.corp.test.", "A", "NXDOMAIN aa; ns SOA"},
		{"web.corp.test.", "ANY", "NOERROR aa; an web.corp.test. A 192.0.2.80"},
	} {
		z := zones["corp.test."]
		if strings.HasSuffix(c.name, "example.") {
			z = zones["example."]
		}
		if got := told(z.Lookup(c.name, dns.StringToType[c.qtype], nil)); got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.name, c.qtype, got, c.want)
		}
	}
	if a := zones["corp.test."].Lookup("dead.corp.test.", dns.TypeA, nil); a.Next != "nobody.corp.test." {
		t.Errorf("the chain goes on at %q", a.Next)
	}
	if soa := zones["corp.test."].Lookup("nobody.corp.test.", dns.TypeA, nil).Authority[0]; soa.Header().Ttl != 60 {
		t.Errorf("negative answers are kept for %d s", soa.Header().Ttl)
	}
}

// Types and Lookup agree: a name has a type when asking for it gives one, or an alias.
func TestTypesAgreeWithLookup(t *testing.T) {
	z := parse(t, strings.Replace(rest, "@ORIGIN@", "", 1))
	for _, name := range []string{"corp.test.", "www.corp.test.", "b.c.corp.test.", "q.wild.corp.test.", "x.wild.corp.test.", "nobody.corp.test.", "web.corp.test."} {
		types, exists := z.Types(name)
		if nx := z.Lookup(name, dns.TypeTXT, nil).Rcode == dns.RcodeNameError; nx == exists {
			t.Errorf("%s: exists %v, NXDOMAIN %v", name, exists, nx)
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeMX, dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeCAA} {
			a := z.Lookup(name, qtype, nil)
			has := len(a.Records) > 0 && a.Records[0].Header().Rrtype == qtype
			if has != slices.Contains(types, qtype) {
				t.Errorf("%s %s: %v in %v, but %s", name, dns.TypeToString[qtype], has, types, told(a))
			}
		}
	}
}

func TestMistakesInZones(t *testing.T) {
	const head = "$ORIGIN corp.test.\n@ 300 IN SOA ns1 h 1 2 3 4 5\n@ 300 NS ns1\n"
	for _, c := range []struct{ text, want string }{
		{"", "no SOA"},
		{"$ORIGIN corp.test.\n@ 300 IN SOA ns1 h 1 2 3 4 5\n", "has no NS record"},
		{head + "@ 300 IN SOA ns1 h 1 2 3 4 5\n", "second SOA"},
		{head + "www.elsewhere.test. 300 A 192.0.2.1\n", "not in the zone"},
		{head + "www 300 A 192.0.2\n", "line: 4"},
		{head + "www 300 CH TXT x\n", "class is not IN"},
		{head + "www 300 CNAME a\nwww 300 A 192.0.2.1\n", "CNAME record and others"},
		{head + "www 300 CNAME a\nwww 300 CNAME b\n", "CNAME record and others"},
		{head + "www 300 DNAME a\nwww 300 DNAME b\n", "two DNAME"},
		{head + "www 300 DNAME a\nwww 300 NS b\n", "is delegated"},
		{head + "www 300 A 192.0.2.1\nwww 301 A 192.0.2.2\n", "TTLs"},
		{head + "$INCLUDE /etc/passwd\n", "line"},
	} {
		_, err := Parse("bad.zone", c.text)
		if region.KindOf(err) != region.BadInput || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bad.zone") {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
	if _, err := Load("/nonexistent.zone"); region.KindOf(err) != region.BadInput {
		t.Errorf("%v", err)
	}
}

func TestSet(t *testing.T) {
	corp := parse(t, strings.Replace(rest, "@ORIGIN@", "", 1))
	sub := parse(t, "$ORIGIN child.corp.test.\n@ 300 IN SOA ns1 h 1 2 3 4 5\n@ 300 NS ns1\n")
	s, err := NewSet(corp, sub)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*Zone{"corp.test.": corp, "a.CORP.test.": corp, "child.corp.test.": sub, "x.child.corp.test.": sub, "test.": nil, "corp2.test.": nil, ".": nil} {
		if got := s.Find(name, dns.TypeA); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if s.Find("child.corp.test.", dns.TypeDS) != corp || s.Find("corp.test.", dns.TypeDS) != corp {
		t.Error("a DS record is the parent's")
	}
	if (*Set)(nil).Find("corp.test.", dns.TypeA) != nil {
		t.Error("nothing knows a name")
	}
	if _, err := NewSet(corp, corp); region.KindOf(err) != region.BadInput {
		t.Errorf("%v", err)
	}
}

// Whatever a file holds and whatever is asked, there is an answer of at most so
// many names.
func FuzzZone(f *testing.F) {
	f.Add(strings.Replace(rest, "@ORIGIN@", "", 1), "x.old.corp.test.")
	f.Add(wildcards, "foo.bar.example.")
	f.Fuzz(func(t *testing.T, text, name string) {
		z, err := Parse("fuzz.zone", text)
		if err != nil || !dns.IsSubDomain(z.Origin, dns.Fqdn(name)) {
			return
		}
		if _, ok := dns.IsDomainName(name); !ok {
			return
		}
		if a := z.Lookup(dns.Fqdn(name), dns.TypeA, nil); len(a.Records) > 2*maxChain+len(z.Records()) {
			t.Errorf("%d records", len(a.Records))
		}
		z.Types(dns.Fqdn(name))
	})
}
