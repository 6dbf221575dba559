package core

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lib/pq"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/postgres"
)

// files are what the stores of some regions have on their disks.
type files interface {
	open(t testing.TB, id region.ID) store.Store

	// holds lists the files of a region that hold a text, after its store was
	// closed.
	holds(t *testing.T, id region.ID, text string) []string
}

// onFiles runs a test on both engines.
func onFiles(t *testing.T, test func(*testing.T, files)) {
	t.Run("pebble", func(t *testing.T) { test(t, disks{}) })
	t.Run("postgres", func(t *testing.T) { test(t, newDatabases(t)) })
}

// disks are the file systems of some regions' stores.
type disks map[region.ID]*vfs.MemFS

func (d disks) open(t testing.TB, id region.ID) store.Store {
	d[id] = vfs.NewCrashableMem()
	return d.reopen(t, id)
}

func (d disks) reopen(t testing.TB, id region.ID) store.Store {
	s, err := pebble.Open(pebble.Options{Dir: "store", FS: d[id], MinFree: -1, Memory: 1 << 20, Region: id, Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// holds implements files. Log files that Pebble keeps for reuse go when it is
// opened again.
func (d disks) holds(t *testing.T, id region.ID, text string) (files []string) {
	t.Helper()
	must(t, d.reopen(t, id).Close())
	names, err := d[id].List("store")
	must(t, err)
	for _, name := range names {
		f, err := d[id].Open("store/" + name)
		must(t, err)
		b, err := io.ReadAll(f)
		must(t, err)
		must(t, f.Close())
		if bytes.Contains(b, []byte(text)) {
			files = append(files, name)
		}
	}
	return files
}

// databases are of one server, named as the regions.
type databases struct {
	server *pgtest.Server
	admin  *sql.DB
}

func newDatabases(t *testing.T) *databases {
	if err := pgtest.Available(); err != nil {
		t.Skip(err)
	}
	server, err := pgtest.New(pgtest.Memory(), "autovacuum = off")
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	must(t, server.Start())
	c, err := pq.NewConnector(server.DSN())
	must(t, err)
	d := &databases{server, sql.OpenDB(c)}
	t.Cleanup(func() { _ = d.admin.Close() })
	return d
}

func (d *databases) open(t testing.TB, id region.ID) store.Store {
	_, err := d.admin.Exec("CREATE DATABASE " + pq.QuoteIdentifier(string(id)))
	must(t, err)
	s, err := postgres.Open(postgres.Options{DSNs: []string{d.server.DSN() + " dbname=" + string(id)}, Region: id, Partitions: partitions})
	must(t, err)
	return s
}

// holds implements files, of tables and indexes. The server's write-ahead log
// has what it has until it is recycled.
func (d *databases) holds(t *testing.T, id region.ID, text string) (files []string) {
	t.Helper()
	_, err := d.admin.Exec("CHECKPOINT") // or the files would not have what the tables have
	must(t, err)
	var oid int
	must(t, d.admin.QueryRow("SELECT oid FROM pg_database WHERE datname = $1", id).Scan(&oid))
	err = filepath.WalkDir(filepath.Join(d.server.Dir, "data", "base", fmt.Sprint(oid)), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			files = append(files, path)
		}
		return err
	})
	must(t, err)
	return files
}

// trim forgets the journals, and what is kept of others', as far as a replicator
// does when everybody has applied everything.
func (u *universe) trim() {
	u.t.Helper()
	for _, s := range u.sites {
		for p := range region.Partition(partitions) {
			must(u.t, s.store.Trim(ctx, p, s.store.Head(p).Next))
			for origin := range u.sites {
				if origin != s.id {
					at, err := s.store.Position(ctx, origin, journal.Full, p)
					must(u.t, err)
					must(u.t, s.store.TrimCopy(ctx, origin, p, at.Seq))
				}
			}
		}
	}
}

// purge rewrites the files of regions, as homing store purge does.
func (u *universe) purge(ids ...region.ID) {
	u.t.Helper()
	for _, id := range ids {
		must(u.t, u.sites[id].store.Store.(interface{ Purge(context.Context) error }).Purge(ctx))
	}
}

// TestErasePendingTail erases an account where its region's backup acts for it,
// while the region itself has a tail that nobody else knows of. Once that has come
// back, and its tail was merged, no byte of the account is left in any region's
// files: not in its replica, nor where the tail was.
func TestErasePendingTail(t *testing.T) { onFiles(t, testErasePendingTail) }

func testErasePendingTail(t *testing.T, d files) {
	u := newUniverseWith(t, d.open, map[region.ID]region.ID{"sh": "hk", "hk": "sh"}, "sh", "hk")
	alice := u.register("sh", "Alice-PLAINTEXT")
	for i := range 5 {
		u.send(alice, alice.UIN, fmt.Sprint("n", i), fmt.Sprint("note PLAINTEXT ", i))
	}
	tail := u.failOver("sh", "hk", alice, func() {
		u.send(alice, alice.UIN, "tail", "of the tail PLAINTEXT")
		_, err := u.core("sh").SetSetting(ctx, alice.Caller, &v1.SetSettingRequest{Setting: &v1.Setting{Name: "PLAINTEXT", Value: "of the tail"}, IdempotencyKey: "s"})
		must(t, err)
		_, err = u.core("sh").UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{Nickname: "tail PLAINTEXT", IdempotencyKey: "p"})
		must(t, err)
	})
	if len(tail) < 3 {
		t.Fatalf("a tail of %d batches", len(tail))
	}
	if len(u.sites["hk"].holds(t, "PLAINTEXT", alice.UIN)) == 0 {
		t.Error("the backup has no replica of her")
	}
	must(t, u.erase(alice, true))
	u.eventually("no row is left where she is served", func() error { return u.wiped("hk", alice) })
	if len(u.sites["sh"].holds(t, "of the tail PLAINTEXT", alice.UIN)) == 0 {
		t.Error("her region has no tail")
	}

	_, err := u.core("hk").Merge(ctx, tail)
	must(t, err)
	u.join() // sh is back
	u.eventually("all is quiet", func() error { return u.caughtUp() })
	for _, id := range []region.ID{"sh", "hk"} {
		u.eventually("no row is left", func() error { return u.wiped(id, alice) })
	}
	u.trim()
	u.purge("sh", "hk")
	for id, s := range u.sites {
		if where := s.holds(t, "PLAINTEXT", alice.UIN, nobody); len(where) > 0 {
			t.Errorf("%s has %v", id, where)
		}
	}
	u.quit()
	for id := range u.sites {
		if where := d.holds(t, id, "PLAINTEXT"); len(where) > 0 {
			t.Errorf("%s has it in %v", id, where)
		}
		if len(d.holds(t, id, fmt.Sprint(id))) == 0 {
			t.Errorf("the search finds nothing in the files of %s", id)
		}
	}
}
