package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// partitions of the demo's world: enough to show that they are independent, few
// enough for one machine's queues.
const partitions = 8

// made is what a demo's directory was made for. Addresses are in the signed
// world and on disk, so another choice needs --fresh.
type made struct {
	Regions  []string `json:"regions"`
	PortBase int      `json:"port_base"`
	Shared   bool     `json:"shared_address"`
	Postgres []string `json:"postgres,omitempty"` // regions whose store is not in the directory
}

// check refuses a directory that was made for something else, and writes down
// what a new one is made for.
func (m made) check(dir string) error {
	path := filepath.Join(dir, "made.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = json.Marshal(m); err != nil {
			return err
		}
		return endpoints.WriteFile(path, append(b, '\n'), 0o600)
	}
	if err != nil {
		return err
	}
	var was made
	if err := json.Unmarshal(b, &was); err != nil {
		return fmt.Errorf("%s is damaged: %w; start with --fresh", path, err)
	}
	if !slices.Equal(was.Regions, m.Regions) || was.PortBase != m.PortBase || was.Shared != m.Shared {
		return fmt.Errorf("%s was made with --regions %s --port-base %d: say the same, another --dir, or --fresh to begin anew", dir, strings.Join(was.Regions, ","), was.PortBase)
	}
	if !slices.Equal(was.Postgres, m.Postgres) {
		return fmt.Errorf("%s was made with --postgres for %q: say the same, another --dir, or --fresh to begin anew", dir, strings.Join(was.Postgres, ","))
	}
	return nil
}

// zoneDir has the keys that sign the world's zone, as homing dns key keeps them.
const zoneDir = "zone"

// layOut makes keys, certificates, the signed world and a file per node in dir,
// unless they are there, and returns the paths of the nodes' files.
func layOut(dir string, p *plan) ([]string, error) {
	worldDir := filepath.Join(dir, "world")
	genesis := filepath.Join(worldDir, worldfile.GenesisName)
	if _, err := os.Stat(genesis); errors.Is(err, fs.ErrNotExist) {
		// Init may have been interrupted before: nobody has seen its keys yet.
		if err := os.RemoveAll(worldDir); err != nil {
			return nil, err
		}
		if _, _, err := worldfile.Init(worldfile.Options{Dir: worldDir, World: p.world()}); err != nil {
			return nil, err
		}
	}
	if _, err := authority.NewKeyRing(filepath.Join(dir, zoneDir), p.zone, time.Now()); err != nil && region.KindOf(err) != region.Conflict {
		return nil, err
	}
	names := []string{string(region.Long) + "." + p.zone, string(region.Short) + "." + p.zone, string(region.Web) + "." + p.zone, "ns1." + p.zone, "localhost"}
	ips := []net.IP{p.dns.dot.Addr().AsSlice()}
	for _, m := range slices.Concat(p.regions, p.pops) {
		ips = append(ips, m.long.Addr().AsSlice())
	}
	if _, err := pki.Ensure(filepath.Join(dir, "tls"), names, ips); err != nil {
		return nil, err
	}
	var paths []string
	for _, m := range p.all() {
		path := filepath.Join(dir, "nodes", m.id+".yaml")
		paths = append(paths, path)
		if _, err := os.Stat(path); err == nil {
			continue // as its owner may have changed it
		}
		c := p.config(m)
		if dsn, ok := p.postgres[m.id]; ok && m.kind == "region" {
			if err := useDatabase(dir, c, m.id, dsn); err != nil {
				return nil, err
			}
		}
		b, err := yaml.Marshal(c)
		if err != nil {
			return nil, err
		}
		if err := endpoints.WriteFile(path, b, 0o600); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// config is the file of a member's node; paths are relative to the file.
func (p *plan) config(m member) *node.Config {
	c := &node.Config{
		Name: m.id, Member: m.kind + " " + m.id, Dir: "../state/" + m.id,
		Key: "../world/keys/" + m.kind + "-" + m.id + ".pem", World: "../world/genesis.json", Root: "../world/keys/root.pub",
		TLS:    node.TLS{CA: "../tls/ca.pem", Cert: "../tls/server.pem", Key: "../tls/server.key"},
		Gossip: node.Gossip{Bind: m.gossip.String(), Join: []string{p.dns.gossip.String(), p.regions[0].gossip.String()}},
		Health: node.Health{Interval: 500 * time.Millisecond, Rise: 1, Fall: 3},
		Geo:    []string{geo.EmbeddedDemo, geo.EmbeddedCountry},
	}
	switch m.kind {
	case "region":
		c.Roles = []node.Role{node.RoleQueue, node.RoleRegion, node.RoleReplicator}
		c.Health.Interval = 2 * time.Second // its redirects are few; the DNS is asked first
	case "pop":
		c.Roles = []node.Role{node.RolePOP}
	case "dns":
		c.Roles = []node.Role{node.RoleDNS, node.RoleConsole}
		c.Console = p.console.String()
		c.DNS = node.DNS{DoT: []string{m.dot.String()}, DoQ: []string{m.dot.String()}, DoH: []string{m.doh.String()}, ZoneKeys: []string{"../" + zoneDir}}
	case "ids":
		c.Roles = []node.Role{node.RoleIDs}
	}
	return c
}

// world is the plan as a world, without keys.
func (p *plan) world() *region.World {
	w := &region.World{
		Name: "demo", Zone: p.zone, Partitions: partitions,
		Steering: region.Steering{TTL: 10, Answers: 2, AllDown: "everything"},
		DNS:      []region.Node{{Name: p.dns.id, Address: p.dns.address.String(), HTTP: p.dns.http.String(), Admin: p.dns.admin.String()}},
		IDs:      []region.Node{{Name: p.ids.id, Address: p.ids.address.String(), Admin: p.ids.admin.String()}},
		Carriers: []region.Carrier{
			{Name: "telecom", ASNs: []uint32{4134, 4812}}, {Name: "unicom", ASNs: []uint32{4837, 17621}}, {Name: "mobile", ASNs: []uint32{9808, 56040}},
		},
	}
	home := p.regions[0]
	w.Places = []region.Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Place: home.place}}
	for i, m := range p.regions {
		id := region.ID(m.id)
		w.Regions = append(w.Regions, region.Region{
			ID: id, Title: m.title, Place: m.place, Zones: []string{"a"}, Backups: p.backups[id],
			Serves: region.Endpoints{Long: m.long, Short: m.short, Web: m.web}, Admin: m.admin.String(), Queue: m.queue.String(), Users: 100_000,
		})
		first := region.UIN(i+1) * 1_000_000
		w.Segments = append(w.Segments, region.Segment{First: first, Last: first + 999_999, Home: id})
	}
	for _, m := range p.pops {
		w.POPs = append(w.POPs, region.POP{ID: region.POPID(m.id), Title: m.title, Place: m.place,
			Serves: region.Endpoints{Long: m.long, Short: m.short, Web: m.web}, Admin: m.admin.String(), Users: 50_000})
	}
	// Rules that show what rules do: old clients skip the POPs, one carrier has
	// its own POP, a twentieth of the users try the second POP first.
	w.Rules = []region.Rule{
		{Name: "old-clients-direct", Match: region.Match{Versions: []region.VersionRange{{From: 1, To: 69999}}, Homes: []region.ID{region.ID(home.id)}},
			Act: region.Act{Regions: []region.ID{region.ID(home.id)}}},
		{Name: "telecom-pop", Match: region.Match{Carriers: []string{"telecom"}, Services: []region.Service{region.Long}},
			Act: region.Act{POPs: []region.POPID{w.POPs[1].ID, w.POPs[0].ID}}},
		{Name: "canary", Match: region.Match{Percent: &region.Percent{Salt: "canary-1", Below: 500}, Homes: []region.ID{region.ID(home.id)}},
			Act: region.Act{POPs: []region.POPID{w.POPs[1].ID, w.POPs[0].ID}, TTL: 5}},
	}
	return w
}
