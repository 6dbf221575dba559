package node

import (
	"net/netip"
	"slices"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/presence"
	"github.com/homing-im/homing/region/access/route"
)

// Processes are those of a region that is not one process: the one with the
// store, those that serve requests (logic), those that know who is connected
// (presence). The same block stands in the file of each of them; a process
// listens at the address that its own name has here.
//
// Every access process is in front of them; it listens at the region's
// addresses in the world.
type Processes struct {
	Store    string    `yaml:"store"` // host:port
	Logic    []Process `yaml:"logic"`
	Presence []Process `yaml:"presence"`
	// Rules send some requests to certain logic processes, which get nothing else.
	// The first that matches counts.
	Rules []RouteRule `yaml:"rules,omitempty"`
}

// Process is one process and where the others reach it.
type Process struct {
	Name    string `yaml:"name"`    // of its node's file
	Address string `yaml:"address"` // host:port
}

// RouteRule matches when all its conditions hold.
type RouteRule struct {
	UINs     []UINRange     `yaml:"uins,omitempty"`
	Versions []VersionRange `yaml:"versions,omitempty"`
	To       []string       `yaml:"to"` // names of logic processes
}

// UINRange is first to last, both included.
type UINRange struct {
	First region.UIN `yaml:"first"`
	Last  region.UIN `yaml:"last"`
}

// VersionRange is from to to, both included; without to there is no upper bound.
type VersionRange struct {
	From uint32 `yaml:"from"`
	To   uint32 `yaml:"to,omitempty"`
}

// parts are the roles of a region that is not one process.
var parts = []Role{RoleStore, RoleLogic, RoleAccess, RolePresence}

func (c *Config) split() bool { return slices.ContainsFunc(parts, c.Has) }

func (p *Processes) validate(c *Config) error {
	there := p.Store != "" || len(p.Logic)+len(p.Presence)+len(p.Rules) > 0
	switch {
	case !c.split() && there:
		return wrongf("processes", "processes are of a region whose roles are store, logic, access and presence; this node has none of these")
	case !c.split():
		return nil
	case c.Has(RoleRegion):
		return wrongf("roles", "role region is store, logic, access and presence in one process: list it alone, or the parts")
	case p.Store == "" || len(p.Logic) == 0 || len(p.Presence) == 0:
		return wrongf("roles", `a region in parts needs "processes" with store, at least one logic and at least one presence`)
	case !c.Has(RoleStore) && c.Admin == "":
		return wrongf("roles", `set "admin": the region's own admin address belongs to the process with role store`)
	}
	if err := hostport("processes.store", p.Store, c); err != nil {
		return err
	}
	for _, l := range []struct {
		field string
		list  []Process
		role  Role
	}{{"processes.logic", p.Logic, RoleLogic}, {"processes.presence", p.Presence, RolePresence}} {
		here := false
		for i, a := range l.list {
			here = here || a.Name == c.Name
			if a.Name == "" || slices.ContainsFunc(l.list[:i], func(b Process) bool { return b.Name == a.Name || b.Address == a.Address }) {
				return wrongf(l.field, "%s: want a name and an address of its own for each", l.field)
			}
			if err := hostport(l.field, a.Address, c); err != nil {
				return err
			}
		}
		if c.Has(l.role) && !here {
			return wrongf(l.field, "%s has no process called %q, and this node has role %s", l.field, c.Name, l.role)
		}
	}
	if _, err := route.NewTable(p.logic(), p.rules()); err != nil {
		return wrongf("processes.rules", "processes.rules: %v", err)
	}
	return nil
}

func hostport(field, address string, c *Config) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || a.Port() == 0 {
		return wrongf(field, "%s: %q is no IP:port", field, address)
	}
	if !a.Addr().IsLoopback() && c.TLS.Cert == "" {
		return wrongf(field, "%s: %s is not loopback: set tls.ca, tls.cert and tls.key", field, address)
	}
	return nil
}

func (p *Processes) logic() []route.Instance {
	var all []route.Instance
	for _, l := range p.Logic {
		all = append(all, route.Instance{Name: l.Name, Address: l.Address})
	}
	return all
}

func (p *Processes) presence() []presence.NodeAddress {
	var all []presence.NodeAddress
	for _, l := range p.Presence {
		all = append(all, presence.NodeAddress{Name: l.Name, Address: l.Address})
	}
	return all
}

func (p *Processes) rules() []route.Rule {
	var all []route.Rule
	for _, r := range p.Rules {
		rule := route.Rule{To: r.To}
		for _, u := range r.UINs {
			rule.UINs = append(rule.UINs, region.UINRange{First: u.First, Last: u.Last})
		}
		for _, v := range r.Versions {
			rule.Versions = append(rule.Versions, region.VersionRange{From: v.From, To: v.To})
		}
		all = append(all, rule)
	}
	return all
}

// address returns where the process of that name listens.
func address(list []Process, name string) string {
	for _, p := range list {
		if p.Name == name {
			return p.Address
		}
	}
	return ""
}
