package ids

import (
	"context"

	"github.com/homing-im/homing/region"
)

// Limits every engine and the handler enforce.
const (
	MaxHandles = 8       // of one owner, earlier ones included: nobody hoards names
	MaxRange   = 100_000 // UINs of one allotment: what a region that loses its store wastes at most
	MaxKey     = 128     // bytes of an allotment's key
)

// Claimed is what a handle resolves to.
type Claimed struct {
	Handle  Handle     `json:"handle"`
	Owner   region.UIN `json:"owner"`
	Primary Handle     `json:"primary"` // the owner's newest handle; differs from Handle when the owner moved on
}

// Range is a range of UINs, First and Last included.
type Range struct {
	First region.UIN `json:"first"`
	Last  region.UIN `json:"last"`
}

// Allotment asks for a range. Key is the caller's and is told apart by Region:
// a region whose store was restored from a backup has to use new keys, or it is
// given again what it may have used already.
type Allotment struct {
	Region   region.ID // who asks
	Key      string
	Home     region.ID // in whose segments
	N        int
	Segments []region.Segment // of Home, sorted and disjoint
}

// Store keeps handles and ranges. All methods are safe for concurrent use and
// linearizable: what one call returned, every later call sees, also after a
// crash. A mutation whose context ended may still have happened; repeating it is
// safe.
//
// Engines check what only the store can know. The syntax of handles and the
// limits are checked by [Allotment.Check] and [ParseHandle] before it is asked.
type Store interface {
	// Claim gives the handle to the owner and makes it the primary one. It is
	// durable when it returns. Claiming one's own again is no error.
	//
	// Errors: region.Conflict when another owner has it; region.TooLarge when
	// the owner has MaxHandles; region.Unavailable.
	Claim(ctx context.Context, h Handle, owner region.UIN) (Claimed, error)

	// Resolve finds the owner of a handle. It returns only what is durable.
	// Errors: region.NotFound, region.Unavailable.
	Resolve(ctx context.Context, h Handle) (Claimed, error)

	// Allot reserves N consecutive UINs in the first segment that has room,
	// densely: a segment's first UIN given out is its second one, First+1. The
	// same Region and Key give the same range again, whatever Segments says.
	// It is durable when it returns.
	//
	// Errors: region.Conflict when the key was used with another Home or N;
	// region.Unavailable when no segment has room.
	Allot(ctx context.Context, a Allotment) (Range, error)

	// Close ends the store and waits for calls under way; later ones get
	// region.Unavailable.
	Close() error
}

// Check reports what is wrong with a request, apart from who makes it.
//
// Errors: region.BadInput, region.TooLarge.
func (a *Allotment) Check() error {
	switch {
	case a.Key == "":
		return region.Errorf(region.BadInput, "an allotment needs a key").WithHint("use a key that stays the same when the call is repeated")
	case len(a.Key) > MaxKey:
		return region.Errorf(region.TooLarge, "the key has %d bytes, at most %d are allowed", len(a.Key), MaxKey)
	case a.N < 1:
		return region.Errorf(region.BadInput, "an allotment is of at least one UIN, not %d", a.N)
	case a.N > MaxRange:
		return region.Errorf(region.TooLarge, "an allotment is of at most %d UINs, not %d", MaxRange, a.N)
	}
	return nil
}

// Next returns the range of n UINs that follows what was given out in a segment;
// newest is the allotted range with the greatest First that is not beyond the
// segment's end, nil when there is none. It is false when there is no room.
//
// Working from the ranges themselves rather than from a counter per segment keeps
// guarantee 2 when an operator splits or joins segments of one home.
func Next(s region.Segment, newest *Range, n int) (Range, bool) {
	if s.Last-s.First < 1 || n < 1 {
		return Range{}, false
	}
	first := s.First + 1
	if newest != nil && newest.Last >= first {
		if newest.Last >= s.Last {
			return Range{}, false
		}
		first = newest.Last + 1
	}
	if uint64(s.Last-first) < uint64(n-1) {
		return Range{}, false
	}
	return Range{First: first, Last: first + region.UIN(n-1)}, true
}

// Taken is the error of a Claim that came second.
func Taken(h Handle) error {
	return region.Errorf(region.Conflict, "handle %q is taken", string(h)).WithHint("choose another one")
}

// TooMany is the error of a Claim beyond MaxHandles.
func TooMany() error {
	return region.Errorf(region.TooLarge, "the owner has %d handles already", MaxHandles).WithHint("claim one of them again to make it the primary one")
}

// Unknown is the error of a Resolve that finds nobody.
func Unknown(h Handle) error {
	return region.Errorf(region.NotFound, "nobody has the handle %q", string(h)).WithHint("check the spelling")
}

// KeyReused is the error of an Allot whose key has another meaning already.
func KeyReused(key string) error {
	return region.Errorf(region.Conflict, "key %q was used for another allotment", key).WithHint("use a new key for a new range")
}

// Exhausted is the error of an Allot that finds no room.
func Exhausted(home region.ID, n int) error {
	return region.Errorf(region.Unavailable, "no segment of region %s has %d UINs left", home, n).WithHint("the operator has to give the region another segment in the world")
}

// Closed is the error of every call after Close.
func Closed() error {
	return region.Errorf(region.Unavailable, "the ids store is closed").WithHint("retry; the node is stopping or starting")
}
