package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// account compares the store of a region that died with that of its successor, row
// by row and without asking either for digests, reports or positions, and holds
// the operator's report against what it finds.
type account struct {
	missing int // rows that the successor lacks, or has older
	records int // of the journal, behind what the report says the successor has
	batches int // of owners among them: what has to be merged
	rows    int // different rows in those
	arrived int // of those, rows that the successor has: its last batches under way, merged after it took over
}

// rowID names a row of a store.
type rowID struct {
	owner region.UIN
	table journal.Table
	key   string
}

// held is a row's content; Version 0 is none.
type held struct {
	version uint64
	deleted bool
	value   string
}

// lastReplicated is the last number of a table that ever leaves a region.
const lastReplicated journal.Table = 199

// rowsOf reads all rows of a home in a partition that a full copy has.
func rowsOf(ctx context.Context, s store.Store, w *region.World, home region.ID, p region.Partition) (map[rowID]held, error) {
	const page = 500
	out := map[rowID]held{}
	for table := journal.Table(1); table <= lastReplicated; table++ {
		for last := region.UIN(0); ; {
			owners, err := s.Owners(ctx, p, table, last, page)
			if err != nil {
				return nil, err
			}
			for _, u := range owners {
				if at, ok := w.SegmentOf(u); !ok || at.Home != home {
					continue
				}
				for from := []byte{}; from != nil; {
					var next []byte
					n := 0
					err := s.Scan(ctx, u, table, store.Range{From: from, Limit: page, Deleted: true}, func(r *store.Row) bool {
						out[rowID{u, table, string(r.Row)}] = held{r.Version, r.Deleted, string(r.Value)}
						next = append(append(next[:0], r.Row...), 0)
						n++
						return true
					})
					if err != nil {
						return nil, err
					}
					if from = next; n < page {
						from = nil
					}
				}
			}
			if len(owners) < page {
				break
			}
			last = owners[len(owners)-1]
		}
	}
	return out, nil
}

// tailOf reads a partition's journal behind a sequence: the rows it wrote for a
// home, and how many records and batches of owners there are.
func tailOf(ctx context.Context, s store.Store, home region.ID, p region.Partition, after uint64, a *account) (map[rowID]bool, error) {
	rows := map[rowID]bool{}
	for from := after + 1; ; {
		batches, err := s.Journal(ctx, p, journal.Full, from, 1<<20)
		if err != nil {
			return nil, err
		}
		if len(batches) == 0 {
			return rows, nil
		}
		for _, b := range batches {
			a.records += len(b.Records)
			from = b.Last() + 1
			if b.Owner == 0 || b.Home != home {
				continue
			}
			a.batches++
			for _, r := range b.Records {
				if r.Row != nil {
					rows[rowID{b.Owner, r.Row.Table, string(r.Row.Row)}] = true
				}
			}
		}
	}
}

// compare holds the report of a failover against both stores, before the successor
// has written anything.
func (a *account) compare(ctx context.Context, dead, successor store.Store, w *region.World, home region.ID, out *acting.Outcome) error {
	open := map[region.Partition]uint64{}
	for _, r := range out.Home.Open {
		open[r.Partition] = r.After
	}
	for p := range region.Partition(dead.Partitions()) {
		after, ok := open[p]
		if !ok {
			return fmt.Errorf("the report has no range for partition %d", p)
		}
		want, err := rowsOf(ctx, dead, w, home, p)
		if err != nil {
			return err
		}
		have, err := rowsOf(ctx, successor, w, home, p)
		if err != nil {
			return err
		}
		tail, err := tailOf(ctx, dead, home, p, after, a)
		if err != nil {
			return err
		}
		a.rows += len(tail)
		for id, row := range want {
			if have[id] == row {
				if tail[id] { // under way when the successor took over: merged since, and reported all the same
					a.arrived++
				}
				continue
			}
			a.missing++
			if !tail[id] {
				return fmt.Errorf("partition %d: row %x of table %d of %d is missing, and the report, which begins after sequence %d, does not cover it", p, id.key, id.table, id.owner, after)
			}
		}
		for id := range have {
			if _, ok := want[id]; !ok {
				return fmt.Errorf("partition %d: row %x of table %d of %d is nowhere but in the copy", p, id.key, id.table, id.owner)
			}
		}
	}
	return nil
}

// openDead opens a copy of the store that a region left behind.
func (h *handover) openDead(name string) (store.Store, func(), error) {
	cfg, err := node.ReadConfig(filepath.Join(h.at.Dir, "nodes", name+".yaml"))
	if err != nil {
		return nil, nil, err
	}
	left := filepath.Join(cfg.Dir, "store")
	if cfg.Dir, err = os.MkdirTemp(h.at.Dir, "left-*"); err != nil {
		return nil, nil, err
	}
	err = os.CopyFS(filepath.Join(cfg.Dir, "store"), os.DirFS(left))
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(cfg.Dir))
	}
	s, err := cfg.OpenStore(h.demo.View().World.Partitions, nil, nil)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(cfg.Dir))
	}
	return s, func() { _ = errors.Join(s.Close(), os.RemoveAll(cfg.Dir)) }, nil
}

// accounted compares what sh left behind with what hk has, before anybody is
// served by hk.
func (h *handover) accounted(ctx context.Context) (string, error) {
	dead, done, err := h.openDead("sh")
	if err != nil {
		return "", err
	}
	defer done()
	if err := h.account.compare(ctx, dead, h.demo.Node("hk").Store(), h.demo.View().World, "sh", h.outcome); err != nil {
		return "", err
	}
	a := &h.account
	if a.missing == 0 || a.missing != a.rows-a.arrived {
		return "", fmt.Errorf("%d rows differ in the stores, %d were written behind the report's sequences, of which %d are in both: want as many as are not, and some", a.missing, a.rows, a.arrived)
	}
	return fmt.Sprintf("%d rows of sh differ in hk's store, all of them in the report's ranges: %d records of sh's journal, %d batches of people", a.missing, a.records, a.batches), nil
}

// settled: the report on disk, brought up to date, counts what the comparison of
// the stores found.
func (h *handover) settled(ctx context.Context) (string, error) {
	hk, _ := h.demo.View().World.Region("hk")
	rep, err := h.operator.Report(ctx, hk)
	if err != nil {
		return "", err
	}
	for _, home := range rep.Homes {
		if _, err := h.operator.Settle(home); err != nil {
			return "", err
		}
	}
	b, err := os.ReadFile(h.outcome.File)
	if err != nil {
		return "", err
	}
	var out acting.Outcome
	if err := json.Unmarshal(b, &out); err != nil {
		return "", err
	}
	m := out.Home.Merged
	if n := m.Applied + m.Known + m.Conflicts; n != uint64(h.account.batches) || len(out.Home.Open) > 0 {
		return "", fmt.Errorf("the report on disk counts %d batches and has %d open ranges; the stores had %d batches of difference", n, len(out.Home.Open), h.account.batches)
	}
	return fmt.Sprintf("the report on disk has no open range and counts %d batches applied, %d known, %d in conflict: the %d that the stores had", m.Applied, m.Known, m.Conflicts, h.account.batches), nil
}

// Where accounts are, and the messages of a user, one row each.
const (
	tableAccount journal.Table = 1
	tableInbox   journal.Table = 101
)

// refusedStranger: ca has no copy of sh, so it may not act without a word more;
// what would vanish is counted, as hk's store has it.
func (h *handover) refusedStranger(ctx context.Context) error {
	p, err := h.operator.Plan(ctx, acting.Wish{Kind: acting.Failover, Home: "sh", To: "ca"})
	if err != nil {
		return err
	}
	if err := p.Refusal(acting.Accepted{}); p.HasCopy || region.KindOf(err) != region.Conflict {
		return fmt.Errorf("a failover to a region without a copy is not refused: %v", err)
	}
	lost, err := h.operator.Lose(ctx, p)
	if err != nil {
		return err
	}
	owners, messages := 0, uint64(0)
	hk, ca, w := h.demo.Node("hk").Store(), h.demo.Node("ca").Store(), h.demo.View().World
	for part := range region.Partition(hk.Partitions()) {
		rows, err := rowsOf(ctx, hk, w, "sh", part)
		if err != nil {
			return err
		}
		there, err := rowsOf(ctx, ca, w, "sh", part)
		if err != nil {
			return err
		}
		for id := range rows {
			switch _, ok := there[id]; {
			case ok:
			case id.table == tableAccount:
				owners++
			case id.table == tableInbox:
				messages++
			}
		}
	}
	if lost.Best != "hk" || lost.Messages != messages || messages == 0 || lost.Owners != owners {
		return fmt.Errorf("the plan lists %d messages and %d owners, compared with %s; %d and %d are in hk only", lost.Messages, lost.Owners, lost.Best, messages, owners)
	}
	return nil
}
