package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/homing-im/homing/deploy/lab/script"
	"github.com/homing-im/homing/deploy/lab/wan"
)

// site is a network namespace and what runs there.
type site struct {
	name    wan.Site
	place   place
	address netip.Addr
	nodes   []node // processes of the world; none where people or the operator are
}

// place is where a site is, and decides how far others are.
type place string

const (
	shanghai place = "sh"
	hongkong place = "hk"
	toronto  place = "ca"
)

// node is a process: a file for `homing run -c`.
type node struct {
	name   string
	member string // of the world
	roles  string
	admin  string // host:port; "" is the world's
	gossip int    // port
	health string
}

// queueRole is the role of the embedded broker.
const queueRole = "queue"

const (
	// operator is where admin commands come from.
	operator wan.Site = "ops"
	// near is the delay inside a place, one way.
	near = time.Millisecond
)

// far is the delay between two places, one way: about what light in fibre and
// the detours of a cable make of these distances.
func far(a, b place) time.Duration {
	switch {
	case a == b:
		return near
	case a == toronto || b == toronto:
		return 95 * time.Millisecond
	default:
		return 15 * time.Millisecond
	}
}

// sites are the lab's. The operator sits with Toronto, so that what befalls sh
// and hk leaves the hand that commands alone.
func sites() []site {
	at := netip.MustParseAddr
	var all []site
	for i, id := range []place{shanghai, hongkong, toronto} {
		n := i + 1
		region := fmt.Sprintf("127.0.%d.1", n)
		all = append(all,
			site{wan.Site(id), id, at(region), []node{
				{name: string(id) + "-queue", member: "region " + string(id), roles: queueRole, admin: region + ":7410", gossip: 7402},
				{name: string(id), member: "region " + string(id), roles: "region, replicator", gossip: 7401, health: "{interval: 1s, rise: 1, fall: 3}"},
			}},
			site{wan.Site("pop-" + id), id, at(fmt.Sprintf("127.0.1%d.1", n)), []node{
				{name: "pop-" + string(id), member: "pop pop-" + string(id), roles: "pop", gossip: 7401},
			}},
			site{wan.Site("c-" + id), id, at(fmt.Sprintf("127.1.%d.1", n)), nil})
	}
	return append(all,
		site{"dns-1", shanghai, at("127.0.20.1"), []node{{name: "dns-1", member: "dns dns-1", roles: "dns", gossip: 7401, health: "{interval: 500ms, rise: 1, fall: 3}"}}},
		site{"dns-2", hongkong, at("127.0.21.1"), []node{{name: "dns-2", member: "dns dns-2", roles: "dns", gossip: 7401, health: "{interval: 500ms, rise: 1, fall: 3}"}}},
		site{"ids", toronto, at("127.0.30.1"), []node{{name: "ids-1", member: "ids ids-1", roles: "ids", gossip: 7401}}},
		site{operator, toronto, at("127.0.40.1"), nil})
}

// dnsOf is the DNS node that people of a place ask.
func dnsOf(p place) netip.Addr {
	if p == shanghai {
		return netip.MustParseAddr("127.0.20.1")
	}
	return netip.MustParseAddr("127.0.21.1")
}

// vocabulary is what scenarios may name.
func vocabulary() script.World {
	var w script.World
	for _, s := range sites() {
		w.Sites = append(w.Sites, string(s.name))
		switch {
		case len(s.nodes) == 2:
			w.Regions = append(w.Regions, string(s.name))
		case len(s.nodes) == 1:
			w.Members = append(w.Members, string(s.name))
		case s.name != operator:
			w.Clients = append(w.Clients, string(s.name))
		}
	}
	return w
}

// replicates says whether the node writes to its region's queue.
func (n node) replicates() bool { return strings.Contains(n.roles, "replicator") }

// file is the node's, as `homing run -c` reads it.
func (n node) file(at netip.Addr) string {
	kind, name, _ := strings.Cut(n.member, " ")
	text := fmt.Sprintf(`name: %s
member: %s
roles: [%s]
dir: ../state/%s
key: ../world/keys/%s-%s.pem
world: ../world/genesis.json
root: ../world/keys/root.pub
tls: {ca: ../tls/ca.pem, cert: ../tls/server.pem, key: ../tls/server.key}
gossip: {bind: "%s:%d", join: ["127.0.20.1:7401", "127.0.2.1:7401", "127.0.3.1:7401"]}
`, n.name, n.member, n.roles, n.name, kind, name, at, n.gossip)
	if n.admin != "" {
		text += "admin: " + n.admin + "\n"
	}
	if n.health != "" {
		text += "health: " + n.health + "\n"
	}
	return text
}
