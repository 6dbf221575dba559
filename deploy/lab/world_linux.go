package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/deploy/lab/netns"
	"github.com/homing-im/homing/deploy/lab/wan"
	"github.com/homing-im/homing/deploy/test/kafkatest"
)

//go:embed world.yaml
var worldFile []byte

// world is everything that runs: the sites, the network between them, and the
// world's processes.
type world struct {
	dir    string
	binary string // homing
	log    *slog.Logger
	wan    *wan.WAN
	remote *wan.Control
	sites  map[wan.Site]*location
	kafka  map[wan.Site]*kafkatest.Cluster // of regions whose queue is not the embedded broker

	mu        sync.Mutex
	processes map[string]*process // by node
}

// location is a site that has its namespace.
type location struct {
	site
	ns   *netns.Namespace
	http *http.Client // asks as somebody there would
}

// readyWithin bounds the start of the world on a busy machine.
const readyWithin = 90 * time.Second

// newWorld makes the namespaces and the network, keys and files. Nothing of
// Homing runs yet.
func newWorld(ctx context.Context, dir, binary string, kafka []string, log *slog.Logger) (w *world, err error) {
	w = &world{
		dir: dir, binary: binary, log: log, wan: wan.New(log), sites: map[wan.Site]*location{},
		kafka: map[wan.Site]*kafkatest.Cluster{}, processes: map[string]*process{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for _, s := range sites() {
		ns, port, err := netns.New(wan.MTU, s.address)
		if err != nil {
			return w, err
		}
		at := &location{site: s, ns: ns}
		at.http = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: at.dial}}
		w.sites[s.name] = at
		if err := w.wan.Add(s.name, port, func(to wan.Site) wan.Shape { return wan.Shape{Delay: far(s.place, w.sites[to].place)} }, s.address); err != nil {
			return w, err
		}
	}
	if w.remote, err = w.wan.Listen(filepath.Join(dir, socket)); err != nil {
		return w, err
	}
	for _, r := range kafka {
		if w.kafka[wan.Site(r)], err = w.sites[wan.Site(r)].cluster(dir); err != nil {
			return w, err
		}
	}
	return w, w.files(ctx)
}

// dial connects from inside the site. Its addresses are numbers, so that the
// socket is made by the thread that asks.
func (l *location) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = l.ns.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// files writes keys, certificates and a file for each node.
func (w *world) files(ctx context.Context) error {
	text := string(worldFile)
	for _, s := range w.sites {
		brokers := w.kafka[s.name]
		if brokers != nil {
			text = strings.Replace(text, fmt.Sprintf("queue: %s:%d\n", s.address, kafkatest.HostPort), fmt.Sprintf("queue: %q\n", brokers.Addresses()), 1)
		}
		for _, n := range s.nodes {
			file := n.file(s.address)
			if brokers != nil && n.replicates() {
				file += fmt.Sprintf("kafka: {replication: %d}\n", len(brokers.Brokers))
			}
			if err := w.write(filepath.Join("nodes", n.name+".yaml"), file); err != nil {
				return err
			}
		}
	}
	if err := w.write("world.yaml", text); err != nil {
		return err
	}
	for _, args := range [][]string{{"world", "init", "--dir", "world", "--file", "world.yaml"}, {"tls", "--dir", "tls", "--zone", "im.test"}} {
		cmd := exec.CommandContext(ctx, w.binary, args...)
		cmd.Dir = w.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("homing %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

func (w *world) write(name, text string) error {
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// process is a running program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a site's nodes.
func (w *world) start(at wan.Site) error {
	s := w.sites[at]
	if brokers := w.kafka[at]; brokers != nil {
		if err := brokers.Start(); err != nil {
			return err
		}
	}
	for _, n := range s.nodes {
		if w.kafka[at] != nil && n.roles == queueRole {
			continue
		}
		if err := w.run(s, n.name); err != nil {
			return err
		}
	}
	return nil
}

// run starts one node.
func (w *world) run(s *location, name string) error {
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	p := &process{cmd: exec.Command(w.binary, "run", "-c", filepath.Join(w.dir, "nodes", name+".yaml")), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := s.ns.Start(p.cmd); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	w.mu.Lock()
	w.processes[name] = p
	w.mu.Unlock()
	return nil
}

// kill ends a site's processes without a word to them, and says how many. One
// that had ended by itself is an error.
func (w *world) kill(at wan.Site) (int, error) {
	n := 0
	if brokers := w.kafka[at]; brokers != nil {
		for _, b := range brokers.Brokers {
			b.Kill()
			n++
		}
	}
	for _, nd := range w.sites[at].nodes {
		killed, err := w.killOne(nd.name)
		if err != nil {
			return n, err
		}
		if killed {
			n++
		}
	}
	return n, nil
}

func (w *world) killOne(name string) (bool, error) {
	w.mu.Lock()
	p := w.processes[name]
	delete(w.processes, name)
	w.mu.Unlock()
	if p == nil {
		return false, nil
	}
	select {
	case <-p.done:
		return false, fmt.Errorf("%s had ended by itself: %s", name, w.tail(name))
	default:
	}
	err := p.cmd.Process.Kill()
	<-p.done
	return true, err
}

// tail is the end of a node's log.
func (w *world) tail(name string) string {
	b, err := os.ReadFile(filepath.Join(w.dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// crashed names a process that has ended by itself, or says a race or a panic;
// "" when all is well.
func (w *world) crashed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, p := range w.processes {
		select {
		case <-p.done:
			return fmt.Sprintf("%s has ended by itself: %s", name, w.tail(name))
		default:
		}
	}
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, log := range logs {
		b, _ := os.ReadFile(log)
		for _, word := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if i := strings.Index(string(b), word); i >= 0 {
				return fmt.Sprintf("%s: %.2000s", filepath.Base(log), b[i:])
			}
		}
	}
	return ""
}

// admins are the listeners of a site's nodes.
func (l *location) admins() []string {
	var out []string
	for _, n := range l.nodes {
		if n.admin == "" {
			n.admin = l.address.String() + ":7400"
		}
		out = append(out, n.admin)
	}
	return out
}

// ready waits until a site's nodes say so.
func (w *world) ready(ctx context.Context, at wan.Site) error {
	s := w.sites[at]
	for i, admin := range s.admins() {
		if w.kafka[at] != nil && s.nodes[i].roles == queueRole {
			continue
		}
		if err := wait(ctx, readyWithin, func() error { return s.get(ctx, "http://"+admin+"/readyz", nil) }); err != nil {
			return fmt.Errorf("%s is not ready: %w: %s", s.nodes[i].name, err, w.tail(s.nodes[i].name))
		}
	}
	return nil
}

// get asks from inside the site, and decodes the answer unless into is nil.
func (l *location) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(b)))
	case into == nil:
		return nil
	}
	return json.Unmarshal(b, into)
}

// poll is how often conditions are looked at.
const poll = 50 * time.Millisecond

// wait tries until there is no error, or returns the last one.
func wait(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", within, err)
		case <-tick.C:
		}
	}
}

// admin runs homing with arguments where the operator is.
func (w *world) admin(ctx context.Context, args ...string) (out string, status int, err error) {
	var said strings.Builder
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &said, &said
	cmd.Env = append(os.Environ(), "HOMING_HOME="+filepath.Join(w.dir, "home"))
	if err := w.sites[operator].ns.Start(cmd); err != nil {
		return "", 0, err
	}
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = nil
	}
	return said.String(), cmd.ProcessState.ExitCode(), err
}

// startAll starts every node at once, and waits.
func (w *world) startAll(ctx context.Context) error {
	var names []wan.Site
	for name := range w.sites {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.start(name); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := w.ready(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything.
func (w *world) close() error {
	var errs []error
	w.mu.Lock()
	running := w.processes
	w.processes = map[string]*process{}
	w.mu.Unlock()
	for _, p := range running {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	for _, brokers := range w.kafka {
		if brokers != nil {
			errs = append(errs, brokers.Stop())
		}
	}
	if w.remote != nil {
		errs = append(errs, w.remote.Close())
	}
	errs = append(errs, w.wan.Close())
	for _, s := range w.sites {
		errs = append(errs, s.ns.Close())
	}
	return errors.Join(errs...)
}
