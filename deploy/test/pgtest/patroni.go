package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/homing-im/homing/deploy/test/child"
)

// Patroni is PostgreSQL servers that Patroni makes a cluster of, and the etcd
// they agree by. All listen on loopback.
type Patroni struct {
	Dir     string
	Members []*Member

	bin      string
	as       *syscall.Credential
	config   string
	password string // of every role
	etcd     *process
	hosts    string // of etcd
	client   *http.Client
}

// Member is one server with its Patroni.
type Member struct {
	Name string

	cluster  *Patroni
	dir      string
	postgres string // host:port
	rest     string
	patroni  *process // nil while it does not run
}

// process is one with its output.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	log    *os.File
}

// database and role are what a cluster is made for.
const database = "homing"

// PatroniAvailable says why there can be no cluster here, or nil.
func PatroniAvailable() error {
	if err := Available(); err != nil {
		return err
	}
	for _, p := range []string{"patroni", "etcd"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("no %s here (Debian: apt-get install patroni python3-etcd etcd-server)", p)
		}
	}
	return nil
}

// NewPatroni runs n servers by an operator's patroni.yml, whose addresses,
// directories and secrets are overridden, and waits until all are there and one
// standby is synchronous. settings replace those of the same name in the file.
func NewPatroni(config string, n int, settings map[string]string) (_ *Patroni, err error) {
	p := &Patroni{client: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	if p.bin, err = programs(); err != nil {
		return nil, err
	}
	if p.as, err = account(); err != nil {
		return nil, err
	}
	if p.Dir, err = os.MkdirTemp(Memory(), "homing-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop())
		}
	}()
	p.password = rand.Text()
	if err := p.prepare(config, settings); err != nil {
		return nil, err
	}
	client, peer := "http://"+child.Address(), "http://"+child.Address()
	if p.etcd, err = p.start("etcd", nil, syscall.SIGKILL, "--data-dir", filepath.Join(p.Dir, "etcd"), "--log-level", "error",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer); err != nil {
		return nil, err
	}
	p.hosts = strings.TrimPrefix(client, "http://")
	if err := p.until("etcd to answer", func() bool { return p.ask(p.hosts, "/health") == http.StatusOK }); err != nil {
		return nil, err
	}
	for i := range n {
		m := &Member{Name: "pg-" + string(rune('a'+i)), cluster: p, postgres: child.Address(), rest: child.Address()}
		m.dir = filepath.Join(p.Dir, m.Name)
		if err := p.mkdir(m.dir); err != nil {
			return nil, err
		}
		p.Members = append(p.Members, m)
		if err := m.Start(); err != nil {
			return nil, err
		}
	}
	if err := p.Settle(); err != nil {
		return nil, err
	}
	return p, p.create()
}

// prepare puts the configuration where the servers' user may read it.
func (p *Patroni) prepare(config string, settings map[string]string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	settings = maps.Clone(settings)
	settings["unix_socket_directories"] = strconv.Quote(p.Dir)
	for name, value := range settings {
		line := regexp.MustCompile(`(?m)^( *` + regexp.QuoteMeta(name) + `:) .*$`)
		if n := len(line.FindAll(text, -1)); n != 1 {
			return fmt.Errorf("%s has %d lines that set %s, want one", config, n, name)
		}
		text = line.ReplaceAll(text, []byte("${1} "+value))
	}
	if p.as != nil {
		if err := os.Chown(p.Dir, int(p.as.Uid), int(p.as.Gid)); err != nil {
			return err
		}
	}
	p.config = filepath.Join(p.Dir, "patroni.yml")
	return os.WriteFile(p.config, text, 0o644)
}

func (p *Patroni) mkdir(name string) error {
	err := os.Mkdir(name, 0o700)
	if err == nil && p.as != nil {
		err = os.Chown(name, int(p.as.Uid), int(p.as.Gid))
	}
	return err
}

// start runs a program as the servers' user, which is sent orphaned when the
// tests die.
func (p *Patroni) start(name string, env []string, orphaned syscall.Signal, args ...string) (*process, error) {
	log, err := os.CreateTemp(p.Dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = p.Dir
	cmd.Env = append([]string{"PATH=" + p.bin + ":" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + p.Dir}, env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: orphaned}
	exited, err := child.Start(cmd)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return &process{cmd, exited, log}, nil
}

func (x *process) kill() {
	_ = x.cmd.Process.Kill()
	<-x.exited
	_ = x.log.Close()
}

// Start runs the member's Patroni, which runs PostgreSQL; again after Kill. It
// does not wait. SIGTERM has Patroni stop PostgreSQL as well.
func (m *Member) Start() (err error) {
	p := m.cluster
	m.patroni, err = p.start("patroni", []string{
		"PATRONI_NAME=" + m.Name, "PATRONI_ETCD3_HOSTS=" + p.hosts,
		"PATRONI_RESTAPI_LISTEN=" + m.rest, "PATRONI_RESTAPI_CONNECT_ADDRESS=" + m.rest,
		"PATRONI_RESTAPI_USERNAME=patroni", "PATRONI_RESTAPI_PASSWORD=" + p.password,
		"PATRONI_POSTGRESQL_LISTEN=" + m.postgres, "PATRONI_POSTGRESQL_CONNECT_ADDRESS=" + m.postgres,
		"PATRONI_POSTGRESQL_DATA_DIR=" + m.data(), "PATRONI_POSTGRESQL_BIN_DIR=" + p.bin, "PATRONI_POSTGRESQL_PGPASS=" + filepath.Join(m.dir, "pgpass"),
		"PATRONI_SUPERUSER_PASSWORD=" + p.password, "PATRONI_REPLICATION_PASSWORD=" + p.password, "PATRONI_REWIND_PASSWORD=" + p.password,
	}, syscall.SIGTERM, p.config)
	return err
}

func (m *Member) data() string { return filepath.Join(m.dir, "data") }

// postmaster returns the process of the member's PostgreSQL, 0 when there is
// none.
func (m *Member) postmaster() int {
	text, err := os.ReadFile(filepath.Join(m.data(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || gone(pid) {
		return 0
	}
	return pid
}

// Kill ends the member's Patroni and PostgreSQL as a power cut does, and waits
// until both are gone.
func (m *Member) Kill() error {
	m.patroni.kill()
	m.patroni = nil
	pid := m.postmaster()
	if pid == 0 {
		return nil
	}
	killTree(pid)
	return m.cluster.until(m.Name+" to be gone", func() bool { return gone(pid) })
}

// ask returns the status of an answer, 0 for none.
func (p *Patroni) ask(address, path string) int {
	res, err := p.client.Get("http://" + address + path)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func (m *Member) is(role string) bool {
	return m.patroni != nil && m.cluster.ask(m.rest, "/"+role) == http.StatusOK
}

// Primary returns the member that is the primary by its own word and its
// Patroni's lock; nil while there is none.
func (p *Patroni) Primary() *Member {
	for _, m := range p.Members {
		if m.is("primary") {
			return m
		}
	}
	return nil
}

// Settle waits until one member is the primary, all others that run are its
// standbys, and one of them is synchronous.
func (p *Patroni) Settle() error {
	return p.until("a primary with its standbys", func() bool {
		running, standbys, synchronous := 0, 0, 0
		for _, m := range p.Members {
			if m.patroni == nil {
				continue
			}
			running++
			if m.is("replica") {
				standbys++
			}
			if m.is("synchronous") {
				synchronous++
			}
		}
		return p.Primary() != nil && standbys == running-1 && synchronous > 0
	})
}

// Switchover has Patroni make another member the primary, as an operator plans
// it.
func (p *Patroni) Switchover() error {
	m := p.Primary()
	if m == nil {
		return errors.New("there is no primary")
	}
	text, err := json.Marshal(map[string]string{"leader": m.Name})
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+m.rest+"/switchover", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.SetBasicAuth("patroni", p.password)
	req.Header.Set("Content-Type", "application/json")
	// It is answered when it is done.
	client := &http.Client{Timeout: patience, Transport: p.client.Transport}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered the switchover with %s: %s", m.Name, res.Status, answer)
	}
	return err
}

// create makes role and database as patroni.yml tells its reader to.
func (p *Patroni) create() error {
	m := p.Primary()
	if m == nil {
		return errors.New("there is no primary")
	}
	host, port, _ := net.SplitHostPort(m.postgres)
	for _, sql := range []string{
		"CREATE ROLE " + database + " LOGIN PASSWORD '" + p.password + "'",
		"CREATE DATABASE " + database + " OWNER " + database,
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "psql"), "-X", "-q", "-h", host, "-p", port, "-U", "postgres", "-d", "postgres", "-c", sql)
		cmd.Env = []string{"PGPASSWORD=" + p.password, "PATH=" + os.Getenv("PATH")}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Fields(sql)[1], err, out)
		}
	}
	return nil
}

// DSN is for lib/pq: all members, of which it takes the one that may be written
// to.
func (p *Patroni) DSN() string {
	var hosts, ports []string
	for _, m := range p.Members {
		host, port, _ := net.SplitHostPort(m.postgres)
		hosts, ports = append(hosts, host), append(ports, port)
	}
	return fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable target_session_attrs=read-write connect_timeout=3",
		strings.Join(hosts, ","), strings.Join(ports, ","), database, p.password, database)
}

// until waits for a condition, and says what the programs last printed when it
// does not come.
func (p *Patroni) until(what string, condition func() bool) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if condition() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited in vain for %s:%s", what, p.logs())
		}
	}
}

func (p *Patroni) logs() string {
	var out strings.Builder
	names, _ := filepath.Glob(filepath.Join(p.Dir, "*.log"))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		fmt.Fprintf(&out, "\n%s:\n%s", filepath.Base(name), text[max(0, len(text)-4000):])
	}
	return out.String()
}

// Stop ends everything and removes its files.
func (p *Patroni) Stop() error {
	for _, m := range p.Members {
		if m.patroni != nil {
			m.patroni.kill()
			m.patroni = nil
		}
	}
	err := p.until("the servers to stop", func() bool {
		running := false
		for _, m := range p.Members {
			if pid := m.postmaster(); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGQUIT) // at once; nothing is kept
				running = true
			}
		}
		return !running
	})
	if p.etcd != nil {
		p.etcd.kill()
	}
	// What a Patroni had just begun may write for a moment longer.
	var left error
	_ = p.until("the files to go", func() bool { left = os.RemoveAll(p.Dir); return left == nil })
	return errors.Join(err, left)
}
