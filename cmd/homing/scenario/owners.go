package scenario

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// epoch: each region takes a write for an owner of its own at the world's
// epoch, and no other region has anything to do with that owner.
func (h *hello) epoch(ctx context.Context) (string, error) {
	h.probes = map[string]client.Identity{}
	v := h.demo.View()
	for name, at := range h.at.Regions {
		id, err := client.Register(ctx, http.DefaultClient, at.Short, "Probe", "cli")
		if err != nil {
			return "", fmt.Errorf("%s takes no write at the epoch of world %d: %w", name, v.World.Version, err)
		}
		p, ok := v.Placement(id.UIN)
		if !ok || string(p.Acting) != name || p.Acting != id.Region {
			return "", fmt.Errorf("%s registered UIN %d, for whom %s acts", name, id.UIN, p.Acting)
		}
		h.probes[name] = id
		for other, at := range h.at.Regions {
			err := knock(ctx, at.Short, id)
			if other == name {
				if err != nil {
					return "", fmt.Errorf("%s does not know its own UIN %d: %w", name, id.UIN, err)
				}
				continue
			}
			if to := wire.RedirectOf(err); to.GetActing() != name || region.KindOf(err) != region.WrongRegion {
				return "", fmt.Errorf("%s should send UIN %d to %s, and answers: %v", other, id.UIN, name, err)
			}
		}
	}
	return fmt.Sprintf("world %d: each region writes for its own and sends others home", v.World.Version), nil
}

// knock asks a region for a challenge, which only the acting region gives.
func knock(ctx context.Context, shortURL string, id client.Identity) error {
	key := wire.KeyID(id.PublicKey())
	_, err := v1.NewIMClient(http.DefaultClient, shortURL).Challenge(ctx,
		connect.NewRequest(&v1.ChallengeRequest{Uin: uint64(id.UIN), DeviceKeyId: key[:]}))
	return wire.FromConnect(err)
}

// key: the tickets a region gives are good for its own front door, which checks
// them with the key that the world names.
func (h *hello) key(ctx context.Context) (string, error) {
	for name, id := range h.probes {
		c, err := h.client(id, h.at.Regions[name].Long)
		if err != nil {
			return "", err
		}
		err = c.Connect(ctx)
		_ = c.Close()
		if err != nil {
			return "", fmt.Errorf("a ticket of %s is not good there: %w", name, err)
		}
	}
	return "every region's tickets are signed with the key that the world names", nil
}
