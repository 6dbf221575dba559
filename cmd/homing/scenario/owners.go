package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
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
			err := knock(ctx, at.Short, id, v.World.Version)
			if other == name {
				if err != nil {
					return "", fmt.Errorf("%s does not know its own UIN %d: %w", name, id.UIN, err)
				}
				continue
			}
			if region.KindOf(err) != region.WrongRegion {
				return "", fmt.Errorf("%s should send UIN %d to %s, and answers: %v", other, id.UIN, name, err)
			}
		}
	}
	return fmt.Sprintf("world %d: each region writes for its own and sends others home", v.World.Version), nil
}

// knock asks a region for a challenge, which only the acting region gives; the
// others answer region.WrongRegion with where to go. It says of which world the
// client has heard.
func knock(ctx context.Context, shortURL string, id client.Identity, heardOf uint64) error {
	key := wire.KeyID(id.PublicKey())
	body, err := json.Marshal(map[string]any{"uin": id.UIN.String(), "deviceKeyId": key[:]})
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, shortURL+"/homing.v1.IM/Challenge", bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set(wire.WorldHeader, strconv.FormatUint(heardOf, 10))
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(r.Body, 4096))
	switch {
	case r.StatusCode == http.StatusOK:
		return nil
	case r.Header.Get(wire.RedirectHeader) != "":
		return region.Errorf(region.WrongRegion, "%s", said)
	default:
		return fmt.Errorf("%s: %s", r.Status, said)
	}
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
