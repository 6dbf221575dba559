package authority

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
)

// secondary is a real name server that has its zones from this one.
type secondary struct{ address, port, dir, program string }

const secondaryPort = "5300"

// newSecondary chooses an address of its own (Linux has all of 127/8): on 127.0.0.1
// somebody may have the port by UDP or TCP at any moment.
func newSecondary(t *testing.T, program string) secondary {
	t.Helper()
	path := "/usr/sbin/" + program
	if _, err := exec.LookPath(path); err != nil {
		t.Skipf("%s is not installed (Debian: nsd, knot)", program)
	}
	return secondary{fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254)), secondaryPort, t.TempDir(), path}
}

func (s secondary) at() string { return net.JoinHostPort(s.address, s.port) }

// followNSD runs NSD until the test ends. How is AXFR, UDP, or empty for IXFR by TCP.
func (s secondary) followNSD(t *testing.T, h *harness, key TransferKey, how string, zones ...string) {
	t.Helper()
	config := `server:
  ip-address: ` + s.address + `
  port: ` + s.port + `
  username: ""
  zonesdir: "` + s.dir + `"
  database: ""
  pidfile: "` + s.dir + `/pid"
  xfrdfile: "` + s.dir + `/xfrd"
  xfrdir: "` + s.dir + `"
  zonelistfile: "` + s.dir + `/list"
  logfile: "` + s.dir + `/log"
remote-control:
  control-enable: no
key:
  name: "secondary.key."
  algorithm: hmac-sha256
  secret: "` + key.secret() + `"
`
	for _, zone := range zones {
		config += `zone:
  name: "` + zone + `"
  request-xfr: ` + how + ` ` + strings.ReplaceAll(h.Addrs()[0].String(), ":", "@") + ` secondary.key.
  allow-notify: 127.0.0.1 secondary.key.
  provide-xfr: 127.0.0.0/8 NOKEY
`
	}
	s.run(t, config, "-d", "-c")
}

// followKnot runs Knot DNS until the test ends, which asks for IXFR and is strict
// with what it gets.
func (s secondary) followKnot(t *testing.T, h *harness, key TransferKey, zones ...string) {
	t.Helper()
	config := `server:
  listen: ` + s.address + `@` + s.port + `
  rundir: "` + s.dir + `"
database:
  storage: "` + s.dir + `"
  journal-db-max-size: 16M
  timer-db-max-size: 16M
  kasp-db-max-size: 16M
  catalog-db-max-size: 16M
key:
  - id: secondary.key.
    algorithm: hmac-sha256
    secret: ` + key.secret() + `
remote:
  - id: primary
    address: ` + strings.ReplaceAll(h.Addrs()[0].String(), ":", "@") + `
    key: secondary.key.
acl:
  - id: told
    address: 127.0.0.1
    key: secondary.key.
    action: notify
  - id: shown
    address: 127.0.0.0/8
    action: transfer
log:
  - target: "` + s.dir + `/log"
    any: info
zone:
`
	for _, zone := range zones {
		config += `  - domain: ` + zone + `
    storage: "` + s.dir + `"
    master: primary
    acl: [told, shown]
`
	}
	s.run(t, config, "-c")
}

// run starts the program with a file of its configuration as the last argument.
func (s secondary) run(t *testing.T, config string, args ...string) {
	t.Helper()
	path := filepath.Join(s.dir, "config")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(s.program, append(args, path)...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	})
}

// says waits until its answer for a name has a text in it.
func (s secondary) says(t *testing.T, name string, qtype uint16, want string) {
	t.Helper()
	client := &dns.Client{Timeout: time.Second}
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if got, _, err := client.Exchange(m, s.at()); err == nil && len(got.Answer) > 0 && strings.Contains(got.Answer[0].String(), want) {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	t.Fatalf("the secondary does not say %s:\n%s", want, log)
}

// A real secondary follows: it is told of a new serial and fetches the zone.
func TestRealSecondary(t *testing.T) {
	other := newSecondary(t, "nsd")
	key := transferSecret(0)
	var set atomic.Pointer[static.Set]
	load := func(text string) {
		z, err := static.Parse("test.zone", text)
		if err != nil {
			t.Fatal(err)
		}
		s, err := static.NewSet(z)
		if err != nil {
			t.Fatal(err)
		}
		set.Store(s)
	}
	load(alone)
	h := startWith(t, func(o *Options) {
		o.Static, o.TransferKeys, o.Notify = set.Load, []TransferKey{key}, []string{other.at()}
	})
	other.followNSD(t, h, key, "AXFR", "corp.test")
	other.says(t, "www.corp.test.", dns.TypeA, "192.0.2.80")
	load(strings.NewReplacer(" 41 ", " 42 ", "192.0.2.80", "192.0.2.81").Replace(alone))
	other.says(t, "www.corp.test.", dns.TypeA, "192.0.2.81")
}

// signedZone is a signed world with a zone file, that may be transferred.
func signedZone(t *testing.T, more func(*Options)) (*harness, []*ecdsa.PrivateKey, TransferKey) {
	t.Helper()
	key := transferSecret(0)
	_, made := startSigned(t, 2)
	h := startWith(t, func(o *Options) {
		withZones(t, beside+"old DNAME corp.test.\nbelow.old A 192.0.2.1\n_sip._tcp SRV 1 2 5060 mail\n", alone)(o)
		o.Keys, o.TransferKeys = made, []TransferKey{key}
		more(o)
	})
	h.clock.Store(time.Now().UnixNano()) // validators have a clock of their own
	return h, made, key
}

// What is transferred of a signed zone is whole: every signature and the chain of
// names, as another program verifies them.
func TestTransferredZoneVerifies(t *testing.T) {
	if _, err := exec.LookPath("ldns-verify-zone"); err != nil {
		t.Skip("ldns-verify-zone is not installed (Debian: ldnsutils)")
	}
	h, _, key := signedZone(t, func(*Options) {})
	verify := func(records []byte) (string, error) {
		file := filepath.Join(t.TempDir(), "demo.test.zone")
		if err := os.WriteFile(file, records, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ldns-verify-zone", file).CombinedOutput()
		return string(out), err
	}
	zone := []byte(h.dig(t, "-y", "hmac-sha256:secondary.key:"+key.secret(), "demo.test", "AXFR", "+onesoa", "+nocmd", "+nocomments", "+nostats", "+noquestion", "+unknownformat"))
	zone, _, _ = bytes.Cut(zone, []byte("secondary.key.")) // what signs the transfer is no part of the zone
	for _, want := range []string{"long.demo.test.", "*.long.demo.test.", "pop-6.pop.demo.test.", "ns.child.demo.test.", "below.old.demo.test."} {
		if !bytes.Contains(zone, []byte("\n"+want+"\t")) {
			t.Errorf("lacks %s:\n%s", want, zone)
		}
	}
	if out, err := verify(zone); err != nil || !strings.Contains(out, "Zone is verified and complete") {
		t.Errorf("%v: %s\n%s", err, out, zone)
	}
	// That it can fail is part of the proof.
	const name = "pop-6.pop.demo.test."
	var without, forged []byte
	for line := range bytes.Lines(zone) {
		if !bytes.HasPrefix(line, []byte(name)) {
			without = append(without, line...)
		}
		if bytes.HasPrefix(line, []byte("mail.demo.test.")) {
			line = bytes.Replace(line, []byte("C0000219"), []byte("C000021A"), 1)
		}
		forged = append(forged, line...)
	}
	if bytes.Equal(forged, zone) || len(without) == len(zone) {
		t.Fatalf("nothing to take away or to change in\n%s", zone)
	}
	more := append(bytes.Clone(zone), "one-more.demo.test.\t20\tCLASS1\tTYPE1\t\\# 4 7F020001\n"...)
	for what, bad := range map[string][]byte{"without a name": without, "with another address": forged, "with one more name": more} {
		if out, err := verify(bad); err == nil {
			t.Errorf("a zone %s is verified: %s", what, out)
		}
	}
}

// A real secondary without any key answers so that a validator believes it; the
// serial moves with the hour, because signatures end.
func TestSignedSecondary(t *testing.T) {
	if _, err := exec.LookPath("delv"); err != nil {
		t.Skip("delv is not installed (Debian: bind9-dnsutils)")
	}
	other := newSecondary(t, "nsd")
	h, made, key := signedZone(t, func(o *Options) { o.Notify = []string{other.at()} })
	serial := h.serial(h.view.Load().World)
	other.followNSD(t, h, key, "AXFR", "demo.test")
	other.says(t, "demo.test.", dns.TypeSOA, fmt.Sprintf(" %d ", serial))
	for _, c := range []struct{ name, qtype, want string }{
		{"long.demo.test", "A", "; fully validated"},
		{"u-1000001.v-90003.long.demo.test", "SRV", "; fully validated"},
		{"short.demo.test", "HTTPS", "; fully validated"},
		{"demo.test", "DNSKEY", "; fully validated"},
		{"demo.test", "CDS", "; fully validated"},
		{"x.wild.demo.test", "TXT", "; fully validated"},
		{"pop-6.pop.demo.test", "A", "; negative response, fully validated"},
		{"pop.demo.test", "A", "; negative response, fully validated"},
		{"nobody.demo.test", "A", "; negative response, fully validated"},
		{"safe.demo.test", "DS", "; fully validated"},
	} {
		out, err := exec.Command("delv", "@"+other.address, "-p", other.port, "-a", anchor(t, made[0]), "+root=demo.test", c.name, c.qtype).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s %s: %v\n%s", c.name, c.qtype, err, out)
		}
	}
	h.clock.Add(int64(signEvery))
	if now := h.serial(h.view.Load().World); now != serial+1 {
		t.Errorf("serial %d after %d", now, serial)
	}
	other.says(t, "demo.test.", dns.TypeSOA, fmt.Sprintf(" %d ", serial+1))

	// Both paths say the serial that the secondaries are told.
	m := newMemory(h.Server)
	if !h.same(t, m, packet(t, head+qname+"001c 0001"), peer) {
		t.Error("no negative answer from memory")
	}
}
