package authority

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// dig runs the real dig against the server and returns its output.
func (h *harness) dig(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("dig is not installed (Debian: bind9-dnsutils)")
	}
	addr := h.Addrs()[0]
	args = append([]string{"@" + addr.Addr().String(), "-p", strconv.Itoa(int(addr.Port())), "+tries=1", "+time=5", "+nocookie"}, args...)
	out, err := exec.Command("dig", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The questions an operator would type, and what the answer has to show.
func TestDig(t *testing.T) {
	h := startWith(t, func(o *Options) { o.NSID = "dns-1" })
	for _, c := range []struct {
		name  string
		args  string
		want  []string
		never []string
	}{
		{"nearest POPs of a subnet", "long.demo.test +subnet=223.5.5.0/24",
			[]string{"status: NOERROR", "flags: qr aa rd", "127.2.0.1", "127.2.0.2", "CLIENT-SUBNET: 223.5.5.0/24/24", "udp: 1232"}, []string{"127.2.0.5", "recursion available"}},
		{"another continent", "long.demo.test +subnet=99.230.0.0/16", []string{"127.2.0.5", "CLIENT-SUBNET: 99.230.0.0/16/11"}, []string{"127.2.0.1\n"}},
		{"over TCP", "long.demo.test +subnet=223.5.5.0/24 +tcp", []string{"127.2.0.1", "CLIENT-SUBNET: 223.5.5.0/24/24", "(TCP)"}, nil},
		{"IPv6 subnet", "long.demo.test +subnet=240e:3a0::/32", []string{"127.2.0.3", "CLIENT-SUBNET: 240e:3a0::/32/28"}, nil},
		{"UIN and version", "u-1000001.v-90003.long.demo.test", []string{"u-1000001.v-90003.long.demo.test. 5 IN A\t127.2.0.3", "ANSWER: 1"}, nil},
		{"case of letters is preserved", "LoNg.DeMo.TeSt", []string{"LoNg.DeMo.TeSt.\t\t20\tIN\tA"}, nil},
		{"without EDNS", "long.demo.test +noedns", []string{"status: NOERROR", "ADDITIONAL: 0"}, []string{"OPT PSEUDOSECTION"}},
		{"carrier", "long.demo.test +subnet=117.184.0.0/16", []string{"127.2.0.2", "127.1.0.1", "ANSWER: 2"}, nil},
		{"prefix that matches", "long.demo.test +subnet=198.51.100.0/24", []string{"127.1.0.3", "CLIENT-SUBNET: 198.51.100.0/24/25"}, nil},
		{"prefix next to it", "long.demo.test +subnet=198.51.100.128/32", []string{"/32/25"}, []string{"127.1.0.3"}},
		{"SRV", "long.demo.test SRV +subnet=223.5.5.0/24",
			[]string{"IN\tSRV\t1 0 7001 pop-1.pop.demo.test.", "IN\tSRV\t3 0 7001 pop-2.pop.demo.test.", "pop-1.pop.demo.test.\t20\tIN\tA\t127.2.0.1"}, nil},
		{"short has its own port", "short.demo.test SRV", []string{" 7002 "}, []string{"7001"}},
		{"SRV target", "pop-6.pop.demo.test AAAA", []string{"2001:db8::6"}, nil},
		{"region's address", "ca.region.demo.test", []string{"127.1.0.3"}, nil},
		{"AAAA where there is", "long.demo.test AAAA +subnet=50.92.0.0/16", []string{"2001:db8::6"}, nil},
		{"AAAA where there is none", "long.demo.test AAAA +subnet=223.5.5.0/24", []string{"status: NOERROR", "ANSWER: 0", "AUTHORITY: 1", "SOA", "CLIENT-SUBNET: 223.5.5.0/24/0"}, nil},
		{"subnet=0", "long.demo.test +subnet=0", []string{"status: NOERROR", "CLIENT-SUBNET: 0.0.0.0/0/0", "ANSWER: 3"}, nil},
		{"IPv4 source 0", "long.demo.test +subnet=0.0.0.0/0", []string{"status: NOERROR", "ANSWER: 3", "/0/0"}, nil},
		{"nobody offers web", "web.demo.test", []string{"status: NOERROR", "ANSWER: 0", "SOA"}, nil},
		{"SOA", "demo.test SOA", []string{"ns1.demo.test. hostmaster.demo.test. 7 60 10 86400 20"}, nil},
		{"NS and glue", "demo.test NS", []string{"NS\tns1.demo.test.", "NS\tns2.demo.test.", "A\t127.3.0.1", "AAAA\t2001:db8::53"}, nil},
		{"apex has no address", "demo.test A", []string{"NOERROR", "ANSWER: 0", "SOA"}, nil},
		{"empty non-terminal", "pop.demo.test", []string{"status: NOERROR", "ANSWER: 0", "SOA"}, nil},
		{"no such name", "nobody.demo.test +subnet=223.5.5.0/24", []string{"status: NXDOMAIN", "SOA", "CLIENT-SUBNET: 223.5.5.0/24/0"}, nil},
		{"no such POP", "pop-9.pop.demo.test", []string{"status: NXDOMAIN"}, nil},
		{"no such UIN form", "u-01.long.demo.test", []string{"status: NXDOMAIN"}, nil},
		{"wrong order", "v-1.u-1.long.demo.test", []string{"status: NXDOMAIN"}, nil},
		{"TXT of an existing name", "long.demo.test TXT", []string{"status: NOERROR", "ANSWER: 0", "SOA"}, nil},
		{"ANY is minimal", "long.demo.test ANY +notcp", []string{"HINFO\t\"RFC8482\""}, nil},
		{"outside the zone", "example.com", []string{"status: REFUSED", "flags: qr rd", "AUTHORITY: 0"}, nil},
		{"suffix without a dot", "xdemo.test", []string{"status: REFUSED"}, nil},
		{"another class", "long.demo.test CH TXT", []string{"status: REFUSED"}, nil},
		{"transfer", "demo.test AXFR", []string{"Transfer failed"}, nil},
		{"unknown EDNS version", "long.demo.test +edns=1 +noednsnegotiation", []string{"status: BADVERS", "EDNS: version: 0", "ANSWER: 0"}, nil},
		{"unknown EDNS option", "long.demo.test +ednsopt=100:0102", []string{"status: NOERROR", "ANSWER: 3"}, []string{"OPT=100"}},
		{"unknown opcode", "long.demo.test +opcode=15 +header-only", []string{"status: NOTIMP", "opcode: RESERVED15"}, nil},
		{"update", "long.demo.test +opcode=UPDATE", []string{"status: NOTIMP"}, nil},
		{"no question", "+header-only", []string{"status: FORMERR"}, nil},
		{"subnet with an octet too many", "long.demo.test +ednsopt=8:00011800df050500", []string{"status: FORMERR", "ANSWER: 0"}, nil},
		{"subnet with an octet too few", "long.demo.test +ednsopt=8:00011800df05", []string{"status: FORMERR"}, nil},
		{"subnet with trailing bits", "long.demo.test +ednsopt=8:00011700df0505", []string{"status: FORMERR"}, nil},
		{"subnet with a scope", "long.demo.test +ednsopt=8:00011818df0505", []string{"status: FORMERR"}, nil},
		{"subnet of an unknown family", "long.demo.test +ednsopt=8:00031800df0505", []string{"status: FORMERR"}, nil},
		{"subnet longer than IPv4", "long.demo.test +ednsopt=8:00012100df05050500", []string{"status: FORMERR"}, nil},
		{"empty subnet", "long.demo.test +ednsopt=8:", []string{"status: FORMERR"}, nil},
		{"two subnets", "long.demo.test +ednsopt=8:00011800df0505 +ednsopt=8:00011800df0505", []string{"status: FORMERR"}, nil},
		{"NSID", "long.demo.test +nsid", []string{"NSID: 64 6e 73 2d 31", "ANSWER: 3"}, nil},
		{"NSID and subnet and cookie", "long.demo.test +nsid +subnet=223.5.5.0/24 +cookie=0102030405060708", []string{"NSID:", "/24/24", "COOKIE: 010203040506070801000000", "(good)"}, nil},
		{"cookie", "long.demo.test +cookie=0102030405060708", []string{"COOKIE: 010203040506070801000000", "(good)", "ANSWER: 3"}, []string{"NSID"}},
		{"cookie of a wrong length", "long.demo.test +ednsopt=10:010203", []string{"status: FORMERR"}, nil},
		{"version is hidden", "version.bind CH TXT", []string{"status: REFUSED", "EDE: 18 (Prohibited)"}, []string{"homing", "Homing"}},
		{"why outside", "example.com", []string{"EDE: 20 (Not Authoritative)"}, nil},
		{"DO is echoed", "long.demo.test +dnssec", []string{"flags: do;"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := h.dig(t, strings.Fields(c.args)...)
			squeezed := squeeze(out)
			for _, want := range c.want {
				if !strings.Contains(squeezed, squeeze(want)) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			for _, never := range c.never {
				if strings.Contains(squeezed, squeeze(never)) {
					t.Errorf("%q in:\n%s", never, out)
				}
			}
		})
	}
}

// squeeze makes one blank of any run of blanks and tabs, which dig aligns by.
func squeeze(s string) string {
	lines := strings.SplitAfter(s, "\n")
	for i, line := range lines {
		end := ""
		if strings.HasSuffix(line, "\n") {
			end = "\n"
		}
		lines[i] = strings.Join(strings.Fields(line), " ") + end
	}
	return strings.Join(lines, "")
}

// On a wildcard address the answer comes from where the question went: dig says
// so when it does not, and waits in vain.
func TestDigAtWildcard(t *testing.T) {
	h := start(t)
	for _, c := range []struct{ listen, ask string }{{"0.0.0.0:0", "127.0.0.5"}, {"[::]:0", "127.0.0.5"}, {"[::]:0", "::1"}} {
		s, err := New(Options{View: h.view.Load, Health: h.o.Health, Geo: h.geo, Listen: []string{c.listen}})
		if err != nil {
			t.Logf("%s: %v", c.listen, err) // a machine without IPv6
			continue
		}
		s.Start()
		out, err := exec.Command("dig", "@"+c.ask, "-p", strconv.Itoa(int(s.Addrs()[0].Port())), "+tries=1", "+time=3", "long.demo.test").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "127.2.0.1") || strings.Contains(string(out), "unexpected source") {
			t.Errorf("%s asked at %s: %v\n%s", c.listen, c.ask, err, out)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
