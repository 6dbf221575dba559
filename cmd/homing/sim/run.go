package sim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/memory"
	"github.com/homing-im/homing/replicator"
)

const (
	usersPerHome = 2
	chaosRounds  = 26 // of the weather
	calmRounds   = 90 // within which everything has to settle
	maxNotes     = 4000
)

// Stats count what a run went through.
type Stats struct {
	Steps, Acknowledged, Crashes, Lost   int
	Switchovers, Failovers, Failbacks    int // by partition
	Tail, Conflicts                      int // batches
	GapFills, Duplicates, Refused        int // of the replay
	Repeated, Altered, QueueLosses, Cuts int // of the weather
	Moves, Forks, Handles, Poison        int // owners whose move came to its end, forks of worlds, claims, commands of a newer kind
	Answers                              map[string]int
}

// run is one seed.
type run struct {
	ctx     context.Context
	dice    *dice
	now     time.Time
	weather bool // false at the beginning and at the end

	sites    []*site
	byAdmin  map[string]*site
	clusters map[region.ID]*cluster
	cut      map[[2]region.ID]bool

	operators []*operator
	worlds    []*region.Known // that took effect somewhere, in that order
	tips      []*region.Known // of those, that none of them follows
	directory *directory
	handles   map[string]region.UIN // that were acknowledged
	poisons   []poison
	complete  map[region.ID]region.Term // by home: the term that has come to its end everywhere
	keep      uint64                    // records that a journal keeps at least
	forks     bool                      // operators force changes without asking each other
	users     []*user
	groups    []region.UIN
	steps     []task // of all regions; nil when they have to be collected anew

	histories histories
	admitted  map[ownerEpoch]region.ID
	positions map[positionKey]uint64
	rows      map[rowKey]rowState
	tails     map[tailKey]*tail
	failure   *Failure
	stats     Stats
	notes     []string
	quiet     bool // no notes
	moving    bool // owners move
}

// task is one step of the schedule.
type task struct {
	s    *site
	name string
	do   func()
}

func newRun(seed uint64) *run {
	r := &run{ctx: context.Background(), dice: newDice(seed), now: time.Unix(1_700_000_000, 0), byAdmin: map[string]*site{},
		clusters: map[region.ID]*cluster{}, cut: map[[2]region.ID]bool{}, handles: map[string]region.UIN{},
		histories: histories{map[historyKey]journal.Sum{}, map[place]uint64{}}, admitted: map[ownerEpoch]region.ID{}, positions: map[positionKey]uint64{},
		rows: map[rowKey]rowState{}, tails: map[tailKey]*tail{}}
	r.stats.Answers, r.complete, r.directory = map[string]int{}, map[region.ID]region.Term{}, newDirectory(r)
	first := genesis()
	for _, id := range homes {
		r.complete[id], _ = first.World.TermOf(id, first.Hash)
	}
	// A journal is trimmed in runs in which nobody changes who acts: who reads
	// another stream after a change needs all of it.
	r.keep, r.forks = 10_000, r.dice.roll(4)
	if r.dice.roll(5) {
		r.keep = 8
	}
	r.worlds, r.tips = []*region.Known{first}, []*region.Known{first}
	r.operators = []*operator{{name: "a", at: "hk", newest: []*region.Known{first}}, {name: "b", at: "ca", newest: []*region.Known{first}}}
	for i, id := range homes {
		r.clusters[id] = &cluster{of: id, logs: map[replicator.TopicPartition]*topicLog{}}
		r.directory.next[id] = region.UIN(i+1)*1_000_000 - 1
		s := &site{r: r, id: id, disk: memory.NewDisk(), worlds: []*region.Envelope{{Signed: first.Signed}},
			overlay: &overlay{moved: map[region.UIN]region.Moved{}}}
		s.skew = time.Duration(r.dice.IntN(2000)-1000) * time.Millisecond
		r.sites = append(r.sites, s)
		g, _ := first.World.Region(id)
		r.byAdmin[g.Admin] = s
	}
	for _, s := range r.sites {
		s.start()
	}
	return r
}

func (r *run) site(id region.ID) *site {
	for _, s := range r.sites {
		if s.id == id {
			return s
		}
	}
	panic("no region " + id)
}

// note writes a line of the trace.
func (r *run) note(format string, args ...any) {
	if r.quiet {
		return
	}
	if len(r.notes) == maxNotes {
		r.notes = r.notes[maxNotes/2:]
	}
	r.notes = append(r.notes, fmt.Sprintf("%9.3f  ", r.now.Sub(time.Unix(1_700_000_000, 0)).Seconds())+fmt.Sprintf(format, args...))
}

// wrote is when a record was committed.
func (s *site) wrote(b *journal.Batch) time.Time { return time.UnixMilli(b.UnixMilli).Add(-s.skew) }

// all is the run.
func (r *run) all() {
	for range 4 { // everybody compares worlds, and the queues get their topics
		r.round(0)
	}
	r.register()
	for range 2 {
		r.round(0)
	}
	r.weather = true
	for i := 0; i < chaosRounds && r.failure == nil; i++ {
		r.round(3)
	}
	r.weather = false
	r.calm()
	for i := 0; r.failure == nil; i++ {
		if i%3 == 2 {
			open := r.unsettled()
			if open == "" {
				break
			}
			if i >= calmRounds {
				r.fail(0, "the world does not settle: %s", open)
			}
		}
		r.resolve()
		r.round(0)
	}
	for _, s := range r.sites {
		if s.up {
			s.count()
		}
	}
	if r.failure == nil {
		r.atRest()
	}
}

// round lets everybody take steps once, in any order, with acts of clients,
// operators and the weather between them.
func (r *run) round(acts int) {
	r.now = r.now.Add(time.Duration(20+r.dice.IntN(400)) * time.Millisecond)
	if r.dice.roll(6) {
		r.now = r.now.Add(time.Duration(r.dice.IntN(4000)) * time.Millisecond)
	}
	if r.steps == nil {
		for _, s := range r.sites {
			if s.up {
				r.steps = append(r.steps, s.steps()...)
			}
		}
	}
	tasks := make([]task, 0, len(r.steps)+16)
	for _, t := range r.steps {
		switch {
		case strings.HasPrefix(t.name, "keep") && !r.dice.roll(4): // they are rare in a region, too
		case !r.weather || !r.dice.roll(4):
			tasks = append(tasks, t)
		}
	}
	for range acts * 2 {
		tasks = append(tasks, task{nil, "client", r.act})
	}
	if r.weather {
		tasks = append(tasks, task{nil, "weather", r.blow}, task{nil, "operator", r.command})
	}
	r.dice.Shuffle(len(tasks), func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
	again := false
	for _, t := range tasks {
		if t.s != nil && !t.s.up {
			continue
		}
		r.dice.next()
		r.now = r.now.Add(time.Millisecond)
		r.stats.Steps++
		t.do()
		for _, s := range r.sites {
			if s.up && s.doomed && s.store.Writable() != nil {
				s.crash()
			}
		}
		if t.s != nil && t.s.up {
			if strings.HasPrefix(t.name, "heads") || t.name == "replay follow" {
				r.lags(t.s)
			}
			again = again || t.name == "replay follow"
		}
		if r.failure != nil {
			return
		}
	}
	if again { // what has to be replayed may have changed
		r.steps = nil
	}
	r.ended()
	if r.weather && r.dice.roll(4) {
		r.replayAgain(r.sites[r.dice.IntN(len(r.sites))])
	}
	for _, s := range r.sites {
		if s.up && r.dice.roll(5) {
			s.count()
		}
	}
}

// blow changes the weather.
func (r *run) blow() {
	s := r.sites[r.dice.IntN(len(r.sites))]
	o := r.sites[r.dice.IntN(len(r.sites))]
	switch r.dice.IntN(20) {
	case 0:
		if s.up {
			s.crash()
		}
	case 1:
		if s.up {
			s.doomed = true
		}
	case 2, 3, 4, 5:
		if !s.up {
			r.note("%s starts", s.id)
			s.start()
		}
	case 6:
		for _, o := range r.sites {
			if o != s {
				r.cut[[2]region.ID{s.id, o.id}], r.cut[[2]region.ID{o.id, s.id}] = true, true
			}
		}
		r.stats.Cuts++
		r.note("%s is cut off", s.id)
	case 7:
		if o != s {
			r.cut[[2]region.ID{s.id, o.id}] = true
			r.stats.Cuts++
			r.note("nothing of %s reaches %s", s.id, o.id)
		}
	case 8, 9, 10:
		if len(r.cut) > 0 {
			clear(r.cut)
			r.note("everybody reaches everybody")
		}
	case 11:
		c := r.clusters[s.id]
		c.down = !c.down
		r.note("the queue of %s is down: %v", s.id, c.down)
	case 12:
		r.forget(r.clusters[s.id])
	}
}

// command is what operators do.
func (r *run) command() {
	o := r.operators[0]
	if r.dice.roll(5) {
		o = r.operators[1]
	}
	if o.pending != nil {
		r.push(o)
		if o.pending != nil && !o.pending.Signed.Forced && r.dice.roll(4) {
			o.pending = nil // given up: it never took effect
		}
		return
	}
	if r.moving && r.dice.roll(6) {
		r.moves(o)
	}
	if r.keep < 1000 || !r.dice.roll(5) {
		return
	}
	if !r.forks && slices.ContainsFunc(r.operators, func(o *operator) bool { return o.pending != nil }) {
		return // they ask each other
	}
	r.learnWorlds(o)
	if len(o.newest) > 1 { // a plan refuses all else while there is a fork
		r.join(o)
		return
	}
	known := o.newest[len(o.newest)-1]
	newest := known.World
	g := &newest.Regions[r.dice.IntN(len(newest.Regions))]
	to, ok := g.Backup()
	if !ok {
		return
	}
	if t, _ := newest.TermOf(g.ID, known.Hash); r.complete[g.ID] != t {
		return // it has not yet ended what the change before began
	}
	forced := r.dice.roll(2)
	if !r.site(g.Acting.Region).up {
		forced = !r.dice.roll(4)
	}
	if r.dice.roll(2) {
		o.at = to // where the telephone rings
	}
	r.order(o, g.ID, to, forced)
}

// learnWorlds has an operator look at what others signed; the second may not reach
// the ledger.
func (r *run) learnWorlds(o *operator) {
	if r.forks && o.name == "b" && len(r.tips) == 1 && !r.dice.roll(3) {
		return
	}
	o.newest = slices.Clone(r.tips)
}

// calm ends the weather.
func (r *run) calm() {
	r.note("calm")
	clear(r.cut)
	for _, id := range homes {
		c := r.clusters[id]
		c.down = false
		for _, at := range sortedLogs(c.logs) {
			c.logs[at].late = nil
		}
	}
	for _, s := range r.sites {
		s.doomed = false
		if !s.up {
			s.start()
		}
	}
}

// resolve is what the operator does in the end: worlds that are under way take
// effect, forks are joined.
func (r *run) resolve() {
	for _, o := range r.operators {
		if o.pending != nil && !o.pending.Signed.Forced {
			o.pending = nil
		}
		r.push(o)
	}
	if o := r.operators[0]; len(r.tips) > 1 {
		o.newest = slices.Clone(r.tips)
		r.join(o)
	}
}

func publicBytes(k crypto.PublicKey) []byte { return slices.Clone(k.(ed25519.PublicKey)) }

// ended looks which homes have come to the end of their last change: who acts
// for it has taken it over everywhere and merged the tail, and whoever is next
// has all of that. No operator changes a home before.
func (r *run) ended() {
	for _, id := range homes {
		newest := r.worlds[len(r.worlds)-1]
		g, _ := newest.World.Region(id)
		a := r.site(g.Acting.Region)
		to, _ := g.Backup()
		b := r.site(to)
		term, _ := newest.World.TermOf(id, newest.Hash)
		if r.complete[id] == term || !a.up || !b.up || a.view.Hash != newest.Hash {
			continue
		}
		done := false
		for _, h := range a.manager.Report().Homes {
			done = done || h.Home == id && h.Complete()
		}
		for p := range region.Partition(partitions) {
			at, err := b.store.Position(r.ctx, a.id, journal.Full, p)
			done = done && err == nil && len(a.store.Head(p).Streams) > 0 && at.Seq == a.store.Head(p).Streams[0].Last
		}
		if done {
			r.complete[id] = term
			r.note("the change of %s has come to its end", id)
		}
	}
}
