package core

import (
	"context"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// SetRead says that the caller has read everything of a peer, a user or a group,
// up to a sequence of the caller's own inbox; the caller's other devices learn it
// by Sync, and nobody else. A position never goes back, so a repeat, or a device
// that is behind, changes nothing, and no idempotency key has to be remembered.
//
// Errors: BadInput without a peer or beyond the end of the inbox; NotFound for a
// peer who cannot exist; TooLarge beyond MaxReads peers.
func (c *Core) SetRead(ctx context.Context, by Caller, r *v1.SetReadRequest) (_ *v1.SetReadResponse, err error) {
	defer c.m.count("SetRead", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if err := checkKey("idempotency_key", r.IdempotencyKey); err != nil {
		return nil, err
	}
	if r.Peer == 0 || r.Sequence == 0 {
		return nil, region.Errorf(region.BadInput, "want a peer and a sequence").WithHint("give the UIN, and the sequence of a message in your inbox")
	}
	if _, err := c.reachable(ctx, region.UIN(r.Peer)); err != nil {
		return nil, err
	}
	resp := new(v1.SetReadResponse)
	err = c.asUser(ctx, by.UIN, func(t *txn) error {
		newest, err := t.newest()
		if err != nil {
			return err
		}
		if r.Sequence > newest {
			return region.Errorf(region.BadInput, "sequence %d is not in your inbox yet", r.Sequence).WithHint("it ends at %d", newest)
		}
		var row v1.ReadRow
		found, err := t.load(tableRead, keyNumber(r.Peer), &row)
		if err != nil {
			return err
		}
		if resp.Sequence = max(row.Sequence, r.Sequence); resp.Sequence == row.Sequence {
			return nil
		}
		var head v1.ReadHeadRow
		if _, err := t.load(tableReadHead, keySingle, &head); err != nil {
			return err
		}
		if !found {
			if head.Peers >= MaxReads {
				return region.Errorf(region.TooLarge, "too many read positions").WithHint("at most %d", MaxReads)
			}
			head.Peers++
		}
		head.Change++
		if err := t.save(tableRead, keyNumber(r.Peer), &v1.ReadRow{Sequence: r.Sequence, Change: head.Change}); err != nil {
			return err
		}
		return t.save(tableReadHead, keySingle, &head)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
