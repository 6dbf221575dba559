package authority

import (
	"context"
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

// A key is rolled while the zone is served. After each step the real delv
// validates by every DS that the parent, or a cache, can have by then; signatures
// that a cache may still have are covered by a key that is published; and CDS asks
// for just the keys that are to stay. A step that comes too early is refused.
func TestRollover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	began := time.Now()
	ring, err := NewKeyRing(dir, "demo.test", began)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeyRing(dir, "demo.test", began); region.KindOf(err) != region.Conflict {
		t.Error("a second beginning:", err)
	}
	h := startWith(t, func(o *Options) { o.Keys, o.Retiring = ring.Serving() })
	h.clock.Store(began.UnixNano())
	old := ring.Keys[0].Tag
	ds := map[uint16]string{}
	remember := func() {
		for _, key := range ring.of(KeyActive, KeyNew, KeyOld) {
			record, _ := DNSKEY("demo.test", &key.PublicKey)
			ds[record.KeyTag()] = record.ToDS(dns.SHA256).Digest
		}
	}
	remember()
	cached := h.signatures(t, "long.demo.test.")
	serve := func(step string, asked []uint16, validBy ...uint16) {
		t.Helper()
		reread, err := LoadKeyRing(dir) // as a node does on SIGHUP
		if err != nil {
			t.Fatal(step, err)
		}
		if err := h.SetKeys(reread.Serving()); err != nil {
			t.Fatal(step, err)
		}
		remember()
		var got []uint16
		for _, rr := range h.exchange(t, "tcp", question("demo.test.", dns.TypeCDS, netip.Prefix{})).Answer {
			got = append(got, rr.(*dns.CDS).KeyTag)
		}
		keys := h.exchange(t, "tcp", question("demo.test.", dns.TypeCDNSKEY, netip.Prefix{})).Answer
		if slices.Sort(got); !slices.Equal(got, asked) || len(keys) != len(asked) {
			t.Errorf("%s: CDS asks for %v and CDNSKEY for %d, want %v", step, got, len(keys), asked)
		}
		for _, tag := range validBy {
			h.validate(t, step, tag, ds[tag])
		}
	}
	sorted := func(tags ...uint16) []uint16 { slices.Sort(tags); return tags }

	serve("at first", []uint16{old}, old)
	if err := ring.Switch(began, nil, false); region.KindOf(err) != region.Conflict {
		t.Error("a switch without a new key:", err)
	}
	if err := ring.Start(began); err != nil {
		t.Fatal(err)
	}
	fresh := ring.Keys[1].Tag
	serve("published", sorted(old, fresh), old, fresh)
	if err := ring.Start(began); region.KindOf(err) != region.Conflict {
		t.Error("a second start:", err)
	}
	for _, early := range []struct {
		at time.Duration
		ds []uint16
	}{{keyLead - time.Minute, []uint16{old, fresh}}, {2 * keyLead, []uint16{old}}} {
		if err := ring.Switch(began.Add(early.at), early.ds, false); region.KindOf(err) != region.Unavailable {
			t.Errorf("switch after %s with %v: %v", early.at, early.ds, err)
		}
	}
	switched := began.Add(2 * keyLead)
	if err := ring.Switch(switched, []uint16{old, fresh}, false); err != nil {
		t.Fatal(err)
	}
	serve("switched", []uint16{fresh}, old, fresh)
	now := h.signatures(t, "long.demo.test.")
	if cached[0].KeyTag != old || now[0].KeyTag != fresh {
		t.Errorf("signed by %d, then by %d", cached[0].KeyTag, now[0].KeyTag)
	}
	published := h.exchange(t, "tcp", question("demo.test.", dns.TypeDNSKEY, netip.Prefix{})).Answer
	if !slices.ContainsFunc(published, func(rr dns.RR) bool { return rr.(*dns.DNSKEY).KeyTag() == old }) {
		t.Error("nobody can check the signatures that caches still have")
	}
	for _, early := range []struct {
		at time.Duration
		ds []uint16
	}{{KeyLinger - time.Minute, []uint16{fresh}}, {2 * KeyLinger, []uint16{old, fresh}}, {2 * KeyLinger, nil}} {
		if err := ring.Finish(switched.Add(early.at), early.ds, false); region.KindOf(err) != region.Unavailable {
			t.Errorf("finish after %s with %v: %v", early.at, early.ds, err)
		}
	}
	if err := ring.Finish(switched.Add(2*KeyLinger), []uint16{fresh}, false); err != nil {
		t.Fatal(err)
	}
	serve("finished", []uint16{fresh}, fresh)
	if files, _ := filepath.Glob(filepath.Join(dir, "*.pem")); len(files) != 1 {
		t.Error(files)
	}
	if err := h.SetKeys(nil, nil); region.KindOf(err) != region.BadInput {
		t.Error("unsigned while it is served:", err)
	}
}

// signatures are those of an A answer.
func (h *harness) signatures(t *testing.T, name string) (out []*dns.RRSIG) {
	t.Helper()
	m := question(name, dns.TypeA, netip.Prefix{})
	m.SetEdns0(maxUDP, true)
	for _, rr := range h.exchange(t, "tcp", m).Answer {
		if sig, ok := rr.(*dns.RRSIG); ok {
			out = append(out, sig)
		}
	}
	if len(out) == 0 {
		t.Fatal("not signed")
	}
	return out
}

// validate asks the real delv, which trusts one DS and nothing else.
func (h *harness) validate(t *testing.T, step string, tag uint16, digest string) {
	t.Helper()
	if _, err := exec.LookPath("delv"); err != nil {
		t.Log("delv is not installed (Debian: bind9-dnsutils)")
		return
	}
	anchor := filepath.Join(t.TempDir(), "anchor")
	if err := os.WriteFile(anchor, []byte(fmt.Sprintf("trust-anchors { demo.test. static-ds %d 13 2 %q; };\n", tag, digest)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{{"long.demo.test", "; fully validated"}, {"nobody.demo.test", "; negative response, fully validated"}} {
		out, err := exec.Command("delv", "@127.0.0.1", "-p", strconv.Itoa(int(h.Addrs()[0].Port())), "-a", anchor, "+root=demo.test", c.name, "A").CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s, by the DS of %d: %v\n%s", step, tag, err, out)
		}
	}
}

// The parent's DS records are read from a resolver; one that does not answer is
// named.
func TestParentDS(t *testing.T) {
	h, _ := startSigned(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// The zone itself answers for its DS that there is none.
	if tags, err := ParentDS(ctx, h.Addrs()[0].String(), "demo.test"); err != nil || len(tags) != 0 {
		t.Error(tags, err)
	}
	if _, err := ParentDS(ctx, h.Addrs()[0].String(), "example.com"); region.KindOf(err) != region.Unavailable || !strings.Contains(err.Error(), "REFUSED") {
		t.Error(err)
	}
}

// A folder that is not as it was made is refused.
func TestBadKeyRing(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"no folder": os.RemoveAll,
		"no key":    func(dir string) error { return removeAll(filepath.Join(dir, "*.pem")) },
		"no JSON":   func(dir string) error { return os.WriteFile(filepath.Join(dir, keyRingFile), []byte("x"), 0o600) },
		"no active key": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, keyRingFile), []byte(`{"zone":"demo.test","keys":[]}`), 0o600)
		},
		"unknown field": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, keyRingFile), []byte(`{"zone":"demo.test","key":[]}`), 0o600)
		},
		"another's keys": func(dir string) error {
			other := filepath.Join(dir, "other")
			if _, err := NewKeyRing(other, "demo.test", time.Now()); err != nil {
				return err
			}
			from, _ := filepath.Glob(filepath.Join(other, "*.pem"))
			to, _ := filepath.Glob(filepath.Join(dir, "*.pem"))
			return os.Rename(from[0], to[0])
		},
	} {
		dir := filepath.Join(t.TempDir(), "keys")
		if _, err := NewKeyRing(dir, "demo.test", time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeyRing(dir); region.KindOf(err) != region.BadInput {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func removeAll(pattern string) error {
	files, err := filepath.Glob(pattern)
	for _, f := range files {
		_ = os.Remove(f)
	}
	return err
}
