package postgres_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lib/pq"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// TestPurge looks for a deleted row in every byte of the server's tables: there
// before, and not afterwards; what lives is as it was.
func TestPurge(t *testing.T) {
	needPostgres(t)
	pg, err := pgtest.New(pgtest.Memory(), "autovacuum = off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	start(t, pg)
	s := open(t, options(pg.DSN()))
	defer closed(t, s)
	const owner, table = region.UIN(1_000_001), journal.Table(7)
	p := region.PartitionOf(owner, s.Partitions())
	write := func(w store.Write) {
		t.Helper()
		if _, err := s.Commit(ctx, &store.Batch{Owner: owner, Home: s.Region(), Writes: []store.Write{w}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		row := fmt.Append(nil, "row ", i)
		write(store.Write{Table: table, Row: row, Value: []byte("a SECRET that is deleted")})
		write(store.Write{Table: table, Row: row, Delete: true})
	}
	write(store.Write{Table: table, Row: []byte("row"), Value: []byte("what LIVES")})
	if err := s.Trim(ctx, p, s.Head(p).Next); err != nil {
		t.Fatal(err)
	}
	c, err := pq.NewConnector(pg.DSN())
	if err != nil {
		t.Fatal(err)
	}
	admin := sql.OpenDB(c)
	defer admin.Close()
	on := func(text string) (files []string) {
		t.Helper()
		if _, err := admin.Exec("CHECKPOINT"); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(filepath.Join(pg.Dir, "data", "base"), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte(text)) {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	if len(on("SECRET")) == 0 {
		t.Fatal("the search finds nothing before the purge")
	}
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	if files := on("SECRET"); len(files) > 0 {
		t.Errorf("after the purge it is still in %v", files)
	}
	if len(on("LIVES")) == 0 {
		t.Error("what lives is gone")
	}
	row, err := s.Get(ctx, owner, table, []byte("row"))
	if err != nil || string(row.Value) != "what LIVES" {
		t.Errorf("%q, %v", row.Value, err)
	}
	write(store.Write{Table: table, Row: []byte("row"), Value: []byte("written after")})
}
