package region

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
)

func TestCoveredGolden(t *testing.T) {
	s := &Signed{Format: 1, Requires: []string{"x"}, Version: 258, Parents: []Hash{{0xaa}}, Payload: []byte("{}"), Forced: true}
	want := "686f6d696e672e776f726c6400" + // "homing.world" NUL
		"0000000000000001" + "0000000000000102" + "0000000000000001" + // format, version, forced
		"0000000000000001" + "0000000000000001" + "78" + // requires
		"0000000000000001" + "aa" + strings.Repeat("00", 31) + // parents
		"0000000000000002" + "7b7d" // payload
	if got := hex.EncodeToString(s.Covered()); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	if got := s.Hash().String(); got != "e1ada2b7c0ff6ef08404dd7cf02077b6907ea66ab9926ae05163f5d44abb56c1" {
		t.Fatalf("hash %s", got)
	}
}

func TestAcceptanceGolden(t *testing.T) {
	a := Accept("region/sh", Hash{0xbb}, testKey("region-sh"))
	want := "686f6d696e672e616363657074616e636500" + "bb" + strings.Repeat("00", 31) + "0000000000000009" + "726567696f6e2f7368"
	if got := hex.EncodeToString(a.covered()); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestEpochText(t *testing.T) {
	e := Epoch{Moves: 3, Term: Term{Counter: 2, Raised: ShortHash{0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4}}}
	if got := e.String(); got != "3:2/deadbeef01020304" {
		t.Fatal(got)
	}
	data, err := json.Marshal(e)
	if err != nil || string(data) != `{"moves":3,"term":{"counter":2,"raised":"deadbeef01020304"}}` {
		t.Fatalf("%s %v", data, err)
	}
	var back Epoch
	if err := json.Unmarshal(data, &back); err != nil || back != e {
		t.Fatalf("%v %v", back, err)
	}
}

// The values were computed by another program.
func TestPartitionGolden(t *testing.T) {
	for u, want := range map[UIN]Partition{1: 18, 1_000_001: 5, 1<<64 - 1: 61} {
		if got := PartitionOf(u, 64); got != want {
			t.Errorf("UIN %d is in partition %d, want %d", u, got, want)
		}
	}
}

func TestVerifyFirst(t *testing.T) {
	w := testWorld()
	root, operator := testPublic("root"), testPublic("operator")
	raised := testWorld()
	raised.Regions[0].Acting.Counter = 2
	later := testWorld()
	later.Version = 2
	two := testWorld()
	two.Operators = append(two.Operators, testPublic("second"))
	two.Threshold = 2
	for name, c := range map[string]struct {
		s      *Signed
		pinned PublicKey
		kind   Kind
	}{
		"by the root":            {testSeal(w, nil, false, "root"), root, 0},
		"by the operator":        {testSeal(w, nil, false, "operator"), operator, 0},
		"another key pinned":     {testSeal(w, nil, false, "root"), operator, Forbidden},
		"a node's key pinned":    {testSeal(w, nil, false, "region-sh"), testPublic("region-sh"), Forbidden},
		"nobody signed":          {testSeal(w, nil, false), root, Forbidden},
		"has parents":            {testSeal(w, []Hash{{1}}, false, "root"), root, BadInput},
		"version 2":              {testSeal(later, nil, false, "root"), root, BadInput},
		"a counter is 2":         {testSeal(raised, nil, false, "root"), root, BadInput},
		"one operator of two":    {testSeal(two, nil, false, "operator"), operator, Forbidden},
		"both operators":         {testSeal(two, nil, false, "operator", "second"), operator, 0},
		"root outranks them":     {testSeal(two, nil, false, "root"), root, 0},
		"signed twice by one":    {testSeal(two, nil, false, "operator", "operator"), operator, Forbidden},
		"key of the wrong size":  {testSeal(w, nil, false, "root"), PublicKey{1}, Forbidden},
		"no key pinned whatever": {testSeal(w, nil, false, "root"), nil, Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := VerifyFirst(c.s, c.pinned)
			if KindOf(err) != c.kind || (err == nil) != (k != nil) {
				t.Fatal(err)
			}
		})
	}
}

func TestVerifySuccessor(t *testing.T) {
	g := testGenesis()
	h := []Hash{g.Hash}
	with := func(change func(*World)) *World {
		w := follow(g)
		change(w)
		return w
	}
	nothing := func(*World) {}
	newRoot := with(func(w *World) { w.Root = testPublic("root 2") })
	newOperator := with(func(w *World) { w.Operators = []PublicKey{testPublic("operator 2")} })
	for name, c := range map[string]struct {
		s    *Signed
		kind Kind
	}{
		"by the operator":                {testSeal(with(nothing), h, false, "operator"), 0},
		"by the root":                    {testSeal(with(nothing), h, false, "root"), 0},
		"by a region":                    {testSeal(with(nothing), h, false, "region-sh"), Forbidden},
		"the operator names another":     {testSeal(newOperator, h, false, "operator"), 0},
		"signed by the one it names":     {testSeal(newOperator, h, false, "operator 2"), Forbidden},
		"the operator names a root":      {testSeal(newRoot, h, false, "operator"), Forbidden},
		"the root names a root":          {testSeal(newRoot, h, false, "root"), 0},
		"of another parent":              {testSeal(with(nothing), []Hash{{1}}, false, "operator"), Conflict},
		"a version left out":             {testSeal(with(func(w *World) { w.Version++ }), h, false, "operator"), BadInput},
		"version 2^60":                   {testSeal(with(func(w *World) { w.Version = 1 << 60 }), h, false, "operator"), BadInput},
		"the parent's version":           {testSeal(with(func(w *World) { w.Version-- }), h, false, "operator"), BadInput},
		"a parent twice":                 {testSeal(with(nothing), []Hash{g.Hash, g.Hash}, false, "operator"), BadInput},
		"breaks a rule":                  {testSeal(with(func(w *World) { w.Partitions = 9 }), h, false, "operator"), BadInput},
		"is no valid world":              {testSeal(with(func(w *World) { w.Zone = "" }), h, false, "operator"), BadInput},
		"two parents, a version further": {testSeal(with(func(w *World) { w.Version++ }), []Hash{g.Hash, {1}}, false, "operator"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := VerifySuccessor(g, c.s)
			if KindOf(err) != c.kind {
				t.Fatal(err)
			}
		})
	}
	s := testSeal(with(nothing), h, false)
	s.Requires = []string{"future"}
	s.Sign(testKey("operator"))
	if _, err := VerifySuccessor(g, s); KindOf(err) != Unsupported {
		t.Fatal(err)
	}
}

func TestTakesEffect(t *testing.T) {
	g := testGenesis()
	w := follow(g)
	s := testSeal(w, []Hash{g.Hash}, false, "operator")
	other := testSeal(w, []Hash{g.Hash}, true, "operator")
	forged := accept(s, "region/sh", "region/hk")
	forged.Acceptances = append(forged.Acceptances, Accept("region/ca", s.Hash(), testKey("region-sh")))
	for name, c := range map[string]struct {
		e    *Envelope
		want bool
	}{
		"nobody":           {accept(s), false},
		"two of four":      {accept(s, "region/sh", "region/hk"), false},
		"three of four":    {accept(s, "region/sh", "region/hk", "pop/pop-1"), true},
		"one three times":  {accept(s, "region/sh", "region/sh", "region/sh"), false},
		"a forged third":   {forged, false},
		"of another world": {&Envelope{Signed: s, Acceptances: accept(other, "region/sh", "region/hk", "region/ca").Acceptances}, false},
		"forced":           {accept(other), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := TakesEffect(g.World, c.e); got != c.want {
				t.Fatal(got)
			}
		})
	}
}

func FuzzSigned(f *testing.F) {
	g := testGenesis()
	data, err := json.Marshal(g.Signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1,"version":1,"payload":"e30="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := new(Signed)
		if json.Unmarshal(data, s) != nil {
			return
		}
		if w, err := s.Decode(); err == nil && w.Validate() != nil {
			t.Fatal("an invalid world was decoded")
		}
		if _, err := VerifyFirst(s, testPublic("root")); err == nil && s.Hash() != g.Hash {
			t.Fatal("a world nobody signed was verified")
		}
		if _, err := VerifySuccessor(g, s); err == nil {
			t.Fatal("a successor nobody signed was verified")
		}
	})
}

func FuzzWorldPayload(f *testing.F) {
	f.Add(testGenesis().Signed.Payload)
	f.Fuzz(func(t *testing.T, data []byte) {
		w := new(World)
		if json.Unmarshal(data, w) != nil {
			return
		}
		w.Problems()
		v := NewView(w, Hash{1}, nil)
		v.Placement(1000)
	})
}

func FuzzText(f *testing.F) {
	f.Add(strings.Repeat("ab", 32))
	f.Add(testPublic("root").String())
	f.Add("1000001")
	f.Fuzz(func(t *testing.T, s string) {
		var h Hash
		if h.UnmarshalText([]byte(s)) == nil && h.String() != strings.ToLower(s) {
			t.Fatalf("hash %q reads as %s", s, h)
		}
		var k PublicKey
		if k.UnmarshalText([]byte(s)) == nil && len(s) > 0 {
			var again PublicKey
			if err := again.UnmarshalText([]byte(k.String())); err != nil || !bytes.Equal(k, again) {
				t.Fatalf("key %q", s)
			}
		}
		if u, err := ParseUIN(s); err == nil && u == 0 {
			t.Fatal("UIN 0")
		}
	})
}
