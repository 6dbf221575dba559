package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/dns/geo"
	"github.com/homing-im/homing/region"
)

// Role is a part of Homing that a node runs.
type Role string

// The roles. A region's queue may be a process of its own; its replicator
// lives where its embedded store is, because only one process may open that.
const (
	RoleRegion     Role = "region"     // store, core and the front doors
	RoleStore      Role = "store"      // the store, the journal and its commands, of a region in parts
	RoleLogic      Role = "logic"      // requests, of a region in parts
	RoleAccess     Role = "access"     // the front doors of a region in parts
	RolePresence   Role = "presence"   // who is connected where, of a region in parts
	RoleReplicator Role = "replicator" // ships this region's journal, replays the others'
	RoleQueue      Role = "queue"      // the region's embedded Kafka broker
	RoleDNS        Role = "dns"
	RolePOP        Role = "pop"
	RoleIDs        Role = "ids"
	RoleConsole    Role = "console"
)

var kindOf = map[Role]string{
	RoleRegion: "region", RoleReplicator: "region", RoleQueue: "region",
	RoleStore: "region", RoleLogic: "region", RoleAccess: "region", RolePresence: "region",
	RoleDNS: "dns", RolePOP: "pop", RoleIDs: "ids",
}

// Config is a node's file. Client-facing addresses are not in it: the signed
// world says where this node listens, so that nobody can be told otherwise.
// Relative paths are relative to the file.
type Config struct {
	// Name is the node's own name among all nodes, such as "sh-1".
	Name string `yaml:"name"`
	// Member says which member of the world this node is: "region sh", "pop pop-1", "dns dns-1", "ids ids-1".
	Member string `yaml:"member"`
	Roles  []Role `yaml:"roles"`
	// Dir is where the node keeps its state; one process at a time.
	Dir string `yaml:"dir"`
	// Key is the member's private key (PEM PKCS#8 ed25519, mode 0600); the world has its public half.
	Key string `yaml:"key"`
	// World is a signed world to start with (JSON envelope); newer ones arrive by themselves.
	World string `yaml:"world"`
	// Root is a file with the root key's public half (NAME.pub, base64): what this node trusts above all.
	Root string `yaml:"root"`
	// Admin overrides the world's admin address (host:port), for a node that is not the member's first.
	Admin string `yaml:"admin,omitempty"`
	// Console is where the web page listens (host:port); only for the console role.
	Console string `yaml:"console,omitempty"`
	// ConsoleHosts are the names, without port, it may be asked for by, besides addresses and
	// localhost: those of the proxy in front of it. Any other name is refused (DNS rebinding).
	ConsoleHosts []string `yaml:"consoleHosts,omitempty"`
	// Origins are the hosts of web pages that may use a region's web listener, besides those the world
	// lists: "chat.example.com", "*.example.com", with the port when it is not the scheme's own.
	Origins []string `yaml:"origins,omitempty"`
	Gossip  Gossip   `yaml:"gossip"`
	TLS     TLS      `yaml:"tls"`
	Health  Health   `yaml:"health"`
	// Geo are databases in MaxMind's format (.mmdb) and overlays (.csv), in order of
	// preference, or the names of built-in ones: country (the default, all the
	// world's countries, no carriers) and demo. See package dns/geo.
	Geo []string `yaml:"geo,omitempty"`
	// ShedAbove refuses connections above so many; 0 is the default of the role.
	ShedAbove int      `yaml:"shedAbove,omitempty"`
	Log       Log      `yaml:"log,omitempty"`
	DNS       DNS      `yaml:"dns,omitempty"`      // only for the dns role
	Alone     *Alone   `yaml:"alone,omitempty"`    // a DNS server without any region
	Store     Store    `yaml:"store,omitempty"`    // only for the roles region and store
	Kafka     Kafka    `yaml:"kafka,omitempty"`    // only for the role replicator
	Journal   Journal  `yaml:"journal,omitempty"`  // only for the role replicator
	Messages  Messages `yaml:"messages,omitempty"` // only for the roles region, store and logic

	Access    Access    `yaml:"access,omitempty"`    // only for the roles region and access
	Processes Processes `yaml:"processes,omitempty"` // of a region in parts
}

// Gossip is the serf membership.
type Gossip struct {
	Bind string   `yaml:"bind"` // host:port, UDP and TCP; empty turns gossip off
	Join []string `yaml:"join"` // host:port of some others
	// Key is a file of 32 bytes, base64, that encrypts the gossip; required when Bind is not loopback.
	Key string `yaml:"key,omitempty"`
}

// TLS are the PEM files of the client-facing listeners and of the calls between
// nodes. Beyond loopback the certificate has to be for the member too: see
// peer.CertificateName.
type TLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// read reads the files.
func (t *TLS) read() (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return cert, nil, err
	}
	pool, err := pki.Pool(t.CA)
	return cert, pool, err
}

// Health are the checks of POPs and regions.
type Health struct {
	Interval time.Duration `yaml:"interval"` // default 500ms
	// Timeout of one check, default 2s: what refuses connections fails at once, so
	// it only bounds how long a silent member counts as well.
	Timeout time.Duration `yaml:"timeout,omitempty"`
	Rise    int           `yaml:"rise"` // successes before healthy, default 2
	Fall    int           `yaml:"fall"` // failures before unhealthy, default 3
}

// validate fills in defaults.
func (h *Health) validate() error {
	if h.Interval == 0 {
		h.Interval = 500 * time.Millisecond
	}
	if h.Interval < 50*time.Millisecond {
		return wrongf("health.interval", "health.interval %s is below 50ms: checks would be a load of their own", h.Interval)
	}
	if h.Timeout == 0 {
		h.Timeout = 2 * time.Second
	}
	if h.Timeout < 0 {
		return wrongf("health.timeout", "health.timeout %s: want a positive duration, such as 2s", h.Timeout)
	}
	if h.Rise == 0 {
		h.Rise = 2
	}
	if h.Fall == 0 {
		h.Fall = 3
	}
	return nil
}

// Log is where log lines go: standard error, always.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error; default info
	Format string `yaml:"format"` // text or json; default text
}

// ReadConfig reads and checks a node's file. Errors name file, line and column.
func ReadConfig(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := new(Config)
	if err := yaml.UnmarshalWithOptions(b, c, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s:%s", path, firstLine(yaml.FormatError(err, false, false)))
	}
	dir := filepath.Dir(path)
	for _, p := range []*string{&c.Dir, &c.Key, &c.World, &c.Root, &c.Gossip.Key, &c.TLS.CA, &c.TLS.Cert, &c.TLS.Key} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	for i, g := range c.Geo {
		if !geo.Embedded(g) && !filepath.IsAbs(g) {
			c.Geo[i] = filepath.Join(dir, g)
		}
	}
	c.DNS.resolve(dir)
	c.Alone.resolve(dir)
	c.Store.resolve(dir)
	c.Kafka.resolve(dir)
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%s:%s %w", path, place(b, err), err)
	}
	return c, nil
}

// wrong is a mistake in a field that is there.
type wrong struct {
	field string // path of yaml names: "gossip.bind"
	text  string
}

func (w *wrong) Error() string { return w.text }

func wrongf(field, format string, args ...any) error {
	return &wrong{field: field, text: fmt.Sprintf(format, args...)}
}

// place says where in the file a wrong field's value stands, as "line:column:".
func place(file []byte, err error) string {
	var w *wrong
	if !errors.As(err, &w) {
		return ""
	}
	path, err := yaml.PathString("$." + w.field)
	if err != nil {
		return ""
	}
	node, err := path.ReadNode(bytes.NewReader(file))
	if err != nil || node == nil || node.GetToken() == nil {
		return ""
	}
	at := node.GetToken().Position
	return fmt.Sprintf("%d:%d:", at.Line, at.Column)
}

// firstLine turns "[3:5] unknown field ..." and its quotation of the file into
// "3:5: unknown field ...".
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if pos, rest, ok := strings.Cut(strings.TrimPrefix(s, "["), "] "); ok {
		return pos + ": " + rest
	}
	return " " + s
}

// Validate fills in defaults and reports the first mistake.
func (c *Config) Validate() error {
	if c.Name == "" {
		return errors.New(`"name" is missing: say this node's own name, such as sh-1`)
	}
	if c.Alone != nil {
		return c.validateAlone()
	}
	kind, member, err := c.member()
	if err != nil {
		return err
	}
	if len(c.Roles) == 0 {
		return errors.New(`"roles" is missing: say at least one of region, replicator, queue, store, logic, access, presence, dns, pop, ids, console`)
	}
	for _, r := range c.Roles {
		want, ok := kindOf[r]
		if r == RoleConsole {
			continue
		}
		if !ok {
			return wrongf("roles", "role %q is unknown: want region, replicator, queue, store, logic, access, presence, dns, pop, ids or console", r)
		}
		if want != kind {
			return wrongf("roles", "role %s belongs to a member of kind %q, but member is %q", r, want, c.Member)
		}
	}
	if c.Has(RoleReplicator) != (c.Has(RoleRegion) || c.Has(RoleStore)) {
		return wrongf("roles", "role replicator goes with role region, or store: the embedded store is opened by one process")
	}
	if c.Has(RoleConsole) && c.Console == "" {
		return wrongf("roles", `role console needs "console": the host:port where the page listens`)
	}
	for _, f := range []struct{ name, value string }{{"dir", c.Dir}, {"key", c.Key}, {"world", c.World}, {"root", c.Root}} {
		if f.value == "" {
			return fmt.Errorf("%q is missing for %s %s", f.name, kind, member)
		}
	}
	if c.Gossip.Bind != "" && !loopback(c.Gossip.Bind) && c.Gossip.Key == "" {
		return wrongf("gossip.bind", `gossip.bind %s is not loopback: set gossip.key to a file with 32 random bytes in base64`, c.Gossip.Bind)
	}
	if c.Console != "" && !loopback(c.Console) {
		return wrongf("console", "console %s is not loopback: put a proxy with authentication in front of a loopback address", c.Console)
	}
	if c.Admin != "" && !loopback(c.Admin) && c.TLS.Cert == "" {
		return wrongf("admin", "admin %s is not loopback: set tls.ca, tls.cert and tls.key", c.Admin)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return wrongf("tls", "tls.cert and tls.key go together")
	}
	if err := c.validateWeb(); err != nil {
		return err
	}
	if err := c.DNS.validate(c); err != nil {
		return err
	}
	if err := c.Messages.validate(c); err != nil {
		return err
	}
	if err := c.Journal.validate(c); err != nil {
		return err
	}
	if err := c.Kafka.validate(c); err != nil {
		return err
	}
	if err := c.Store.validate(c); err != nil {
		return err
	}
	if err := c.Access.validate(c); err != nil {
		return err
	}
	if err := c.Processes.validate(c); err != nil {
		return err
	}
	return c.Health.validate()
}

// Has says whether the node runs the role.
func (c *Config) Has(r Role) bool { return slices.Contains(c.Roles, r) }

func (c *Config) member() (kind, name string, err error) {
	kind, name, ok := strings.Cut(c.Member, " ")
	if !ok || name == "" || !slices.Contains([]string{"region", "pop", "dns", "ids"}, kind) {
		return "", "", wrongf("member", `"member" is %q: want "region ID", "pop ID", "dns NAME" or "ids NAME"`, c.Member)
	}
	return kind, name, nil
}

func loopback(hostport string) bool { return region.Loopback(hostport) }
