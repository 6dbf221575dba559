package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/postgres"
)

const table journal.Table = 101

// server starts one that a test may harm.
func server(t *testing.T, settings ...string) *pgtest.Server {
	t.Helper()
	needPostgres(t)
	s, err := pgtest.New(pgtest.Memory(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	start(t, s)
	return s
}

func start(t *testing.T, s *pgtest.Server) {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

func options(dsns ...string) postgres.Options {
	return postgres.Options{DSNs: dsns, Region: "sh", Partitions: 4, Patience: time.Minute}
}

func closed(t testing.TB, s *postgres.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// increment writes a row on the condition that it is at version n.
func increment(c context.Context, s store.Store, u region.UIN, n int) error {
	_, err := s.Commit(c, &store.Batch{Owner: u, Home: "sh", Writes: []store.Write{
		{Table: table, Row: []byte("n"), Value: fmt.Append(nil, n), Expect: store.AtVersion(uint64(n))},
	}})
	return err
}

// traffic counts up the rows of owners 1 to n, each from a goroutine that goes
// on from the last acknowledged version, until stop is called. Then each row
// is at the number of its acknowledgements: none is lost, none doubled.
func traffic(t *testing.T, s store.Store, n int) (acknowledged func() int64, stop func()) {
	counts := make([]atomic.Int64, n+1)
	ending := make(chan struct{})
	var wg sync.WaitGroup
	for u := 1; u <= n; u++ {
		wg.Go(func() {
			for {
				select {
				case <-ending:
					return
				default:
				}
				switch err := increment(ctx, s, region.UIN(u), int(counts[u].Load())); {
				case err == nil:
					counts[u].Add(1)
				case region.KindOf(err) == region.Unavailable: // refused: nothing was written
				default:
					t.Errorf("Commit: %v", err)
					return
				}
			}
		})
	}
	acknowledged = func() (sum int64) {
		for i := range counts {
			sum += counts[i].Load()
		}
		return sum
	}
	return acknowledged, func() {
		t.Helper()
		close(ending)
		wg.Wait()
		for u := 1; u <= n; u++ {
			r, err := s.Get(ctx, region.UIN(u), table, []byte("n"))
			if err != nil || r.Version != uint64(counts[u].Load()) {
				t.Errorf("owner %d has %d acknowledgements, the row is at version %d, error %v", u, counts[u].Load(), r.Version, err)
			}
		}
		follow(t, s)
	}
}

// follow reads the whole journal and checks its chain.
func follow(t *testing.T, s store.Store) {
	t.Helper()
	for p := range region.Partition(s.Partitions()) {
		head := journal.StreamHead{Stream: journal.Full}
		for {
			batches, err := s.Journal(ctx, p, journal.Full, head.Last+1, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(batches) == 0 {
				break
			}
			for _, b := range batches {
				if head, err = journal.Follow(head, b); err != nil {
					t.Fatalf("partition %d: %v", p, err)
				}
			}
		}
		if h := s.Head(p); h.Next != head.Last+1 {
			t.Errorf("partition %d: the journal ends at %d, its head says %d", p, head.Last, h.Next-1)
		}
	}
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func more(t *testing.T, acknowledged func() int64, n int64) {
	t.Helper()
	have := acknowledged()
	until(t, "acknowledgements", func() bool { return acknowledged() >= have+n || t.Failed() })
}

// TestKill kills the server under traffic, twice.
func TestKill(t *testing.T) {
	pg := server(t)
	s := open(t, options(pg.DSN()))
	acknowledged, stop := traffic(t, s, 6)
	for range 2 {
		more(t, acknowledged, 50)
		pg.Kill()
		start(t, pg)
	}
	more(t, acknowledged, 50)
	stop()
	if h := s.Head(0); h.Incarnation != 1 {
		t.Errorf("a restart made incarnation %d", h.Incarnation)
	}
	closed(t, s)
	s = open(t, options(pg.DSN()))
	follow(t, s)
	closed(t, s)
}

// TestUnknownOutcome takes away the answer to a COMMIT that happened, and the
// server before a COMMIT that therefore did not.
func TestUnknownOutcome(t *testing.T) {
	pg := server(t)
	metric := func(r *prometheus.Registry) (outcomes string) {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "homing_store_unknown_commits_total" {
				for _, m := range f.GetMetric() {
					outcomes += fmt.Sprint(m.GetLabel()[0].GetValue(), " ", m.GetCounter().GetValue())
				}
			}
		}
		return outcomes
	}
	check := func(s *postgres.Store, r *prometheus.Registry, n int, outcome string) {
		t.Helper()
		if err := increment(ctx, s, 1, n); err != nil {
			t.Fatal(err)
		}
		if got, want := metric(r), outcome+" 1"; got != want {
			t.Errorf("unknown outcomes are %q, want %q", got, want)
		}
		if row, err := s.Get(ctx, 1, table, []byte("n")); err != nil || row.Version != uint64(n+1) {
			t.Errorf("the row is at version %d, want %d, error %v", row.Version, n+1, err)
		}
		follow(t, s)
		closed(t, s)
	}
	proxy := newProxy(t, pg.Dir)
	o := options(strings.Replace(pg.DSN(), pg.Dir, proxy.dir, 1))
	r := prometheus.NewRegistry()
	o.Registry = r
	s := open(t, o)
	proxy.swallow.Store(true)
	check(s, r, 0, "committed")

	r = prometheus.NewRegistry()
	o = options(pg.DSN())
	o.Registry = r
	s = open(t, o)
	var once sync.Once
	s.BeforeCommit(func() {
		once.Do(func() {
			pg.Kill()
			start(t, pg)
		})
	})
	check(s, r, 1, "rolled-back")
}

// TestConflictWaits has two callers write one row in one group, and the server
// die at its COMMIT: nobody is told of a conflict before what it conflicts with
// is durable.
func TestConflictWaits(t *testing.T) {
	pg := server(t)
	s := open(t, options(pg.DSN()))
	defer closed(t, s)
	first, grouped := make(chan struct{}), make(chan struct{})
	commits := 0
	answers := make(chan error, 2)
	s.BeforeCommit(func() {
		commits++
		switch commits {
		case 1: // of what keeps the committer busy
			close(first)
			<-grouped
		case 2: // of both
			if n := len(answers); n > 0 {
				t.Errorf("%d were answered before their group's COMMIT was sent", n)
			}
			pg.Kill()
			start(t, pg)
			if n := len(answers); n > 0 {
				t.Errorf("%d were answered while nobody knew what became of the COMMIT", n)
			}
		}
	})
	busy := make(chan error, 1)
	go func() { busy <- increment(ctx, s, 2, 0) }()
	<-first
	for range 2 {
		go func() {
			err := increment(ctx, s, 1, 0)
			if r, e := s.Get(ctx, 1, table, []byte("n")); e != nil || r.Version != 1 {
				t.Errorf("after the answer %v the row is at version %d, %v", err, r.Version, e)
			}
			answers <- err
		}()
	}
	until(t, "both to wait for the committer", func() bool { return s.Waiting() == 2 })
	close(grouped)
	if err := <-busy; err != nil {
		t.Error(err)
	}
	a, b := <-answers, <-answers
	if a != nil {
		a, b = b, a
	}
	if a != nil || region.KindOf(b) != region.Conflict {
		t.Errorf("the two are answered %v and %v, want one stored and one conflict", a, b)
	}
	if commits < 3 {
		t.Errorf("%d COMMITs: the second group was not sent again", commits)
	}
}

// TestCloseWithoutServer closes a store whose server went at a COMMIT and stays
// away: who waits is told that nobody knows.
func TestCloseWithoutServer(t *testing.T) {
	pg := server(t)
	s := open(t, options(pg.DSN()))
	gone := make(chan struct{})
	s.BeforeCommit(func() {
		pg.Kill()
		close(gone)
	})
	done := make(chan error, 1)
	go func() { done <- increment(ctx, s, 1, 0) }()
	<-gone
	closed(t, s)
	if err := <-done; region.KindOf(err) != region.Internal {
		t.Errorf("a commit of unknown outcome is answered %v", err)
	}
}

// TestOneCommitter opens a store twice, cuts the first off, and wakes it up.
func TestOneCommitter(t *testing.T) {
	dsn := place(t, 1)[0]
	first := open(t, options(dsn))
	defer closed(t, first)
	if err := increment(ctx, first, 1, 0); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Open(options(dsn))
	if region.KindOf(err) != region.Unavailable || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second process is told %v", err)
	}
	if _, err := shared.admin.Exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'`); err != nil {
		t.Fatal(err)
	}
	second := open(t, options(dsn))
	if err := increment(ctx, second, 1, 1); err != nil {
		t.Fatal(err)
	}
	refused := func() {
		t.Helper()
		if err := increment(ctx, first, 1, 2); region.KindOf(err) != region.Unavailable || !strings.Contains(err.Error(), "taken over") {
			t.Fatalf("the process that was cut off is told %v", err)
		}
	}
	refused()
	if err := increment(ctx, second, 1, 2); err != nil {
		t.Fatal(err)
	}
	closed(t, second)
	refused() // even when nobody else is there any more
}

// TestRefusesOthers opens what is not this store's.
func TestRefusesOthers(t *testing.T) {
	dsns := place(t, 2)
	closed(t, open(t, options(dsns...)))
	for name, change := range map[string]func(*postgres.Options){
		"region":     func(o *postgres.Options) { o.Region = "hk" },
		"partitions": func(o *postgres.Options) { o.Partitions = 8 },
		"order":      func(o *postgres.Options) { o.DSNs = []string{dsns[1], dsns[0]} },
		"number":     func(o *postgres.Options) { o.DSNs = dsns[:1] },
		"none":       func(o *postgres.Options) { o.DSNs = nil },
		"spelling":   func(o *postgres.Options) { o.DSNs = []string{"postgres://u:secret@h:port/d"} },
	} {
		o := options(dsns...)
		change(&o)
		s, err := postgres.Open(o)
		if region.KindOf(err) != region.BadInput {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", name, err)
		}
	}
	o := options("host=/nonexistent dbname=x sslmode=disable")
	if _, err := postgres.Open(o); region.KindOf(err) != region.Unavailable {
		t.Errorf("no server: %v", err)
	}
}

// query runs a statement on a server.
func query(t *testing.T, pg *pgtest.Server, statement string) {
	t.Helper()
	if _, err := shown(t, pg).Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestReadOnly makes the server what a demoted primary is, and back.
func TestReadOnly(t *testing.T) {
	pg := server(t)
	o := options(pg.DSN())
	o.Patience = 300 * time.Millisecond
	s := open(t, o)
	defer closed(t, s)
	if err := increment(ctx, s, 1, 0); err != nil {
		t.Fatal(err)
	}
	query(t, pg, `ALTER SYSTEM SET default_transaction_read_only = on`)
	query(t, pg, `SELECT pg_reload_conf()`)
	until(t, "a refusal", func() bool {
		_, err := s.Commit(ctx, &store.Batch{Owner: 2, Home: "sh", Writes: []store.Write{{Table: table, Row: []byte("x")}}})
		if err != nil && region.KindOf(err) != region.Unavailable {
			t.Fatal(err)
		}
		return err != nil
	})
	query(t, pg, `ALTER SYSTEM RESET default_transaction_read_only`)
	query(t, pg, `SELECT pg_reload_conf()`)
	until(t, "writes to go on by themselves", func() bool { return increment(ctx, s, 3, 0) == nil })
	follow(t, s)
}

// TestCancelledWait cancels the wait of a COMMIT for its standby: PostgreSQL
// reports success then, and nobody may be told so.
func TestCancelledWait(t *testing.T) {
	pg := server(t)
	o := options(pg.DSN())
	o.Timeout = 5 * time.Second
	s := open(t, o)
	defer closed(t, s)
	if err := errors.Join(pg.Configure("synchronous_standby_names = 'nobody'"), pg.Reload()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	waiting := func() (n int) {
		if err := shown(t, pg).QueryRow(`SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "the setting", func() bool {
		var v string
		if err := shown(t, pg).QueryRow(`SHOW synchronous_standby_names`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v == "nobody"
	})
	go func() { done <- increment(ctx, s, 1, 0) }()
	until(t, "a wait to cancel", func() bool { return waiting() > 0 })
	until(t, "the next wait", func() bool {
		var n int
		if err := shown(t, pg).QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
	select {
	case err := <-done:
		t.Fatalf("a commit that no standby has was answered %v", err)
	default:
	}
	if _, err := s.Get(ctx, 1, table, []byte("n")); region.KindOf(err) != region.Unavailable {
		t.Errorf("a row that a failover would take back was read: %v", err)
	}
	if err := errors.Join(pg.Configure("synchronous_standby_names = ''"), pg.Reload()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r, err := s.Get(ctx, 1, table, []byte("n")); err != nil || r.Version != 1 {
		t.Errorf("the row is at version %d, error %v", r.Version, err)
	}
	follow(t, s)
}

// shown returns a connection to look at a server with.
func shown(t *testing.T, pg *pgtest.Server) *sql.DB {
	t.Helper()
	c, err := pq.NewConnector(pg.DSN())
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestQuorum runs three servers with ANY 1: one standby is lost, then both, then
// the primary.
func TestQuorum(t *testing.T) {
	a := server(t)
	var standbys []*pgtest.Server
	for _, name := range []string{"b", "c"} {
		s, err := a.Standby(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Stop() })
		start(t, s)
		standbys = append(standbys, s)
	}
	b, c := standbys[0], standbys[1]
	if err := errors.Join(a.Configure("synchronous_standby_names = 'ANY 1 (b, c)'"), a.Reload()); err != nil {
		t.Fatal(err)
	}
	o := options(strings.Replace(a.DSN(), "host="+a.Dir, "host="+a.Dir+","+b.Dir, 1))
	o.Timeout = 2 * time.Second
	s := open(t, o)
	acknowledged, stop := traffic(t, s, 6)
	more(t, acknowledged, 30)
	c.Kill()
	more(t, acknowledged, 30)

	b.Kill()
	// What was on its way may still be acknowledged; a new write is not.
	deadline, cancel := context.WithTimeout(ctx, 3*time.Second)
	err := increment(deadline, s, 1000, 0)
	cancel()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("without a quorum a commit is answered %v", err)
	}
	start(t, b)
	more(t, acknowledged, 30)

	a.Kill()
	if err := b.Promote(); err != nil {
		t.Fatal(err)
	}
	more(t, acknowledged, 30)
	stop()
	for p := range region.Partition(4) {
		if h := s.Head(p); h.Incarnation != 2 {
			t.Errorf("partition %d: after a promotion the incarnation is %d", p, h.Incarnation)
		}
	}
	closed(t, s)
}
