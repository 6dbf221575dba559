package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/keeper"
)

// Kinds of the server that this very program is for the bench.
const (
	kindDNS        = "dns"        // one worker
	kindDNS2       = "dns2"       // two workers
	kindSigned     = "signed"     // one worker, in a zone that is signed
	kindHTTP       = "http"       // HTTPDNS
	kindConstant   = "constant"   // a net/http handler that says always the same
	kindEcho       = "echo"       // packets go back as they came
	kindCollecting = "collecting" // one worker, and garbage collected every second
)

// startSelf starts this program as a server, with more variables in its environment.
func startSelf(kind string, o DNSOptions, variables ...string) func(dir string, at netip.AddrPort) (*child, error) {
	return func(_ string, at netip.AddrPort) (*child, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(self, "bench", "dns", "serve", "--kind", kind, "--listen", at.String(),
			"--rules", strconv.Itoa(o.Rules), "--overlay", strconv.Itoa(o.Overlay))
		processors := 1
		switch kind {
		case kindDNS, kindSigned, kindCollecting:
			processors = 1 + 1 // a worker that waits in the kernel keeps one: a node has one more than workers, too
		case kindDNS2:
			processors = 2 + 1
		}
		cmd.Env = append(append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(processors)), variables...)
		return startChild(cmd)
	}
}

func newDNSServerCommand(io.Writer) *cobra.Command {
	var kind, at string
	var rules, overlay int
	cmd := &cobra.Command{
		Use: "serve", Hidden: true, Short: "The server that bench dns measures", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := contextOf(c)
			switch kind {
			case kindEcho:
				return echo(ctx, at)
			case kindConstant:
				s := &http.Server{Addr: at, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(constant)}
				go func() { <-ctx.Done(); _ = s.Close() }()
				_ = s.ListenAndServe()
				return nil
			}
			o := authority.Options{Workers: 1}
			if kind == kindDNS2 {
				o.Workers = 2
			}
			if kind == kindSigned {
				key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					return err
				}
				o.Keys = []*ecdsa.PrivateKey{key}
			}
			if kind == kindHTTP {
				o.HTTP = []string{at}
			} else {
				o.Listen = []string{at}
			}
			s, err := benchServer(o, rules, overlay)
			if err != nil {
				return err
			}
			s.Start()
			if kind == kindCollecting {
				collect(ctx)
			}
			<-ctx.Done()
			return s.Close()
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "kind", kindDNS, "")
	f.StringVar(&at, "listen", "", "")
	f.IntVar(&rules, "rules", 0, "")
	f.IntVar(&overlay, "overlay", 0, "")
	return cmd
}

// collect collects garbage every second.
func collect(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			runtime.GC()
		case <-ctx.Done():
		}
	}
}

// constantBody is as long as an answer of HTTPDNS.
var constantBody = []byte(`{"host":"long.bench.test","ips":["192.0.2.1"],"endpoints":["192.0.2.1:7100"],"pops":["asia"],"home":"as","acting":"as","ttl":30,"scope":"223.0.0.0/11","rule":"built-in","world":1}` + "\n")

func constant(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "private, max-age=30")
	_, _ = w.Write(constantBody)
}

func benchServer(o authority.Options, rules, overlay int) (*authority.Server, error) {
	view := region.NewView(benchWorld(rules), region.Hash{1}, benchOverlay(overlay))
	get := func() *region.View { return view }
	db, err := geo.Open(geo.Options{View: get})
	if err != nil {
		return nil, err
	}
	everybody := &steer.Up{POPs: map[region.POPID]bool{}, Regions: map[region.ID]bool{}}
	for _, p := range view.World.POPs {
		everybody.POPs[p.ID] = true
	}
	for _, r := range view.World.Regions {
		everybody.Regions[r.ID] = true
	}
	o.View, o.Geo, o.Registry = get, db, prometheus.NewRegistry()
	o.Health = func() steer.Health { return everybody }
	return authority.New(o)
}

// benchOverlay has owners in a row.
func benchOverlay(n int) region.Overlay {
	m := &keeper.Owners{}
	for i := range n {
		m.Put(keeper.Entry{Owner: region.UIN(1_000_000 + i), Home: "eu", Moves: 1})
	}
	return m
}

// benchWorld has a region and a POP on each of three continents, and rules that
// every question passes: networks, countries, carriers, versions and users that
// nobody here is.
func benchWorld(rules int) *region.World {
	w := &region.World{
		Version: 1, Name: "bench", Zone: benchZone, Partitions: 8,
		Carriers: []region.Carrier{{Name: "nobody", ASNs: []uint32{64496}}},
		Steering: region.Steering{TTL: 30, Answers: 1, AllDown: steer.Everything},
	}
	for i, at := range []struct {
		id    region.ID
		place region.Place
	}{
		{"as", region.Place{Country: "HK", Continent: "AS", Latitude: 22.3, Longitude: 114.2}},
		{"eu", region.Place{Country: "DE", Continent: "EU", Latitude: 50.1, Longitude: 8.7}},
		{"na", region.Place{Country: "US", Continent: "NA", Latitude: 40.7, Longitude: -74}},
	} {
		address := func(host byte) region.Endpoints {
			return region.Endpoints{Long: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 7100)}
		}
		w.Regions = append(w.Regions, region.Region{ID: at.id, Place: at.place, Acting: region.Acting{Region: at.id, Counter: 1}, Serves: address(byte(100 + i))})
		w.POPs = append(w.POPs, region.POP{ID: region.POPID("pop-" + at.id), Place: at.place, Serves: address(byte(1 + i))})
		w.Segments = append(w.Segments, region.Segment{First: region.UIN(i+1) * 1_000_000, Last: region.UIN(i+1)*1_000_000 + 999_999, Home: at.id})
	}
	for i := range rules {
		m := region.Match{}
		switch i % 5 {
		case 0:
			m.Prefixes = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>8)&1, byte(i), 0}), 24)}
		case 1:
			m.Countries = []string{"AQ"}
		case 2:
			m.Carriers = []string{"nobody"}
		case 3:
			m.Versions = []region.VersionRange{{From: uint32(i + 1), To: uint32(i + 1)}}
		default:
			m.UINs = []region.UINRange{{First: region.UIN(5_000_000 + i), Last: region.UIN(5_000_000 + i)}}
		}
		w.Rules = append(w.Rules, region.Rule{Name: fmt.Sprintf("rule-%d", i), Match: m, Act: region.Act{POPs: []region.POPID{"pop-eu"}}})
	}
	return w
}
