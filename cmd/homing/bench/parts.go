package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region/worldfile"
)

// partsOptions say what a region in parts is made of.
type partsOptions struct {
	Logic      int // processes
	Presence   int // processes
	Partitions int
	TLS        bool
	ShedAbove  int
}

// parts is a region whose store, logic, presence and access are processes of
// their own.
type parts struct {
	*site
	logic, presence []string // names
	access          string
	admins          map[string]string // by name
}

// startParts makes the world below dir and starts its nodes.
func startParts(ctx context.Context, dir string, o partsOptions) (p *parts, err error) {
	p = &parts{site: &site{dir: dir}, access: "sh-access-1", admins: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	free := freePorts(9 + 2*(o.Logic+o.Presence))
	next := func() netip.AddrPort { a := free[0]; free = free[1:]; return a }
	at := endpoints{next(), next(), next(), next(), next(), next(), next()}
	p.long, p.short, p.admin, p.zone = at.long, "http://"+at.short.String(), at.admin.String(), zone
	if err := p.makeWorld(o.Partitions, at); err != nil {
		return p, err
	}
	files := node.TLS{}
	if o.TLS {
		f, err := pki.Ensure(filepath.Join(dir, "tls"), []string{"long." + zone}, []net.IP{net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return p, err
		}
		files = node.TLS{CA: f.CA, Cert: f.Cert, Key: f.Key}
		if p.roots, err = pki.Pool(f.CA); err != nil {
			return p, err
		}
	}
	processes := node.Processes{Store: next().String()}
	type part struct {
		name, admin string
		roles       []node.Role
	}
	list := []part{{"sh-store", "", []node.Role{node.RoleStore, node.RoleReplicator}}}
	p.admins["sh-store"], p.admins["ids-1"] = at.admin.String(), at.idsAdmin.String()
	for i := range o.Presence {
		name := fmt.Sprint("sh-presence-", i+1)
		p.presence = append(p.presence, name)
		processes.Presence = append(processes.Presence, node.Process{Name: name, Address: next().String()})
		list = append(list, part{name, next().String(), []node.Role{node.RolePresence}})
	}
	for i := range o.Logic {
		name := fmt.Sprint("sh-logic-", i+1)
		p.logic = append(p.logic, name)
		processes.Logic = append(processes.Logic, node.Process{Name: name, Address: next().String()})
		list = append(list, part{name, next().String(), []node.Role{node.RoleLogic}})
	}
	list = append(list, part{p.access, next().String(), []node.Role{node.RoleAccess}})

	if err := p.write(p.file("ids-1", "ids ids-1", "", []node.Role{node.RoleIDs})); err != nil {
		return p, err
	}
	names := []string{"ids-1"}
	for _, x := range list {
		c := p.file(x.name, "region sh", x.admin, x.roles)
		c.Processes, c.TLS, c.ShedAbove = processes, files, o.ShedAbove
		if err := p.write(c); err != nil {
			return p, err
		}
		if x.admin != "" {
			p.admins[x.name] = x.admin
		}
		names = append(names, x.name)
	}
	for _, name := range names {
		if err := p.start(name, 0); err != nil {
			return p, err
		}
	}
	for _, n := range p.nodes {
		if err := p.ready(ctx, n, p.admins[n.name]); err != nil {
			return p, err
		}
	}
	p.pid = p.process(p.access).cmd.Process.Pid
	return p, nil
}

func (p *parts) file(name, member, admin string, roles []node.Role) *node.Config {
	key := "region-sh.pem"
	if name == "ids-1" {
		key = "ids-ids-1.pem"
	}
	return &node.Config{
		Name: name, Member: member, Roles: roles, Dir: filepath.Join(p.dir, "state", name), Admin: admin,
		Key:   filepath.Join(p.dir, "world", "keys", key),
		World: filepath.Join(p.dir, "world", worldfile.GenesisName), Root: filepath.Join(p.dir, "world", "keys", "root.pub"),
		Health: node.Health{Interval: time.Minute, Rise: 1, Fall: 3}, // there is nobody to steer to
	}
}

func (p *parts) process(name string) *process {
	for _, n := range p.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// online asks the region how many connections of users it knows of.
func (p *parts) online(ctx context.Context, people []*person) (n int, err error) {
	const batch = 500
	for len(people) > 0 {
		some := people[:min(batch, len(people))]
		people = people[len(some):]
		q := url.Values{}
		for _, x := range some {
			q.Add("uin", x.UIN.String())
		}
		var found []observe.Presence
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/presence?"+q.Encode(), nil)
		if err != nil {
			return n, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return n, err
		}
		err = json.NewDecoder(resp.Body).Decode(&found)
		_ = resp.Body.Close()
		if err != nil {
			return n, fmt.Errorf("presence answers %s: %w", resp.Status, err)
		}
		for _, f := range found {
			if f.Process == p.access {
				n++
			}
		}
	}
	return n, nil
}

// restart ends a node, or kills it, starts it again, and returns how long it was
// not ready.
func (p *parts) restart(ctx context.Context, name string, kill bool) (time.Duration, error) {
	for i, n := range p.nodes {
		if n.name != name {
			continue
		}
		began := time.Now()
		if kill {
			_ = n.cmd.Process.Kill()
			<-n.done
		} else if err := n.stop(); err != nil {
			return 0, err
		}
		p.nodes = append(p.nodes[:i:i], p.nodes[i+1:]...)
		if err := p.start(name, 0); err != nil {
			return 0, err
		}
		if err := p.ready(ctx, p.nodes[len(p.nodes)-1], p.admins[name]); err != nil {
			return 0, err
		}
		if name == p.access {
			p.pid = p.nodes[len(p.nodes)-1].cmd.Process.Pid
		}
		return time.Since(began), nil
	}
	return 0, fmt.Errorf("there is no node %s", name)
}
