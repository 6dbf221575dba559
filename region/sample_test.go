package region

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/netip"
)

// testKey is made from a name, so that hashes are the same in every run.
func testKey(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func testPublic(name string) PublicKey {
	return PublicKey(testKey(name).Public().(ed25519.PublicKey))
}

// testWorld is a first world of three regions and a witness, with something in
// every field.
func testWorld() *World {
	w := &World{Version: 1, Name: "test", Zone: "im.test", Partitions: 8,
		Operators: []PublicKey{testPublic("operator")}, Threshold: 1, Root: testPublic("root"),
		Steering: Steering{TTL: 30, Answers: 3, AllDown: "everything"},
		Carriers: []Carrier{{Name: "cmcc", ASNs: []uint32{9808}}},
		Places:   []Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Place: Place{City: "Shanghai", Country: "CN", Continent: "AS", Latitude: 31.2, Longitude: 121.5}}},
		DNS:      []Node{{Name: "dns-1", Address: "127.0.20.1:53", Key: testPublic("dns-1")}},
		IDs:      []Node{{Name: "ids-1", Address: "127.0.30.1:7600", Key: testPublic("ids-1")}},
	}
	for i, id := range []ID{"sh", "hk", "ca"} {
		r := Region{ID: id, Acting: Acting{Region: id, Counter: 1}, Key: testPublic("region-" + string(id)), Zones: []string{"a", "b"},
			Serves: Endpoints{Long: netip.MustParseAddrPort(fmt.Sprintf("127.0.%d.1:7100", i+1))}, Admin: fmt.Sprintf("127.0.%d.1:7400", i+1)}
		for _, b := range []ID{"sh", "hk", "ca"} {
			if b != id {
				r.Backups = append(r.Backups, b)
			}
		}
		w.Regions = append(w.Regions, r)
		first := UIN(i+1) * 1000
		w.Segments = append(w.Segments, Segment{First: first, Last: first + 999, Home: id})
	}
	w.POPs = []POP{{ID: "pop-1", Key: testPublic("pop-1"), Witness: true, Serves: Endpoints{Long: netip.MustParseAddrPort("127.0.11.1:7100")}}}
	w.Rules = []Rule{{Name: "canary", Match: Match{Percent: &Percent{Salt: "x", Below: 500}, UINs: []UINRange{{1000, 1099}}}, Act: Act{POPs: []POPID{"pop-1"}}}}
	return w
}

func testSeal(w *World, parents []Hash, forced bool, signers ...string) *Signed {
	payload, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	s := &Signed{Format: Format, Version: w.Version, Parents: parents, Payload: payload, Forced: forced}
	for _, n := range signers {
		s.Sign(testKey(n))
	}
	return s
}

func testGenesis() *Known {
	w := testWorld()
	s := testSeal(w, nil, false, "root", "operator")
	return &Known{Signed: s, World: w, Hash: s.Hash()}
}

// clone copies a world by way of its JSON.
func clone(w *World) *World {
	data, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	c := new(World)
	if err := json.Unmarshal(data, c); err != nil {
		panic(err)
	}
	return c
}

// follow returns the content of a world after parent that changes nothing.
func follow(parent *Known) *World {
	w := clone(parent.World)
	w.Version++
	for i := range w.Regions {
		if w.Regions[i].Acting.Raised == nil {
			h := parent.Hash
			w.Regions[i].Acting.Raised = &h
		}
	}
	return w
}

func appoint(w *World, home, acting ID) {
	for i := range w.Regions {
		if w.Regions[i].ID == home {
			w.Regions[i].Acting = Acting{Region: acting, Counter: w.Regions[i].Acting.Counter + 1}
		}
	}
}

func accept(s *Signed, voters ...string) *Envelope {
	e := &Envelope{Signed: s}
	for _, v := range voters {
		key := map[string]string{"region/sh": "region-sh", "region/hk": "region-hk", "region/ca": "region-ca", "pop/pop-1": "pop-1"}[v]
		e.Acceptances = append(e.Acceptances, Accept(v, s.Hash(), testKey(key)))
	}
	return e
}
