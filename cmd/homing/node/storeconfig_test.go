package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// DSNs come from a file that nobody else may read, in its order.
func TestDSNFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dsns")
	s := Store{Engine: EnginePostgres, DSNFile: path}
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("# two zones\nhost=b password=x\n\n  host=a  \n", 0o600)
	if got, err := s.dsns(); err != nil || !slices.Equal(got, []string{"host=b password=x", "host=a"}) {
		t.Errorf("%q, %v", got, err)
	}
	for want, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"chmod 600": {"host=b password=secret", 0o640},
		"no DSN":    {"# host=b password=secret\n", 0o600},
	} {
		write(c.text, c.mode)
		if _, err := s.dsns(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	s.DSNFile += ".not"
	if _, err := s.dsns(); err == nil || !strings.Contains(err.Error(), "store.dsnFile") {
		t.Errorf("no file: %v", err)
	}
}
