package route

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
)

func instances(names ...string) []Instance {
	var all []Instance
	for _, n := range names {
		all = append(all, Instance{Name: n, Address: "127.0.0.1:1"})
	}
	return all
}

func names(t *Table, order []int) string {
	var s []string
	for _, i := range order {
		s = append(s, t.names[i])
	}
	return strings.Join(s, " ")
}

// The first rule that matches decides; its instances come first and get nothing
// else.
func TestRules(t *testing.T) {
	table, err := NewTable(instances("a", "sandbox", "new"), []Rule{
		{UINs: []region.UINRange{{First: 100, Last: 199}, {First: 300, Last: 300}}, To: []string{"sandbox"}},
		{Versions: []region.VersionRange{{From: 90000}}, To: []string{"new"}},
		{UINs: []region.UINRange{{First: 400, Last: 499}}, Versions: []region.VersionRange{{From: 1, To: 5}}, To: []string{"sandbox"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uin     region.UIN
		version uint32
		want    string
	}{
		{99, 80000, "a"}, {100, 80000, "sandbox a"}, {199, 80000, "sandbox a"}, {200, 80000, "a"}, {300, 1, "sandbox a"},
		{99, 89999, "a"}, {99, 90000, "new a"}, {99, math.MaxUint32, "new a"},
		{150, 90000, "sandbox a"},
		{450, 3, "sandbox a"}, {450, 6, "a"}, {450, 0, "a"}, {399, 3, "a"},
	} {
		if got := names(table, table.Order(c.uin, c.version)); got != c.want {
			t.Errorf("UIN %d, version %d: %s, want %s", c.uin, c.version, got, c.want)
		}
	}
}

func TestBadRules(t *testing.T) {
	uins := []region.UINRange{{First: 1, Last: 2}}
	for what, c := range map[string]struct {
		instances []Instance
		rules     []Rule
	}{
		"no instances":    {nil, nil},
		"no name":         {instances(""), nil},
		"a name twice":    {instances("a", "a"), nil},
		"nowhere to go":   {instances("a", "b"), []Rule{{UINs: uins}}},
		"no condition":    {instances("a", "b"), []Rule{{To: []string{"b"}}}},
		"unknown":         {instances("a", "b"), []Rule{{UINs: uins, To: []string{"c"}}}},
		"twice":           {instances("a", "b"), []Rule{{UINs: uins, To: []string{"b", "b"}}}},
		"nobody is left":  {instances("a"), []Rule{{UINs: uins, To: []string{"a"}}}},
		"empty range":     {instances("a", "b"), []Rule{{UINs: []region.UINRange{{First: 2, Last: 1}}, To: []string{"b"}}}},
		"nobody's range":  {instances("a", "b"), []Rule{{UINs: []region.UINRange{{First: 0, Last: 1}}, To: []string{"b"}}}},
		"empty versions":  {instances("a", "b"), []Rule{{Versions: []region.VersionRange{{From: 2, To: 1}}, To: []string{"b"}}}},
		"second of rules": {instances("a", "b"), []Rule{{UINs: uins, To: []string{"b"}}, {UINs: uins}}},
	} {
		if _, err := NewTable(c.instances, c.rules); region.KindOf(err) != region.BadInput {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Owners are spread evenly, and an instance that goes moves its own only: to the
// second of their order.
func TestRendezvous(t *testing.T) {
	four, _ := NewTable(instances("a", "b", "c", "d"), nil)
	three, _ := NewTable(instances("a", "b", "d"), nil)
	count := map[string]int{}
	const n = 40_000
	for u := region.UIN(1_000_001); u < 1_000_001+n; u++ {
		order := strings.Fields(names(four, four.Order(u, 0)))
		count[order[0]]++
		without := slices.DeleteFunc(slices.Clone(order), func(s string) bool { return s == "c" })
		if got := names(three, three.Order(u, 0)); got != strings.Join(without, " ") {
			t.Fatalf("UIN %d: %v, and without c %s", u, order, got)
		}
	}
	for name, k := range count {
		if math.Abs(float64(k)-n/4) > n/4/20 {
			t.Errorf("%s has %d of %d", name, k, n)
		}
	}
	// Pinned: access processes of several versions have to agree.
	if got := names(four, four.Order(1_000_001, 0)) + "; " + names(four, four.Order(1_000_002, 0)); got != golden {
		t.Errorf("orders are %q", got)
	}
}

// golden is the order of a, b, c and d for UINs 1000001 and 1000002.
const golden = "c a b d; a c b d"

// An instance's health over time, as a table of what happens at which second.
func TestHealth(t *testing.T) {
	start := time.Unix(1000, 0)
	var h health
	for i, s := range []struct {
		at      float64 // seconds
		what    string
		ejected bool
	}{
		{0, "fails", false}, {0, "answers", false},
		{1, "fails", false}, {1, "fails", false}, {1, "answers", false}, // not in a row
		{2, "fails", false}, {2, "fails", false}, {2, "fails", true},
		{2.24, "not due", true}, {2.25, "due", true}, {2.25, "fails", true},
		{2.74, "not due", true}, {2.75, "due", true}, {2.75, "fails", true},
		{3.75, "due", true}, {3.75, "fails", true}, {5.75, "due", true}, {5.75, "fails", true}, {9.75, "due", true}, {9.75, "fails", true},
		{17.74, "not due", true}, {17.75, "due", true}, {17.75, "fails", true}, // the pause grows no more
		{25.74, "not due", true}, {25.75, "due", true},
		{26, "answers", false}, {26, "not due", false},
		{27, "fails", false}, {27, "fails", false}, {27, "fails", true}, {27.25, "due", true}, // as at the first time
	} {
		now := start.Add(time.Duration(s.at * float64(time.Second)))
		var bad string
		switch before := h.ejected; s.what {
		case "answers":
			h.succeeded()
		case "fails":
			if out := h.failed(now); out != (s.ejected && !before) {
				bad = fmt.Sprint("says ejected: ", out)
			}
		default:
			if h.due(now) != (s.what == "due") {
				bad = "is not"
			}
		}
		if bad != "" || h.ejected != s.ejected {
			t.Fatalf("step %d, %gs, %s: %+v %s", i, s.at, s.what, h, bad)
		}
	}
}
