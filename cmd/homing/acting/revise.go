package acting

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/worldfile"
)

// revision is a change of the world, and of the operator's file that the next one
// is signed from.
type revision struct {
	world *region.World // the next one
	lines []line
}

// line is a field of a region in the operator's file; an empty value removes it.
type line struct {
	region       region.ID
	field, value string
}

// revise begins a revision of a world that changes nothing: who acts, and since
// which term, is carried over.
func revise(known *region.Known) (*revision, error) {
	w, err := known.Signed.Decode()
	if err != nil {
		return nil, err
	}
	w.Version++
	for i := range w.Regions {
		if r := &w.Regions[i]; r.Acting.Raised == nil {
			raised := known.Hash
			r.Acting.Raised = &raised
		}
	}
	return &revision{world: w}, nil
}

func (v *revision) region(id region.ID) *region.Region {
	r, _ := v.world.Region(id)
	return r
}

// acts has a region act for a home at a new term. A new backup is for the time
// that another region acts.
func (v *revision) acts(home, to, newBackup region.ID) {
	r := v.region(home)
	r.Acting = region.Acting{Region: to, Counter: r.Acting.Counter + 1}
	v.lines = append(v.lines, line{home, "acting", string(to)})
	if r.NewBackup != newBackup {
		r.NewBackup = newBackup
		v.lines = append(v.lines, line{home, "new-backup", string(newBackup)})
	}
}

// backs puts a region in front of another one's backups.
func (v *revision) backs(of, backup region.ID) {
	r := v.region(of)
	if len(r.Backups) > 0 && r.Backups[0] == backup {
		return
	}
	r.Backups = append([]region.ID{backup}, slices.DeleteFunc(slices.Clone(r.Backups), func(id region.ID) bool { return id == backup })...)
	v.backupLine(r)
}

// last puts a region behind the other backups wherever it is one, and returns
// whose first backup it was.
func (v *revision) last(id region.ID) (first []region.ID) {
	for i := range v.world.Regions {
		r := &v.world.Regions[i]
		at := slices.Index(r.Backups, id)
		if at < 0 || at == len(r.Backups)-1 {
			continue
		}
		if at == 0 {
			first = append(first, r.ID)
		}
		r.Backups = append(slices.Delete(slices.Clone(r.Backups), at, at+1), id)
		v.backupLine(r)
	}
	return first
}

func (v *revision) backupLine(r *region.Region) {
	ids := make([]string, len(r.Backups))
	for i, id := range r.Backups {
		ids[i] = string(id)
	}
	v.lines = append(v.lines, line{r.ID, "backups", "[" + strings.Join(ids, ", ") + "]"})
}

// away says whether a region is waited for.
func (v *revision) away(id region.ID, away bool) {
	v.region(id).Away = away
	value := ""
	if away {
		value = "true"
	}
	v.lines = append(v.lines, line{id, "away", value})
}

// Next is the world after known in which a region acts for a home.
func Next(known *region.Known, home, to region.ID) (*region.World, error) {
	v, err := revise(known)
	if err != nil {
		return nil, err
	}
	v.acts(home, to, "")
	return v.world, nil
}

// publish signs a revision, writes down who did what, edits the operator's file,
// and delivers the world. signed is called in between.
//
// Errors: the ledger's; Unavailable when too few voters accepted.
func (o *Operator) publish(ctx context.Context, l *worldfile.Ledger, k *region.Known, v *revision, forced bool, entry Entry, signed func(*region.Signed)) (*keeper.Report, error) {
	if err := v.world.Validate(); err != nil {
		return nil, err
	}
	key, err := o.Dir.Key("operator")
	if err != nil {
		return nil, err
	}
	s, err := l.Sign(v.world, []*region.Known{k}, forced, key)
	if err != nil {
		return nil, err
	}
	signed(s)
	entry.World = s.Hash()
	if err := o.audit(key, entry); err != nil {
		return nil, err
	}
	for _, f := range v.lines {
		if err := setField(o.Dir.File(), f); err != nil {
			o.say("          %v: see to it that %s of region %s is %s there before the next `homing world sign`", err, f.field, f.region, orAbsent(f.value))
		}
	}
	report, err := keeper.Push(ctx, o.Client, s, keeper.VoterURLs(k.World), slices.Concat(keeper.AdminURLs(v.world), keeper.AdminURLs(k.World)))
	return &report, err
}

func orAbsent(value string) string {
	if value == "" {
		return "absent"
	}
	return fmt.Sprintf("`%s`", value)
}
