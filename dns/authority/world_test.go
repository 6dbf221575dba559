package authority

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	shanghai = region.Place{City: "Shanghai", Country: "CN", Continent: "AS", Latitude: 31.23, Longitude: 121.47}
	hongkong = region.Place{City: "Hong Kong", Country: "HK", Continent: "AS", Latitude: 22.32, Longitude: 114.17}
	toronto  = region.Place{City: "Toronto", Country: "CA", Continent: "NA", Latitude: 43.65, Longitude: -79.38}
)

func serves(ip string) region.Endpoints {
	a := netip.MustParseAddr(ip)
	return region.Endpoints{Long: netip.AddrPortFrom(a, 7001), Short: netip.AddrPortFrom(a, 7002)}
}

// testWorld is the demo's shape: three regions, two POPs near each, and some
// rules. POP ca-2 has IPv6; nobody offers web.
func testWorld() *region.World {
	return &region.World{
		Version: 7, Name: "test", Zone: "demo.test", Partitions: 8,
		Regions: []region.Region{
			{ID: "sh", Place: shanghai, Backups: []region.ID{"hk", "ca"}, Acting: region.Acting{Region: "sh", Counter: 1}, Serves: serves("127.1.0.1")},
			{ID: "hk", Place: hongkong, Backups: []region.ID{"sh", "ca"}, Acting: region.Acting{Region: "hk", Counter: 1}, Serves: serves("127.1.0.2")},
			{ID: "ca", Place: toronto, Backups: []region.ID{"hk", "sh"}, Acting: region.Acting{Region: "ca", Counter: 1}, Serves: serves("127.1.0.3")},
		},
		POPs: []region.POP{
			{ID: "pop-1", Place: shanghai, Serves: serves("127.2.0.1")},
			{ID: "pop-2", Place: region.Place{City: "Beijing", Country: "CN", Continent: "AS", Latitude: 39.9, Longitude: 116.41}, Serves: serves("127.2.0.2")},
			{ID: "pop-3", Place: hongkong, Serves: serves("127.2.0.3")},
			{ID: "pop-4", Place: region.Place{City: "Singapore", Country: "SG", Continent: "AS", Latitude: 1.35, Longitude: 103.82}, Serves: serves("127.2.0.4")},
			{ID: "pop-5", Place: toronto, Serves: serves("127.2.0.5")},
			{ID: "pop-6", Place: region.Place{City: "Vancouver", Country: "CA", Continent: "NA", Latitude: 49.28, Longitude: -123.12}, Serves: serves("2001:db8::6")},
		},
		DNS:      []region.Node{{Name: "dns-1", Address: "127.3.0.1:5300"}, {Name: "dns-2", Address: "[2001:db8::53]:5300"}},
		Segments: []region.Segment{{First: 1_000_000, Last: 1_999_999, Home: "sh"}, {First: 2_000_000, Last: 2_999_999, Home: "hk"}, {First: 3_000_000, Last: 3_999_999, Home: "ca"}},
		Carriers: []region.Carrier{{Name: "cmcc", ASNs: []uint32{9808, 24400, 56040}}},
		Rules: []region.Rule{
			{Name: "beta", Match: region.Match{Versions: []region.VersionRange{{From: 90_000}}}, Act: region.Act{POPs: []region.POPID{"pop-3"}, TTL: 5}},
			{Name: "mobile", Match: region.Match{Carriers: []string{"cmcc"}}, Act: region.Act{POPs: []region.POPID{"pop-2"}, Regions: []region.ID{"sh"}}},
			{Name: "office", Match: region.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25")}}, Act: region.Act{Regions: []region.ID{"ca"}}},
		},
		Steering: region.Steering{TTL: 20, Answers: 3, AllDown: steer.Everything},
	}
}

// harness is a running server whose world and health a test can change.
type harness struct {
	*Server
	view   atomic.Pointer[region.View]
	health atomic.Pointer[steer.Health]
	geo    *geo.DB
	reg    *prometheus.Registry
	clock  atomic.Int64 // Unix time in nanoseconds, for cookies and rates
}

// testClock is the time at which a harness starts, and stays.
const testClock = 1_800_000_000 * time.Second

func (h *harness) setHealth(x steer.Health) { h.health.Store(&x) }

func start(t testing.TB) *harness {
	t.Helper()
	return startWith(t, func(*Options) {})
}

func startWith(t testing.TB, change func(*Options)) *harness {
	t.Helper()
	h := &harness{reg: prometheus.NewRegistry()}
	h.view.Store(region.NewView(testWorld(), region.Hash{1}, nil))
	h.setHealth(steer.AllUp)
	db, err := geo.Open(geo.Options{Files: []string{geo.EmbeddedDemo}, View: h.view.Load})
	if err != nil {
		t.Fatal(err)
	}
	h.geo = db
	o := Options{
		View: h.view.Load, Health: func() steer.Health { return *h.health.Load() }, Geo: db,
		Listen: []string{"127.0.0.1:0"}, HTTP: []string{"127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler), Registry: h.reg,
	}
	change(&o)
	if h.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	h.clock.Store(int64(testClock))
	h.now = func() time.Time { return time.Unix(0, h.clock.Load()) }
	h.Start()
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// count is the value of the counter with these labels, as "name{a,b}".
func (h *harness) count(t *testing.T, series string) float64 {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if f.GetName()+"{"+strings.Join(labels, ",")+"}" == series {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
