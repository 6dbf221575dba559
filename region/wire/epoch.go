package wire

import (
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// EpochToProto turns an owner's epoch into its message.
func EpochToProto(e region.Epoch) *v1.Epoch {
	return &v1.Epoch{Moves: e.Moves, Counter: e.Term.Counter, Raised: append([]byte(nil), e.Term.Raised[:]...)}
}

// EpochFromProto is the inverse; nil is the zero epoch. Errors: region.BadInput.
func EpochFromProto(p *v1.Epoch) (region.Epoch, error) {
	e := region.Epoch{Moves: p.GetMoves(), Term: region.Term{Counter: p.GetCounter()}}
	switch raised := p.GetRaised(); len(raised) {
	case 0:
	case len(e.Term.Raised):
		copy(e.Term.Raised[:], raised)
	default:
		return region.Epoch{}, region.Errorf(region.BadInput, "epoch's world hash has %d bytes, want %d", len(raised), len(e.Term.Raised))
	}
	return e, nil
}
