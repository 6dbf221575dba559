package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/store/memory"
	"github.com/homing-im/homing/region/succession"
	"github.com/homing-im/homing/replicator"
)

// site is one region: what survives a crash, and what runs.
type site struct {
	r    *run
	id   region.ID
	skew time.Duration // of its clock

	// What is on its disks.
	disk    *memory.Disk
	worlds  []*region.Envelope
	ballot  region.Ballot
	overlay *overlay

	// What runs while it is up.
	up        bool
	doomed    bool // the power goes at the next sync
	store     *watched
	chain     *region.Chain
	view      *region.View
	changed   chan struct{}
	compared  map[region.ID]bool
	manager   *succession.Manager
	core      *core.Core
	round     func(context.Context, region.Partition) error
	stepper   *replicator.Stepper
	journal   http.Handler
	carriages map[moveKey]*core.Carriage // of moves that this process carries out
	carried   string                     // how the last step of one ended
	stuck     [1 + partitions]error      // of the last step of succession, and of commands
	began     map[positionKey]time.Time  // of the replay of a stream
	fills     map[string]uint64          // gap fills and the like that were counted already
}

var errPower = errors.New("the power goes")

func (s *site) now() time.Time { return s.r.now.Add(s.skew) }

// start starts the region on what its disks have.
func (s *site) start() {
	m, err := memory.Open(memory.Options{Disk: s.disk, Region: s.id, Partitions: partitions, Now: s.now, Sync: func() error {
		if s.doomed {
			return errPower
		}
		return nil
	}})
	if err != nil {
		panic(err)
	}
	s.store = &watched{Store: m, s: s}
	s.up, s.doomed = true, false
	s.changed = make(chan struct{})
	s.compared = map[region.ID]bool{s.id: true}
	s.chain = region.NewChain(publicOf("root"))
	for again := true; again; {
		again = false
		for _, e := range s.worlds {
			outcome, err := s.chain.Apply(e)
			again = again || err == nil && outcome != region.Unchanged && outcome != region.Outranked
		}
	}
	newest := s.chain.Newest()
	s.view = region.NewView(newest.World, newest.Hash, s.overlay)
	must(s.guard(s.view))
	s.manager, err = succession.NewManual(succession.Options{Self: s.id, Store: s.store, View: s.theView, Changed: s.theChange,
		Change: func(home region.ID) (region.Change, bool) { return s.chain.Change(home) }})
	must(err)
	held := func(home region.ID, p region.Partition) (core.Mark, bool) {
		if s.stepper == nil {
			return core.Mark{}, false
		}
		m, ok := s.stepper.Held(home, p)
		return core.Mark(m), ok
	}
	s.stepper = nil
	s.core, s.round, err = core.NewManual(core.Options{Store: s.store, Self: s.id, Key: keyOf("region/" + string(s.id)), View: s.theView,
		Changed: s.theChange, Admitting: s.admitting, Taken: s.manager.Admit, Held: held, Directory: s.r.directory.forHome(s.id), Clock: s.now, Parallel: 1, Heads: 64, Logger: slog.New(noteLog{s: s})})
	must(err)
	s.stepper, err = replicator.NewStepper(replicator.Options{Self: s.id, Store: s.store, Executor: s.core, Merger: merger{s}, View: s.theView,
		Changed: s.theChange, Client: &http.Client{Transport: road{s.r, s.id}}, Keep: s.r.keep, Now: s.now, Logger: slog.New(noteLog{s: s}),
		Open: func(of region.ID, _ string) (replicator.Queue, error) { return &pipe{s.r, s.id, s.r.clusters[of]}, nil }})
	must(err)
	s.journal = s.stepper.JournalHandler()
	s.carriages = map[moveKey]*core.Carriage{}
	s.fills, s.began = map[string]uint64{}, map[positionKey]time.Time{}
	s.r.steps = nil
}

// must is for what cannot fail: options of this package.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// crash ends everything that runs. Of what was not synced the disk keeps some.
func (s *site) crash() {
	s.count()
	s.r.histories.learn(s)
	kept, of := 0, 0
	s.disk.Crash(func(n int) int {
		kept, of = s.r.dice.IntN(n+1), n
		return kept
	})
	s.r.stats.Crashes++
	s.r.stats.Lost += of - kept
	s.r.note("%s crashes; of %d operations that were not synced, %d are lost", s.id, of, of-kept)
	s.up, s.view, s.stepper = false, nil, nil
	s.r.steps = nil
}

func (s *site) theView() *region.View           { return s.view }
func (s *site) theChange() <-chan struct{}      { return s.changed }
func (s *site) guard(v *region.View) error      { return succession.Fence(context.Background(), s.store, v) }
func (s *site) save(e *region.Envelope) error   { s.worlds = append(s.worlds, e); return nil }
func (s *site) term(home region.ID) region.Term { _, t, _ := s.view.Acting(home); return t }

// admitting is that a majority of voters was compared with since the start.
func (s *site) admitting() error {
	if len(s.compared) < s.view.World.Majority() {
		return region.Errorf(region.Unavailable, "%s has compared worlds with %d voters", s.id, len(s.compared))
	}
	return nil
}

// offer gives the region a world, and says whether it is known there now.
func (s *site) offer(e *region.Envelope) bool {
	chain, view, outcome, err := keeper.TakeUp(s.chain, e, s.overlay, s.save, s.guard)
	if err != nil {
		s.chain = chain
		return outcome == region.Outranked
	}
	if outcome != region.Unchanged {
		s.chain, s.view = chain, view
		close(s.changed)
		s.changed = make(chan struct{})
		s.r.note("%s takes up world %d %s: %s", s.id, view.World.Version, view.Hash.Short(), outcome)
	}
	return true
}

// accept is the voter's answer.
func (s *site) accept(w *region.Signed) (region.Acceptance, error) {
	next, err := s.ballot.Vote(&s.chain.Newest().Known, w)
	if err != nil {
		return region.Acceptance{}, err
	}
	s.ballot = next
	name := "region/" + string(s.id)
	return region.Accept(name, next.Accepted, keyOf(name)), nil
}

// hear learns the worlds of another region.
func (s *site) hear(of *site) {
	if !s.up || !of.up || !s.r.linked(s.id, of.id) || !s.r.linked(of.id, s.id) {
		return
	}
	if s.view.Hash != of.view.Hash {
		for _, e := range of.worlds {
			s.offer(e)
		}
	}
	for _, b := range of.overlay.batches {
		_ = s.take(b) // what cannot be taken now is offered again
	}
	if s.view.World.Version >= of.view.World.Version {
		s.compared[of.id] = true
	}
}

// count adds what the replay counted to the run's statistics.
func (s *site) count() {
	if s.stepper == nil {
		return
	}
	for _, l := range s.stepper.Lag() {
		add := func(what string, n uint64, to *int) {
			k := fmt.Sprint(l.Origin, l.Stream, what)
			*to += int(n - min(n, s.fills[k]))
			s.fills[k] = n
		}
		add("fills", l.GapFills, &s.r.stats.GapFills)
		add("duplicates", l.Duplicates, &s.r.stats.Duplicates)
		add("refused", l.Quarantined, &s.r.stats.Refused)
		for _, p := range l.Partitions {
			if p.State == replicator.StateDiverged {
				s.r.fail(2, "%s: the replay of %s %s/%d has halted: %s", s.id, l.Origin, l.Stream, p.Partition, p.Reason)
			}
		}
		if l.Mismatches > 0 && len(s.r.worlds) == 1 && !s.r.moving { // else a stream may be ahead of another one
			s.r.fail(6, "%s: %d rows or watermarks of %s in %s differ from what their records say", s.id, l.Mismatches, l.Origin, l.Stream)
		}
	}
}

// steps returns what the region may do next.
func (s *site) steps() []task {
	var all []task
	for _, st := range s.stepper.Steps() {
		do := st.Do
		if st.Name == "replay follow" {
			do = s.follow(do)
		}
		all = append(all, task{s, st.Name, func() { do(s.r.ctx) }})
	}
	for p := range region.Partition(partitions) {
		all = append(all,
			task{s, fmt.Sprintf("succession %d", p), func() { _, s.stuck[0] = s.manager.Step(s.r.ctx, p, s.now()) }},
			task{s, fmt.Sprintf("commands %d", p), func() { s.stuck[1+p] = s.round(s.r.ctx, p) }})
	}
	all = append(all, task{s, "moves", s.carry})
	for _, other := range s.r.sites {
		if other != s {
			all = append(all, task{s, "hear " + string(other.id), func() { s.hear(other) }})
		}
	}
	return all
}

// merger takes up tails, and looks at what became of them.
type merger struct{ s *site }

// Merge implements replicator.Merger.
func (m merger) Merge(ctx context.Context, batches []*journal.Batch) error {
	s := m.s
	for _, b := range batches {
		outcomes, err := s.core.Merge(ctx, []*journal.Batch{b})
		if err != nil {
			return err
		}
		k := tailKey{b.Origin, b.Partition, b.First()}
		t, again := s.r.tails[k]
		if !again {
			t = &tail{batch: b, outcome: outcomes[0], by: s.id}
			s.r.tails[k] = t
			s.r.stats.Tail++
			if outcomes[0] == core.TailConflict {
				s.r.stats.Conflicts++
			}
			s.r.note("%s merges %s/%d/%d-%d of %d: %s", s.id, b.Origin, b.Partition, b.First(), b.Last(), b.Owner, outcomes[0])
		}
		if t.by == s.id && t.outcome != outcomes[0] {
			s.r.fail(4, "%s: %s/%d/%d was %s, and is %s when it is given again", s.id, b.Origin, b.Partition, b.First(), t.outcome, outcomes[0])
		}
		s.r.judge(s, t, !again)
		var n succession.Merged
		switch outcomes[0] {
		case core.TailApplied:
			n.Applied = 1
		case core.TailKnown:
			n.Known = 1
		case core.TailConflict:
			n.Conflicts = 1
		}
		s.manager.Count(b.Home, n)
	}
	return nil
}

// follow notices that the replay of some streams begins anew.
func (s *site) follow(do func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		before := s.stepper.Steps()
		do(ctx)
		if after := s.stepper.Steps(); &before[0] != &after[0] {
			clear(s.began)
		}
	}
}
