package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// The world of deploy/, as a client and an operator know it.
const (
	deployedZone    = "im.test"
	deployedDNS     = "127.0.20.1"
	deployedHTTPDNS = "http://127.0.20.1:7080"
)

var (
	deployedLong = map[string]string{"sh": "127.0.1.1:7100", "hk": "127.0.2.1:7100", "ca": "127.0.3.1:7100"}
	deployedPOPs = []string{"127.0.11.1", "127.0.11.2", "127.0.12.1", "127.0.12.2", "127.0.13.1", "127.0.13.2"}
)

// asker is a client that asks where to connect.
type asker struct {
	uin     uint64 // 0 is a newcomer
	version uint32
	ip      netip.Addr
	home    string // of the UIN's segment; empty when it is in none
}

func (a asker) String() string {
	return fmt.Sprintf("UIN %d, version %d, from %s", a.uin, a.version, a.ip)
}

func (a asker) name() string {
	n := "long." + deployedZone
	if a.version != 0 {
		n = fmt.Sprintf("v-%d.%s", a.version, n)
	}
	if a.uin != 0 {
		n = fmt.Sprintf("u-%d.%s", a.uin, n)
	}
	return n
}

func (a asker) query() string {
	q := url.Values{"host": {"long." + deployedZone}, "ip": {a.ip.String()}}
	if a.version != 0 {
		q.Set("ver", fmt.Sprint(a.version))
	}
	if a.uin != 0 {
		q.Set("uin", fmt.Sprint(a.uin))
	}
	return q.Encode()
}

// subnet is the client's address as a resolver tells it.
func (a asker) subnet() string { return fmt.Sprintf("+subnet=%s/%d", a.ip, a.ip.BitLen()) }

// askers makes clients of all regions and of none, of networks that the demo
// database knows and of others.
func askers(t *testing.T, n int) []asker {
	t.Helper()
	r := mathrand.New(mathrand.NewPCG(7, 1000))
	known := networks(t)
	var all []asker
	for range n {
		a := asker{}
		if r.IntN(5) > 0 {
			p := known[r.IntN(len(known))]
			raw := p.Addr().AsSlice()
			for i := (p.Bits() + 7) / 8; i < len(raw); i++ {
				raw[i] = byte(r.Uint32())
			}
			a.ip, _ = netip.AddrFromSlice(raw)
		} else {
			a.ip = netip.AddrFrom4([4]byte{byte(1 + r.IntN(126)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}) // anywhere
		}
		if r.IntN(3) > 0 {
			a.version = []uint32{1, 79_999, 80_000, 80_003, 90_001}[r.IntN(5)]
		}
		switch r.IntN(10) {
		case 0, 1:
		case 2:
			a.uin = 9_000_000 + r.Uint64N(1_000_000) // in nobody's segment
		default:
			i := r.IntN(3)
			a.uin, a.home = uint64(i+1)*1_000_000+r.Uint64N(1_000_000), []string{"sh", "hk", "ca"}[i]
		}
		all = append(all, a)
	}
	return all
}

func networks(t *testing.T) []netip.Prefix {
	t.Helper()
	f, err := os.Open("../../../dns/geo/generate/networks.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := csv.NewReader(f)
	c.Comment, c.FieldsPerRecord = '#', -1
	rows, err := c.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []netip.Prefix
	for _, row := range rows {
		if p, err := netip.ParsePrefix(row[0]); err == nil {
			out = append(out, p)
		}
	}
	if len(out) < 100 {
		t.Fatalf("the demo database has %d networks", len(out))
	}
	return out
}

// direct is what HTTPDNS answers; the others are compared with it.
type direct struct {
	IPs       []string `json:"ips"`
	Endpoints []string `json:"endpoints"`
	POPs      []string `json:"pops"`
	Home      string   `json:"home"`
	Acting    string   `json:"acting"`
	TTL       int      `json:"ttl"`
}

func getJSON(t testing.TB, url string, into any) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %v in %.300s", url, err, b)
		}
	}
	return resp.StatusCode
}

// For a thousand clients DNS, HTTPDNS, explain, the POPs and the redirects of
// all regions give the same answer; when a POP has died they give the same
// answer again, and it is another one for those who were sent there.
func TestEveryoneAgrees(t *testing.T) {
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("dig is not installed (Debian: bind9-dnsutils)")
	}
	d := startDeployed(t)
	all := askers(t, 1000)
	pops := map[string]bool{"pop-1": true, "pop-2": true, "pop-3": true, "pop-4": true, "pop-5": true, "pop-6": true}
	before := d.agree(all, pops)

	d.kill("pop-1")
	pops["pop-1"] = false
	after := d.agree(all, pops)
	sent := 0
	for i, a := range all {
		if slices.Contains(after[i].POPs, "pop-1") || slices.Contains(after[i].Endpoints, "127.0.11.1:7100") {
			t.Errorf("%s is sent to the dead POP: %v", a, after[i])
		}
		same := slices.Equal(before[i].Endpoints, after[i].Endpoints)
		if slices.Contains(before[i].POPs, "pop-1") {
			sent++
			if same {
				t.Errorf("%s: %v did not change", a, after[i].Endpoints)
			}
		} else if !same {
			t.Errorf("%s was not sent to the dead POP, and its answer changed from %v to %v", a, before[i].Endpoints, after[i].Endpoints)
		}
	}
	t.Logf("%d of %d clients had been sent to the POP that died", sent, len(all))
	if sent < 50 {
		t.Errorf("only %d clients had been sent to the POP that died: it proves little", sent)
	}
	d.start("pop-1") // for the cleanup, which wants it running
	d.ready()
}

// observers are the nodes that steer, each by what it sees itself.
var observers = []string{"127.0.20.1:7400", "127.0.1.1:7400", "127.0.2.1:7400", "127.0.3.1:7400"}

// seen waits until every node that steers sees exactly these POPs up, and all
// regions.
func (d *deployed) seen(pops map[string]bool) {
	d.t.Helper()
	for _, admin := range observers {
		until(d.t, 2*time.Minute, fmt.Sprintf("%s sees the POPs %v", admin, pops), func() bool {
			m := metricsOf(d.t, admin)
			for p, up := range pops {
				if m[`homing_dns_health_up_bool{member="pop `+p+`"}`] == "1" != up {
					return false
				}
			}
			for r := range deployedLong {
				if m[`homing_dns_health_up_bool{member="region `+r+`"}`] != "1" {
					return false
				}
			}
			return true
		})
	}
}

// metricsOf reads an admin listener's metrics: value by name and labels.
func metricsOf(t testing.TB, admin string) map[string]string {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			out[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return out
}

// agree asks for every client in every way and returns what all of them said. A
// disagreement counts only when no observer changed its mind meanwhile: on a
// machine that is too busy a check fails now and then, and until all observers
// have seen it they may well say different things.
func (d *deployed) agree(all []asker, pops map[string]bool) []direct {
	d.t.Helper()
	for tries := 1; ; tries++ {
		d.seen(pops)
		from := d.healthChanges()
		answers, wrong := d.disagreements(all)
		if len(wrong) == 0 {
			return answers
		}
		if to := d.healthChanges(); from == to || tries == 5 {
			d.t.Fatalf("%d disagreements at try %d (%s to %s), the first: %s", len(wrong), tries, from, to, wrong[0])
		}
	}
}

// healthChanges counts how often each observer changed its mind.
func (d *deployed) healthChanges() string {
	var all []string
	for _, admin := range observers {
		changes, m := "", metricsOf(d.t, admin)
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if member, ok := strings.CutPrefix(name, "homing_dns_health_changes_total"); ok {
				changes += member + m[name] + " "
			}
		}
		all = append(all, admin+": "+changes)
	}
	return strings.Join(all, ", ")
}

// disagreements asks everybody about every client, and returns what HTTPDNS
// said and who said something else.
func (d *deployed) disagreements(all []asker) (answers []direct, wrong []string) {
	d.t.Helper()
	differ := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	answers = make([]direct, len(all))
	for i, a := range all {
		if status := getJSON(d.t, deployedHTTPDNS+"/d?"+a.query(), &answers[i]); status != http.StatusOK || len(answers[i].Endpoints) == 0 {
			d.t.Fatalf("%s: HTTPDNS says %d, %+v", a, status, answers[i])
		}
	}
	targets := dig(d.t, all)
	addresses := map[string]string{}
	redirects := d.redirects(all)
	for i, a := range all {
		want := answers[i]
		var overDNS []string
		for _, s := range targets[i] {
			if addresses[s.name] == "" {
				addresses[s.name] = digShort(d.t, s.name, "A")[0]
			}
			overDNS = append(overDNS, addresses[s.name]+":"+s.port)
		}
		if !slices.Equal(overDNS, want.Endpoints) {
			differ("%s: DNS says %v, HTTPDNS %v", a, overDNS, want.Endpoints)
		}
		if i%33 == 0 { // a process each
			if got := digShort(d.t, a.name(), "A", a.subnet()); !slices.Equal(got, want.IPs) {
				differ("%s: dig says %v, HTTPDNS %v", a, got, want.IPs)
			}
		}
		if x := d.explained(a); !slices.Equal(x.endpoints, want.Endpoints) || x.home != want.Home || x.acting != want.Acting || x.ttl != want.TTL {
			differ("%s: explain says %+v, HTTPDNS %+v", a, x, want)
		}
		if why := d.chosen(a, want); why != "" {
			differ("%s: %s", a, why)
		}
		if a.home != "" && !slices.Equal(redirects[i], want.Endpoints) {
			differ("%s: redirected to %v, HTTPDNS says %v", a, redirects[i], want.Endpoints)
		}
	}
	return answers, wrong
}

type explanation struct {
	endpoints    []string
	home, acting string
	ttl          int
}

func (d *deployed) explained(a asker) explanation {
	d.t.Helper()
	var x struct {
		Answer struct {
			Home, Acting string
			TTL          int
			Endpoints    []struct{ Address string }
		}
	}
	getJSON(d.t, deployedHTTPDNS+"/explain?"+a.query(), &x)
	e := explanation{home: x.Answer.Home, acting: x.Answer.Acting, ttl: x.Answer.TTL}
	for _, end := range x.Answer.Endpoints {
		e.endpoints = append(e.endpoints, end.Address)
	}
	return e
}

// chosen asks the first POP of the answer where it takes the user, and returns
// what is wrong with that.
func (d *deployed) chosen(a asker, want direct) string {
	d.t.Helper()
	pop := slices.IndexFunc(want.Endpoints, func(e string) bool { return slices.Contains(deployedPOPs, strings.Split(e, ":")[0]) })
	if a.uin == 0 || pop < 0 {
		return ""
	}
	var c struct{ Region string }
	admin := strings.Split(want.Endpoints[pop], ":")[0] + ":7400"
	status := getJSON(d.t, fmt.Sprintf("http://%s/choose?uin=%d", admin, a.uin), &c)
	switch {
	case a.home == "" && status != http.StatusNotFound:
		return fmt.Sprintf("the POP at %s says %d, %+v for a UIN of nobody", admin, status, c)
	case a.home != "" && (status != http.StatusOK || c.Region != want.Acting || want.Home != a.home):
		return fmt.Sprintf("the POP at %s takes them to %q (status %d), HTTPDNS says %q for home %q", admin, c.Region, status, want.Acting, want.Home)
	}
	return ""
}

type target struct{ name, port string }

// dig asks for all clients' SRV records with one process.
func dig(t testing.TB, all []asker) [][]target {
	t.Helper()
	var b strings.Builder
	for _, a := range all {
		fmt.Fprintf(&b, "@%s -p 7053 %s SRV %s +nocookie +noall +question +answer\n", deployedDNS, a.name(), a.subnet())
	}
	file := filepath.Join(t.TempDir(), "questions")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "dig", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("dig: %v\n%s", err, tail(out, 1000))
	}
	var answers [][]target
	srv := regexp.MustCompile(`^\S+\s+\d+\s+IN\s+SRV\s+(\d+) 0 (\d+) (\S+)\.$`)
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		switch m := srv.FindStringSubmatch(line); {
		case strings.HasPrefix(line, ";") && len(answers) < len(all) && strings.HasPrefix(line, ";"+all[len(answers)].name()+"."):
			answers = append(answers, nil)
		case m != nil && len(answers) > 0:
			last := &answers[len(answers)-1]
			if *last = append(*last, target{m[3], m[2]}); fmt.Sprint(len(*last)) != m[1] {
				t.Fatalf("dig: priorities are out of order: %s", line)
			}
		case line != "":
			t.Fatalf("dig says what was not asked for: %s", line)
		}
	}
	if len(answers) != len(all) {
		t.Fatalf("dig answered %d of %d questions", len(answers), len(all))
	}
	return answers
}

func digShort(t testing.TB, args ...string) []string {
	t.Helper()
	out, err := exec.Command("dig", append([]string{"@" + deployedDNS, "-p", "7053", "+short"}, args...)...).CombinedOutput()
	if err != nil || len(strings.Fields(string(out))) == 0 {
		t.Fatalf("dig %v: %v\n%s", args, err, out)
	}
	return strings.Fields(string(out))
}

// redirects lets every user of a region land in another one, through a POP, and
// returns where that region sends them.
func (d *deployed) redirects(all []asker) [][]string {
	d.t.Helper()
	out, errs := make([][]string, len(all)), make([]error, len(all))
	r := mathrand.New(mathrand.NewPCG(8, 1000))
	wrong, from := make([]string, len(all)), make([]string, len(all))
	for i, a := range all {
		others := slices.DeleteFunc([]string{"sh", "hk", "ca"}, func(id string) bool { return id == a.home })
		wrong[i], from[i] = others[r.IntN(2)], deployedPOPs[r.IntN(len(deployedPOPs))]
	}
	pool, err := pki.Pool(filepath.Join(d.dir, "tls", "ca.pem"))
	if err != nil {
		d.t.Fatal(err)
	}
	config := &tls.Config{RootCAs: pool, ServerName: "long." + deployedZone, MinVersion: tls.VersionTLS13, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	next := make(chan int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range next {
				out[i], errs[i] = redirect(config, deployedLong[wrong[i]], from[i], all[i])
			}
		})
	}
	for i, a := range all {
		if a.home != "" {
			next <- i
		}
	}
	close(next)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			d.t.Fatalf("%s in region %s: %v", all[i], wrong[i], err)
		}
	}
	return out
}

// redirect says HELLO to a region as a POP relays it: from the POP's address,
// behind a PROXY header with the client's.
func redirect(config *tls.Config, to, pop string, a asker) ([]string, error) {
	dialer := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(pop)}}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write(proxyHeader(a.ip)); err != nil {
		return nil, err
	}
	secured := tls.Client(conn, config)
	f, err := hello(secured, &v1.Hello{WireVersion: wire.Version, Uin: a.uin, ClientVersion: a.version, DeviceKeyId: make([]byte, 8), ConnectionId: random(16)})
	if err != nil {
		return nil, err
	}
	if f.Method != wire.Redirect || f.Flags != wire.FlagResponse {
		return nil, fmt.Errorf("answered %s, flags %#x: %v", f.Method, f.Flags, said(f))
	}
	m := new(v1.Redirect)
	if err := wire.Unmarshal(f, m); err != nil {
		return nil, err
	}
	if region.ID(m.Acting) != region.ID(a.home) {
		return nil, fmt.Errorf("redirected to region %s", m.Acting)
	}
	return m.Endpoints, nil
}

// hello sends HELLO and returns the answer.
func hello(conn net.Conn, h *v1.Hello) (wire.Frame, error) {
	w := wire.NewWriter(conn)
	if err := w.Message(wire.Hello, 0, 1, h); err != nil {
		return wire.Frame{}, err
	}
	if err := w.Flush(); err != nil {
		return wire.Frame{}, err
	}
	return wire.NewReader(conn).Next()
}

// said is the error in a frame, for people.
func said(f wire.Frame) *v1.Error {
	e := new(v1.Error)
	if f.Flags&wire.FlagError != 0 {
		_ = wire.Unmarshal(f, e)
	}
	return e
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// proxyHeader is a PROXY protocol header, version 2, for a TCP connection of
// ip (section 2.2 of its specification).
func proxyHeader(ip netip.Addr) []byte {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21")
	to := netip.MustParseAddr("127.0.0.1")
	family := byte(0x11)
	if ip.Is6() {
		to, family = netip.IPv6Loopback(), 0x21
	}
	b = append(b, family)
	b = binary.BigEndian.AppendUint16(b, uint16(2*ip.BitLen()/8+4))
	b = append(append(b, ip.AsSlice()...), to.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, 40000)
	return binary.BigEndian.AppendUint16(b, 7100)
}
