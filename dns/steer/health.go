package steer

import "github.com/homing-im/homing/region"

// Health says who can take clients, as the asking node sees it. What nobody
// has checked yet is not healthy. Implementations answer at once, and a value
// handed to [Steer] does not change meanwhile. One that knows more than that is
// a [Measures] as well.
type Health interface {
	POP(region.POPID) bool
	Region(region.ID) bool
}

// Site is a POP or a region's own listeners.
type Site struct {
	POP    region.POPID // empty for a region
	Region region.ID    // empty for a POP
}

// Path leads from a site to a region.
type Path struct {
	From Site
	To   region.ID
}

// Measures is what a [Health] may know besides. Values are coarse, because every
// change of one makes all answers that rest on it new ones.
type Measures interface {
	// Load is how much of a site's capacity is in use, in hundredths of a percent.
	Load(Site) (uint32, bool)
	// RTT is a round trip in milliseconds.
	RTT(Path) (uint32, bool)
	// Fell is when a site that is not healthy was last seen to be, in Unix seconds;
	// false for one that never was.
	Fell(Site) (int64, bool)
}

// AllUp is the health of a world in which everything works.
var AllUp Health = allUp{}

type allUp struct{}

func (allUp) POP(region.POPID) bool { return true }
func (allUp) Region(region.ID) bool { return true }

// Up is a [Health] made of two sets; who is not in them is not healthy. It
// measures what its maps hold; all of them may be nil.
type Up struct {
	POPs    map[region.POPID]bool
	Regions map[region.ID]bool
	Loads   map[Site]uint32
	RTTs    map[Path]uint32
	Falls   map[Site]int64
}

var _ Measures = Up{}

// POP says whether the POP is in the set.
func (u Up) POP(id region.POPID) bool { return u.POPs[id] }

// Region says whether the region is in the set.
func (u Up) Region(id region.ID) bool { return u.Regions[id] }

// Load is the site's, if it is known.
func (u Up) Load(s Site) (uint32, bool) { v, ok := u.Loads[s]; return v, ok }

// RTT is the path's, if it is known.
func (u Up) RTT(p Path) (uint32, bool) { v, ok := u.RTTs[p]; return v, ok }

// Fell is when the site went down, if it ever was up.
func (u Up) Fell(s Site) (int64, bool) { v, ok := u.Falls[s]; return v, ok }
