package steer

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

// smallWorld has a dead and a draining POP, and rules that fail in different
// ways.
func smallWorld() (*region.View, Health) {
	serves := func(n byte) region.Endpoints {
		return region.Endpoints{Long: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, n}), 7001)}
	}
	sh := region.Place{City: "Shanghai", Country: "CN", Latitude: 31.23, Longitude: 121.47}
	hk := region.Place{City: "Hong Kong", Country: "HK", Latitude: 22.32, Longitude: 114.17}
	w := &region.World{
		Regions: []region.Region{
			{ID: "sh", Place: sh, Backups: []region.ID{"hk"}, Acting: region.Acting{Region: "sh"}, Serves: serves(1)},
			{ID: "hk", Place: hk, Backups: []region.ID{"sh"}, Acting: region.Acting{Region: "hk"}, Serves: serves(2)},
		},
		POPs: []region.POP{
			{ID: "pop-1", Place: sh, Serves: serves(11)}, {ID: "pop-2", Place: sh, Serves: serves(12)},
			{ID: "pop-3", Place: hk, Serves: serves(13), Drain: true}, {ID: "pop-4", Place: hk, Serves: serves(14)},
		},
		Segments: []region.Segment{{First: 1_000_000, Last: 1_999_999, Home: "sh"}},
		Rules: []region.Rule{
			{Name: "canary", Match: region.Match{Versions: []region.VersionRange{{From: 90_000}}}, Act: region.Act{POPs: []region.POPID{"pop-1"}}},
			{Name: "office", Match: region.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("223.4.0.0/16")}}, Act: region.Act{Regions: []region.ID{"hk"}}},
			{Name: "china", Match: region.Match{Countries: []string{"CN"}}, Act: region.Act{POPs: []region.POPID{"pop-2", "pop-9"}}},
		},
		Steering: region.Steering{TTL: 20, Answers: 3},
	}
	return region.NewView(w, region.Hash{}, nil), Up{
		POPs:    map[region.POPID]bool{"pop-1": true, "pop-3": true, "pop-4": true},
		Regions: map[region.ID]bool{"sh": true, "hk": true},
	}
}

func TestTraceForPeople(t *testing.T) {
	v, h := smallWorld()
	a := Steer(v, h, Client{
		Service: region.Long, UIN: 1000001, Version: 80003, Prefix: netip.MustParsePrefix("223.5.5.5/32"),
		Facts: Facts{
			Prefix: netip.MustParsePrefix("223.5.5.0/24"), Known: true, ASN: 37963,
			Place: region.Place{City: "Hangzhou", Country: "CN", Latitude: 30.27, Longitude: 120.16},
		},
	})
	const want = `
home         yes      UIN 1000001 is at home in sh, served by sh; client 223.5.5.5/32 in Hangzhou CN, AS37963 by 223.5.5.0/24 (scope /0)
canary       no       version 80003 is not in 90000- (scope /0)
office       no       223.5.5.5 is not in [223.4.0.0/16] (scope /16)
china        yes      country CN: none of 2 can take the client (scope /24)
  - POP    pop-2        127.0.0.12:7001                   not healthy
  - POP    pop-9        -                                 not in this world
built-in     answers  3 of 6 (scope /24)
  + POP    pop-1        127.0.0.11:7001           165 km  chosen
  - POP    pop-2        127.0.0.12:7001           165 km  not healthy
  - POP    pop-3        127.0.0.13:7001          1066 km  drains
  + POP    pop-4        127.0.0.14:7001          1066 km  chosen
  + region sh           127.0.0.1:7001            165 km  chosen
  - region hk           127.0.0.2:7001           1066 km  the answer is full
answer: rule built-in, home sh, acting sh, ttl 20 s, scope /24
  1. pop-1 127.0.0.11:7001
  2. pop-4 127.0.0.14:7001
  3. sh 127.0.0.1:7001
`
	if got := a.Text(); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got:\n%s\nwant:%s", got, want)
	}
}

func TestAnswerAsJSON(t *testing.T) {
	v, h := smallWorld()
	a := Steer(v, h, Client{Service: region.Long, Version: 90001})
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"home":"sh","acting":"sh","endpoints":[{"pop":"pop-1","address":"127.0.0.11:7001","km":-1}],"ttl":20,"scope":0,"rule":"canary",` +
		`"trace":[{"rule":"home","matched":false,"answered":false,"why":"no UIN; a newcomer would go to sh, served by sh; client no address","scope":0},` +
		`{"rule":"canary","matched":true,"answered":true,"why":"version 90001: 1 of 1","scope":0,"candidates":[{"pop":"pop-1","address":"127.0.0.11:7001","km":-1,"healthy":true}]}]}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}

// What is not looked at does not narrow the scope: resolvers cache the wider.
func TestScopeIsAsWideAsItMayBe(t *testing.T) {
	client := Client{Service: region.Long, UIN: 1000001, Version: 1, Prefix: netip.MustParsePrefix("10.1.2.3/32"), Facts: Facts{Prefix: netip.MustParsePrefix("10.0.0.0/12")}}
	office := netip.MustParsePrefix("10.1.2.0/24")
	here, there := region.Act{Regions: []region.ID{"hk"}}, region.Act{Regions: []region.ID{"sh"}}
	for _, c := range []struct {
		name  string
		rules []region.Rule
		want  uint8
	}{
		{"by UIN alone", []region.Rule{{Match: region.Match{Homes: []region.ID{"sh"}}, Act: here}}, 0},
		{"built-in rule looks at the place", nil, 12},
		{"nearest of a pool looks at the place", []region.Rule{{Act: region.Act{Regions: []region.ID{"hk"}, Nearest: true}}}, 12},
		{"prefix that matches", []region.Rule{{Match: region.Match{Prefixes: []netip.Prefix{office}}, Act: here}}, 24},
		{"prefix that was not looked at", []region.Rule{
			{Match: region.Match{Versions: []region.VersionRange{{From: 2}}, Prefixes: []netip.Prefix{office}}, Act: here}, {Act: there},
		}, 0},
		{"prefix far away", []region.Rule{{Match: region.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, Act: here}, {Act: there}}, 1},
		{"prefix next door", []region.Rule{{Match: region.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.3.0/24")}}, Act: here}, {Act: there}}, 24},
		{"prefix of the other family", []region.Rule{{Match: region.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}}, Act: here}, {Act: there}}, 0},
	} {
		v, _ := smallWorld()
		v.World.Rules = c.rules
		if a := Steer(v, AllUp, client); a.Scope != c.want {
			t.Errorf("%s: scope /%d, want /%d\n%s", c.name, a.Scope, c.want, a.Text())
		}
	}
}
