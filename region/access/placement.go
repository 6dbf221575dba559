package access

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// retryWorld is how soon a client should ask again a region whose world is
// older than the client's hint.
const retryWorld = 300 * time.Millisecond

// version returns the version of this node's world, 0 when it has none.
func (s *Server) version() uint64 {
	if v := s.o.World.View(); v != nil {
		return v.World.Version
	}
	return 0
}

// hint passes a client's claim of a newer world on.
func (s *Server) hint(version uint64) {
	if version > s.version() {
		s.o.World.Hint(version)
	}
}

// admit applies the admission rule to a client. It is the one place that
// decides between serving, redirecting and "try again": a region that is behind
// what the client has heard of must not redirect, or two regions with different
// worlds would throw the client to and fro.
//
// Errors: region.NotFound, region.Unavailable, and region.WrongRegion with the
// redirect.
func (s *Server) admit(service region.Service, c core.Caller, heardOf uint64) (region.Placement, error) {
	v := s.o.World.View()
	if v == nil {
		return region.Placement{}, region.Errorf(region.Unavailable, "region %s has no world yet", s.o.Region).WithHint("try again, or another endpoint")
	}
	p, err := v.Admit(s.o.Region, c.UIN)
	if region.KindOf(err) == region.WrongRegion {
		if heardOf > v.World.Version {
			return p, &wire.Error{
				Err: region.Errorf(region.Unavailable, "region %s has world %d and is fetching %d", s.o.Region, v.World.Version, heardOf).
					WithHint("try again"),
				RetryAfter: retryWorld, WorldVersion: v.World.Version,
			}
		}
		return p, &wire.Error{Err: asError(err), WorldVersion: v.World.Version, Redirect: s.redirectTo(service, v, p, c)}
	}
	if err != nil {
		return p, err
	}
	if err := s.o.World.Admitting(); err != nil {
		return p, region.Errorf(region.Unavailable, "region %s serves nobody yet", s.o.Region).WithHint("try again").WithCause(err)
	}
	return p, nil
}

func (s *Server) redirectTo(service region.Service, v *region.View, p region.Placement, c core.Caller) *v1.Redirect {
	r := &v1.Redirect{
		Home: string(p.Home), Acting: string(p.Acting),
		WorldVersion: v.World.Version, Epoch: wire.EpochToProto(p.Epoch),
	}
	var ends []netip.AddrPort
	if s.o.Redirect != nil {
		ends = s.o.Redirect(service, c)
	}
	// Steering ends with the backups of the acting region, and knows nothing else
	// while no other was checked yet. A client sent here again would go in circles.
	if self, ok := v.World.Region(s.o.Region); ok {
		if own, ok := self.Serves.Of(service); ok {
			ends = slices.DeleteFunc(slices.Clone(ends), func(a netip.AddrPort) bool { return a == own })
		}
	}
	if len(ends) == 0 {
		if acting, ok := v.World.Region(p.Acting); ok {
			if a, ok := acting.Serves.Of(service); ok {
				ends = append(ends, a)
			}
		}
	}
	for _, a := range ends {
		r.Endpoints = append(r.Endpoints, a.String())
	}
	return r
}

// enrich adds the redirect to a wrong-region error of the core, when it is the
// caller who is in the wrong region; the owner may have gone between the
// admission at the door and the write.
func (s *Server) enrich(service region.Service, c core.Caller, err error) error {
	if region.KindOf(err) != region.WrongRegion || wire.RedirectOf(err) != nil {
		return err
	}
	v := s.o.World.View()
	if v == nil {
		return err
	}
	p, ok := v.Placement(c.UIN)
	if !ok || p.Acting == s.o.Region {
		return err
	}
	return &wire.Error{Err: asError(err), WorldVersion: v.World.Version, Redirect: s.redirectTo(service, v, p, c)}
}

// authenticate turns a ticket into a device and checks that it is the one that
// asks. Errors: region.Unauthenticated, and those of the core.
func (s *Server) authenticate(ctx context.Context, ticket string, uin region.UIN, keyID []byte) (core.Device, error) {
	if ticket == "" {
		return core.Device{}, s.reject("no-ticket", region.Errorf(region.Unauthenticated, "no ticket").WithHint("register, or log in with the device key"))
	}
	d, err := s.auth(ctx, ticket)
	switch {
	case err == nil:
	case region.KindOf(err) == region.Unauthenticated:
		return d, s.reject("bad-ticket", err)
	case region.KindOf(err) == region.WrongRegion && uin != 0 && d.UIN != 0 && d.UIN != uin:
		// Whose ticket it is matters, not where that user lives: below.
	default:
		return d, err
	}
	if uin != 0 && d.UIN != uin {
		return d, s.reject("foreign-ticket", region.Errorf(region.Unauthenticated, "the ticket is of another user").WithHint("send the ticket that this user was issued"))
	}
	if keyID != nil && string(d.KeyID[:]) != string(keyID) {
		return d, s.reject("foreign-device", region.Errorf(region.Unauthenticated, "the ticket is of another device").WithHint("log in with this device's key"))
	}
	return d, nil
}

// reject counts a refusal and returns its error.
func (s *Server) reject(reason string, err error) error {
	s.m.rejected.WithLabelValues(reason).Inc()
	return err
}
