package e2e

import (
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/cmd/homing/profile"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/ticket"
	"github.com/homing-im/homing/region/wire"
	"github.com/homing-im/homing/region/worldfile"
)

// hostile is a demo under attack: what it counts, and somebody who goes on.
type hostile struct {
	*world
	e    *endpoints.Endpoints
	tls  *tls.Config
	view *region.View
}

func startHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{world: startDemo(t)}
	h.hello("sh", "hk")
	h.must("homing user register --region sh --nickname Carol")
	h.e = h.endpoints()
	pool, err := pki.Pool(h.e.CACert)
	if err != nil {
		t.Fatal(err)
	}
	h.tls = &tls.Config{RootCAs: pool, ServerName: "long." + h.e.Zone, MinVersion: tls.VersionTLS13}
	genesis, err := worldfile.Directory{Dir: filepath.Dir(filepath.Dir(h.e.OperatorKey))}.Genesis()
	if err != nil {
		t.Fatal(err)
	}
	w, err := genesis.Signed.Decode()
	if err != nil {
		t.Fatal(err)
	}
	h.view = region.NewView(w, genesis.Signed.Hash(), nil)
	return h
}

func (h *hostile) profile(name string) *profile.Profile {
	h.t.Helper()
	p, err := profile.Load(h.dir, name)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// counted is the sum of an admin listener's counters that begin so.
func (h *hostile) counted(admin string, names ...string) float64 {
	h.t.Helper()
	sum := 0.0
	for name, v := range metricsOf(h.t, strings.TrimPrefix(admin, "http://")) {
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(name, n) }) {
			sum += number(h.t, v)
		}
	}
	return sum
}

// goesOn runs f while Alice chats over a long connection, and checks that she
// noticed nothing: one connection, and every message in Bob's inbox once.
func (h *hostile) goesOn(f func()) {
	h.t.Helper()
	c := exec.Command("bash", "-c", `i=0; while [ ! -e "$0" ]; do i=$((i+1)); echo "@bob word $i."; sleep 0.05; done | homing chat --as Alice`, filepath.Join(h.home, "enough"))
	c.Env = h.env()
	out := &lines{}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	stored := func() int { return strings.Count(out.String(), "  stored\n") }
	until(h.t, time.Minute, "Alice's first messages are stored", func() bool { return stored() > 3 })
	f()
	during := stored()
	until(h.t, time.Minute, "more of Alice's messages are stored", func() bool { return stored() > during+3 })
	h.must("touch " + h.home + "/enough")
	if err := c.Wait(); err != nil {
		h.t.Errorf("Alice's chat ended badly: %v", err)
	}
	if s := out.String(); strings.Count(s, "-- connected") != 1 || strings.Contains(s, "-- disconnected") || strings.Contains(s, "-- not sent") {
		h.t.Errorf("Alice was disturbed:\n%s", s)
	}
	n := stored()
	inbox := h.arrives("Bob", fmt.Sprintf("word %d.", n))
	for i := range n {
		if strings.Count(inbox, fmt.Sprintf(" word %d.\n", i+1)) != 1 {
			h.t.Errorf("word %d of %d is not once in Bob's inbox", i+1, n)
		}
	}
	h.t.Logf("Alice said %d words meanwhile", n)
}

// frame is a frame as somebody might forge it.
func frame(length uint32, method wire.Method, flags wire.Flags, body []byte) []byte {
	return append(wire.Header{Length: length, Method: method, Flags: flags, Sequence: 1}.Append(nil), body...)
}

func TestMalformedFrames(t *testing.T) {
	h := startHostile(t)
	pop, sh := h.e.POPs["pop-1"], h.e.Regions["sh"]
	alice := h.profile("Alice")
	body := func(m *v1.Hello) []byte {
		b, err := wire.AppendMessage(nil, wire.Hello, 0, 1, m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	id := make([]byte, 8)
	cases := []struct {
		name  string
		plain bool // no TLS around it
		bytes []byte
		said  bool // an error frame answers
	}{
		{"no TLS", true, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), false},
		{"a stranger's PROXY header", true, proxyHeader(netip.MustParseAddr("8.8.8.8")), false},
		{"a body of 4 GiB", false, frame(1<<32-1, wire.Hello, 0, nil), true},
		{"a first body over 8 KiB", false, frame(9<<10, wire.Hello, 0, make([]byte, 9<<10)), true},
		{"unknown flags", false, frame(0, wire.Hello, 0x8000, nil), true},
		{"a response from a client", false, frame(0, wire.Hello, wire.FlagResponse, nil), true},
		{"compressed", false, frame(0, wire.Hello, wire.FlagCompressed, nil), true},
		{"a request before HELLO", false, frame(0, wire.Send, 0, nil), true},
		{"no method of ours", false, frame(0, 999, 0, nil), true},
		{"HELLO that is no protobuf", false, frame(4, wire.Hello, 0, []byte{0xff, 0xff, 0xff, 0xff}), true},
		{"HELLO without anything", false, frame(0, wire.Hello, 0, nil), true},
		{"another wire version", false, body(&v1.Hello{WireVersion: 77, Uin: uint64(alice.UIN), DeviceKeyId: id, ConnectionId: random(16)}), true},
		{"a short connection ID", false, body(&v1.Hello{WireVersion: 1, Uin: uint64(alice.UIN), DeviceKeyId: id, ConnectionId: random(3)}), true},
		{"a UIN of nobody", false, body(&v1.Hello{WireVersion: 1, Uin: 9_999_999, DeviceKeyId: id, ConnectionId: random(16)}), true},
		{"half a header", false, []byte{0, 0, 0}, false},
		{"half a body", false, frame(100, wire.Hello, 0, []byte("half")), false},
	}
	h.goesOn(func() {
		for _, c := range cases {
			for where, to := range map[string]struct{ long, admin string }{"region sh": {sh.Long, sh.Admin}, "pop-1": {pop.Long, pop.Admin}} {
				names := []string{"homing_access_rejected_total", "homing_access_cut_off_total", "homing_pop_rejected_total"}
				all := func() float64 { return h.counted(to.admin, names...) + h.counted(sh.Admin, names...) }
				before := all()
				conn, err := net.DialTimeout("tcp", to.long, 30*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				raw := conn
				if !c.plain {
					conn = tls.Client(conn, h.tls)
				}
				_, _ = conn.Write(c.bytes)
				if !c.said {
					if half, ok := conn.(interface{ CloseWrite() error }); ok {
						_ = half.CloseWrite()
					}
					_, _ = io.Copy(io.Discard, conn) // until it closes
				} else {
					var f wire.Frame
					if f, err = wire.NewReader(conn).Next(); err == nil {
						if e := said(f); f.Flags&wire.FlagError == 0 || e.Message == "" || e.Code == uint32(region.Internal) {
							t.Errorf("%s to %s: answered %s %#x %v", c.name, where, f.Method, f.Flags, e)
						}
					} else {
						t.Errorf("%s to %s: no answer: %v", c.name, where, err)
					}
				}
				_ = raw.Close()
				if c.name == "a UIN of nobody" || c.name == "half a header" || c.name == "half a body" {
					continue // answered or gone, which is no attack to count
				}
				until(t, time.Minute, c.name+" to "+where+" is counted", func() bool { return all() > before })
			}
		}
	})
}

// Tickets that are expired, forged, somebody else's, or stolen without the
// device key open nothing, on no way in; every refusal is counted.
func TestBadTickets(t *testing.T) {
	h := startHostile(t)
	sh := h.e.Regions["sh"]
	alice, carol, bob := h.profile("Alice"), h.profile("Carol"), h.profile("Bob")
	claims, err := ticket.Verify(h.view, alice.Ticket, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := worldfile.Directory{Dir: filepath.Dir(filepath.Dir(h.e.OperatorKey))}.Key("region-sh")
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	mint := func(c ticket.Claims, key ed25519.PrivateKey) string {
		s, err := ticket.Mint(c, key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old := claims
	old.Issued, old.Expires = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	foreign := claims // a region that is no home of hers
	foreign.Issuer = "ca"
	keyID := func(k ed25519.PrivateKey) []byte {
		id := wire.KeyID(k.Public().(ed25519.PublicKey))
		return id[:]
	}
	cases := []struct {
		name, ticket string
		key          ed25519.PrivateKey // that proves
		reason       string             // on the long connection
		short        string             // on the short one, where the ticket says who asks; empty when that is nobody's loss
	}{
		{"none", "", alice.DeviceKey(), "no-ticket", "no-ticket"},
		{"rubbish", "v4.public.rubbish", alice.DeviceKey(), "bad-ticket", "bad-ticket"},
		{"expired", mint(old, key), alice.DeviceKey(), "bad-ticket", "bad-ticket"},
		{"forged", mint(claims, stranger), alice.DeviceKey(), "bad-ticket", "bad-ticket"},
		{"of a foreign region", mint(foreign, key), alice.DeviceKey(), "bad-ticket", "bad-ticket"},
		{"of another user", carol.Ticket, alice.DeviceKey(), "foreign-ticket", "bad-proof"},
		{"of a user of another region", bob.Ticket, alice.DeviceKey(), "foreign-ticket", ""},
		{"of another device", alice.Ticket, stranger, "foreign-device", "bad-proof"},
		{"stolen", alice.Ticket, stranger, "bad-proof", "bad-proof"},
	}
	h.goesOn(func() {
		for _, c := range cases {
			refused := func(way, reason string, f func() *v1.Error) {
				t.Helper()
				counter := `homing_access_rejected_total{reason="` + reason + `"}`
				before := h.counted(sh.Admin, counter)
				e := f()
				if e == nil || e.Code != uint32(region.Unauthenticated) || e.Message == "" || e.Hint == "" && c.name != "stolen" {
					t.Errorf("a ticket %s, %s: %v", c.name, way, e)
				}
				if after := h.counted(sh.Admin, counter); after != before+1 {
					t.Errorf("a ticket %s, %s: counted %v times as %s", c.name, way, after-before, reason)
				}
			}
			for way, long := range map[string]string{"long": sh.Long, "by a POP": h.e.POPs["pop-1"].Long} {
				refused(way, c.reason, func() *v1.Error {
					hello := &v1.Hello{WireVersion: wire.Version, Uin: uint64(alice.UIN), DeviceKeyId: keyID(c.key), Ticket: c.ticket, ConnectionId: random(16)}
					if c.name == "stolen" {
						hello.DeviceKeyId = keyID(alice.DeviceKey())
					}
					return h.enter(long, hello, c.key)
				})
			}
			if c.short == "" {
				continue // redirected there, before anything is proven: see below
			}
			refused("short", c.short, func() *v1.Error {
				body := []byte("{}")
				now := time.Now().UnixMilli()
				proof := ed25519.Sign(c.key, wire.RequestProof("/homing.v1.IM/Sync", now, alice.UIN, body))
				status, text := post(t, sh.Short+"/homing.v1.IM/Sync", "application/json", body, map[string]string{
					"Authorization": "Homing " + c.ticket, wire.ProofHeader: fmt.Sprintf("%d.%s", now, base64.StdEncoding.EncodeToString(proof)),
				})
				return connectError(t, status, text, http.StatusUnauthorized)
			})
		}
	})
	// A ticket in another region is answered with the way home, the one that
	// HTTPDNS knows.
	var home direct
	getJSON(t, h.e.HTTPDNS+"/d?host=short."+h.e.Zone+"&ip=127.0.0.1&uin="+bob.UIN.String(), &home)
	req, err := http.NewRequest(http.MethodPost, sh.Short+"/homing.v1.IM/Sync", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Homing "+bob.Ticket)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get(wire.RedirectHeader); resp.StatusCode != http.StatusBadRequest || len(home.Endpoints) == 0 || got != strings.Join(home.Endpoints, ",") {
		t.Errorf("Bob in sh is answered %s and sent to %q, want %v", resp.Status, got, home.Endpoints)
	}
	// The right ticket with the right key opens, so the test's own hand is steady.
	if e := h.enter(sh.Long, &v1.Hello{WireVersion: wire.Version, Uin: uint64(carol.UIN), DeviceKeyId: keyID(carol.DeviceKey()), Ticket: carol.Ticket, ConnectionId: random(16)}, carol.DeviceKey()); e != nil {
		t.Errorf("Carol's own ticket: %v", e)
	}
	// A body over 1 MiB, with and without a ticket.
	big := []byte(`{"nickname":"` + strings.Repeat("x", wire.MaxBody) + `"}`)
	for _, listener := range []string{sh.Short, h.e.POPs["pop-1"].Short} {
		status, text := post(t, listener+"/homing.v1.IM/Register", "application/json", big, nil)
		if status != http.StatusRequestEntityTooLarge && status != http.StatusTooManyRequests || !regexp.MustCompile(`1048576|1 MiB`).MatchString(text) {
			t.Errorf("a body of %d bytes to %s: %d %.300s", len(big), listener, status, text)
		}
	}
}

// enter goes through the handshake and returns the error that ends it.
func (h *hostile) enter(long string, m *v1.Hello, key ed25519.PrivateKey) *v1.Error {
	h.t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 30 * time.Second}, "tcp", long, h.tls)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	f, err := hello(conn, m)
	if err != nil {
		h.t.Fatal(err)
	}
	if f.Flags&wire.FlagError != 0 {
		return said(f)
	}
	reply := new(v1.HelloReply)
	if err := wire.Unmarshal(f, reply); err != nil {
		h.t.Fatal(err)
	}
	epoch, err := wire.EpochFromProto(reply.Epoch)
	if err != nil {
		h.t.Fatal(err)
	}
	w := wire.NewWriter(conn)
	err = errors.Join(w.Message(wire.Reauth, 0, 2, &v1.Reauth{Nonce: reply.Nonce,
		Signature: ed25519.Sign(key, wire.ConnectionProof(reply.Region, epoch, m.ConnectionId, reply.Nonce, region.UIN(m.Uin)))}), w.Flush())
	if err == nil {
		f, err = wire.NewReader(conn).Next()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if f.Flags&wire.FlagError != 0 {
		return said(f)
	}
	return nil
}

// connectError takes the Error out of a refusal of the short connection.
func connectError(t testing.TB, status int, text string, want int) *v1.Error {
	t.Helper()
	if status != want {
		t.Errorf("status %d, want %d: %s", status, want, text)
	}
	var refusal struct {
		Details []struct{ Type, Value string }
	}
	if err := json.Unmarshal([]byte(text), &refusal); err != nil || len(refusal.Details) == 0 || refusal.Details[0].Type != "homing.v1.Error" {
		t.Errorf("no Error in %s (%v)", text, err)
		return nil
	}
	b, err := base64.RawStdEncoding.DecodeString(refusal.Details[0].Value)
	e := new(v1.Error)
	if err == nil {
		err = proto.Unmarshal(b, e)
	}
	if err != nil {
		t.Error(err)
	}
	return e
}
