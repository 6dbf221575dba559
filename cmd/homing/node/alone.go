package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/dns/health"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// Alone makes the node a DNS server of its own: it belongs to no world, has no
// key, and believes the file because who can write that can do anything here.
type Alone struct {
	// Steering is what it answers: see worldfile.CompileAlone. SIGHUP reads it again.
	Steering string   `yaml:"steering"`
	Listen   []string `yaml:"listen"`         // host:port for UDP and TCP
	HTTP     []string `yaml:"http,omitempty"` // host:port for HTTPDNS and explanations
}

func (a *Alone) resolve(dir string) {
	if a != nil && a.Steering != "" && !filepath.IsAbs(a.Steering) {
		a.Steering = filepath.Join(dir, a.Steering)
	}
}

// validateAlone refuses what only a member of a world has: set, it would do
// nothing.
func (c *Config) validateAlone() error {
	a := c.Alone
	if !slices.Equal(c.Roles, []Role{RoleDNS}) {
		return wrongf("roles", "roles %v: a node with alone runs dns and nothing else", c.Roles)
	}
	for field, there := range map[string]bool{
		"member": c.Member != "", "key": c.Key != "", "world": c.World != "", "root": c.Root != "", "dir": c.Dir != "", "console": c.Console != "",
		"gossip.bind": c.Gossip.Bind != "",
	} {
		if there {
			return wrongf(field, "%s belongs to a member of a world: delete it, or alone", field)
		}
	}
	if a.Steering == "" {
		return wrongf("alone", "alone.steering is missing: say the file of names and addresses")
	}
	if len(a.Listen) == 0 {
		return wrongf("alone", "alone.listen is missing: say host:port for DNS")
	}
	for field, list := range map[string][]string{"alone.listen": a.Listen, "alone.http": a.HTTP} {
		for _, at := range list {
			if _, _, err := net.SplitHostPort(at); err != nil {
				return wrongf(field, "%s %q: want host:port", field, at)
			}
		}
	}
	if c.Admin != "" && !loopback(c.Admin) {
		return wrongf("admin", "admin %s is not loopback: it shows profiles, and has no authentication", c.Admin)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return wrongf("tls", "tls.cert and tls.key go together")
	}
	if err := c.DNS.validate(c); err != nil {
		return err
	}
	return c.Health.validate()
}

// Standalone is a DNS server that belongs to no world.
type Standalone struct {
	cfg    *Config
	log    *slog.Logger
	reg    *prometheus.Registry
	geo    *geo.DB
	health *health.Checker
	server *authority.Server
	admin  *admin // nil without an address for it

	queries queryLog           // nil: no query log
	stop    context.CancelFunc // of what runs
	running sync.WaitGroup

	source atomic.Pointer[[]byte] // of the view
	view   atomic.Pointer[region.View]
	zones  atomic.Pointer[static.Set]
}

// StartAlone runs the server and returns when it answers. On error everything
// already started is stopped.
func StartAlone(ctx context.Context, cfg *Config, logger *slog.Logger) (_ *Standalone, err error) {
	s := &Standalone{cfg: cfg, log: logger.With("name", cfg.Name), reg: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			_ = s.Close(stop)
			err = explain(err)
		}
	}()
	s.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.readSteering(); err != nil {
		return nil, err
	}
	if err := s.readZones(); err != nil {
		return nil, err
	}
	if s.geo, err = geo.Open(geo.Options{Files: cfg.Geo, View: s.view.Load, Logger: s.log, Registry: s.reg, Degrade: true}); err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.geo.Watch(watching) })
	s.health = health.New(health.Options{
		View: s.view.Load, Interval: cfg.Health.Interval, Timeout: cfg.Health.Timeout, Rise: cfg.Health.Rise, Fall: cfg.Health.Fall,
		Logger: s.log, Registry: s.reg,
	})
	o := authority.Options{
		View: s.view.Load, Health: func() steer.Health { return s.health.Health().Up() }, Geo: s.geo, Static: s.zones.Load,
		Listen: cfg.Alone.Listen, HTTP: cfg.Alone.HTTP, Logger: s.log, Registry: s.reg,
	}
	if cfg.TLS.Cert != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLS.Cert, cfg.TLS.Key)
		if err != nil {
			return nil, err
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	if err := cfg.DNS.options(&o); err != nil {
		return nil, err
	}
	if s.queries, err = cfg.DNS.openLog(&o, cfg.Name); err != nil {
		return nil, err
	}
	spareProcessors(spareDNS)
	if s.server, err = authority.New(o); err != nil {
		return nil, err
	}
	s.server.Start()
	if cfg.Admin != "" {
		l, err := listen(ctx, cfg.Admin)
		if err != nil {
			return nil, fmt.Errorf("admin listener: %w", err)
		}
		s.admin = newAdmin(s.reg, s.Status, new(line), s.log)
		s.admin.mux.HandleFunc("GET /dns/top", serveTop(s.server, s.log))
		s.admin.mux.HandleFunc("GET /dns/shadow", serveShadow(s.server, s.log))
		s.admin.serve(l)
	}
	w := s.view.Load().World
	s.log.Info("stand-alone DNS answers", "zone", w.Zone, "names", w.Names, "listen", cfg.Alone.Listen, "serial", w.Version)
	return s, nil
}

// readSteering makes the file's content the view. The serial is the time the
// file was written, so that nodes with copies of it (rsync -t) agree; an older
// file with other content counts on, because secondaries look at nothing else.
func (s *Standalone) readSteering() error {
	path := s.cfg.Alone.Steering
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if was := s.source.Load(); was != nil && bytes.Equal(*was, src) {
		return nil
	}
	serial := uint64(info.ModTime().Unix())
	if v := s.view.Load(); v != nil {
		serial = max(serial, v.World.Version+1)
	}
	w, err := worldfile.CompileAlone(path, src, serial)
	if err != nil {
		return err
	}
	if faults := steer.Faults(w); len(faults) > 0 {
		at, err := worldfile.Locate(path, []region.Problem{faults[0].Problem()})
		if err != nil {
			return err
		}
		return at[0]
	}
	s.view.Store(region.NewView(w, region.Hash{}, nil))
	s.source.Store(&src)
	return nil
}

func (s *Standalone) readZones() error {
	zones, err := static.LoadSet(s.cfg.DNS.Zones...)
	if err != nil {
		return err
	}
	ring, err := s.cfg.DNS.keyRing()
	if err != nil {
		return err
	}
	if err := useKeys(ring, s.server, s.view.Load().World.Zone); err != nil {
		return err
	}
	s.zones.Store(zones)
	return nil
}

// Reload reads steering, zone files, keys and geo databases again, and opens the
// query log anew. What is wrong
// stays as it was; the errors are returned together.
func (s *Standalone) Reload() error {
	var reopened error
	if s.queries != nil {
		reopened = s.queries.Reopen()
	}
	return errors.Join(s.readSteering(), s.readZones(), s.geo.Reload(), reopened)
}

// Addrs are where it answers, in the order of the file.
func (s *Standalone) Addrs() []string {
	var out []string
	for _, a := range s.server.Addrs() {
		out = append(out, a.String())
	}
	return out
}

// Status says how the server is.
func (s *Standalone) Status() observe.NodeStatus {
	w, h := s.view.Load().World, s.health.Health()
	d := &observe.DNSStatus{POPs: map[string]bool{}, Regions: map[string]bool{}}
	for _, p := range w.POPs {
		d.POPs[string(p.ID)] = h.POP(p.ID)
	}
	return observe.NodeStatus{Name: s.cfg.Name, Roles: []string{string(RoleDNS)}, World: w.Version, Ready: true, Degraded: degraded(s.geo), DNS: d}
}

// Close stops everything and waits for it.
func (s *Standalone) Close(ctx context.Context) error {
	var errs []error
	if s.admin != nil {
		errs = append(errs, s.admin.close(ctx))
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	if s.health != nil {
		s.health.Close()
	}
	if s.stop != nil {
		s.stop()
	}
	s.running.Wait()
	if s.queries != nil {
		errs = append(errs, s.queries.Close())
	}
	return errors.Join(errs...)
}
