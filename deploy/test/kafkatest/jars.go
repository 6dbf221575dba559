package kafkatest

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// pom names the jars and their versions.
//
//go:embed pom.xml
var pom []byte

// Available says why there can be no Kafka here, or nil. It does not look for
// the jars: Maven fetches those that are missing.
func Available() error {
	for _, p := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("no %s here (Debian: apt-get install maven default-jre-headless)", p)
		}
	}
	return nil
}

// Classpath returns Kafka's jars as java -cp takes them. The first call of a
// machine's life fetches them, later ones take a second or two.
var Classpath = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "homing-mvn-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o600); err != nil {
		return "", err
	}
	out := filepath.Join(dir, "classpath")
	// Offline first: Maven would otherwise ask its repositories for news.
	var all error
	for _, offline := range []bool{true, false} {
		args := []string{"-q", "-B", "-f", dir, "dependency:build-classpath", "-Dmdep.outputFile=" + out}
		if offline {
			args = append(args, "-o")
		}
		said, err := exec.Command("mvn", args...).CombinedOutput()
		if err == nil {
			b, err := os.ReadFile(out)
			return strings.TrimSpace(string(b)), err
		}
		all = errors.Join(all, fmt.Errorf("mvn %s: %w: %.2000s", strings.Join(args[3:], " "), err, said))
	}
	return "", all
})
