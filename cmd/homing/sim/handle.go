package sim

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// directory is the worldwide service of account IDs. It never forgets; questions
// to it are lost, and its answers.
type directory struct {
	r       *run
	next    map[region.ID]region.UIN
	allots  map[string]region.UIN
	handles map[string]region.UIN
}

func newDirectory(r *run) *directory {
	return &directory{r: r, next: map[region.ID]region.UIN{}, allots: map[string]region.UIN{}, handles: map[string]region.UIN{}}
}

func (d *directory) forHome(id region.ID) core.Directory { return asker{d, id} }

// asker is the directory as one region reaches it.
type asker struct {
	*directory
	from region.ID
}

func (a asker) reach(what string) error {
	if a.r.weather && a.r.dice.hits(what+string(a.from), 6) {
		return region.Errorf(region.Unavailable, "ids does not answer")
	}
	return nil
}

// Claim implements core.Directory.
func (a asker) Claim(_ context.Context, handle string, owner region.UIN) error {
	if err := a.reach("claim"); err != nil {
		return err
	}
	if has, taken := a.handles[handle]; taken && has != owner {
		return region.Errorf(region.Conflict, "handle %q is taken", handle)
	}
	a.handles[handle] = owner
	return a.reach("claimed")
}

// Resolve implements core.Directory.
func (a asker) Resolve(_ context.Context, handle string) (region.UIN, error) {
	if u, ok := a.handles[handle]; ok {
		return u, a.reach("resolve")
	}
	return 0, region.Errorf(region.NotFound, "nobody has the handle %q", handle)
}

// Allot implements core.Directory.
func (a asker) Allot(_ context.Context, key string, n int) (first, last region.UIN, err error) {
	first, ok := a.allots[key]
	if !ok {
		first = a.next[a.from] + 1
		a.next[a.from] += region.UIN(n)
		a.allots[key] = first
	}
	return first, first + region.UIN(n) - 1, nil
}

// claim is what a user does who wants a name that others want, too.
func (r *run) claim(u *user, s *site, key string) {
	handle := fmt.Sprint("handle", r.dice.IntN(4))
	_, err := s.core.ClaimHandle(r.ctx, u.caller, &v1.ClaimHandleRequest{Handle: handle, IdempotencyKey: key})
	r.did(err)
	if err != nil {
		return
	}
	r.stats.Handles++
	if has, ok := r.handles[handle]; ok && has != u.uin {
		r.fail(9, "%s gives handle %s to %d, and %d was given it before", s.id, handle, u.uin, has)
	}
	r.handles[handle] = u.uin
	r.note("%s gives handle %s to %d", s.id, handle, u.uin)
}

// accountIs checks invariant 9 of an account's row, in any copy.
func (r *run) accountIs(s *site, owner region.UIN, row []byte) {
	have, err := s.store.Get(r.ctx, owner, tableAccount, row)
	var a v1.AccountRow
	if err != nil || !have.Exists() || proto.Unmarshal(have.Value, &a) != nil || a.Handle == "" {
		return
	}
	if is := r.directory.handles[a.Handle]; is != owner {
		r.fail(9, "%s has %d as %s, which is %d's", s.id, owner, a.Handle, is)
	}
}

// poison is a command that no region of this release can execute, as a newer one
// would write it.
type poison struct {
	to        *user
	origin    region.ID
	partition region.Partition
	sequence  uint64
}

// newer has a region write a command of a newer release for a user.
func (r *run) newer(u, to *user, s *site) {
	p, err := s.view.Admit(s.id, u.uin)
	if err == nil {
		err = s.manager.Admit(p.Home, p.Epoch.Term, u.partition)
	}
	if err != nil || s.admitting() != nil {
		return
	}
	c := journal.Command{Target: to.uin, Method: 60_000, Payload: fmt.Append(nil, "newer", r.stats.Poison)}
	c.ID[0], c.ID[1], c.ID[15] = byte(r.stats.Poison>>8), byte(r.stats.Poison), 1
	at, _ := s.view.Placement(to.uin)
	c.To = at.Home
	receipt, err := s.store.Commit(r.ctx, &store.Batch{Owner: u.uin, Home: p.Home, Epoch: p.Epoch, Commands: []journal.Command{c}})
	if err != nil {
		return
	}
	r.stats.Poison++
	r.poisons = append(r.poisons, poison{to, s.id, u.partition, receipt.Last})
	r.note("%s writes a command to %d that nobody can execute, as record %d of partition %d", s.id, to.uin, receipt.Last, u.partition)
}

// kept checks the rest of invariant 10: a command that nobody can execute is a dead
// letter of its target's, or of nobody's; that everybody else's went on is what
// made the world settle.
func (r *run) kept() {
	for _, p := range r.poisons {
		key := letterRow(p.origin, p.partition, p.sequence)
		g, _ := r.sites[0].view.World.Region(r.homeOf(p.to))
		letter := r.site(g.Acting.Region).disk.Get(p.to.uin, tableLetter, key)
		found := letter.Exists()
		for _, s := range r.sites {
			lost := s.disk.Get(nobody, tableLostLetter, key)
			found = found || lost.Exists()
		}
		if !found {
			r.fail(10, "the command %s/%d/%d to %d, which nobody can execute, is no dead letter", p.origin, p.partition, p.sequence, p.to.uin)
		}
	}
}
