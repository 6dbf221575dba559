package route

import (
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/internal/rendezvous"
)

// Instance is a logic process.
type Instance struct {
	Name    string // unique; what the hash is over, so keep it when the address changes
	Address string // IP:port
}

// Rule sends what matches to some instances. What has several conditions
// matches when all hold; each is any of a list, and an empty list is no
// condition. The named instances get nothing else.
type Rule struct {
	UINs     []region.UINRange
	Versions []region.VersionRange
	To       []string // names of instances
}

func (r *Rule) matches(u region.UIN, version uint32) bool {
	uin := len(r.UINs) == 0 || slices.ContainsFunc(r.UINs, func(x region.UINRange) bool { return x.First <= u && u <= x.Last })
	ver := len(r.Versions) == 0 || slices.ContainsFunc(r.Versions, func(x region.VersionRange) bool {
		return x.From <= version && (x.To == 0 || version <= x.To)
	})
	return uin && ver
}

// Table is where requests go by the rules, without what is known of instances'
// health. It does not change.
type Table struct {
	names []string
	rules []Rule
	pools [][]int // of rules; the last one is of what no rule matches
	seeds []uint64
}

// NewTable checks the rules. Errors: region.BadInput.
func NewTable(instances []Instance, rules []Rule) (*Table, error) {
	bad := func(format string, args ...any) *region.Error {
		return region.Errorf(region.BadInput, format, args...)
	}
	if len(instances) == 0 {
		return nil, bad("there are no logic instances")
	}
	t := &Table{rules: rules}
	for _, i := range instances {
		if i.Name == "" || slices.Contains(t.names, i.Name) {
			return nil, bad("logic instance %q: want a name, and each once", i.Name)
		}
		t.names = append(t.names, i.Name)
		t.seeds = append(t.seeds, rendezvous.Seed(i.Name))
	}
	named := map[int]bool{}
	for n, r := range rules {
		if len(r.To) == 0 || len(r.UINs)+len(r.Versions) == 0 {
			return nil, bad("rule %d: want a condition and instances to go to", n+1)
		}
		for _, x := range r.UINs {
			if x.First == 0 || x.First > x.Last {
				return nil, bad("rule %d: UINs %d to %d are none", n+1, x.First, x.Last)
			}
		}
		for _, x := range r.Versions {
			if x.To != 0 && x.From > x.To {
				return nil, bad("rule %d: versions %d to %d are none", n+1, x.From, x.To)
			}
		}
		var pool []int
		for _, name := range r.To {
			i := slices.Index(t.names, name)
			if i < 0 || slices.Contains(pool, i) {
				return nil, bad("rule %d: instance %q is unknown, or named twice", n+1, name)
			}
			pool = append(pool, i)
			named[i] = true
		}
		t.pools = append(t.pools, pool)
	}
	var rest []int
	for i := range t.names {
		if !named[i] {
			rest = append(rest, i)
		}
	}
	if len(rest) == 0 {
		return nil, bad("every instance is named by a rule").WithHint("leave one for what no rule matches")
	}
	t.pools = append(t.pools, rest)
	return t, nil
}

// Order returns the instances for an owner, best first. Those of the pool are
// followed by those that no rule names: a sandbox that is down is no reason to
// fail.
func (t *Table) Order(u region.UIN, version uint32) []int {
	last := len(t.pools) - 1
	pool := last
	for i := range t.rules {
		if t.rules[i].matches(u, version) {
			pool = i
			break
		}
	}
	order := rendezvous.Order(t.seeds, t.pools[pool], uint64(u))
	if pool != last {
		order = append(order, rendezvous.Order(t.seeds, t.pools[last], uint64(u))...)
	}
	return order
}
