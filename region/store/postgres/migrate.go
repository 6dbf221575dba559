package postgres

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/homing-im/homing/region"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migration is one file: what it makes of the layout before it.
type migration struct {
	version int
	name    string
	sql     string
}

// load reads the migrations, which are numbered without a gap.
func load(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			return nil, fmt.Errorf("%s is not number %d", name, i+1)
		}
		all = append(all, migration{version: i + 1, name: name, sql: string(b)})
	}
	return all, nil
}

// migrate brings the database to this program's layout, one transaction per
// migration. Of several processes one does it, the others wait.
func (s *session) migrate(all []migration) error {
	return s.guard(func() error {
		tx, err := s.conn.BeginTx(always, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.ExecContext(always, `SELECT pg_advisory_xact_lock(4862, hashtext(current_schema()))`); err != nil {
			return err
		}
		if _, err := tx.ExecContext(always, `CREATE TABLE IF NOT EXISTS homing_store_migration (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())`); err != nil {
			return err
		}
		var have int
		if err := tx.QueryRowContext(always, `SELECT coalesce(max(version), 0) FROM homing_store_migration`).Scan(&have); err != nil {
			return err
		}
		if have > len(all) {
			return region.Errorf(region.Unsupported, "the database has layout %d, this program reads %d", have, len(all)).WithHint("use the program that wrote it")
		}
		for _, m := range all[have:] {
			if _, err := tx.ExecContext(always, m.sql); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			if _, err := tx.ExecContext(always, `INSERT INTO homing_store_migration (version) VALUES ($1)`, m.version); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}
