package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/accel"
	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/ids"
	idspebble "github.com/homing-im/homing/ids/pebble"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/replicator/embedded"
)

// startQueue runs the region's embedded broker.
func (n *Node) startQueue(context.Context, Options) error {
	w := n.world.View().World
	me, ok := w.Region(region.ID(n.self.Name))
	if !ok || me.Queue == "" {
		return fmt.Errorf("world %d gives region %s no queue address", w.Version, n.self.Name)
	}
	if groups := me.QueueGroups(); len(groups) != 1 || groups[0] != me.Queue || strings.Contains(me.Queue, ",") {
		return fmt.Errorf("queue %q is several brokers, and the embedded one is one: give region %s one address, or run Apache Kafka there and leave out role queue", me.Queue, n.self.Name)
	}
	if !loopback(me.Queue) {
		return fmt.Errorf("queue address %s is not loopback: the embedded broker has no authentication; run Apache Kafka there and leave out role queue", me.Queue)
	}
	b, err := embedded.Start(embedded.Options{
		Listen: me.Queue, Dir: filepath.Join(n.cfg.Dir, "queue"), Partitions: w.Partitions, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.queue = b
	n.onClose("queue", func(context.Context) error { return b.Close() })
	return nil
}

// idsRole is the worldwide service of account IDs.
type idsRole struct{ store *idspebble.Store }

func (n *Node) startIDs(ctx context.Context, _ Options) error {
	w := n.world.View().World
	address := ""
	for _, m := range w.IDs {
		if m.Name == n.self.Name {
			address = m.Address
		}
	}
	if address == "" {
		return fmt.Errorf("world %d gives %s no address", w.Version, n.self)
	}
	if !loopback(address) {
		return fmt.Errorf("ids address %s is not loopback: this version serves ids on loopback only", address)
	}
	store, err := idspebble.Open(idspebble.Options{Dir: filepath.Join(n.cfg.Dir, "ids"), Logger: n.log, Registry: n.reg})
	if err != nil {
		return err
	}
	n.onClose("ids store", func(context.Context) error { return store.Close() })
	l, err := listen(ctx, address)
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler:           ids.NewHandler(ids.Options{Store: store, View: n.world.View, Logger: n.log, Registry: n.reg, Hint: n.world.Hint}),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	n.onClose("ids", func(ctx context.Context) error {
		err := s.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, s.Close())
		}
		<-done
		return err
	})
	n.ids = &idsRole{store: store}
	return nil
}

func (r *idsRole) status(st *observe.NodeStatus) {
	if err := r.store.Writable(); err != nil && st.Ready {
		st.Ready, st.NotReady = false, err.Error()
	}
}

// popRole is a point of presence.
type popRole struct{ pop *accel.POP }

func (n *Node) startPOP(context.Context, Options) error {
	w := n.world.View().World
	me, ok := w.POP(region.POPID(n.self.Name))
	if !ok {
		return fmt.Errorf("world %d has no POP %s", w.Version, n.self.Name)
	}
	regionWebTLS := n.roots
	if n.webTLS(me.Serves.Short) == nil {
		regionWebTLS = nil
	}
	p, err := accel.New(accel.Options{
		ID: me.ID, World: n.world,
		Long: addr(me.Serves.Long), Short: addr(me.Serves.Short), Web: addr(me.Serves.Web),
		TLS: n.server, WebTLS: n.webTLS(me.Serves.Short), RegionTLS: n.roots, RegionWebTLS: regionWebTLS,
		MaxConnections: n.cfg.ShedAbove, Logger: n.log, Registry: n.reg,
	})
	if err != nil {
		return err
	}
	n.pop = &popRole{pop: p}
	n.admin.mux.HandleFunc("GET /choose", n.pop.choose)
	n.onClose("pop", func(context.Context) error { return p.Close() })
	return nil
}

// choose says to which region the POP takes a user: GET /choose?uin=.
func (r *popRole) choose(w http.ResponseWriter, req *http.Request) {
	uin, err := region.ParseUIN(req.FormValue("uin"))
	if err != nil {
		peer.WriteError(w, region.Errorf(region.BadInput, "uin=%.32q is not a UIN", req.FormValue("uin")).WithHint("ask for /choose?uin=1000001"))
		return
	}
	id, err := r.pop.Choose(uin)
	if err != nil {
		peer.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]region.ID{"region": id})
}

func (r *popRole) status(st *observe.NodeStatus) {
	s := r.pop.Status()
	st.POP = &observe.POPStatus{Connections: s.Connections.Long, Draining: s.Draining, RTTMillis: map[string]float64{}}
	for id, to := range s.Regions {
		if to.Up {
			st.POP.RTTMillis[string(id)] = to.RTTMilli
		}
	}
}

// dnsRole is the smart DNS.
type dnsRole struct {
	steering *steering
	server   *authority.Server
	node     *Node
	zones    atomic.Pointer[static.Set]
	log      queryLog // nil: no query log
}

// questions serves what clients asked lately, for simulations: ?seconds=300.
func (r *dnsRole) questions(w http.ResponseWriter, req *http.Request) {
	seconds, err := strconv.ParseUint(req.FormValue("seconds"), 10, 16)
	if err != nil || seconds == 0 {
		http.Error(w, "say how far back: ?seconds=300, at most 65535", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(r.server.Questions(time.Duration(seconds) * time.Second)); err != nil {
		r.node.log.Debug("questions not sent", "error", err)
	}
}

// reload reads zone files and keys again; when one is wrong all stay as they were.
func (r *dnsRole) reload() error {
	if r.log != nil {
		if err := r.log.Reopen(); err != nil {
			return err
		}
	}
	zones, err := static.LoadSet(r.node.cfg.DNS.Zones...)
	if err != nil {
		return err
	}
	ring, err := r.node.cfg.DNS.keyRing()
	if err != nil {
		return err
	}
	if err := useKeys(ring, r.server, r.node.world.View().World.Zone); err != nil {
		return err
	}
	r.zones.Store(zones)
	return nil
}

func (n *Node) startDNS(ctx context.Context, _ Options) error {
	w := n.world.View().World
	var me *region.Node
	for i := range w.DNS {
		if w.DNS[i].Name == n.self.Name {
			me = &w.DNS[i]
		}
	}
	if me == nil {
		return fmt.Errorf("world %d has no DNS node %s", w.Version, n.self.Name)
	}
	s, err := n.newSteering(ctx)
	if err != nil {
		return err
	}
	role := &dnsRole{steering: s, node: n}
	if err := role.reload(); err != nil {
		return err
	}
	o := authority.Options{
		Static: role.zones.Load,
		View:   n.world.View, Health: func() steer.Health { return s.health.Health().Up() }, Geo: s.geo, TLS: n.server,
		Listen: []string{me.Address}, HTTP: []string{me.HTTP}, Logger: n.log, Registry: n.reg,
	}
	if err := n.cfg.DNS.options(&o); err != nil {
		return err
	}
	o.Sign = n.startGrants().sign
	if role.log, err = n.cfg.DNS.openLog(&o, n.cfg.Name); err != nil {
		return err
	}
	if role.log != nil {
		n.onClose("query log", func(context.Context) error { return role.log.Close() })
	}
	o.ServiceAddrs = func() []string {
		var out []string
		for _, node := range n.world.View().World.DNS {
			if node.HTTP != "" {
				out = append(out, strings.TrimSuffix(node.HTTP, ":80"))
			}
		}
		return out
	}
	spareProcessors(spareDNS)
	server, err := authority.New(o)
	if err != nil {
		return err
	}
	for _, key := range o.Keys {
		ds, err := authority.DS(w.Zone, &key.PublicKey)
		if err != nil {
			return err
		}
		n.log.Info("the zone is signed; its parent needs the DS of one of the keys", "ds", ds)
	}
	server.Start()
	n.onClose("dns", func(context.Context) error { return server.Close() })
	role.server = server
	n.admin.mux.HandleFunc("GET /dns/questions", role.questions)
	n.admin.mux.HandleFunc("GET /dns/top", serveTop(server, n.log))
	n.admin.mux.HandleFunc("GET /dns/measured", n.getMeasured)
	n.admin.mux.HandleFunc("GET /dns/shadow", serveShadow(server, n.log))
	n.dns = role
	return nil
}

func (r *dnsRole) status(st *observe.NodeStatus) {
	h := r.steering.health.Health()
	s := &observe.DNSStatus{Questions: r.node.total("homing_dns_responses_total"), POPs: map[string]bool{}, Regions: map[string]bool{}}
	w := r.node.world.View().World
	for _, p := range w.POPs {
		s.POPs[string(p.ID)] = h.POP(p.ID)
	}
	for _, g := range w.Regions {
		s.Regions[string(g.ID)] = h.Region(g.ID)
	}
	st.DNS = s
}

// total adds up a counter over its labels.
func (n *Node) total(name string) uint64 {
	families, err := n.reg.Gather()
	if err != nil {
		return 0
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return uint64(sum)
}
