package core

import (
	"context"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// noDirectory is the Directory of a region that was given none: it refuses, so
// that nobody takes its silence for an answer.
type noDirectory struct{}

func noIDs() error {
	return region.Errorf(region.Unavailable, "this region knows no ids service").WithHint("ask the operator; everything but new users and handles works")
}

func (noDirectory) Claim(context.Context, string, region.UIN) error     { return noIDs() }
func (noDirectory) Resolve(context.Context, string) (region.UIN, error) { return 0, noIDs() }
func (noDirectory) Allot(context.Context, string, int) (region.UIN, region.UIN, error) {
	return 0, 0, noIDs()
}

type noNotifier struct{}

func (noNotifier) Notify(region.UIN, uint64, *v1.Message) {}
func (noNotifier) Revoked(region.UIN, [8]byte)            {}
