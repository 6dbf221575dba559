package postgres_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lib/pq"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/postgres"
	"github.com/homing-im/homing/region/store/storetest"
)

var ctx = context.Background()

// shared is the server of tests that do no harm to it.
var shared struct {
	once   sync.Once
	server *pgtest.Server
	admin  *sql.DB
	err    error
	places atomic.Int64
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.admin != nil {
		_ = shared.admin.Close()
	}
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func needPostgres(t testing.TB) {
	t.Helper()
	if err := pgtest.Available(); err != nil {
		t.Skip(err)
	}
}

// place makes n empty places on the shared server, schemas of their own, and
// returns their DSNs.
func place(t testing.TB, n int) []string {
	t.Helper()
	needPostgres(t)
	shared.once.Do(func() {
		if shared.server, shared.err = pgtest.New(pgtest.Memory()); shared.err != nil {
			return
		}
		if shared.err = shared.server.Start(); shared.err != nil {
			return
		}
		var c *pq.Connector
		if c, shared.err = pq.NewConnector(shared.server.DSN()); shared.err == nil {
			shared.admin = sql.OpenDB(c)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	var dsns []string
	for range n {
		schema := fmt.Sprintf("place_%d", shared.places.Add(1))
		if _, err := shared.admin.Exec(`CREATE SCHEMA ` + schema); err != nil {
			t.Fatal(err)
		}
		dsns = append(dsns, shared.server.DSN()+" search_path="+schema)
	}
	return dsns
}

// TestContract holds the engine to the contract on two databases that share the
// partitions: groups of one partition, of several, and of both databases.
func TestContract(t *testing.T) {
	needPostgres(t)
	// Each random story opens and reads real databases thousands of times; the
	// embedded engine runs four times as many.
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		if err := f.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Value.Set(f.DefValue) }()
	}
	storetest.Run(t, func(t testing.TB) storetest.Factory {
		dsns := place(t, 2)
		return func(t testing.TB, c storetest.Config) store.Store {
			t.Helper()
			return open(t, postgres.Options{DSNs: dsns, Region: c.Region, Partitions: c.Partitions, Now: c.Now})
		}
	})
}

func open(t testing.TB, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
