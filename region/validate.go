package region

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Limits of a world.
const (
	MaxPartitions = 4096
	// MaxRuleUINs bounds the UIN ranges in all rules together (a single UIN is
	// a range of one). Whoever wants to steer more owners one by one moves them.
	MaxRuleUINs = 10_000
	// MaxRuleDepth bounds all/any/not inside each other.
	MaxRuleDepth = 16
	// MaxTTL of a steered answer, in seconds. Longer ones would outlive a failover.
	MaxTTL = 86_400
	// MaxAnswers in one answer: sixteen A records still fit an unextended DNS reply.
	MaxAnswers = 16
)

// Problem is one thing that is wrong with a world. Path leads to it, such as
// "regions[1].backups[0]", in the words of the JSON.
type Problem struct {
	Path    string
	Message string
	Hint    string
}

// Err makes it an error of kind BadInput.
func (p Problem) Err() *Error {
	return Errorf(BadInput, "%s: %s", p.Path, p.Message).WithHint("%s", p.Hint)
}

// Validate reports the first thing that is wrong with a world on its own. What
// may follow what is [CheckSuccessor]'s.
func (w *World) Validate() error {
	if ps := w.Problems(); len(ps) > 0 {
		return ps[0].Err()
	}
	return nil
}

// Problems lists everything that is wrong with a world on its own.
func (w *World) Problems() []Problem { return w.problems(false) }

// ProblemsAlone lists everything that is wrong with the world of a stand-alone
// DNS server: it has names in place of regions, and nobody signs it.
func (w *World) ProblemsAlone() []Problem { return w.problems(true) }

func (w *World) problems(alone bool) []Problem {
	c := checker{w: w, alone: alone}
	c.head()
	c.regions()
	c.nodes()
	c.segments()
	c.steering()
	c.rules()
	return c.problems
}

type checker struct {
	w         *World
	alone     bool // of a stand-alone DNS server
	problems  []Problem
	keys      map[string]string // key bytes -> path
	addresses map[string]string // address -> node's path
	ranges    int               // UIN ranges in rules
}

func (c *checker) add(path, hint, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (c *checker) head() {
	w := c.w
	if w.Version == 0 {
		c.add("version", "the first world is 1", "the version is 0")
	}
	if err := validName("world", w.Name, 32); err != nil {
		c.add("name", "choose a short name; it can never change", "%v", err)
	}
	if msg := badZone(w.Zone); msg != "" {
		c.add("zone", `write it like "im.example.com"`, "zone %q: %s", w.Zone, msg)
	}
	if w.Partitions < 1 || w.Partitions > MaxPartitions {
		c.add("partitions", "64 is a good number; it can never change", "%d partitions: want 1 to %d", w.Partitions, MaxPartitions)
	}
	c.keys = make(map[string]string)
	if c.alone {
		c.names()
		return
	}
	if len(w.Names) > 0 {
		c.add("names", "regions and POPs serve long, short and web", "names are for a stand-alone DNS server")
	}
	if len(w.Operators) == 0 {
		c.add("operators", "`homing world init` makes one", "the world has no operator key, so nobody could sign the next one")
	}
	for i, k := range w.Operators {
		c.key(fmt.Sprintf("operators[%d]", i), k)
	}
	c.key("root", w.Root)
	if w.Threshold < 1 || w.Threshold > max(1, len(w.Operators)) {
		c.add("threshold", "it says how many operators sign the next world", "threshold %d: want 1 to %d, the number of operators", w.Threshold, max(1, len(w.Operators)))
	}
}

// key checks that a key is there and nobody else's: who holds two nodes' key
// could pass for either.
func (c *checker) key(path string, k PublicKey) {
	if c.alone {
		return
	}
	if len(k) != 32 {
		c.add(path, "`homing world init` makes keys", "the key is missing")
		return
	}
	if other, ok := c.keys[string(k)]; ok {
		c.add(path, "every node needs a key of its own", "the key is the same as %s's", other)
		return
	}
	c.keys[string(k)] = path
}

func (c *checker) regions() {
	w := c.w
	c.addresses = make(map[string]string)
	if len(w.Regions) == 0 && !c.alone {
		c.add("regions", "add at least one", "the world has no region")
	}
	seen := make(map[ID]bool)
	for i := range w.Regions {
		r := &w.Regions[i]
		at := fmt.Sprintf("regions[%d]", i)
		if err := r.ID.Valid(); err != nil {
			c.add(at+".id", "such as sh, hk or eu-west", "%v", err)
		}
		if seen[r.ID] {
			c.add(at+".id", "every region has an ID of its own", "region %s is there twice", r.ID)
		}
		seen[r.ID] = true
		if slices.Contains(w.Retired, r.ID) {
			c.add(at+".id", "IDs are never re-assigned: choose another", "region ID %s is retired", r.ID)
		}
		c.place(at+".place", r.Place)
		zones := make(map[string]bool)
		for j, z := range r.Zones {
			p := fmt.Sprintf("%s.zones[%d]", at, j)
			if err := validName("zone", z, 32); err != nil {
				c.add(p, "such as a, b or park-1", "%v", err)
			} else if zones[z] {
				c.add(p, "name every zone once", "zone %s is there twice", z)
			}
			zones[z] = true
		}
		backups := make(map[ID]bool)
		for j, b := range r.Backups {
			p := fmt.Sprintf("%s.backups[%d]", at, j)
			switch _, ok := w.Region(b); {
			case b == r.ID:
				c.add(p, "name other regions", "region %s cannot be its own backup", r.ID)
			case !ok:
				c.add(p, c.known(string(b)), "backup %q of region %s is no region of this world", b, r.ID)
			case backups[b]:
				c.add(p, "name every backup once", "backup %s of region %s is there twice", b, r.ID)
			}
			backups[b] = true
		}
		if _, ok := w.Region(r.Acting.Region); !ok {
			c.add(at+".acting.region", c.known(string(r.Acting.Region)), "%q acts for region %s but is no region of this world", r.Acting.Region, r.ID)
		}
		switch acting, _ := w.Region(r.Acting.Region); {
		case acting != nil && acting.Away:
			c.add(at+".acting.region", "have another region act before, or delete `away`", "region %s acts for region %s, and is away", acting.ID, r.ID)
		case r.NewBackup == "":
		case r.Acting.Region == r.ID:
			c.add(at+".newBackup", "order `backups` instead", "region %s acts for itself, and has a new backup", r.ID)
		default:
			if b, ok := w.Region(r.NewBackup); !ok {
				c.add(at+".newBackup", c.known(string(r.NewBackup)), "new backup %q of region %s is no region of this world", r.NewBackup, r.ID)
			} else if b.ID == r.ID || b.ID == r.Acting.Region || b.Away {
				c.add(at+".newBackup", "name a third region, which is not away", "region %s cannot be the new backup of %s", b.ID, r.ID)
			}
		}
		if r.Acting.Counter == 0 {
			c.add(at+".acting.counter", "counters start at 1", "the acting counter of region %s is 0", r.ID)
		}
		c.key(at+".key", r.Key)
		c.endpoints(at, r.Serves)
		c.hostPort(at+".admin", r.Admin)
		for _, group := range r.QueueGroups() {
			for _, broker := range strings.Split(group, ",") {
				if broker == "" {
					c.add(at+".queue", "", "%q: want host:port, several of a cluster separated by commas, clusters by semicolons", r.Queue)
					continue
				}
				c.hostPort(at+".queue", broker)
			}
		}
	}
	retired := make(map[ID]bool)
	for i, id := range w.Retired {
		at := fmt.Sprintf("retired[%d]", i)
		if err := id.Valid(); err != nil {
			c.add(at, "", "%v", err)
		} else if retired[id] {
			c.add(at, "name it once", "retired region %s is there twice", id)
		}
		retired[id] = true
	}
}

// known is the hint that lists the regions there are.
func (c *checker) known(wrong string) string {
	var ids []string
	for _, r := range c.w.Regions {
		ids = append(ids, string(r.ID))
	}
	return Nearest(wrong, ids)
}

func (c *checker) nodes() {
	w := c.w
	pops := make(map[POPID]bool)
	for i := range w.POPs {
		p := &w.POPs[i]
		at := fmt.Sprintf("pops[%d]", i)
		if err := p.ID.Valid(); err != nil {
			c.add(at+".id", "such as pop-1", "%v", err)
		}
		if pops[p.ID] {
			c.add(at+".id", "every POP has an ID of its own", "POP %s is there twice", p.ID)
		}
		pops[p.ID] = true
		c.place(at+".place", p.Place)
		c.key(at+".key", p.Key)
		c.endpoints(at, p.Serves)
		c.listeners(at, p)
		c.hostPort(at+".admin", p.Admin)
		c.share(at+".drainShare", p.DrainShare)
	}
	for kind, nodes := range map[string][]Node{"dns": w.DNS, "ids": w.IDs} {
		seen := make(map[string]bool)
		for i, n := range nodes {
			at := fmt.Sprintf("%s[%d]", kind, i)
			if err := validName(kind, n.Name, 32); err != nil {
				c.add(at+".name", "such as "+kind+"-1", "%v", err)
			}
			if seen[n.Name] {
				c.add(at+".name", "every node has a name of its own", "node %s is there twice", n.Name)
			}
			seen[n.Name] = true
			c.key(at+".key", n.Key)
			c.hostPort(at+".address", n.Address)
			c.hostPort(at+".http", n.HTTP)
			c.hostPort(at+".admin", n.Admin)
		}
	}
}

func (c *checker) place(path string, p Place) {
	if msg := badPlace(p); msg != "" {
		c.add(path, "", "%s", msg)
	}
}

func badPlace(p Place) string {
	switch {
	case !(p.Latitude >= -90 && p.Latitude <= 90): // also refuses NaN
		return fmt.Sprintf("latitude %v: want -90 to 90 degrees", p.Latitude)
	case !(p.Longitude >= -180 && p.Longitude <= 180):
		return fmt.Sprintf("longitude %v: want -180 to 180 degrees", p.Longitude)
	case p.Country != "" && !isCountry(p.Country):
		return fmt.Sprintf("country %q: want two capital letters (ISO 3166-1), such as CN", p.Country)
	case p.Subdivision != "" && !isSubdivision(p.Subdivision):
		return fmt.Sprintf("subdivision %q: want a code of ISO 3166-2, such as CN-SH", p.Subdivision)
	case p.Continent != "" && !slices.Contains(continents, p.Continent):
		return fmt.Sprintf("continent %q: want one of %s", p.Continent, strings.Join(continents, " "))
	}
	return ""
}

var continents = []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}

func isCountry(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

// isSubdivision is lenient about what stands behind the country.
func isSubdivision(s string) bool {
	if len(s) < 4 || len(s) > 6 || s[2] != '-' || !isCountry(s[:2]) {
		return false
	}
	for _, r := range s[3:] {
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}

// endpoints of one node may share an address among themselves (short and web),
// never with another node.
func (c *checker) endpoints(at string, e Endpoints) {
	for _, s := range []Service{Long, Short, Web} {
		a, ok := e.Of(s)
		if !ok {
			continue
		}
		p := fmt.Sprintf("%s.serves.%s", at, s)
		if a.Port() == 0 {
			c.add(p, "write IP:port", "address %s has no port", a)
		}
		if a.Addr().IsUnspecified() {
			c.add(p, "clients connect to it: give the public IP", "address %s is not one", a)
			continue
		}
		if other, ok := c.addresses[a.String()]; ok && other != at {
			c.add(p, "every node listens on addresses of its own", "address %s is also that of %s", a, other)
		}
		c.addresses[a.String()] = at
	}
}

// hostPort may be empty: not offered.
func (c *checker) hostPort(path, s string) {
	if s == "" {
		return
	}
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || perr != nil || n == 0 {
		c.add(path, "", "%q: want host:port", s)
	}
}

func (c *checker) segments() {
	w := c.w
	for i, s := range w.Segments {
		at := fmt.Sprintf("segments[%d]", i)
		if s.First == 0 || s.First > s.Last {
			c.add(at, "first to last, both included, from 1", "segment %d-%d is empty or begins with 0", s.First, s.Last)
		}
		if _, ok := w.Region(s.Home); !ok && !slices.Contains(w.Retired, s.Home) {
			c.add(at+".home", c.known(string(s.Home)), "segment %d-%d belongs to %q, which is no region of this world", s.First, s.Last, s.Home)
		}
		if i > 0 && s.First <= w.Segments[i-1].Last {
			p := w.Segments[i-1]
			if s.First < p.First && s.Last < p.First {
				c.add(at, "sort them by first", "segment %d-%d comes after %d-%d", s.First, s.Last, p.First, p.Last)
			} else {
				c.add(at, "a UIN belongs to one region", "segment %d-%d overlaps %d-%d", s.First, s.Last, p.First, p.Last)
			}
		}
	}
}

func (c *checker) steering() {
	w := c.w
	names := make(map[string]bool)
	asns := make(map[uint32]string)
	for i, k := range w.Carriers {
		at := fmt.Sprintf("carriers[%d]", i)
		if err := validName("carrier", k.Name, 32); err != nil {
			c.add(at+".name", "such as cmcc", "%v", err)
		}
		if names[k.Name] {
			c.add(at+".name", "put all its ASNs under one", "carrier %s is there twice", k.Name)
		}
		names[k.Name] = true
		for j, n := range k.ASNs {
			p := fmt.Sprintf("%s.asns[%d]", at, j)
			if n == 0 {
				c.add(p, "", "ASN 0 is nobody's")
			} else if other, ok := asns[n]; ok {
				c.add(p, "an ASN is of one carrier", "ASN %d is already %s's", n, other)
			}
			asns[n] = k.Name
		}
	}
	prefixes := make(map[netip.Prefix]bool)
	for i, p := range w.Places {
		at := fmt.Sprintf("places[%d]", i)
		c.prefix(at+".prefix", p.Prefix)
		if prefixes[p.Prefix] {
			c.add(at+".prefix", "the longest prefix wins, so each is given once", "prefix %s is there twice", p.Prefix)
		}
		prefixes[p.Prefix] = true
		c.place(at+".place", p.Place)
	}
	s := w.Steering
	if s.TTL == 0 || s.TTL > MaxTTL {
		c.add("steering.ttl", "30 is a good number", "TTL %d: want 1 to %d seconds", s.TTL, MaxTTL)
	}
	if s.Answers < 1 || s.Answers > MaxAnswers {
		c.add("steering.answers", "3 is a good number", "%d answers: want 1 to %d", s.Answers, MaxAnswers)
	}
	if !slices.Contains([]AllDown{LastKnownGood, Everything, Nothing}, s.AllDown) {
		c.add("steering.allDown", Nearest(string(s.AllDown), []string{"everything", "last-known-good", "nothing"}), "%q is no answer for when health leaves nobody", s.AllDown)
	}
}

func (c *checker) prefix(path string, p netip.Prefix) {
	if !p.IsValid() {
		c.add(path, "such as 10.0.0.0/8", "the prefix is missing or malformed")
	} else if p != p.Masked() {
		c.add(path, "write "+p.Masked().String(), "prefix %s has bits set behind its length", p)
	}
}

func badZone(z string) string {
	if z == "" {
		return "it is missing"
	}
	if len(z) > 200 {
		return "it is longer than 200 bytes, which leaves no room for labels in front"
	}
	for _, l := range strings.Split(z, ".") {
		if l == "" {
			return "it has an empty label or a trailing dot"
		}
		if len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return fmt.Sprintf("label %q: want 1 to 63 characters, no '-' at either end (RFC 1035, 2.3.1)", l)
		}
		for _, r := range l {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return fmt.Sprintf("label %q: want a-z, 0-9 and '-'", l)
			}
		}
	}
	return ""
}
