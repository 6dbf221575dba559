// Package backup is `homing store`: a region's store moved from one engine to
// another, backed up while it is in use, and restored.
//
// It guarantees that a file it calls written is whole, checked and on the disk,
// and that a store it calls loaded has everything that was in the file; until
// then neither is to be seen under its name.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store/dump"
)

// NewCommand returns `homing store`. It writes to out.
func NewCommand(out io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use: "store", Short: "Move, back up and restore a region's store",
		Long: `A region's store (rows, journal, positions) is in a directory or in PostgreSQL, as
"store:" in the node's file says. It can be written into a file, and a file be
loaded into another, empty store of either engine:

  export, import    move a stopped region to another engine or machine
  backup, restore   copy a running region; go back to that copy after a loss
  check             is this file whole?
  purge             rewrite a running region's files, without what was deleted

A region is one: after an import or restore, start nothing on the store it came
from any more. What was loaded is a new incarnation of the region. Copies in other
regions that have no more than it has go on following it. A copy that has more
(after a restore: what was written behind the backup) stops and says "diverged" in
homing status; it keeps what it has until homing replicate repair makes it equal.
Commands of other regions that were executed behind the backup are executed again, once.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	t := &tool{out: out}
	for _, sub := range []struct {
		use, short, long, flag string
		run                    func(context.Context) error
	}{
		{"export", "Write a stopped region's store into a file", `The node must be stopped: then the file has everything it acknowledged.`, "to", t.export},
		{"backup", "Write a running region's store into a file", `Asks the running node on its admin listener, as the region (the key in its file).
Commits go on meanwhile. Each partition is as of one moment; different partitions
are as of different moments, which is how other regions see them too.`, "to", t.backup},
		{"import", "Fill an empty store from a file", `The node must be stopped, and its store be empty: for engine pebble the directory
DIR/store must not exist, for postgres the databases or schemas must be new. An
import that was interrupted leaves a store that no node opens; import again.`, "from", t.load},
		{"restore", "Fill an empty store from a backup", `The same as import. What the region acknowledged after the backup was begun is not
in it, or in part: regions whose copies have more of it stop following, keep what they have, and say
"diverged" in homing status. What the restored region sends them from the partitions
concerned stays in its journal until the copies are made equal to it again, which
gives up what they have more (homing replicate repair, with --dry-run first). So when another region has a copy, prefer a failover to it: it has more
than any backup. Restore when there is none.`, "from", t.load},
	} {
		c := &cobra.Command{
			Use: sub.use + " -c node.yaml --" + sub.flag + " FILE", Short: sub.short, Long: sub.long, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				if err := t.read(sub.use, sub.flag); err != nil {
					return err
				}
				return sub.run(c.Context())
			},
		}
		c.Flags().StringVarP(&t.config, "config", "c", "", "the node's file")
		c.Flags().StringVar(&t.file, sub.flag, "", "the file")
		cmd.AddCommand(c)
	}
	purge := &cobra.Command{
		Use: "purge -c node.yaml", Short: "Rewrite a running region's files, without what was deleted", Args: cobra.NoArgs,
		Long: `An erased account, and whatever else was deleted, is gone from the rows at once and
from the journal when it is trimmed; its bytes stay in the store's files until the
engine rewrites those. This has them rewritten now. It takes as long as reading and
writing the whole store. With engine pebble commits go on meanwhile; with postgres
the tables are locked (VACUUM FULL), so writes wait or are refused: do it at a quiet
hour. Bytes stay in the database's write-ahead log until that is recycled, and in
backups.`,
		Example: "  homing store purge -c sh.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			if t.config == "" {
				return errors.New("say which node: homing store purge -c node.yaml")
			}
			if err := t.readNode(); err != nil {
				return err
			}
			return t.purge(c.Context())
		},
	}
	purge.Flags().StringVarP(&t.config, "config", "c", "", "the node's file")
	cmd.AddCommand(purge)
	cmd.AddCommand(&cobra.Command{
		Use: "check FILE", Short: "Read a file whole and say what is in it", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t.file = args[0]
			return t.check(c.Context())
		},
	})
	return cmd
}

// tool is one run of a command.
type tool struct {
	out          io.Writer
	config, file string
	node         *node.Config
	world        *region.World
	id           region.ID
}

// quiet is where engines log to: what matters comes back as an error.
var quiet = slog.New(slog.DiscardHandler)

// read reads the node's file and its world.
func (t *tool) read(name, flag string) error {
	if t.config == "" || t.file == "" {
		return fmt.Errorf("say which node and which file: homing store %s -c node.yaml --%s FILE", name, flag)
	}
	return t.readNode()
}

func (t *tool) readNode() (err error) {
	if t.node, err = node.ReadConfig(t.config); err != nil {
		return err
	}
	if t.id, err = t.node.RegionID(); err != nil {
		return err
	}
	t.world, err = t.node.FirstWorld()
	return err
}

func (t *tool) export(ctx context.Context) error {
	if err := t.node.HasStore(); err != nil {
		return err
	}
	s, err := t.node.OpenStore(t.world.Partitions, quiet, nil)
	if region.KindOf(err) == region.Unavailable {
		return fmt.Errorf("%w; of a running node take a backup", err)
	}
	if err != nil {
		return err
	}
	err = t.write(func(w io.Writer) (dump.Summary, error) { return dump.Write(ctx, w, s, false, time.Now()) })
	return errors.Join(err, s.Close())
}

func (t *tool) backup(ctx context.Context) error {
	client, admin, err := t.node.BackupClient(t.world)
	if err != nil {
		return err
	}
	return t.write(func(w io.Writer) (s dump.Summary, err error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+node.BackupPath, nil)
		if err != nil {
			return s, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return s, fmt.Errorf("%w: is the node running? Of a stopped one make an export", err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			line, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
			return s, fmt.Errorf("the node answers %s: %s", resp.Status, strings.TrimSpace(string(line)))
		}
		r, err := dump.Open(io.TeeReader(resp.Body, w))
		if err != nil {
			return s, err
		}
		if r.Region != t.id {
			return s, fmt.Errorf("%s answers for region %s, not %s", admin, r.Region, t.id)
		}
		return r.CopyTo(ctx, nil)
	})
}

// purge has the running node rewrite its files.
func (t *tool) purge(ctx context.Context) error {
	client, admin, err := t.node.BackupClient(t.world)
	if err != nil {
		return err
	}
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, admin+node.PurgePath, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: is the node running?", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("%w: the node ended before its files were rewritten; do it again", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the node answers %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	var a node.Purged
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("the node's answer breaks off (%w): do it again", err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	fmt.Fprintf(t.out, "the files of region %s are rewritten, in %s\n", t.id, time.Since(began).Round(time.Millisecond))
	return nil
}

// load fills the node's store from the file.
func (t *tool) load(ctx context.Context) (err error) {
	began := time.Now()
	f, err := os.Open(t.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r, err := dump.Open(f)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", t.file, err)
	case r.Region != t.id:
		return fmt.Errorf("%s is of region %s, and node %s is of region %s", t.file, r.Region, t.node.Name, t.id)
	case r.Partitions != t.world.Partitions:
		return fmt.Errorf("%s has %d partitions, and the world %d: it is of another world", t.file, r.Partitions, t.world.Partitions)
	}
	to, err := t.node.LoadStore(r.Partitions, quiet)
	if err != nil {
		return err
	}
	s, err := r.CopyTo(ctx, to)
	if err != nil {
		return fmt.Errorf("%s: %w", t.file, errors.Join(err, to.Close()))
	}
	if err := to.Commit(); err != nil {
		return err
	}
	t.print(s, "loaded", began)
	return nil
}

func (t *tool) check(ctx context.Context) error {
	began := time.Now()
	f, err := os.Open(t.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r, err := dump.Open(f)
	if err == nil {
		_, err = r.CopyTo(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.file, err)
	}
	t.print(r.Summary, "whole", began)
	return nil
}

func (t *tool) print(s dump.Summary, what string, began time.Time) {
	state := "stopped"
	if s.InUse {
		state = "in use"
	}
	fmt.Fprintf(t.out, "%s: %s in %s: region %s as of %s (%s), %d partitions, %d rows, %d batches of journal, %d bytes\n", t.file, what,
		time.Since(began).Round(time.Millisecond), s.Region, s.Time.UTC().Format(time.RFC3339), state, s.Partitions, s.Rows, s.Batches, s.Bytes)
}

// write has the file appear once it is whole and on the disk. It never replaces
// one: an older backup is better than none.
func (t *tool) write(fill func(io.Writer) (dump.Summary, error)) error {
	began := time.Now()
	if _, err := os.Lstat(t.file); err == nil {
		return fmt.Errorf("%s is there already: say another file", t.file)
	}
	part := t.file + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s, err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Link(part, t.file); err != nil { // unlike a rename it replaces nothing
		return err
	}
	if err := errors.Join(os.Remove(part), syncDir(filepath.Dir(t.file))); err != nil {
		return err
	}
	t.print(s, "written", began)
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
