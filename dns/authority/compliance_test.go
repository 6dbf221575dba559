package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/child"
)

// The tests of RFC 8906 section 8 and of the ISC's EDNS compliance list, with
// dig: what a server has to say to questions of forms that it may not know. The
// zone is signed, so that there are answers too large for 512 bytes.
func TestRFC8906(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := startWith(t, func(o *Options) { o.Keys, o.NSID = []*ecdsa.PrivateKey{key}, "dns-1" })
	const soa = "IN\tSOA\tns1.demo.test."
	const version0 = "; EDNS: version: 0"
	for _, c := range []struct {
		name  string
		args  string
		want  []string
		never []string
	}{
		{"8.1.1 name exists", "+noedns +noad +norec demo.test SOA", []string{"status: NOERROR", "flags: qr aa;", soa}, []string{"EDNS"}},
		{"8.1.2 unknown type", "+noedns +noad +norec demo.test TYPE1000", []string{"status: NOERROR", "flags: qr aa;", "ANSWER: 0"}, []string{"EDNS"}},
		{"8.1.3.1 CD", "+noedns +noad +norec +cd demo.test SOA", []string{"status: NOERROR", "flags: qr aa", soa}, []string{" ad"}},
		{"8.1.3.2 AD", "+noedns +norec +ad demo.test SOA", []string{"status: NOERROR", "flags: qr aa;", soa}, nil},
		{"8.1.3.3 reserved bit", "+noedns +noad +norec +zflag demo.test SOA", []string{"status: NOERROR", "flags: qr aa;", soa}, []string{"MBZ"}},
		{"8.1.3.4 RD", "+noedns +noad +rec demo.test SOA", []string{"status: NOERROR", "flags: qr aa rd;", soa}, []string{" ra;"}},
		{"8.1.4 unknown opcode", "+noedns +noad +norec +opcode=15 +header-only", []string{"status: NOTIMP", "opcode: RESERVED15", "flags: qr;"}, []string{"SOA"}},
		{"8.1.5 TCP", "+noedns +noad +norec +tcp demo.test SOA", []string{"status: NOERROR", "flags: qr aa;", soa, "(TCP)"}, nil},
		{"8.2.1 minimal EDNS", "+edns=0 +noad +norec demo.test SOA", []string{"status: NOERROR", "flags: qr aa;", soa, version0}, nil},
		{"8.2.2 EDNS version 1", "+edns=1 +noednsneg +noad +norec demo.test SOA", []string{"status: BADVERS", version0, "ANSWER: 0"}, []string{soa}},
		{"8.2.3 unknown option", "+edns=0 +noad +norec +ednsopt=100 demo.test SOA", []string{"status: NOERROR", soa, version0}, []string{"OPT=100"}},
		{"8.2.4 unknown flag", "+edns=0 +noad +norec +ednsflags=0x40 demo.test SOA", []string{"status: NOERROR", soa, version0}, []string{"MBZ"}},
		{"8.2.5 version 1, unknown flag", "+edns=1 +noednsneg +noad +norec +ednsflags=0x40 demo.test SOA", []string{"status: BADVERS", version0}, []string{"MBZ", soa}},
		{"8.2.6 version 1, unknown option", "+edns=1 +noednsneg +noad +norec +ednsopt=100 demo.test SOA", []string{"status: BADVERS", version0}, []string{"OPT=100", soa}},
		{"8.2.7 truncated", "+norec +dnssec +bufsize=512 +ignore ANY_DNSKEY", nil, nil},
		{"8.2.8 DO", "+edns=0 +noad +norec +dnssec demo.test SOA", []string{"status: NOERROR", soa, "flags: do", "RRSIG\tSOA"}, nil},
		{"8.2.9 version 1, DO", "+edns=1 +noednsneg +noad +norec +dnssec demo.test SOA", []string{"status: BADVERS", version0, "flags: do"}, []string{soa}},
		{"8.2.10 several options", "+edns=0 +noad +norec +cookie +nsid +expire +subnet=0.0.0.0/0 demo.test SOA", []string{"status: NOERROR", soa, version0, "COOKIE:", "NSID:", "CLIENT-SUBNET: 0.0.0.0/0/0"}, nil},
		{"cookie", "+edns=0 +noad +norec +cookie demo.test SOA", []string{"status: NOERROR", soa, "COOKIE: "}, nil},
		{"EDNS over TCP", "+edns=0 +noad +norec +tcp demo.test SOA", []string{"status: NOERROR", soa, version0, "(TCP)"}, nil},
		{"large answer over TCP", "+norec +dnssec +bufsize=512 +tcp demo.test DNSKEY", []string{"status: NOERROR", "IN\tDNSKEY", "RRSIG\tDNSKEY", version0}, []string{"flags: qr aa tc"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasSuffix(c.args, "ANY_DNSKEY") { // a name long enough that its denial is over 512 bytes
				long := strings.Repeat("a23456789012345678901234567890123456789012345678901234567890.", 3) + "demo.test"
				c.args = strings.Replace(c.args, "ANY_DNSKEY", long+" A", 1)
				c.want, c.never = []string{"flags: qr aa tc", version0, "flags: do"}, []string{"ANSWER: 1"}
			}
			out := h.dig(t, strings.Fields(c.args)...)
			if strings.Contains(c.args, "+cookie") {
				out = h.dig(t, append(strings.Fields(c.args), "+cookie")...)
			}
			flat := strings.Join(strings.Fields(out), " ")
			for _, want := range c.want {
				if !strings.Contains(flat, strings.Join(strings.Fields(want), " ")) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			for _, never := range c.never {
				if strings.Contains(answerOf(out), never) {
					t.Errorf("%q in\n%s", never, out)
				}
			}
		})
	}
}

// answerOf leaves out dig's first line, which repeats the arguments.
func answerOf(out string) string {
	_, rest, _ := strings.Cut(out, "Got answer:")
	return rest
}

// A real unbound caches by client subnet in front of the server. Nested networks
// are asked for in both orders, so that an answer kept for the wide one could be
// given to the narrow one and the other way: all are what the server itself says.
func TestUnboundCachesByScope(t *testing.T) {
	program, err := exec.LookPath("unbound")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/unbound"); err != nil {
			t.Skip("unbound is not installed (Debian: unbound)")
		}
	}
	networks := []string{"198.51.0.0/16", "198.51.100.0/24", "198.51.100.0/25", "198.51.100.64/26", "198.51.100.128/25", "198.51.100.200/32",
		"117.184.0.0/16", "117.184.3.0/24", "223.5.5.0/24", "223.5.0.0/16", "223.0.0.0/8", "99.230.0.0/16", "99.0.0.0/8"}
	reversed := slices.Clone(networks)
	slices.Reverse(reversed)
	for name, order := range map[string][]string{"wide first": networks, "narrow first": reversed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			at := unboundBefore(t, program, h)
			for round := range 2 { // the second is answered from the cache
				for _, network := range order {
					direct := shortAnswer(t, h.Addrs()[0].Port(), network)
					cached := shortAnswer(t, at, network)
					if direct != cached || direct == "" {
						t.Errorf("round %d: unbound says %q to %s, the server %q", round, cached, network, direct)
					}
				}
			}
		})
	}
}

// shortAnswer is the addresses that dig gets for a client's network.
func shortAnswer(t *testing.T, port uint16, network string) string {
	t.Helper()
	out, err := exec.Command("dig", "@127.0.0.1", "-p", strconv.Itoa(int(port)), "+short", "+tries=3", "+time=5", "+subnet="+network, "long.demo.test").CombinedOutput()
	if err != nil {
		t.Fatalf("dig: %v\n%s", err, out)
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines) // a resolver may turn them
	return strings.Join(lines, " ")
}

// unboundBefore runs unbound as the resolver of the server's zone and returns
// its port.
func unboundBefore(t *testing.T, program string, h *harness) uint16 {
	t.Helper()
	other := start(t) // its port is free for both transports once it is closed
	port := other.Addrs()[0].Port()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "unbound.conf")
	text := `server:
  verbosity: 1
  interface: 127.0.0.1
  port: ` + strconv.Itoa(int(port)) + `
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "` + dir + `"
  pidfile: ""
  use-syslog: no
  logfile: ""
  do-ip6: no
  num-threads: 1
  module-config: "subnetcache iterator"
  send-client-subnet: 127.0.0.1
  client-subnet-always-forward: yes
  max-client-subnet-ipv4: 32
  min-client-subnet-ipv4: 0
  do-not-query-localhost: no
  access-control: 127.0.0.0/8 allow
  local-zone: "test." nodefault
  rrset-roundrobin: no
stub-zone:
  name: demo.test
  stub-addr: 127.0.0.1@` + strconv.Itoa(int(h.Addrs()[0].Port())) + `
remote-control:
  control-enable: no
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program, "-d", "-c", config)
	cmd.Stdout, cmd.Stderr = log, log
	ended, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if exec.Command("dig", "@127.0.0.1", "-p", strconv.Itoa(int(port)), "+tries=1", "+time=1", "demo.test", "SOA").Run() == nil {
			return port
		}
		<-time.After(20 * time.Millisecond)
	}
	said, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Fatalf("unbound does not answer:\n%s", said)
	return 0
}
