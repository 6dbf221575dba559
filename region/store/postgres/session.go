package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lib/pq"

	"github.com/homing-im/homing/region"
)

// always is the context of what the committer sends: lib/pq answers a context's
// end by cancelling the statement, and a cancelled COMMIT is reported as success
// while no standby has it. Time is bounded by cutting the connection instead.
var always = context.Background()

// config reads a DSN and adds what every connection here needs.
func config(dsn string) (pq.Config, error) {
	c, err := pq.NewConfig(dsn)
	if err != nil {
		// Not the cause: it may quote the DSN, which may have the password.
		return c, region.Errorf(region.BadInput, "a database's DSN cannot be read").WithHint("see lib/pq for how it is spelled")
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 3 * time.Second
	}
	if c.FallbackApplicationName == "" {
		c.FallbackApplicationName = "homing"
	}
	if c.TargetSessionAttrs == "" || c.TargetSessionAttrs == pq.TargetSessionAttrsAny {
		c.TargetSessionAttrs = pq.TargetSessionAttrsReadWrite
	}
	if c.Runtime == nil {
		c.Runtime = map[string]string{}
	}
	// Every statement here goes by primary key. A plan made while the tables
	// were empty, or before they were first analysed, would scan them whole.
	// Compiling them takes a hundred times as long as running them, and the price
	// that the planner puts on what is off would have them compiled each time.
	for _, name := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"} {
		c.Runtime[name] = "off"
	}
	c.Runtime["plan_cache_mode"] = "force_generic_plan"
	return c, nil
}

// wire keeps the newest connection it dialled, to cut it.
type wire struct {
	mu   sync.Mutex
	conn net.Conn
}

func (w *wire) Dial(network, address string) (net.Conn, error) {
	return w.DialContext(always, network, address)
}

func (w *wire) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(always, timeout)
	defer cancel()
	return w.DialContext(ctx, network, address)
}

func (w *wire) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		w.mu.Lock()
		w.conn = c
		w.mu.Unlock()
	}
	return c, err
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
	}
}

// session is the connection that commits to one database.
type session struct {
	db       *sql.DB // of this connection only
	conn     *sql.Conn
	wire     *wire
	timeout  time.Duration
	warned   atomic.Bool // the server has warned since it was last set to false
	fetch    *sql.Stmt
	write    *sql.Stmt
	timeline string // of the server
}

// connect opens a connection to the primary, and sees to it that it commits
// durably.
func connect(c pq.Config, timeout time.Duration) (*session, error) {
	s := &session{wire: &wire{}, timeout: timeout}
	connector, err := pq.NewConnectorConfig(c)
	if err != nil {
		return nil, region.Errorf(region.BadInput, "a database's DSN cannot be used").WithCause(err)
	}
	connector.Dialer(s.wire)
	s.db = sql.OpenDB(pq.ConnectorWithNoticeHandler(connector, func(e *pq.Error) {
		if e.Code.Class() == "01" {
			s.warned.Store(true)
		}
	}))
	s.db.SetMaxOpenConns(1)
	// Not bounded by timeout: connect_timeout is per host, and there may be many.
	if s.conn, err = s.db.Conn(always); err != nil {
		_ = s.db.Close()
		var refused *pq.Error
		if !errors.As(err, &refused) {
			err = fmt.Errorf("%w: %w", errNoPrimary, err)
		}
		return nil, err
	}
	if err := s.guard(s.prepare); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) prepare() error {
	var commit, fsync string
	err := s.conn.QueryRowContext(always, `SELECT current_setting('synchronous_commit'), current_setting('fsync'),
		(SELECT system_identifier FROM pg_control_system()) || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`).Scan(&commit, &fsync, &s.timeline)
	if err != nil {
		return err
	}
	if fsync != "on" {
		return region.Errorf(region.BadInput, "the database server runs with fsync = %s: what it acknowledges is not on disk", fsync).WithHint("set fsync = on")
	}
	set := `SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET default_transaction_isolation = 'read committed'`
	if commit != "on" && commit != "remote_apply" {
		set += `; SET synchronous_commit = on`
	}
	_, err = s.conn.ExecContext(always, set)
	return err
}

// guard runs f, and cuts the connection under it when it takes too long.
func (s *session) guard(f func() error) error {
	t := time.AfterFunc(s.timeout, s.wire.cut)
	defer t.Stop()
	return f()
}

func (s *session) close() {
	s.wire.cut() // before: lib/pq would say goodbye, and wait for a dead server
	_ = s.conn.Close()
	_ = s.db.Close()
}

// lockKey makes the advisory lock this store's: the table's number in the upper
// half tells the schemas of a database apart.
const lockKey = `('homing_store'::regclass::oid::bigint << 32) + 4862`

// lock takes the advisory lock, or says who has it not: the error is nil and ok
// false while another connection holds it.
func (s *session) lock() (ok bool, err error) {
	err = s.guard(func() error {
		return s.conn.QueryRowContext(always, `SELECT pg_try_advisory_lock(`+lockKey+`)`).Scan(&ok)
	})
	return ok, err
}

// unlock gives the lock back, so that whoever waits need not wait for the
// server to notice that this connection is gone.
func (s *session) unlock() {
	_ = s.guard(func() error {
		_, err := s.conn.ExecContext(always, `SELECT pg_advisory_unlock(`+lockKey+`)`)
		return err
	})
}

// exec runs a statement that has to be durable when it returns, and returns how
// many rows it changed.
func (s *session) exec(query string, args ...any) (n int64, err error) {
	s.warned.Store(false)
	err = s.guard(func() error {
		result, err := s.conn.ExecContext(always, query, args...)
		if err == nil {
			n, err = result.RowsAffected()
		}
		return err
	})
	if err == nil && s.warned.Load() {
		err = errWarned
	}
	return n, err
}

// errWarned is a commit that the server acknowledged with a warning: somebody
// cancelled its wait for the standbys.
var errWarned = errors.New("the server acknowledged a commit that its standbys may not have")

// errHeld is an advisory lock that a connection of this process may still have,
// of which the server does not know yet that it is gone.
var errHeld = errors.New("another connection holds the lock")

// errNoPrimary is what lib/pq says in many words when none of the hosts answers,
// or none of those that do may be written to.
var errNoPrimary = errors.New("no host is a primary")

// temporary says whether the error passes when the database comes back, or is
// found on another host.
func temporary(err error) bool {
	if errors.Is(err, errWarned) || errors.Is(err, errHeld) || errors.Is(err, errNoPrimary) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, sql.ErrConnDone) {
		return true
	}
	var n net.Error
	var op *net.OpError
	if errors.As(err, &n) || errors.As(err, &op) {
		return true
	}
	var e *pq.Error
	if errors.As(err, &e) {
		switch e.Code.Class() {
		case "08", "40", "53", "57":
			return true // connection, rollback, resources, operator
		}
		return e.Code == "25006" // read-only: this is not the primary any more
	}
	// lib/pq keeps a request that it could not write in an error that does not
	// unwrap, and does not always answer driver.ErrBadConn in its place.
	text := err.Error()
	return strings.HasSuffix(text, syscall.EPIPE.Error()) || strings.HasSuffix(text, syscall.ECONNRESET.Error())
}
