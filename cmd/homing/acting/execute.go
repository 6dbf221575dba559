package acting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/succession"
	"github.com/homing-im/homing/region/worldfile"
)

// serveWithin bounds the wait for the new region; past it the operator is told
// what is missing, and the change goes on by itself.
const serveWithin = 30 * time.Second

// Outcome is the report of a change, as it lies on disk.
type Outcome struct {
	Plan    *Plan       `json:"plan"`
	Began   time.Time   `json:"began"`
	World   uint64      `json:"world"`
	Hash    region.Hash `json:"hash"`
	Signed  float64     `json:"signedSeconds"` // since Began
	Pushed  float64     `json:"pushedSeconds"`
	Serving float64     `json:"servingSeconds"` // when the last partition was taken over; 0: not in time

	// Home is how it stands at the new region. Its open ranges are what may be
	// missing: none after a planned change.
	Home succession.HomeReport `json:"home"`
	File string                `json:"-"`
}

// Execute carries a plan out and waits until the new region serves. The outcome
// is there on errors too, once the world is signed, and lies in DIR/reports.
//
// Errors: those of [Plan.Refusal]; Conflict when the world has changed since the
// plan was made; Unavailable when too few voters accepted, or the new region
// does not serve in time.
func (o *Operator) Execute(ctx context.Context, p *Plan, accepted Accepted) (*Outcome, error) {
	if err := p.Refusal(accepted); err != nil {
		return nil, err
	}
	out := &Outcome{Plan: p, Began: time.Now()}
	since := func() float64 { return time.Since(out.Began).Seconds() }
	var target *region.Region
	err := o.withWorld(func(l *worldfile.Ledger, k *region.Known) error {
		if k.World.Version != p.World {
			return planAgain(k)
		}
		v, err := revise(k)
		if err != nil {
			return err
		}
		v.acts(p.Home, p.To, p.NewBackup)
		if p.NewBackup != "" {
			v.backs(p.To, p.NewBackup)
		}
		target = v.region(p.To)
		report, err := o.publish(ctx, l, k, v, p.Kind == Failover, Entry{Plan: p}, func(s *region.Signed) {
			out.World, out.Hash, out.Signed = s.Version, s.Hash(), since()
			o.say("%6.2f s  world %d %s is signed", out.Signed, out.World, out.Hash.Short())
		})
		out.Pushed = since()
		if report != nil {
			o.say("%6.2f s  delivered to %d nodes, accepted by %d voters", out.Pushed, len(report.Delivered), len(report.Accepted))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = o.await(ctx, out, target, since)
	if err == nil {
		o.say("%6.2f s  %s serves every partition of %s", out.Serving, p.To, p.Home)
	}
	return out, errors.Join(err, o.write(out))
}

func (o *Operator) say(format string, args ...any) { _, _ = fmt.Fprintf(o.Out, format+"\n", args...) }

// await polls the new region until it has taken every partition over.
func (o *Operator) await(ctx context.Context, out *Outcome, target *region.Region, since func() float64) error {
	ctx, cancel := context.WithTimeout(ctx, serveWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	shown := -1
	var last error
	for {
		rep, err := o.Report(ctx, target)
		last = err
		if err == nil {
			for _, h := range rep.Homes {
				if h.Home != out.Plan.Home || rep.World < out.World {
					continue
				}
				out.Home = h
				if h.Opened != shown {
					shown = h.Opened
					o.say("%6.2f s  %d of %d partitions taken over", since(), h.Opened, h.Partitions)
				}
				if h.Opened == h.Partitions {
					out.Serving = since()
					return nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return region.Errorf(region.Unavailable, "%s has taken over %d of %d partitions in %s", target.ID, out.Home.Opened, out.Home.Partitions, serveWithin).
				WithHint("it goes on by itself; if %s is gone: homing region failover %s", out.Plan.From, out.Plan.Home).WithCause(last)
		case <-tick.C:
		}
	}
}
