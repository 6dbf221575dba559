package steer

import "github.com/homing-im/homing/region"

// Health says who can take clients, as the asking node sees it. What nobody
// has checked yet is not healthy. Implementations answer at once, and a value
// handed to [Steer] does not change meanwhile.
type Health interface {
	POP(region.POPID) bool
	Region(region.ID) bool
}

// AllUp is the health of a world in which everything works.
var AllUp Health = allUp{}

type allUp struct{}

func (allUp) POP(region.POPID) bool { return true }
func (allUp) Region(region.ID) bool { return true }

// Up is a [Health] made of two sets; who is not in them is not healthy.
type Up struct {
	POPs    map[region.POPID]bool
	Regions map[region.ID]bool
}

// POP says whether the POP is in the set.
func (u Up) POP(id region.POPID) bool { return u.POPs[id] }

// Region says whether the region is in the set.
func (u Up) Region(id region.ID) bool { return u.Regions[id] }
