package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/keeper"
)

// overlay is the owners who moved, as a region's disk has them.
type overlay struct {
	moved   map[region.UIN]region.Moved
	batches []*keeper.Batch
}

// Lookup implements region.Overlay.
func (o *overlay) Lookup(u region.UIN) (region.Moved, bool) { m, ok := o.moved[u]; return m, ok }

// take is what a region does with a flip that it hears of.
func (s *site) take(b *keeper.Batch) error {
	fresh, err := keeper.Judge(s.chain, s.overlay, b)
	if err != nil || !fresh {
		return err
	}
	s.overlay.batches = append(s.overlay.batches, b)
	for _, e := range b.Entries {
		s.overlay.moved[e.Owner] = region.Moved{Home: e.Home, Moves: uint64(e.Moves)}
		s.r.note("%s knows that %d lives in %s", s.id, e.Owner, e.Home)
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// moveKey is one move of an owner.
type moveKey struct {
	owner region.UIN
	moves uint64
}

// carry takes steps of the moves that are this region's.
func (s *site) carry() {
	list, err := s.core.Moving(s.r.ctx)
	if err != nil {
		return
	}
	for _, m := range list {
		k := moveKey{m.Owner, m.Moves}
		c := s.carriages[k]
		if c == nil {
			c = &core.Carriage{Move: m}
			s.carriages[k] = c
		}
		p, err := s.core.Carry(s.r.ctx, abroad{s}, c)
		s.carried = fmt.Sprintf("%+v: %d %v", c.Move, p, err)
		switch {
		case err == nil && p == core.Ended:
			delete(s.carriages, k)
			s.r.stats.Moves++
			s.r.note("%s has nothing left of %d, which lives in %s", s.id, m.Owner, m.To)
		case region.KindOf(err) == region.WrongRegion && !c.Gone:
			delete(s.carriages, k)
		case err == nil && p == core.Waiting && !c.Sent && s.r.weather && s.r.dice.roll(20):
			if s.core.CallOff(s.r.ctx, c.Move) == nil {
				delete(s.carriages, k)
				s.r.note("%s calls the move of %d off", s.id, m.Owner)
			}
		}
	}
}

// moves is what an operator does who moves a user.
func (r *run) moves(o *operator) {
	u := r.users[r.dice.IntN(len(r.users))]
	to := homes[r.dice.IntN(len(homes))]
	w := r.worlds[len(r.worlds)-1].World
	g, _ := w.Region(r.homeOf(u))
	s := r.site(g.Acting.Region)
	if !s.up || !r.reachable(o, s.id) {
		return
	}
	for _, h := range s.manager.Report().Homes {
		if h.Home == g.ID && len(h.Open) > 0 {
			return // the plan refuses it
		}
	}
	if m, err := s.core.BeginMove(r.ctx, u.uin, to); err == nil {
		r.note("%s fences %d, which moves to %s, as record %d of partition %d", s.id, u.uin, to, m.Fence.Seq, m.Part)
	}
}

// homeOf is where a user lives, as the region knows that has heard most of it.
func (r *run) homeOf(u *user) region.ID {
	home, moves := u.home, uint64(0)
	for _, s := range r.sites {
		if m, ok := s.overlay.Lookup(u.uin); ok && m.Moves > moves {
			home, moves = m.Home, m.Moves
		}
	}
	return home
}

// abroad is a region's way to the others when it moves an owner.
type abroad struct{ s *site }

// ask calls the region that acts for a home. The question may be lost, and the
// answer.
func (a abroad) ask(home region.ID, do func(*core.Core) error) error {
	r := a.s.r
	acting, _, _ := a.s.view.Acting(home)
	to := r.site(acting)
	lost := func(what string) bool { return r.weather && r.dice.hits(what+string(a.s.id)+string(acting), 12) }
	if !to.up || !r.linked(a.s.id, acting) || lost("question") {
		return errUnreachable
	}
	err := do(to.core)
	if !to.up || !r.linked(acting, a.s.id) || lost("answer") {
		return errUnreachable
	}
	return err
}

// Receive implements core.Abroad.
func (a abroad) Receive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, rows []core.MovedRow) (e region.Epoch, err error) {
	if p, _ := a.s.view.Placement(owner); p.Epoch.Moves < moves {
		a.s.r.fenced(a.s, owner, p.Home, moves)
	}
	err = a.ask(home, func(c *core.Core) (err error) {
		e, err = c.Receive(ctx, owner, home, moves, rows)
		return err
	})
	return e, err
}

// Arrive implements core.Abroad.
func (a abroad) Arrive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, sent region.Epoch) (there core.Arrival, err error) {
	err = a.ask(home, func(c *core.Core) (err error) {
		there, err = c.Arrive(ctx, owner, home, moves, sent)
		return err
	})
	return there, err
}

// HeldUpTo implements core.Abroad.
func (a abroad) HeldUpTo(_ context.Context, home region.ID, p region.Partition, m core.Mark) (held bool, err error) {
	err = a.ask(home, func(c *core.Core) error { held = c.HeldUpTo(home, p, m); return nil })
	return held, err
}

// Flip implements core.Abroad.
func (a abroad) Flip(_ context.Context, m core.Move) error {
	s := a.s
	s.r.mayFlip(s, m)
	b := keeper.NewBatch(s.id, s.view.Hash, []keeper.Entry{{Owner: m.Owner, Home: m.To, Moves: uint32(m.Moves)}}, keyOf("region/"+string(s.id)))
	if err := s.take(b); err != nil {
		return err
	}
	for _, o := range s.r.sites {
		if o != s && o.up && s.r.linked(s.id, o.id) && !s.r.dice.hits("flip"+string(o.id), 3) {
			_ = o.take(b)
		}
	}
	return nil
}

// fenced checks what must hold before anything of an owner is sent: whoever takes
// the old home over has the fence.
func (r *run) fenced(s *site, owner region.UIN, home region.ID, moves uint64) {
	g, _ := s.view.World.Region(home)
	if to, ok := g.Backup(); ok {
		row := r.site(to).disk.Get(owner, tableMove, []byte{0})
		var fence v1.MoveRow
		if proto.Unmarshal(row.Value, &fence) != nil || fence.Moves < moves && row.Epoch.Moves < moves {
			r.fail(1, "%s moves %d away, and %s, the backup of %s, does not have the fence", s.id, owner, to, home)
		}
	}
}

// mayFlip checks what must hold before an owner is given away: the fence is backed
// up, and the new home has the owner's rows, in the region that acts for it or did
// when it was asked.
func (r *run) mayFlip(s *site, m core.Move) {
	r.fenced(s, m.Owner, m.From, m.Moves)
	has := func(o *site) bool {
		row := o.disk.Get(m.Owner, tableMove, []byte{0})
		var there v1.MoveRow
		return proto.Unmarshal(row.Value, &there) == nil && (there.Arrived && there.Moves == m.Moves || there.Moves > m.Moves)
	}
	if !slices.ContainsFunc(r.sites, has) {
		r.fail(3, "%s gives %d away to %s, and nobody has its rows there", s.id, m.Owner, m.To)
	}
}

// underway says which move is not at its end, "" when there is none.
func (r *run) underway() string {
	for _, s := range r.sites {
		if list, err := s.core.Moving(r.ctx); err != nil || len(list) > 0 {
			for _, m := range list {
				return fmt.Sprintf("%s is moving %d to %s: %s", s.id, m.Owner, m.To, s.carried)
			}
		}
		for _, o := range r.sites {
			if !maps.Equal(s.overlay.moved, o.overlay.moved) {
				return fmt.Sprintf("%s and %s do not agree who has moved", s.id, o.id)
			}
		}
	}
	return ""
}
