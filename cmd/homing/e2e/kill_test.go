package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/child"
)

// kills is how often each world is killed.
const kills = 20

// ledger is the outside witness, a process of its own.
type ledger struct {
	t      testing.TB
	config string
	file   string
	cmd    *exec.Cmd
	out    *lines
	done   chan struct{}
}

func newLedger(t testing.TB, config map[string]any) *ledger {
	t.Helper()
	dir := t.TempDir()
	l := &ledger{t: t, config: filepath.Join(dir, "config.json"), file: filepath.Join(dir, "ledger.jsonl"), out: &lines{}}
	config["people"], config["ledger"] = filepath.Join(dir, "people.json"), l.file
	b, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(l.config, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *ledger) start() {
	l.t.Helper()
	l.cmd = exec.Command(filepath.Join(bin, "ledger"), "send", l.config)
	l.cmd.Stdout, l.cmd.Stderr = l.out, l.out
	var err error
	if l.done, err = child.Start(l.cmd); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = l.cmd.Process.Kill() // the test may have ended before finish did
		<-l.done
	})
}

// finish stops sending and verifies.
func (l *ledger) finish() {
	l.t.Helper()
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	if <-l.done; !l.cmd.ProcessState.Success() {
		l.t.Fatalf("the ledger ended badly: %v\n%s", l.cmd.ProcessState, l.out)
	}
	out, err := exec.Command(filepath.Join(bin, "ledger"), "verify", l.config).CombinedOutput()
	l.t.Logf("%s%s", l.out, tail(out, 2000))
	if err != nil {
		l.t.Fatalf("verify: %v", err)
	}
}

// acked counts the acknowledged messages so far.
func (l *ledger) acked() int {
	b, _ := os.ReadFile(l.file)
	return strings.Count(string(b), "\n")
}

// goesOn waits until n more messages were acknowledged.
func (l *ledger) goesOn(n int) {
	l.t.Helper()
	from := l.acked()
	until(l.t, time.Minute, fmt.Sprintf("%d more acknowledged messages after %d", n, from), func() bool {
		select {
		case <-l.done:
			l.t.Fatalf("the ledger ended: %v\n%s", l.cmd.ProcessState, l.out)
		default:
		}
		return l.acked() >= from+n
	})
}

func until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
}

// Every part of the demo dies at once, in the middle of everything.
func TestLedgerDemoKilled(t *testing.T) {
	w := startDemo(t)
	at := w.endpoints()
	short := map[string]string{}
	for id, r := range at.Regions {
		short[id] = r.Short
	}
	l := newLedger(t, map[string]any{"zone": at.Zone, "httpdns": at.HTTPDNS, "dns": at.DNS, "ca_cert": at.CACert, "short": short, "users": 4, "pause": 5})
	l.start()
	for i := range kills {
		l.goesOn(20 + rand.IntN(100))
		w.kill()
		w.start()
		t.Logf("kill %d: %d acknowledged", i+1, l.acked())
	}
	l.goesOn(50)
	l.finish()
}

// In the world of deploy/, one process at a time dies and is started again.
func TestLedgerProcessesKilled(t *testing.T) {
	d := startDeployed(t)
	l := deployedLedger(t, d)
	l.start()
	l.goesOn(50)
	names := d.names()
	for i := range kills {
		name := names[rand.IntN(len(names))]
		d.kill(name)
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond) // how long it stays dead is part of the disaster
		d.start(name)
		l.goesOn(20 + rand.IntN(50))
		t.Logf("kill %d of %s: %d acknowledged", i+1, name, l.acked())
	}
	d.ready()
	l.finish()
}

// deployed is the world of deploy/ as separate processes.
type deployed struct {
	t     testing.TB
	dir   string
	nodes map[string]*process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startDeployed does what the README says of separate processes: a copy of
// deploy/, keys and certificates, and one homing run per file.
//
// prepare may change files before anything starts.
func startDeployed(t testing.TB, prepare ...func(dir string)) *deployed {
	t.Helper()
	d := &deployed{t: t, dir: t.TempDir(), nodes: map[string]*process{}}
	if err := os.CopyFS(d.dir, sub(t, "../../../deploy")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"world", "init", "--dir", "world", "--file", "world.yaml"}, {"tls", "--dir", "tls", "--zone", "im.test"}} {
		c := exec.Command(filepath.Join(bin, "homing"), args...)
		c.Dir = d.dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("homing %v: %v\n%s", args, err, out)
		}
	}
	for _, p := range prepare {
		p(d.dir)
	}
	t.Cleanup(d.stop)
	for _, n := range d.names() {
		d.start(n)
	}
	d.ready()
	return d
}

func sub(t testing.TB, dir string) fs.FS {
	t.Helper()
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	return os.DirFS(dir)
}

func (d *deployed) names() []string {
	files, err := filepath.Glob(filepath.Join(d.dir, "nodes", "*.yaml"))
	if err != nil || len(files) < 12 {
		d.t.Fatalf("deploy/nodes has %d files: %v", len(files), err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".yaml")
	}
	return files
}

func (d *deployed) start(name string) {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p := &process{cmd: exec.Command(filepath.Join(bin, "homing"), "run", "-c", filepath.Join(d.dir, "nodes", name+".yaml"))}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if p.done, err = child.Start(p.cmd); err != nil {
		d.t.Fatal(err)
	}
	d.nodes[name] = p
}

func (d *deployed) kill(name string) {
	d.t.Helper()
	p := d.nodes[name]
	select {
	case <-p.done:
		b, _ := os.ReadFile(filepath.Join(d.dir, name+".log"))
		d.t.Fatalf("%s had ended by itself:\n%s", name, tail(b, 4000))
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// ready waits until every node says so.
func (d *deployed) ready() {
	d.t.Helper()
	for _, admin := range []string{"127.0.1.1:7400", "127.0.2.1:7400", "127.0.3.1:7400", "127.0.1.1:7410", "127.0.2.1:7410", "127.0.3.1:7410",
		"127.0.11.1:7400", "127.0.11.2:7400", "127.0.12.1:7400", "127.0.12.2:7400", "127.0.13.1:7400", "127.0.13.2:7400", "127.0.20.1:7400", "127.0.30.1:7400"} {
		until(d.t, time.Minute, admin+" is ready", func() bool {
			resp, err := http.Get("http://" + admin + "/readyz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
}

func (d *deployed) stop() {
	for name, p := range d.nodes {
		_ = p.cmd.Process.Signal(os.Interrupt)
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			d.t.Errorf("%s did not stop within 20 s", name)
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		if b, err := os.ReadFile(filepath.Join(d.dir, name+".log")); err == nil && (d.t.Failed() || strings.Contains(string(b), "DATA RACE") || strings.Contains(string(b), "panic:")) {
			d.t.Logf("%s, the end of its log:\n%s", name, tail(b, 3000))
			if strings.Contains(string(b), "DATA RACE") || strings.Contains(string(b), "panic:") {
				d.t.Errorf("%s: a data race or a panic", name)
			}
		}
	}
}
