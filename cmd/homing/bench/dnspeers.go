package bench

import (
	"bytes"
	"context"
	"embed"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/homing-im/homing/dns/geo"
)

// peer is another geo DNS server: its program, and files made of templates. All
// send Asia, Europe and America to three addresses by the same database.
type peer struct {
	program string
	modules []string // files of which one has to be there, or none is needed
	debian  string   // of Debian
	folders []string
	// database is the type that the geo database has to say it is of, as long as
	// ours; empty where any will do.
	database string
	// note says where the peer's job is not quite the same; empty where it is.
	note    string
	command func(dir string) []string
}

var rivals = map[string]*peer{
	"gdnsd": {
		program: "gdnsd", debian: "gdnsd", folders: []string{"zones", "run", "state"},
		command: func(dir string) []string { return []string{"-c", dir, "start"} },
	},
	"knot": {
		program: "knotd", debian: "knot knot-module-geoip", modules: []string{"/usr/lib/*/knot/modules*/geoip.so"},
		command: func(dir string) []string { return []string{"-c", filepath.Join(dir, "knot.conf")} },
	},
	"pdns": {
		program: "pdns_server", debian: "pdns-server pdns-backend-geoip", modules: []string{"/usr/lib/*/pdns/libgeoipbackend.so"},
		command: func(dir string) []string { return []string{"--config-dir=" + dir} },
	},
	"coredns": {
		program: "coredns", database: "GeoIP2-Country",
		note:    "chooses by continent in views, and answers from a template; without EDNS scope or order of preference",
		command: func(dir string) []string { return []string{"-conf", filepath.Join(dir, "Corefile")} },
	},
}

// ourDatabase is the type that the embedded database says it is of.
const ourDatabase = "Homing-Country"

//go:embed dnspeers
var peerFiles embed.FS

// find is the program's path. Debian keeps servers out of people's PATH.
func (p *peer) find() string {
	for _, name := range []string{p.program, "/usr/sbin/" + p.program, filepath.Join(buildFolder(), p.program)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func buildFolder() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "homing", "bench")
}

// missing says why the peer cannot be measured, or nothing.
func (p *peer) missing(ctx context.Context, build bool) string {
	if p.find() == "" {
		if p.debian != "" {
			return "not installed (Debian: apt-get install " + p.debian + ")"
		}
		if !build {
			return "not in PATH (--build builds it from its Go module, which takes minutes)"
		}
		if err := buildCoreDNS(ctx, buildFolder()); err != nil {
			return err.Error()
		}
	}
	for _, m := range p.modules {
		if found, err := filepath.Glob(m); err != nil || len(found) == 0 {
			return "its geo module is not installed (Debian: apt-get install " + p.debian + ")"
		}
	}
	return ""
}

// start writes the peer's files and runs it.
func (p *peer) start(dir string, at netip.AddrPort) (*child, error) {
	for _, f := range p.folders {
		if err := os.MkdirAll(filepath.Join(dir, f), 0o755); err != nil {
			return nil, err
		}
	}
	database, content := filepath.Join(dir, "country.mmdb"), geo.CountryDatabase()
	if p.database != "" {
		content = bytes.ReplaceAll(content, []byte(ourDatabase), []byte(p.database))
	}
	if err := os.WriteFile(database, content, 0o644); err != nil {
		return nil, err
	}
	module := ""
	for _, m := range p.modules {
		if found, _ := filepath.Glob(m); len(found) > 0 {
			module = filepath.Dir(found[0])
		}
	}
	name := p.program
	if name == "knotd" {
		name = "knot"
	}
	templates, err := template.ParseFS(peerFiles, "dnspeers/"+name+"/*")
	if err != nil {
		return nil, err
	}
	for _, t := range templates.Templates() {
		var b bytes.Buffer
		if err := t.Execute(&b, map[string]any{"Dir": dir, "Address": at.Addr(), "Port": at.Port(), "Database": database, "Modules": module, "Zone": benchZone, "Name": benchName}); err != nil {
			return nil, err
		}
		to := filepath.Join(dir, strings.ReplaceAll(t.Name(), "@", "/"))
		if err := os.WriteFile(to, b.Bytes(), 0o644); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(p.find(), p.command(dir)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // one processor, for those who are of Go
	return startChild(cmd)
}
