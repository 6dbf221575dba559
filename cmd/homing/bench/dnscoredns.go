package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// coreDNS is what --build builds.
const coreDNS = "github.com/coredns/coredns@v1.15.0"

// coreDNSMain has the plugins that the job needs. With all of them it would take
// many minutes to build, and be the same for a query.
const coreDNSMain = `package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/geoip"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/view"
)

func main() { coremain.Run() }
`

// buildCoreDNS puts the program "coredns" into a folder.
func buildCoreDNS(ctx context.Context, folder string) error {
	source := filepath.Join(folder, "coredns-source")
	if err := errors.Join(os.RemoveAll(source), os.MkdirAll(source, 0o755)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(source, "main.go"), []byte(coreDNSMain), 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mod", "init", "coredns"},
		{"get", coreDNS},
		{"build", "-mod=mod", "-o", filepath.Join(folder, "coredns"), "."},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = source, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			return fmt.Errorf("building %s: go %s: %w: %s", coreDNS, args[0], err, lines[len(lines)-1])
		}
	}
	return nil
}
