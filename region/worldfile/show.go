package worldfile

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/homing-im/homing/region"
)

func mustAddr(ip string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), port)
}

// Show writes a world as a world file that compiles to it again, given the same
// parents.
func Show(w *region.World) string {
	p := &printer{}
	p.line("# World %s, version %d.", w.Name, w.Version)
	p.line("name: %s", quote(w.Name))
	p.line("zone: %s", quote(w.Zone))
	p.line("partitions: %d", w.Partitions)
	p.line("threshold: %d", w.Threshold)
	p.line("operators: %s", list(w.Operators))
	p.line("root: %s", w.Root)
	p.line("steering: {ttl: %d, answers: %d, all-down: %s}", w.Steering.TTL, w.Steering.Answers, w.Steering.AllDown)
	p.section("regions", len(w.Regions))
	for i := range w.Regions {
		p.region(&w.Regions[i])
	}
	p.section("pops", len(w.POPs))
	for i := range w.POPs {
		o := &w.POPs[i]
		p.line("  - id: %s", o.ID)
		p.common(o.Title, o.Place, o.Serves)
		p.field("admin", o.Admin)
		p.flag("witness", o.Witness)
		p.flag("drain", o.Drain)
		p.field("drain-share", shareText(o.DrainShare))
		p.check(o.Check)
		p.number("users", o.Users)
		p.line("    key: %s", o.Key)
	}
	p.nodes("dns", w.DNS)
	p.nodes("ids", w.IDs)
	p.section("segments", len(w.Segments))
	for _, s := range w.Segments {
		p.line("  - {uins: %d-%d, home: %s}", s.First, s.Last, s.Home)
	}
	if len(w.Retired) > 0 {
		p.line("retired: %s", list(w.Retired))
	}
	p.section("carriers", len(w.Carriers))
	for _, c := range w.Carriers {
		p.line("  - {name: %s, asns: %s}", c.Name, list(c.ASNs))
	}
	p.section("places", len(w.Places))
	for _, x := range w.Places {
		asn := ""
		if x.ASN != 0 {
			asn = fmt.Sprintf(", asn: %d", x.ASN)
		}
		p.line("  - {prefix: %s, place: %s%s}", quote(x.Prefix.String()), placeText(x.Place), asn)
	}
	p.section("rules", len(w.Rules))
	for i := range w.Rules {
		r := &w.Rules[i]
		p.line("  - name: %s", r.Name)
		p.line("    match: %s", matchText(r.Match))
		p.line("    act: %s", actText(r.Act))
	}
	return p.b.String()
}

type printer struct{ b strings.Builder }

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(&p.b, format, args...)
	p.b.WriteByte('\n')
}

func (p *printer) section(name string, n int) {
	if n > 0 {
		p.line("%s:", name)
	}
}

func (p *printer) field(name, value string) {
	if value != "" {
		p.line("    %s: %s", name, quote(value))
	}
}

func (p *printer) flag(name string, on bool) {
	if on {
		p.line("    %s: true", name)
	}
}

func (p *printer) number(name string, n uint64) {
	if n != 0 {
		p.line("    %s: %d", name, n)
	}
}

func (p *printer) common(title string, at region.Place, e region.Endpoints) {
	p.field("title", title)
	p.line("    place: %s", placeText(at))
	var parts []string
	for _, s := range []region.Service{region.Long, region.Short, region.Web} {
		if a, ok := e.Of(s); ok {
			parts = append(parts, fmt.Sprintf("%s: %s", s, quote(a.String())))
		}
	}
	if len(parts) > 0 {
		p.line("    serves: {%s}", strings.Join(parts, ", "))
	}
}

func (p *printer) region(r *region.Region) {
	p.line("  - id: %s", r.ID)
	p.common(r.Title, r.Place, r.Serves)
	p.field("admin", r.Admin)
	p.field("queue", r.Queue)
	if len(r.Zones) > 0 {
		p.line("    zones: %s", list(r.Zones))
	}
	if len(r.Backups) > 0 {
		p.line("    backups: %s", list(r.Backups))
	}
	if r.Acting.Region != r.ID {
		p.line("    acting: %s", r.Acting.Region)
	}
	p.field("new-backup", string(r.NewBackup))
	p.flag("away", r.Away)
	p.number("users", r.Users)
	p.line("    key: %s", r.Key)
}

func (p *printer) check(k region.Check) {
	if k == (region.Check{}) {
		return
	}
	parts := []string{"via: " + string(k.Via)}
	if k.Port != 0 {
		parts = append(parts, fmt.Sprintf("port: %d", k.Port))
	}
	if k.Path != "" {
		parts = append(parts, "path: "+quote(k.Path))
	}
	if k.Host != "" {
		parts = append(parts, "host: "+quote(k.Host))
	}
	p.line("    check: {%s}", strings.Join(parts, ", "))
}

func (p *printer) nodes(kind string, nodes []region.Node) {
	p.section(kind, len(nodes))
	for _, n := range nodes {
		p.line("  - name: %s", n.Name)
		p.field("address", n.Address)
		p.field("http", n.HTTP)
		p.field("admin", n.Admin)
		p.line("    key: %s", n.Key)
	}
}

func placeText(p region.Place) string {
	var parts []string
	for _, f := range [][2]string{{"city", p.City}, {"country", p.Country}, {"continent", p.Continent}, {"subdivision", p.Subdivision}} {
		if f[1] != "" {
			parts = append(parts, f[0]+": "+quote(f[1]))
		}
	}
	return "{" + strings.Join(append(parts, "lat: "+float(p.Latitude), "lon: "+float(p.Longitude)), ", ") + "}"
}

// float never writes an exponent, which YAML readers take for text.
func float(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// quote always quotes: "NO" is a country, not a truth value.
func quote(s string) string { return strconv.Quote(s) }

func list[T any](in []T) string {
	var out []string
	for _, v := range in {
		switch v := any(v).(type) {
		case uint32:
			out = append(out, strconv.FormatUint(uint64(v), 10))
		default:
			out = append(out, quote(fmt.Sprint(v)))
		}
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func matchText(m region.Match) string {
	var f flow
	f.matches("all", m.All)
	f.matches("any", m.Any)
	if m.Not != nil {
		f.add("not", matchText(*m.Not))
	}
	f.add("services", texts(m.Services))
	f.add("uins", ranges(m.UINs, func(u region.UINRange) (uint64, uint64) { return uint64(u.First), uint64(u.Last) }))
	if m.Percent != nil {
		f.add("percent", fmt.Sprintf(`{salt: %s, share: "%d.%02d%%"}`, quote(m.Percent.Salt), m.Percent.Below/100, m.Percent.Below%100))
	}
	f.add("versions", ranges(m.Versions, func(v region.VersionRange) (uint64, uint64) { return uint64(v.From), uint64(v.To) }))
	f.add("platforms", texts(m.Platforms))
	f.add("prefixes", texts(m.Prefixes))
	f.add("countries", texts(m.Countries))
	f.add("continents", texts(m.Continents))
	f.add("asns", texts(m.ASNs))
	f.add("carriers", texts(m.Carriers))
	f.add("homes", texts(m.Homes))
	f.add("acting", texts(m.Acting))
	f.add("cities", texts(m.Cities))
	f.add("subdivisions", texts(m.Subdivisions))
	f.add("healthy-pops", texts(m.HealthyPOPs))
	f.add("healthy-regions", texts(m.HealthyRegions))
	return f.String()
}

// shareText is the empty string for nothing.
func shareText(hundredths uint32) string {
	if hundredths == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%02d%%", hundredths/100, hundredths%100)
}

func poolText(pool []region.PoolMember) string {
	if len(pool) == 0 {
		return ""
	}
	var out []string
	for _, m := range pool {
		var f flow
		f.text("pop", string(m.POP))
		f.text("region", string(m.Region))
		f.count("tier", m.Tier)
		f.count("weight", m.Weight)
		f.text("drain", shareText(m.Drain))
		out = append(out, f.String())
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func actText(a region.Act) string {
	var f flow
	f.add("pops", texts(a.POPs))
	f.add("regions", texts(a.Regions))
	if a.Nearest {
		f.add("nearest", "true")
	}
	f.add("pool", poolText(a.Pool))
	f.text("order", string(a.Order))
	if a.Band != 0 {
		unit := "km"
		if a.Order == region.OrderMeasured {
			unit = "ms"
		}
		f.add("band", fmt.Sprintf("%d%s", a.Band, unit))
	}
	f.text("sticky", string(a.Sticky))
	f.text("spill", shareText(a.Spill))
	f.text("all-down", string(a.AllDown))
	f.count("ttl", a.TTL)
	return f.String()
}

// flow is a flow mapping; empty values are left out.
type flow []string

func (f *flow) add(name, value string) {
	if value != "" {
		*f = append(*f, name+": "+value)
	}
}

// text adds a quoted value.
func (f *flow) text(name, value string) {
	if value != "" {
		f.add(name, quote(value))
	}
}

func (f *flow) count(name string, n uint32) {
	if n != 0 {
		f.add(name, strconv.FormatUint(uint64(n), 10))
	}
}

func (f *flow) matches(name string, ms []region.Match) {
	if len(ms) == 0 {
		return
	}
	var out []string
	for _, m := range ms {
		out = append(out, matchText(m))
	}
	f.add(name, "["+strings.Join(out, ", ")+"]")
}

func (f flow) String() string { return "{" + strings.Join(f, ", ") + "}" }

func texts[T any](in []T) string {
	if len(in) == 0 {
		return ""
	}
	return list(in)
}

func ranges[T any](in []T, ends func(T) (uint64, uint64)) string {
	var out []string
	for _, r := range in {
		switch from, to := ends(r); {
		case from == to:
			out = append(out, quote(fmt.Sprint(from)))
		case to == 0:
			out = append(out, quote(fmt.Sprintf("%d-", from)))
		default:
			out = append(out, quote(fmt.Sprintf("%d-%d", from, to)))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "[" + strings.Join(out, ", ") + "]"
}
