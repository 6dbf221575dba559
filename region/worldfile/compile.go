package worldfile

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/homing-im/homing/region"
)

// Keys finds the public key of a node whose entry in the file has none. The
// name is that of the key file: operator, root, region-sh, pop-pop-1, ...
type Keys func(name string) (region.PublicKey, error)

// CompileFile is [Compile] of a file, with keys from the folder beside it.
func CompileFile(path string, parents ...*region.Known) (*region.World, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: the world file cannot be read: %w", path, err)
	}
	return Compile(path, src, KeysIn(filepath.Join(filepath.Dir(path), "keys")), parents...)
}

// Compile reads a world file. Version and acting counters follow from the
// parents: none for the first world, one, or several to resolve a fork. name is
// used in errors; keys may be nil when the file has all keys.
//
// Errors are a [*Mistake] where the file is at fault.
func Compile(name string, src []byte, keys Keys, parents ...*region.Known) (*region.World, error) {
	s, err := parse(name, src)
	if err != nil {
		return nil, err
	}
	c := &compiler{source: s, keys: keys}
	w := c.world()
	c.refuseNames()
	if c.err != nil {
		return nil, c.err
	}
	w.Version = 1
	for _, p := range parents {
		w.Version = max(w.Version, p.World.Version+1)
	}
	for i := range w.Regions {
		count(&w.Regions[i], parents)
	}
	if ps := w.Problems(); len(ps) > 0 {
		return nil, s.problem(ps[0])
	}
	for _, p := range parents {
		if err := region.CheckSuccessor(p, w); err != nil {
			return nil, &Mistake{File: name, Message: fmt.Sprintf("it cannot follow world %d: %v", p.World.Version, err)}
		}
	}
	return w, nil
}

// count sets the acting counter: carried over while every parent says the same
// as the file, else raised above all of them.
func count(r *region.Region, parents []*region.Known) {
	a := &r.Acting
	a.Counter = 1
	same := len(parents) > 0
	var carried *region.Hash
	for i, p := range parents {
		was, ok := p.World.Region(r.ID)
		if !ok {
			same = false
			continue
		}
		raised := p.Hash
		if was.Acting.Raised != nil {
			raised = *was.Acting.Raised
		}
		same = same && was.Acting.Region == a.Region && (i == 0 || carried != nil && *carried == raised && was.Acting.Counter == a.Counter)
		carried = &raised
		a.Counter = max(a.Counter, was.Acting.Counter)
	}
	if same {
		a.Raised = carried
	} else if carried != nil {
		a.Counter++
	}
}

type compiler struct {
	*source
	keys Keys
	err  error // the first
}

func (c *compiler) fail(path, hint, format string, args ...any) {
	if c.err == nil {
		c.err = c.problem(region.Problem{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
}

func (c *compiler) world() *region.World {
	f := &c.file
	w := &region.World{Name: f.Name, Zone: f.Zone, Partitions: f.Partitions, Threshold: 1,
		Steering: region.Steering{TTL: 30, Answers: 3, AllDown: "everything"}, Retired: convert[region.ID](f.Retired)}
	if f.Partitions == 0 && c.find("partitions") == nil {
		w.Partitions = 64
	}
	if f.Threshold != nil {
		w.Threshold = *f.Threshold
	}
	if f.Operators == nil {
		w.Operators = []region.PublicKey{c.key("operators", "", "operator")}
	}
	for i, k := range f.Operators {
		w.Operators = append(w.Operators, c.key(fmt.Sprintf("operators[%d]", i), k, "operator"))
	}
	w.Root = c.key("root", f.Root, "root")
	if st := f.Steering; st != nil {
		if st.TTL != nil {
			w.Steering.TTL = *st.TTL
		}
		if st.Answers != nil {
			w.Steering.Answers = *st.Answers
		}
		if st.AllDown != "" {
			w.Steering.AllDown = region.AllDown(st.AllDown)
		}
	}
	for i, r := range f.Regions {
		at := fmt.Sprintf("regions[%d]", i)
		if r.Acting == "" {
			r.Acting = r.ID
		}
		w.Regions = append(w.Regions, region.Region{
			ID: region.ID(r.ID), Title: r.Title, Place: place(r.Place), Zones: r.Zones, Backups: convert[region.ID](r.Backups),
			Acting: region.Acting{Region: region.ID(r.Acting)}, Key: c.key(at+".key", r.Key, "region-"+r.ID),
			Serves: c.serves(at, r.Serves), Admin: r.Admin, Queue: r.Queue, Users: r.Users,
			NewBackup: region.ID(r.NewBackup), Away: r.Away,
		})
	}
	for i, p := range f.POPs {
		at := fmt.Sprintf("pops[%d]", i)
		w.POPs = append(w.POPs, region.POP{ID: region.POPID(p.ID), Title: p.Title, Place: place(p.Place), Serves: c.serves(at, p.Serves),
			Admin: p.Admin, Key: c.key(at+".key", p.Key, "pop-"+p.ID), Witness: p.Witness, Drain: p.Drain, Users: p.Users,
			DrainShare: c.optionalShare(at+".drain-share", p.DrainShare), Check: check(p.Check)})
	}
	w.DNS = c.nodes("dns", f.DNS)
	w.IDs = c.nodes("ids", f.IDs)
	for i, s := range f.Segments {
		first, last := c.uins(fmt.Sprintf("segments[%d].uins", i), s.UINs)
		w.Segments = append(w.Segments, region.Segment{First: first, Last: last, Home: region.ID(s.Home)})
	}
	for _, k := range f.Carriers {
		w.Carriers = append(w.Carriers, region.Carrier{Name: k.Name, ASNs: k.ASNs})
	}
	for i, p := range f.Places {
		w.Places = append(w.Places, region.Prefix{Prefix: c.prefix(fmt.Sprintf("places[%d].prefix", i), p.Prefix), Place: place(p.Place), ASN: p.ASN})
	}
	for i, r := range f.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		w.Rules = append(w.Rules, region.Rule{Name: r.Name, Match: c.match(at+".match", r.Match), Act: c.act(at+".act", r.Act)})
	}
	return w
}

func (c *compiler) act(at string, a actY) region.Act {
	out := region.Act{POPs: convert[region.POPID](a.POPs), Regions: convert[region.ID](a.Regions), Nearest: a.Nearest, TTL: a.TTL,
		Order: region.Order(a.Order), Band: c.band(at+".band", a), Sticky: region.Sticky(a.Sticky), Spill: c.optionalShare(at+".spill", a.Spill),
		AllDown: region.AllDown(a.AllDown)}
	for i, m := range a.Pool {
		at := fmt.Sprintf("%s.pool[%d]", at, i)
		member := region.PoolMember{POP: region.POPID(m.POP), Region: region.ID(m.Region), Tier: m.Tier, Drain: c.optionalShare(at+".drain", m.Drain)}
		if m.Weight != nil {
			if member.Weight = *m.Weight; member.Weight == 0 {
				c.fail(at+".weight", "leave the member out, or say `drain: 100%`", "a weight of 0 gives it nobody")
			}
		}
		out.Pool = append(out.Pool, member)
	}
	return out
}

// band reads a distance with its unit, which has to be that of the order.
func (c *compiler) band(path string, a actY) uint32 {
	if a.Band == "" {
		return 0
	}
	unit := "km"
	if a.Order == string(region.OrderMeasured) {
		unit = "ms"
	}
	number, ok := strings.CutSuffix(strings.TrimSpace(a.Band), unit)
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	if !ok || err != nil {
		c.fail(path, "such as 300km, or 20ms with `order: measured`", "%q is no band: want a whole number of %s", a.Band, unit)
	}
	return uint32(n)
}

// optionalShare is share, but nothing is 0.
func (c *compiler) optionalShare(path, s string) uint32 {
	if s == "" {
		return 0
	}
	return c.share(path, s)
}

func (c *compiler) nodes(kind string, in []nodeY) (out []region.Node) {
	for i, n := range in {
		out = append(out, region.Node{Name: n.Name, Address: n.Address, HTTP: n.HTTP, Admin: n.Admin,
			Key: c.key(fmt.Sprintf("%s[%d].key", kind, i), n.Key, kind+"-"+n.Name)})
	}
	return out
}

func (c *compiler) match(at string, m matchY) region.Match {
	out := region.Match{Services: convert[region.Service](m.Services), Platforms: m.Platforms, Countries: m.Countries, Continents: m.Continents,
		ASNs: m.ASNs, Carriers: m.Carriers, Homes: convert[region.ID](m.Homes), Acting: convert[region.ID](m.Acting),
		Cities: m.Cities, Subdivisions: m.Subdivisions, HealthyPOPs: convert[region.POPID](m.HealthyPOPs), HealthyRegions: convert[region.ID](m.HealthyRegions)}
	for i, n := range m.All {
		out.All = append(out.All, c.match(fmt.Sprintf("%s.all[%d]", at, i), n))
	}
	for i, n := range m.Any {
		out.Any = append(out.Any, c.match(fmt.Sprintf("%s.any[%d]", at, i), n))
	}
	if m.Not != nil {
		not := c.match(at+".not", *m.Not)
		out.Not = &not
	}
	for i, u := range m.UINs {
		first, last := c.uins(fmt.Sprintf("%s.uins[%d]", at, i), u)
		out.UINs = append(out.UINs, region.UINRange{First: first, Last: last})
	}
	if p := m.Percent; p != nil {
		out.Percent = &region.Percent{Salt: p.Salt, Below: c.share(at+".percent.share", p.Share)}
	}
	for i, v := range m.Versions {
		out.Versions = append(out.Versions, c.versions(fmt.Sprintf("%s.versions[%d]", at, i), v))
	}
	for i, p := range m.Prefixes {
		out.Prefixes = append(out.Prefixes, c.prefix(fmt.Sprintf("%s.prefixes[%d]", at, i), p))
	}
	return out
}

func place(p placeY) region.Place {
	return region.Place{City: p.City, Country: p.Country, Continent: p.Continent, Subdivision: p.Subdivision, Latitude: p.Latitude, Longitude: p.Longitude}
}

func check(k checkY) region.Check {
	return region.Check{Via: region.Via(k.Via), Port: k.Port, Path: k.Path, Host: k.Host}
}

// convert keeps an absent list nil, so that a world reads back as it was.
func convert[T ~string](in []string) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, s := range in {
		out[i] = T(s)
	}
	return out
}

func (c *compiler) key(path, text, name string) (k region.PublicKey) {
	if text != "" {
		if err := k.UnmarshalText([]byte(text)); err != nil {
			c.fail(path, "copy it from the .pub file", "%v", err)
		}
		return k
	}
	if c.keys == nil {
		c.fail(path, "`homing world init` makes keys", "there is no key for %s", name)
		return nil
	}
	k, err := c.keys(name)
	if err != nil {
		c.fail(path, "write `key:`, or let `homing world init --file` make keys", "there is no key for %s: %v", name, err)
	}
	return k
}

func (c *compiler) serves(at string, s serves) (e region.Endpoints) {
	for _, a := range []struct {
		service region.Service
		text    string
		to      *netip.AddrPort
	}{{region.Long, s.Long, &e.Long}, {region.Short, s.Short, &e.Short}, {region.Web, s.Web, &e.Web}} {
		if a.text == "" {
			continue
		}
		p, err := netip.ParseAddrPort(a.text)
		if err != nil {
			c.fail(fmt.Sprintf("%s.serves.%s", at, a.service), "clients get it in DNS answers, so it is an IP, not a name", "%q: want IP:port", a.text)
		}
		*a.to = p
	}
	return e
}

func (c *compiler) prefix(path, s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			return netip.PrefixFrom(a, a.BitLen())
		}
		c.fail(path, "such as 10.0.0.0/8 or 2001:db8::/32", "%q is no prefix", s)
	}
	return p
}

func (c *compiler) uins(path, s string) (first, last region.UIN) {
	a, b, ranged := strings.Cut(s, "-")
	first, err := region.ParseUIN(strings.TrimSpace(a))
	last = first
	if err == nil && ranged {
		last, err = region.ParseUIN(strings.TrimSpace(b))
	}
	if err != nil {
		c.fail(path, "such as 1000000-1999999", "%q is no UIN and no range of UINs", s)
	}
	return first, last
}

func (c *compiler) versions(path, s string) (v region.VersionRange) {
	a, b, ranged := strings.Cut(s, "-")
	from, err := strconv.ParseUint(strings.TrimSpace(a), 10, 32)
	v.From, v.To = uint32(from), uint32(from)
	if b = strings.TrimSpace(b); err == nil && ranged {
		var to uint64
		if b != "" {
			to, err = strconv.ParseUint(b, 10, 32)
		}
		v.To = uint32(to)
	}
	if err != nil {
		c.fail(path, "such as 80003, 80000-80099 or 80000- for no upper bound", "%q is no range of client versions", s)
	}
	return v
}

// share reads a percentage with at most two digits behind the point.
func (c *compiler) share(path, s string) uint32 {
	number, ok := strings.CutSuffix(strings.TrimSpace(s), "%")
	whole, fraction, _ := strings.Cut(number, ".")
	digits := whole + (fraction + "00")[:max(2, len(fraction))]
	n, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || len(fraction) > 2 || n > 10_000 {
		c.fail(path, "such as 5% or 0.25%", "%q is no share: want 0%% to 100%%, with two digits behind the point at most", s)
		return 0
	}
	return uint32(n)
}

// nodeKeys lists the key files of a world's nodes, operator and root first.
func nodeKeys(w *region.World) []string {
	names := []string{"operator", "root"}
	for i := range w.Regions {
		names = append(names, "region-"+string(w.Regions[i].ID))
	}
	for i := range w.POPs {
		names = append(names, "pop-"+string(w.POPs[i].ID))
	}
	for i := range w.DNS {
		names = append(names, "dns-"+w.DNS[i].Name)
	}
	for i := range w.IDs {
		names = append(names, "ids-"+w.IDs[i].Name)
	}
	return slices.Compact(names)
}
