package region

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestSampleIsValid(t *testing.T) {
	if ps := testWorld().Problems(); len(ps) > 0 {
		t.Fatalf("%+v", ps)
	}
}

// One mistake each: where it is, what is said, what is hinted.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		path, text, hint string
		spoil            func(*World)
	}{
		{"version", "version is 0", "", func(w *World) { w.Version = 0 }},
		{"name", "world ID", "", func(w *World) { w.Name = "Ünï" }},
		{"zone", "missing", "", func(w *World) { w.Zone = "" }},
		{"zone", "trailing dot", "", func(w *World) { w.Zone = "im.test." }},
		{"zone", "want a-z", "", func(w *World) { w.Zone = "IM.test" }},
		{"zone", "no '-' at either end", "", func(w *World) { w.Zone = "im-.test" }},
		{"zone", "200 bytes", "", func(w *World) { w.Zone = strings.Repeat("a.", 110) + "a" }},
		{"partitions", "want 1 to 4096", "never change", func(w *World) { w.Partitions = 0 }},
		{"partitions", "4097", "", func(w *World) { w.Partitions = 4097 }},
		{"operators", "no operator key", "", func(w *World) { w.Operators = nil }},
		{"operators[0]", "missing", "", func(w *World) { w.Operators[0] = nil }},
		{"root", "same as operators[0]'s", "", func(w *World) { w.Root = w.Operators[0] }},
		{"threshold", "want 1 to 1", "", func(w *World) { w.Threshold = 2 }},
		{"threshold", "want 1 to 1", "", func(w *World) { w.Threshold = 0 }},
		{"regions", "no region", "", func(w *World) { w.Regions, w.Segments = nil, nil }},
		{"regions[0].id", "begin", "such as", func(w *World) { w.Regions[0].ID = "1sh" }},
		{"regions[2].id", "there twice", "", func(w *World) { w.Regions[2].ID = "hk" }},
		{"regions[1].id", "retired", "choose another", func(w *World) { w.Retired = []ID{"hk"} }},
		{"regions[0].place", "latitude 91", "", func(w *World) { w.Regions[0].Place.Latitude = 91 }},
		{"regions[0].place", "longitude -181", "", func(w *World) { w.Regions[0].Place.Longitude = -181 }},
		{"regions[0].place", "country", "", func(w *World) { w.Regions[0].Place.Country = "cn" }},
		{"regions[0].place", "continent", "", func(w *World) { w.Regions[0].Place.Continent = "XX" }},
		{"regions[0].zones[1]", "there twice", "", func(w *World) { w.Regions[0].Zones[1] = "a" }},
		{"regions[0].zones[0]", "zone ID", "", func(w *World) { w.Regions[0].Zones[0] = "" }},
		{"regions[0].backups[0]", "its own backup", "", func(w *World) { w.Regions[0].Backups[0] = "sh" }},
		{"regions[0].backups[0]", `"hkk"`, "did you mean hk?", func(w *World) { w.Regions[0].Backups[0] = "hkk" }},
		{"regions[0].backups[1]", "there twice", "", func(w *World) { w.Regions[0].Backups[1] = "hk" }},
		{"regions[0].acting.region", "no region", "known: sh, hk, ca", func(w *World) { w.Regions[0].Acting.Region = "zzzz" }},
		{"regions[0].acting.counter", "is 0", "", func(w *World) { w.Regions[0].Acting.Counter = 0 }},
		{"regions[0].acting.region", "is away", "another region", func(w *World) { w.Regions[0].Away = true }},
		{"regions[0].newBackup", "acts for itself", "backups", func(w *World) { w.Regions[0].NewBackup = "ca" }},
		{"regions[0].newBackup", `"caa"`, "did you mean ca?", func(w *World) { w.Regions[0].Acting.Region, w.Regions[0].NewBackup = "hk", "caa" }},
		{"regions[0].newBackup", "cannot be the new backup", "third", func(w *World) { w.Regions[0].Acting.Region, w.Regions[0].NewBackup = "hk", "sh" }},
		{"regions[0].newBackup", "cannot be the new backup", "third", func(w *World) { w.Regions[0].Acting.Region, w.Regions[0].NewBackup = "hk", "hk" }},
		{"regions[0].key", "missing", "", func(w *World) { w.Regions[0].Key = nil }},
		{"pops[0].key", "same as regions[0].key's", "", func(w *World) { w.POPs[0].Key = w.Regions[0].Key }},
		{"regions[0].serves.short", "no port", "", func(w *World) { w.Regions[0].Serves.Short = netip.MustParseAddrPort("127.0.0.1:0") }},
		{"regions[0].serves.short", "not one", "", func(w *World) { w.Regions[0].Serves.Short = netip.MustParseAddrPort("0.0.0.0:80") }},
		{"pops[0].serves.long", "also that of regions[0]", "", func(w *World) { w.POPs[0].Serves.Long = w.Regions[0].Serves.Long }},
		{"regions[0].admin", "want host:port", "", func(w *World) { w.Regions[0].Admin = "localhost" }},
		{"pops[0].id", "POP ID", "", func(w *World) { w.POPs[0].ID = "" }},
		{"dns[0].name", "dns ID", "", func(w *World) { w.DNS[0].Name = "" }},
		{"dns[0].address", "want host:port", "", func(w *World) { w.DNS[0].Address = "x:99999" }},
		{"ids[0].key", "missing", "", func(w *World) { w.IDs[0].Key = nil }},
		{"segments[0]", "empty", "", func(w *World) { w.Segments[0].Last = 1 }},
		{"segments[0]", "begins with 0", "", func(w *World) { w.Segments[0].First = 0 }},
		{"segments[1]", "overlaps 1000-2000", "one region", func(w *World) { w.Segments[0].Last = 2000 }},
		{"segments[1]", "comes after", "sort", func(w *World) { w.Segments[0], w.Segments[1] = w.Segments[1], w.Segments[0] }},
		{"segments[0].home", "no region", "", func(w *World) { w.Segments[0].Home = "xx" }},
		{"retired[1]", "there twice", "", func(w *World) { w.Retired = []ID{"old", "old"} }},
		{"carriers[0].name", "carrier ID", "", func(w *World) { w.Carriers[0].Name = "C" }},
		{"carriers[1].asns[0]", "already cmcc's", "", func(w *World) { w.Carriers = append(w.Carriers, Carrier{"other", []uint32{9808}}) }},
		{"carriers[0].asns[0]", "ASN 0", "", func(w *World) { w.Carriers[0].ASNs[0] = 0 }},
		{"places[0].prefix", "bits set", "127.0.0.0/8", func(w *World) { w.Places[0].Prefix = netip.MustParsePrefix("127.0.0.1/8") }},
		{"places[1].prefix", "there twice", "", func(w *World) { w.Places = append(w.Places, w.Places[0]) }},
		{"steering.ttl", "want 1 to 86400", "", func(w *World) { w.Steering.TTL = 0 }},
		{"steering.answers", "want 1 to 16", "", func(w *World) { w.Steering.Answers = 17 }},
		{"steering.allDown", "no answer", "known: everything, last-known-good, nothing", func(w *World) { w.Steering.AllDown = "maybe" }},
		{"rules[0].name", "rule ID", "", func(w *World) { w.Rules[0].Name = "" }},
		{"rules[1].name", "there twice", "", func(w *World) { w.Rules = append(w.Rules, w.Rules[0]) }},
		{"rules[0].act.pops[0]", "no POP", "did you mean pop-1?", func(w *World) { w.Rules[0].Act.POPs[0] = "pop1" }},
		{"rules[0].act.regions[0]", "no region", "", func(w *World) { w.Rules[0].Act.Regions = []ID{"xx"} }},
		{"rules[0].act.ttl", "at most", "", func(w *World) { w.Rules[0].Act.TTL = 1 << 20 }},
		{"rules[0].match.percent", "10001", "", func(w *World) { w.Rules[0].Match.Percent.Below = 10_001 }},
		{"rules[0].match.uins[0]", "empty", "", func(w *World) { w.Rules[0].Match.UINs[0].Last = 5 }},
		{"rules[0].match.any[0].not.carriers[0]", "no carrier", "did you mean cmcc?", func(w *World) {
			w.Rules[0].Match.Any = []Match{{Not: &Match{Carriers: []string{"cmc"}}}}
		}},
		{"rules[0].match.services[0]", "no service", "did you mean long?", func(w *World) { w.Rules[0].Match.Services = []Service{"lang"} }},
		{"rules[0].match.versions[0]", "empty", "", func(w *World) { w.Rules[0].Match.Versions = []VersionRange{{5, 4}} }},
		{"rules[0].match.prefixes[0]", "missing or malformed", "", func(w *World) { w.Rules[0].Match.Prefixes = []netip.Prefix{{}} }},
		{"rules[0].match.countries[0]", "capital", "", func(w *World) { w.Rules[0].Match.Countries = []string{"China"} }},
		{"rules[0].match.continents[0]", "none of", "", func(w *World) { w.Rules[0].Match.Continents = []string{"ASIA"} }},
		{"rules[0].match.homes[0]", "no region", "", func(w *World) { w.Rules[0].Match.Homes = []ID{"xx"} }},
		{"rules[0].match.acting[0]", "no region", "", func(w *World) { w.Rules[0].Match.Acting = []ID{"xx"} }},
		{"rules[0].match.cities[0]", "1 to 64 bytes", "English", func(w *World) { w.Rules[0].Match.Cities = []string{""} }},
		{"rules[0].match.subdivisions[0]", "CN_SH", "CN-SH", func(w *World) { w.Rules[0].Match.Subdivisions = []string{"CN_SH"} }},
		{"rules[0].match.healthyPops[0]", "no POP", "did you mean pop-1?", func(w *World) { w.Rules[0].Match.HealthyPOPs = []POPID{"pop1"} }},
		{"rules[0].match.healthyRegions[0]", "no region", "", func(w *World) { w.Rules[0].Match.HealthyRegions = []ID{"xx"} }},
		{"rules[0].act.pool", "beside pops or regions", "all of them", func(w *World) { w.Rules[0].Act.Pool = []PoolMember{{Region: "sh"}} }},
		{"rules[0].act.pool[0]", "either a POP or a region", "{pop: pop-1}", func(w *World) { w.Rules[0].Act = Act{Pool: []PoolMember{{POP: "pop-1", Region: "sh"}}} }},
		{"rules[0].act.pool[0].pop", "no POP", "did you mean pop-1?", func(w *World) { w.Rules[0].Act = Act{Pool: []PoolMember{{POP: "pop1"}}} }},
		{"rules[0].act.pool[0].region", "no region", "", func(w *World) { w.Rules[0].Act = Act{Pool: []PoolMember{{Region: "xx"}}} }},
		{"rules[0].act.pool[1]", "is twice", "a weight", func(w *World) { w.Rules[0].Act = Act{Pool: []PoolMember{{Region: "sh"}, {Region: "sh", Tier: 1}}} }},
		{"rules[0].act.pool[0].weight", "1 to 1000", "three quarters", func(w *World) {
			w.Rules[0].Act = Act{Order: OrderWeighted, Pool: []PoolMember{{Region: "sh", Weight: 1001}}}
		}},
		{"rules[0].act.pool[0].drain", "more than all", "100%", func(w *World) { w.Rules[0].Act = Act{Pool: []PoolMember{{Region: "sh", Drain: 10_001}}} }},
		{"rules[0].act.pool", "leaves nothing for them", "order: weighted", func(w *World) { w.Rules[0].Act = Act{Pool: []PoolMember{{Region: "sh", Weight: 2}}} }},
		{"rules[0].act.order", "no order", "did you mean nearest?", func(w *World) { w.Rules[0].Act.Order = "neerest" }},
		{"rules[0].act.order", "says nearest and", "leave one", func(w *World) { w.Rules[0].Act.Nearest, w.Rules[0].Act.Order = true, OrderWeighted }},
		{"rules[0].act.band", "about distances", "order: nearest", func(w *World) { w.Rules[0].Act.Band = 10 }},
		{"rules[0].act.sticky", "stick to", "did you mean uin?", func(w *World) { w.Rules[0].Act.Sticky = "uid" }},
		{"rules[0].act.spill", "more than all", "", func(w *World) { w.Rules[0].Act.Spill = 20_000 }},
		{"rules[0].act.allDown", "no answer", "did you mean last-known-good?", func(w *World) { w.Rules[0].Act.AllDown = "last-know-good" }},
		{"pops[0].drainShare", "more than all", "", func(w *World) { w.POPs[0].DrainShare = 10_001 }},
		{"pops[0].place", "ISO 3166-2", "", func(w *World) { w.POPs[0].Place.Subdivision = "Shanghai" }},
		{"rules", "more than 10000", "overlay", func(w *World) {
			for i := range UIN(10_000) {
				w.Rules[0].Match.UINs = append(w.Rules[0].Match.UINs, UINRange{i + 1, i + 1})
			}
		}},
		{"deep", "more than 16 deep", "", func(w *World) {
			m := Match{}
			for range 20 {
				m = Match{All: []Match{m}}
			}
			w.Rules[0].Match = m
		}},
	} {
		t.Run(fmt.Sprint(c.path, " ", c.text), func(t *testing.T) {
			w := testWorld()
			c.spoil(w)
			for _, p := range w.Problems() {
				if (p.Path == c.path || c.path == "deep") && strings.Contains(p.Message, c.text) && strings.Contains(p.Hint, c.hint) {
					if err := w.Validate(); KindOf(err) != BadInput {
						t.Fatalf("Validate: %v", err)
					}
					return
				}
			}
			t.Fatalf("got %+v", w.Problems())
		})
	}
}

func TestSuccessorRules(t *testing.T) {
	for _, c := range []struct {
		name, text string // text "" is allowed
		change     func(*World)
	}{
		{"no change", "", func(*World) {}},
		{"rule 5: failover raises the counter", "", func(w *World) { appoint(w, "sh", "hk") }},
		{"rule 2: a counter may jump", "", func(w *World) { w.Regions[0].Acting = Acting{Region: "hk", Counter: 9} }},
		{"rule 4: a new segment", "", func(w *World) { w.Segments = append(w.Segments, Segment{9000, 9999, "sh"}) }},
		{"rule 4: a segment split", "", func(w *World) {
			w.Segments = append([]Segment{{1000, 1499, "sh"}, {1500, 1999, "sh"}}, w.Segments[1:]...)
		}},
		{"a region retired", "", func(w *World) { retire(w, "ca") }},
		{"rule 5: who acts changes alone", "counter is still 1", func(w *World) { w.Regions[0].Acting.Region = "hk" }},
		{"rule 2: a counter falls", "fell from 1 to 0", func(w *World) { w.Regions[0].Acting.Counter = 0 }},
		{"rule 2: carried as if raised here", "carry it over", func(w *World) { w.Regions[0].Acting.Raised = nil }},
		{"rule 2: another is said to have raised it", "carry it over", func(w *World) { w.Regions[0].Acting.Raised = &Hash{9} }},
		{"rule 2: raised, but by another", "another world", func(w *World) { w.Regions[0].Acting.Counter++ }},
		{"rule 4: a segment re-assigned", "UIN 1000 is re-assigned from sh to hk", func(w *World) { w.Segments[0].Home = "hk" }},
		{"rule 4: part of a segment re-assigned", "UIN 1500 is re-assigned", func(w *World) {
			w.Segments = append([]Segment{{1000, 1499, "sh"}, {1500, 1999, "ca"}}, w.Segments[1:]...)
		}},
		{"rule 4: a segment shortened", "UIN 1900 lost its segment", func(w *World) { w.Segments[0].Last = 1899 }},
		{"rule 4: a region vanishes", "region ca is gone", func(w *World) { retire(w, "ca"); w.Retired = nil }},
		{"never was", "retired but never was", func(w *World) { w.Retired = []ID{"xx"} }},
		{"a new region begins at 1", "its acting counter is 1", func(w *World) {
			w.Regions = append(w.Regions, Region{ID: "eu", Acting: Acting{Region: "eu", Counter: 2}, Key: testPublic("region-eu")})
		}},
		{"the name", "name of a world never changes", func(w *World) { w.Name = "other" }},
		{"the partitions", "partitions never changes", func(w *World) { w.Partitions = 16 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := testGenesis()
			w := follow(g)
			c.change(w)
			err := CheckSuccessor(g, w)
			if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
				t.Fatalf("got %v, want %q", err, c.text)
			}
		})
	}
}

// retire takes a region out of a world and of all that names it.
func retire(w *World, id ID) {
	var left []Region
	for _, r := range w.Regions {
		if r.ID == id {
			continue
		}
		var backups []ID
		for _, b := range r.Backups {
			if b != id {
				backups = append(backups, b)
			}
		}
		r.Backups = backups
		left = append(left, r)
	}
	w.Regions, w.Retired = left, append(w.Retired, id)
}

// Rule 4: a retired ID stays retired.
func TestRetiredStaysRetired(t *testing.T) {
	g := testGenesis()
	w := follow(g)
	retire(w, "ca")
	two := &Known{World: w, Hash: Hash{2}}
	back := follow(two)
	back.Retired = nil
	back.Regions = append(back.Regions, testWorld().Regions[2])
	if err := CheckSuccessor(two, back); err == nil || !strings.Contains(err.Error(), "region ca was retired and stays so") {
		t.Fatal(err)
	}
	back.Retired = []ID{"ca"}
	if err := back.Validate(); err == nil || !strings.Contains(err.Error(), "region ID ca is retired") {
		t.Fatal(err)
	}
}
