package bench

import (
	"bytes"
	"context"
	"embed"
	"fmt"
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
		program: "coredns",
		command: func(dir string) []string { return []string{"-conf", filepath.Join(dir, "Corefile")} },
	},
}

//go:embed dnspeers
var peerFiles embed.FS

// coreDNS is what --build installs.
const coreDNS = "github.com/coredns/coredns@v1.14.0"

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
		cmd := exec.CommandContext(ctx, "go", "install", coreDNS)
		cmd.Env = append(os.Environ(), "GOBIN="+buildFolder(), "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			return fmt.Sprintf("go install %s: %v: %s", coreDNS, err, lines[len(lines)-1])
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
	database := filepath.Join(dir, "country.mmdb")
	if err := os.WriteFile(database, geo.CountryDatabase(), 0o644); err != nil {
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
	return startChild(exec.Command(p.find(), p.command(dir)...))
}
