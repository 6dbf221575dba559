package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// One bad file per mistake; its first line says what the error has to say.
func TestBadConfig(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(b), "\n")
		want, ok := strings.CutPrefix(first, "# want: ")
		if !ok {
			t.Errorf("%s does not say what it wants", path)
			continue
		}
		_, err = ReadConfig(path)
		if err == nil {
			t.Errorf("%s is accepted", path)
			continue
		}
		if !strings.HasPrefix(err.Error(), path+":") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: want one line with %q, got\n%s", path, want, err)
		}
	}
}

func TestSampleConfigs(t *testing.T) {
	files, err := filepath.Glob("../../../deploy/nodes/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	more, err := filepath.Glob("../../../deploy/[kp]*/sh.yaml") // on Kafka, on PostgreSQL
	if err != nil || len(more) != 2 {
		t.Fatalf("%q, %v", more, err)
	}
	for _, path := range append(files, more...) {
		c, err := ReadConfig(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if !filepath.IsAbs(c.Key) && !strings.HasPrefix(c.Key, filepath.Dir(filepath.Dir(path))) {
			t.Errorf("%s: key %s is not relative to the file", path, c.Key)
		}
		if c.Health.Interval < 50*time.Millisecond || c.Health.Rise == 0 || c.Health.Fall == 0 {
			t.Errorf("%s: no defaults: %+v", path, c.Health)
		}
	}
}
