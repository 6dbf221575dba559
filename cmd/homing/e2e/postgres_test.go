package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/pgtest"
)

// postgresServer starts a server for a test.
func postgresServer(t *testing.T) *pgtest.Server {
	t.Helper()
	if err := pgtest.Available(); err != nil {
		t.Skip(err)
	}
	pg, err := pgtest.New(pgtest.Memory())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	return pg
}

// The whole story, messages there and back, groups and equal copies included,
// with one region of the world in PostgreSQL and the others embedded. A second
// demo is not let into the database that the first has used.
func TestScenarioHelloPostgres(t *testing.T) {
	pg := postgresServer(t)
	w := &world{t: t, home: t.TempDir()}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	command := fmt.Sprintf("homing demo --scenario hello --port-base %d --postgres 'sh=%s'", freeBase(t), pg.DSN())
	if out, err := w.sh(ctx, command); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out := w.refused(command); !strings.Contains(out, "an earlier world wrote") {
		t.Errorf("a used database: %s", out)
	}
	if out := w.refused("homing demo --scenario hello --postgres eu=host=a"); !strings.Contains(out, "no region eu") {
		t.Errorf("a region that is not there: %s", out)
	}
}

// In the world of deploy/, with sh in PostgreSQL as the sample there has it, the
// database dies under traffic, and then the region's process: what was
// acknowledged is there, once.
func TestLedgerPostgresKilled(t *testing.T) {
	pg := postgresServer(t)
	d := startDeployed(t, func(dir string) {
		if err := os.Rename(filepath.Join(dir, "postgres", "sh.yaml"), filepath.Join(dir, "nodes", "sh.yaml")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "nodes", "sh.dsn"), []byte(pg.DSN()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(filepath.Join(d.dir, "state", "sh", "store")); !os.IsNotExist(err) {
		t.Fatalf("the region has an embedded store: %v", err)
	}
	l := newLedger(t, map[string]any{
		"zone": "im.test", "httpdns": "http://127.0.20.1:7080", "dns": "127.0.20.1:7053", "ca_cert": filepath.Join(d.dir, "tls", "ca.pem"),
		"short": map[string]string{"sh": "http://127.0.1.1:7200", "hk": "http://127.0.2.1:7200", "ca": "http://127.0.3.1:7200"}, "users": 2, "pause": 5,
	})
	l.start()
	l.goesOn(30)
	for range 2 {
		pg.Kill()
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		l.goesOn(30)
		d.kill("sh")
		d.start("sh")
		d.ready() // without its database it would end
		l.goesOn(30)
	}
	l.finish()
}
