package authority

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// copied is the naive twin of a secondary: what it has of a zone, by wire form.
type copied struct {
	serial  uint32
	records map[string]dns.RR
}

// take does what RFC 1995 section 4 says with an answer, strictly: what is not
// there cannot be removed, what is there cannot be added.
func (c *copied) take(t *testing.T, answer []dns.RR) {
	t.Helper()
	newest := answer[0].(*dns.SOA)
	if len(answer) == 1 {
		if c.serial != newest.Serial {
			t.Fatalf("nothing but the SOA %d for who has %d", newest.Serial, c.serial)
		}
		return
	}
	if last, ok := answer[len(answer)-1].(*dns.SOA); !ok || last.Serial != newest.Serial {
		t.Fatalf("ends with %s", answer[len(answer)-1])
	}
	answer = answer[1 : len(answer)-1]
	if first, ok := answer[0].(*dns.SOA); !ok || first.Serial == newest.Serial {
		c.serial, c.records = newest.Serial, wires(answer)
		return
	}
	for len(answer) > 0 {
		if from := answer[0].(*dns.SOA); from.Serial != c.serial {
			t.Fatalf("a step from %d for who has %d", from.Serial, c.serial)
		}
		adding := false
		for answer = answer[1:]; len(answer) > 0; answer = answer[1:] {
			if soa, ok := answer[0].(*dns.SOA); ok {
				if adding {
					break
				}
				adding, c.serial = true, soa.Serial
				continue
			}
			for wire, rr := range wires(answer[:1]) {
				if _, there := c.records[wire]; there == adding {
					t.Fatalf("%s: adding %v, there %v", rr, adding, there)
				}
				if adding {
					c.records[wire] = rr
				} else {
					delete(c.records, wire)
				}
			}
		}
	}
}

func soaRecord(serial uint32) *dns.SOA {
	return &dns.SOA{Hdr: header("corp.test.", dns.TypeSOA, 60), Ns: "ns1.corp.test.", Mbox: "hostmaster.corp.test.", Serial: serial}
}

// Whoever has an edition that was handed out has the newest after one answer, or is
// given the whole zone; never more bytes than that, and never more than may be kept.
func TestHistoryLeadsToTheNewest(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	changes, zones := 0, 0
	for round := range 16 {
		var h history
		var copies []copied
		serial, names := uint32(r.Uint32()), map[int]int{}
		most := []int{30, 30, 30, 250}[round%4]
		for i := range 2 + r.IntN(most) {
			names[i] = i
		}
		for range 40 + keptSteps*(round%2) {
			again := false
			switch r.IntN(20) {
			case 0:
				again = true // other records under the serial of before
			case 1:
				serial -= r.Uint32N(5) // somebody has restored an old file
			case 2:
				serial += 1 << 31 // behind by more than half of all numbers
			default:
				serial += 1 + r.Uint32N(3)
			}
			for range r.IntN(4) + r.IntN(50)/49*4*most {
				switch at := r.IntN(most); r.IntN(3) {
				case 0:
					delete(names, at)
				default:
					names[at] = r.IntN(1 << 16)
				}
			}
			if h.newest != nil {
				last := h.newest.soa().(*dns.SOA).Serial
				if again {
					serial = last
				}
				if serial != last && !older(last, serial) {
					copies = nil // the serial went back: no secondary follows until it is made to
				}
			}
			records := []dns.RR{soaRecord(serial)}
			for _, n := range slices.Sorted(maps.Keys(names)) {
				at := netip.AddrFrom4([4]byte{192, 0, byte(names[n] >> 8), byte(names[n])})
				records = append(records, addresses(fmt.Sprintf("host-%d.corp.test.", n), 60, dns.TypeA, []netip.Addr{at})...)
			}
			h = h.advance(&edition{records: records, size: sizeOf(records)})
			size := 0
			for _, s := range h.steps {
				size += s.size
			}
			if len(h.steps) > keptSteps || size > max(h.newest.size, oneAnswer) {
				t.Fatalf("%d steps of %d bytes are kept for a zone of %d", len(h.steps), size, h.newest.size)
			}
			now := wires(records[1:])
			// Everybody who had it before asks by their serial.
			for i := range copies {
				answer, what := h.since(copies[i].serial)
				if len(answer) == 1 && !same(copies[i].records, now) {
					continue // has the newest serial, or one that came after it, with other records: cannot be known
				}
				c := copied{serial: copies[i].serial, records: maps.Clone(copies[i].records)}
				if c.take(t, answer); !same(c.records, now) {
					t.Fatalf("%s: who had serial %d has another zone than serial %d", what, copies[i].serial, serial)
				}
				switch what {
				case transferredChanges:
					changes++
					if got := sizeOf(answer); got > max(h.newest.size, oneAnswer)+2*dns.Len(answer[0]) {
						t.Fatalf("changes of %d bytes in a zone of %d", got, h.newest.size)
					}
				case transferredZone:
					zones++
				}
			}
			copies = append(copies, copied{serial: serial, records: now})
			copies = copies[max(0, len(copies)-4):]
		}
	}
	if changes < 500 || zones < 300 {
		t.Errorf("%d answers were changes, %d the zone", changes, zones)
	}
}

// same compares records by what they are on the wire.
func same(a, b map[string]dns.RR) bool {
	return maps.EqualFunc(a, b, func(dns.RR, dns.RR) bool { return true })
}

// zoneOf lists a zone as a server transfers it, sorted.
func zoneOf(t *testing.T, address, zone string, key *TransferKey) []string {
	t.Helper()
	m := new(dns.Msg)
	m.SetAxfr(dns.Fqdn(zone))
	tr := &dns.Transfer{DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second}
	if key != nil {
		m.SetTsig(key.Name, dns.HmacSHA256, 300, time.Now().Unix())
		tr.TsigSecret = map[string]string{key.Name: key.secret()}
	}
	in, err := tr.In(m, address)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for e := range in {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			out = append(out, rr.String())
		}
	}
	slices.Sort(out)
	return out
}

// changing is a server with a zone file of many names and a signed world, both of
// which a test changes.
type changing struct {
	*harness
	key   TransferKey
	files atomic.Pointer[static.Set]
}

func (c *changing) load(t *testing.T, serial int, address string) {
	t.Helper()
	text := strings.NewReplacer(" 41 ", " "+strconv.Itoa(serial)+" ", "192.0.2.80", address).Replace(alone)
	for i := range 200 {
		if i != serial {
			text += fmt.Sprintf("host-%d A 192.0.2.1\n", i)
		}
	}
	z, err := static.Parse("test.zone", text)
	if err != nil {
		t.Fatal(err)
	}
	set, err := static.NewSet(z)
	if err != nil {
		t.Fatal(err)
	}
	c.files.Store(set)
}

func startChanging(t *testing.T, notify string) *changing {
	t.Helper()
	c := &changing{key: transferSecret(0)}
	c.load(t, 41, "192.0.2.80")
	_, made := startSigned(t, 1)
	c.harness = startWith(t, func(o *Options) {
		o.Static, o.TransferKeys, o.Keys = c.files.Load, []TransferKey{c.key}, made
		if notify != "" {
			o.Notify = []string{notify}
		}
	})
	return c
}

// nextWorld has one POP less, and answers that follow.
func (c *changing) nextWorld() {
	w := testWorld()
	w.Version++
	w.POPs = w.POPs[1:]
	w.Rules = nil
	c.view.Store(region.NewView(w, region.Hash{2}, nil))
}

// Real secondaries fetch a zone once and then what changes in it, and have the very
// same zone in the end: of a file, and of a signed world.
func TestIncrementalSecondaries(t *testing.T) {
	for _, with := range []struct{ name, program, how string }{{"nsd", "nsd", ""}, {"nsd by UDP", "nsd", "UDP"}, {"knot", "knotd", ""}} {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			other := newSecondary(t, with.program)
			c := startChanging(t, other.at())
			if with.program == "knotd" {
				other.followKnot(t, c.harness, c.key, "corp.test", "demo.test")
			} else {
				other.followNSD(t, c.harness, c.key, with.how, "corp.test", "demo.test")
			}
			signed := c.serial(c.view.Load().World)
			other.says(t, "www.corp.test.", dns.TypeA, "192.0.2.80")
			other.says(t, "demo.test.", dns.TypeSOA, fmt.Sprintf(" %d ", signed))
			c.load(t, 42, "192.0.2.81")
			other.says(t, "www.corp.test.", dns.TypeA, "192.0.2.81")
			c.load(t, 43, "192.0.2.82")
			c.nextWorld()
			other.says(t, "www.corp.test.", dns.TypeA, "192.0.2.82")
			other.says(t, "demo.test.", dns.TypeSOA, fmt.Sprintf(" %d ", signed+1))
			for _, zone := range []string{"corp.test", "demo.test"} {
				ours, theirs := zoneOf(t, c.Addrs()[0].String(), zone, &c.key), zoneOf(t, other.at(), zone, nil)
				if !slices.Equal(ours, theirs) {
					t.Errorf("%s: the secondary has\n%s\nwant\n%s", zone, strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
				}
			}
			// Both zones were fetched whole once, and twice by this test.
			changes, whole := c.count(t, "homing_dns_transfers_total{changes}"), c.count(t, "homing_dns_transfers_total{zone}")
			if changes < 3 || whole != 4 {
				t.Errorf("%v transfers of changes, %v of a zone", changes, whole)
			}
		})
	}
}

// What dig is told by TCP and by UDP.
func TestIncrementalByDig(t *testing.T) {
	c := startChanging(t, "")
	sig := "hmac-sha256:secondary.key:" + c.key.secret()
	ask := func(want string, args ...string) string {
		t.Helper()
		out := c.dig(t, append([]string{"-y", sig}, args...)...)
		if !strings.Contains(out, want) || strings.Contains(out, "; Couldn't verify signature") {
			t.Errorf("%s lacks %q:\n%s", args, want, out)
		}
		return out
	}
	ask("XFR size: 1 records", "corp.test", "IXFR=41")
	ask("XFR size: 204 records", "corp.test", "IXFR=40")
	c.load(t, 42, "192.0.2.81")
	ask("XFR size: 1 records", "corp.test", "IXFR=42")
	// Between two SOA records: SOA 41, the old address, what 42 has no more; SOA 42, the new address, what 41 had not.
	for _, how := range []string{"+tcp", "+notcp"} {
		out := ask("IN\tA\t192.0.2.81", "corp.test", "IXFR=41", how)
		if strings.Count(out, "\tSOA\t") != 4 || strings.Count(out, "\tA\t") != 4 || !strings.Contains(out, "192.0.2.80") || !strings.Contains(out, "host-42.") {
			t.Errorf("%s:\n%s", how, out)
		}
	}
	// A signed world's changes do not fit a packet: the SOA says that there are some.
	since := fmt.Sprintf("IXFR=%d", c.serial(c.view.Load().World))
	ask("XFR size: 1 records", "demo.test", since)
	c.nextWorld()
	ask("demo.test.\t\t20\tIN\tSOA", "demo.test", since, "+notcp")
	if n := c.count(t, "homing_dns_transfers_total{nothing}"); n != 4 {
		t.Errorf("%v times nothing was transferred", n)
	}
	for _, key := range []string{"", base64.StdEncoding.EncodeToString([]byte("a secret of somebody else, 32 byte"))} {
		m := new(dns.Msg)
		m.SetIxfr("corp.test.", 41, "ns1.corp.test.", "hostmaster.corp.test.")
		client := &dns.Client{Timeout: 5 * time.Second}
		if key != "" {
			m.SetTsig(c.key.Name, dns.HmacSHA256, 300, time.Now().Unix())
			client.TsigSecret = map[string]string{c.key.Name: key}
		}
		if got, _, err := client.Exchange(m, c.Addrs()[0].String()); got == nil || got.Rcode != dns.RcodeRefused || len(got.Answer) > 0 {
			t.Errorf("with key %q: %v\n%s", key, err, got)
		}
	}
}

// Nodes with the same world and key have the same signed zone, to the byte, also
// while they see different health.
func TestTransfersAgree(t *testing.T) {
	_, made := startSigned(t, 2)
	var zones [][]string
	for i := range 2 {
		key := transferSecret(0)
		h := startWith(t, func(o *Options) {
			o.Keys, o.TransferKeys = made, []TransferKey{key}
			if i == 1 {
				o.Health = func() steer.Health { return nobodyUp{} }
			}
		})
		zones = append(zones, zoneOf(t, h.Addrs()[0].String(), "demo.test", &key))
	}
	if !slices.Equal(zones[0], zones[1]) {
		t.Errorf("%s\nand\n%s", strings.Join(zones[0], "\n"), strings.Join(zones[1], "\n"))
	}
}

type nobodyUp struct{}

func (nobodyUp) POP(region.POPID) bool { return false }
func (nobodyUp) Region(region.ID) bool { return false }
