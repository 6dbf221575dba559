package scenario

import (
	"context"
	"errors"
	"fmt"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/succession"
	"github.com/homing-im/homing/region/worldfile"
)

// retire has nobody wait for sh, which is gone: what it alone has counts as lost.
// A region that acts for somebody is waited for.
func (h *handover) retire(ctx context.Context) (string, error) {
	p, err := h.operator.PlanRetire(ctx, "hk", false)
	if err != nil {
		return "", err
	}
	if err := p.Refusal(); region.KindOf(err) != region.Conflict {
		return "", fmt.Errorf("hk acts for sh, and may be retired: %v", err)
	}
	if p, err = h.operator.PlanRetire(ctx, "sh", false); err != nil {
		return "", err
	}
	if p.Open != h.outcome.Home.Partitions {
		return "", fmt.Errorf("the plan says that %d ranges count as lost, want %d", p.Open, h.outcome.Home.Partitions)
	}
	if err := h.operator.Retire(ctx, p); err != nil {
		return "", err
	}
	if err := h.ranges(ctx, 0, p.Open); err != nil {
		return "", err
	}
	if _, err := h.operator.Plan(ctx, acting.Wish{Kind: acting.Failback, Home: "sh"}); region.KindOf(err) != region.BadInput {
		return "", fmt.Errorf("a region that nobody waits for may act again: %v", err)
	}
	if err := h.sameFile(); err != nil {
		return "", err
	}
	return fmt.Sprintf("nobody waits for sh: %d ranges of its journal count as lost; hk, which acts, is not retired", p.Open), nil
}

// waitAgain takes that back, before sh returns.
func (h *handover) waitAgain(ctx context.Context) error {
	p, err := h.operator.PlanRetire(ctx, "sh", true)
	if err != nil {
		return err
	}
	if err := h.operator.Retire(ctx, p); err != nil {
		return err
	}
	return h.ranges(ctx, h.outcome.Home.Partitions, 0)
}

// ranges waits until hk's report of sh has so many ranges open, and lost.
func (h *handover) ranges(ctx context.Context, open, lost int) error {
	hk, _ := h.demo.View().World.Region("hk")
	return eventually(ctx, func(ctx context.Context) error {
		rep, err := h.operator.Report(ctx, hk)
		if err != nil {
			return err
		}
		at := succession.HomeReport{}
		for _, r := range rep.Homes {
			if r.Home == "sh" {
				at = r
			}
		}
		if len(at.Open) != open || len(at.Lost) != lost {
			return fmt.Errorf("the report has %d ranges open and %d lost, want %d and %d", len(at.Open), len(at.Lost), open, lost)
		}
		return nil
	})
}

// sameFile: what commands signed, the operator's file says too, so that the next
// world signed from it takes nothing back.
func (h *handover) sameFile() error {
	l, err := h.operator.Dir.Ledger()
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	tips := l.Tips()
	if len(tips) != 1 {
		return errors.New("the ledger is forked")
	}
	w, err := worldfile.CompileFile(h.operator.Dir.File(), tips[0])
	if err != nil {
		return err
	}
	if d := worldfile.Diff(tips[0].World, w); len(d) > 0 {
		return fmt.Errorf("the operator's file differs from the world that is signed: %s", d[0])
	}
	return nil
}

// fencedByHand: a region that an admin fences refuses writes and goes on reading;
// unfenced it takes them.
func (h *handover) fencedByHand(ctx context.Context) (string, error) {
	if err := h.operator.Fence(ctx, "ca"); err != nil {
		return "", err
	}
	soon, cancel := context.WithTimeout(ctx, handlePatience)
	defer cancel()
	if _, err := h.carol.client.SendText(soon, h.carol.id.UIN, "note"); err == nil {
		return "", errors.New("ca is fenced and acknowledges a message")
	}
	if err := h.demo.Node("ca").Keeper().Admitting(); region.KindOf(err) != region.Unavailable {
		return "", fmt.Errorf("ca is fenced, and admits: %v", err)
	}
	if err := h.operator.Unfence(ctx, "ca"); err != nil {
		return "", err
	}
	if err := eventually(ctx, func(ctx context.Context) error {
		_, err := h.carol.client.SendText(ctx, h.carol.id.UIN, "note")
		return err
	}); err != nil {
		return "", err
	}
	return "ca, fenced by the operator, refuses Carol's message; unfenced it takes it", nil
}
