package demo

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
)

// databases checks which regions are to have one.
func databases(regions []string, dsns map[string]string) (map[string]string, error) {
	for id, dsn := range dsns {
		if !slices.Contains(regions, id) {
			return nil, fmt.Errorf("--postgres %s=...: this demo has no region %s", id, id)
		}
		if dsn == "" {
			return nil, fmt.Errorf("--postgres %s=: want the DSN of a database behind it", id)
		}
	}
	return dsns, nil
}

// useDatabase gives a region's new node its store in a database. It has to be
// empty: the new world's users get the numbers of an older demo's.
func useDatabase(dir string, c *node.Config, id, dsn string) error {
	file := filepath.Join(dir, "nodes", id+".dsn")
	if err := endpoints.WriteFile(file, []byte(dsn+"\n"), 0o600); err != nil {
		return err
	}
	c.Store = node.Store{Engine: node.EnginePostgres, DSNFile: file}
	s, err := c.OpenStore(partitions, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return fmt.Errorf("--postgres %s: %w", id, err)
	}
	empty := true
	for p := range region.Partition(partitions) {
		empty = empty && s.Head(p).Next == 1
	}
	if err := s.Close(); err != nil {
		return err
	}
	if !empty {
		return fmt.Errorf("--postgres %s: the database has what an earlier world wrote, and this demo is new: give it an empty database, or a schema of its own with search_path=NAME in the DSN", id)
	}
	c.Store.DSNFile = id + ".dsn"
	return nil
}
