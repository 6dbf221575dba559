package bench

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/cmd/homing/pki"
	servers "github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

const zone = "bench.test"

// target is the region that is measured.
type target struct {
	long  netip.AddrPort
	short string         // base URL
	roots *x509.CertPool // nil: plain
	zone  string
	pid   int // of the region's process; 0 when it is not known
}

// site is a world of one region and the account IDs, in processes of their own.
type site struct {
	target
	dir   string
	admin string
	nodes []*process // ids, then the region
}

// process is a node that runs. It is ended by its own id.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startSite makes the world below o.Dir and starts its nodes.
func startSite(ctx context.Context, o *IMOptions, dir string) (s *site, err error) {
	s = &site{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	free := freePorts(7)
	long, short, web, admin, queue, ids, idsAdmin := free[0], free[1], free[2], free[3], free[4], free[5], free[6]
	s.long, s.short, s.admin, s.zone = long, "http://"+short.String(), admin.String(), zone
	if err := s.makeWorld(o.Partitions, endpoints{long, short, web, admin, queue, ids, idsAdmin}); err != nil {
		return s, err
	}
	files := node.TLS{}
	if o.TLS {
		f, err := pki.Ensure(filepath.Join(dir, "tls"), []string{"long." + zone}, []net.IP{net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return s, err
		}
		files = node.TLS{CA: f.CA, Cert: f.Cert, Key: f.Key}
		if s.roots, err = pki.Pool(f.CA); err != nil {
			return s, err
		}
	}
	regionRoles := []node.Role{node.RoleRegion, node.RoleReplicator}
	if o.Queue {
		regionRoles = append(regionRoles, node.RoleQueue)
	}
	for _, n := range []struct {
		kind, name, admin string
		roles             []node.Role
		tls               node.TLS
	}{{"ids", "ids-1", idsAdmin.String(), []node.Role{node.RoleIDs}, node.TLS{}}, {"region", "sh", admin.String(), regionRoles, files}} {
		c := &node.Config{
			Name: n.name, Member: n.kind + " " + n.name, Roles: n.roles, Dir: filepath.Join(dir, "state", n.name),
			Key:   filepath.Join(dir, "world", "keys", n.kind+"-"+n.name+".pem"),
			World: filepath.Join(dir, "world", worldfile.GenesisName), Root: filepath.Join(dir, "world", "keys", "root.pub"), TLS: n.tls,
			Health: node.Health{Interval: time.Minute, Rise: 1, Fall: 3}, // there is nobody to steer to
		}
		if err := s.write(c); err != nil {
			return s, err
		}
		if err := s.start(n.name, o.GOMAXPROCS); err != nil {
			return s, err
		}
		if err := s.ready(ctx, s.nodes[len(s.nodes)-1], n.admin); err != nil {
			return s, err
		}
	}
	s.pid = s.nodes[1].cmd.Process.Pid
	return s, nil
}

// endpoints are where the nodes of a site listen.
type endpoints struct{ long, short, web, admin, queue, ids, idsAdmin netip.AddrPort }

func (s *site) makeWorld(partitions int, at endpoints) error {
	w := &region.World{
		Name: "bench", Zone: zone, Partitions: partitions,
		IDs: []region.Node{{Name: "ids-1", Address: at.ids.String(), Admin: at.idsAdmin.String()}},
		Regions: []region.Region{{ID: "sh", Title: "bench", Zones: []string{"a"}, Place: region.Place{City: "Shanghai", Country: "CN", Continent: "AS", Latitude: 31.23, Longitude: 121.47},
			Serves: region.Endpoints{Long: at.long, Short: at.short, Web: at.web}, Admin: at.admin.String(), Queue: at.queue.String(), Users: 1_000_000}},
		Segments: []region.Segment{{First: 1_000_000, Last: 9_999_999, Home: "sh"}},
	}
	_, _, err := worldfile.Init(worldfile.Options{Dir: filepath.Join(s.dir, "world"), World: w})
	return err
}

// write makes a node's file.
func (s *site) write(c *node.Config) error {
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(s.config(c.Name), b, 0o600)
}

func (s *site) config(name string) string { return filepath.Join(s.dir, name+".yaml") }

// start runs a node with this very program.
func (s *site) start(name string, procs int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := &process{name: name, log: filepath.Join(s.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(self, "run", "-c", s.config(name))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if procs > 0 {
		p.cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(procs))
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	s.nodes = append(s.nodes, p)
	return nil
}

// ready waits until a node serves.
func (s *site) ready(ctx context.Context, p *process, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil); err == nil {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return nil
				}
			}
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("node %s ended: %s", p.name, p.lastLine())
		case <-ctx.Done():
			return fmt.Errorf("node %s is not ready: %w; the last it said: %s", p.name, ctx.Err(), p.lastLine())
		}
	}
}

// restartRegion ends the region's process and starts it again, so that its
// memory has nothing of what was done before.
func (s *site) restartRegion(ctx context.Context, procs int) error {
	if err := s.nodes[1].stop(); err != nil {
		return err
	}
	s.nodes = s.nodes[:1]
	if err := s.start("sh", procs); err != nil {
		return err
	}
	s.pid = s.nodes[1].cmd.Process.Pid
	return s.ready(ctx, s.nodes[1], s.admin)
}

// close ends the nodes, the region first.
func (s *site) close() error {
	var errs []error
	for i := len(s.nodes) - 1; i >= 0; i-- {
		errs = append(errs, s.nodes[i].stop())
	}
	s.nodes = nil
	http.DefaultClient.CloseIdleConnections()
	return errors.Join(errs...)
}

// stop ends a process and waits for it.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case <-p.done:
		return nil
	case <-patience.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("node %s did not end when asked to; the last it said: %s", p.name, p.lastLine())
}

func (p *process) lastLine() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// freePorts finds addresses on loopback that nobody listens on now.
func freePorts(n int) (out []netip.AddrPort) {
	for _, a := range servers.Addresses(n) {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

// profile stores a processor profile of the region's process, of so long.
func (s *site) profile(ctx context.Context, file string, d time.Duration) error {
	return fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.admin, max(1, int(d/time.Second))), file)
}

func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return os.WriteFile(file, b, 0o600)
}

// procUsage is what a process has used, from /proc; zero where it cannot be told.
type procUsage struct {
	cpu    time.Duration
	memory int64 // bytes of RssAnon: what the kernel cannot take back
}

func procOf(pid int) procUsage {
	var u procUsage
	if pid == 0 {
		return u
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		// Fields 14 and 15, in ticks of 10 ms; the second field may hold spaces.
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) > 12 {
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			u.cpu = time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		_, rest, _ := strings.Cut(string(b), "\nRssAnon:")
		if f := strings.Fields(rest); len(f) > 0 {
			kib, _ := strconv.ParseInt(f[0], 10, 64)
			u.memory = kib << 10
		}
	}
	return u
}
