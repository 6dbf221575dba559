package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// goalRate is what a region is to reach, in 1:1 messages a second.
const goalRate = 25_000

// The best peer that was measured on a machine with two processors, and not in any
// run of this program: WuKongIM, version 2.2.5, one node, its load beside it.
const (
	peerName  = "WuKongIM 2.2.5"
	peerRate  = 13_800 // messages of 128 bytes a second
	peerDelay = 400    // its p99 was below so many milliseconds
)

// IMFound is what --find measured beside its tries.
type IMFound struct {
	Best  int        `json:"best"`            // number of the best try, from 1; 0 when none was good
	Floor []IMResult `json:"floor,omitempty"` // of a bare server in the region's place: at the best rate, and at Goal
	Goal  float64    `json:"goal"`            // messages a second
	Peer  float64    `json:"peer"`            // messages a second of the best peer, measured once, not in this run
}

// good says whether a try meets what --find looks for.
func (b *imBench) good(r *IMResult) bool {
	return r.Delay.P99 < float64(b.o.Limit.Microseconds())/1000 && r.Delivered >= 0.97*r.Rate*float64(b.fan()) &&
		r.Lost == 0 && r.Duplicates == 0 && r.Disorder == 0 && r.Refused == 0 && r.Unanswered == 0
}

// finding is how many times --find halves the gap between what is good and what is
// too much.
const finding = 4

// find doubles the rate until it is too much, and then halves the gap. Then it
// measures the bare server.
func (b *imBench) find(ctx context.Context, report *IMReport, dir string) error {
	f := &IMFound{Goal: goalRate, Peer: peerRate}
	report.Found = f
	low, high := 0.0, 0.0
	for rate, steps := b.o.Rate, 0; steps < finding && rate >= 1; {
		r, err := b.try(ctx, rate, "")
		if err != nil {
			return err
		}
		report.Tries = append(report.Tries, *r)
		if b.good(r) {
			low, f.Best = rate, len(report.Tries)
		} else {
			high = rate
		}
		switch {
		case high == 0:
			rate *= 2
		case low == 0:
			rate /= 2
		default:
			rate = (low + high) / 2
			steps++
		}
	}
	if b.o.Kind != kindDirect || b.o.Echo || b.site == nil || f.Best == 0 {
		return nil
	}
	b.disconnect()
	if err := b.site.close(); err != nil { // its compactions would be measured, too
		return err
	}
	rates := []float64{low}
	if low != goalRate {
		rates = append(rates, goalRate)
	}
	var err error
	f.Floor, err = bare(ctx, *b.o, dir, rates)
	return err
}

// bare measures a bare server at some rates.
func bare(ctx context.Context, o IMOptions, dir string, rates []float64) (all []IMResult, err error) {
	o.Echo = true
	b := &imBench{o: &o}
	if b.site, err = startEcho(ctx, &o, dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.site.close()) }()
	b.target = b.site.target
	defer b.disconnect()
	if err := b.gather(ctx); err != nil {
		return nil, err
	}
	for _, rate := range rates {
		r, err := b.try(ctx, rate, "")
		if err != nil {
			return nil, err
		}
		all = append(all, *r)
	}
	return all, nil
}

// print says what was found, and what the limit is.
func (f *IMFound) print(out io.Writer, r *IMReport) {
	if f.Best == 0 {
		fmt.Fprintf(out, "\nno rate was good: p99 below %s without loss\n", r.Options.Limit)
		return
	}
	b := &r.Tries[f.Best-1]
	fmt.Fprintf(out, "\nhighest rate with a p99 below %s and nothing lost: %.0f messages/s, %.0f deliveries/s, p99 %.1f ms\n", r.Options.Limit, b.Rate, b.Delivered, b.Delay.P99)
	if r.Options.Kind != kindDirect {
		return
	}
	fmt.Fprintf(out, "processor time of a message there: region %.1f + generator %.1f µs; cores: %.2f + %.2f of %d\n", b.CPU, b.BenchCPU, b.Cores, b.BenchCores, r.Machine.CPUs)
	for i := range f.Floor {
		l := &f.Floor[i]
		fmt.Fprintf(out, "a bare server that stores nothing, in this run, at %.0f/s: %.1f + %.1f µs, p99 %.1f ms\n", l.Rate, l.CPU, l.BenchCPU, l.Delay.P99)
	}
	fmt.Fprintf(out, "the best peer, %s, took %.0f/s with a p99 below %d ms on two processors (measured once, not in this run)\n", peerName, f.Peer, peerDelay)
	if b.Rate >= f.Goal {
		return
	}
	there := float64(r.Machine.CPUs) * 1e6 / f.Goal
	most := b // the nearest to the goal: what is done once for many messages weighs less there
	for i := range r.Tries {
		if r.Tries[i].Delivered > most.Delivered {
			most = &r.Tries[i]
		}
	}
	fmt.Fprintf(out, "%.0f/s is not reached: %d processors have %.0f µs for a message then, and region and generator took %.0f at %.0f/s", f.Goal, r.Machine.CPUs, there, most.CPU+most.BenchCPU, most.Delivered)
	if n := len(f.Floor); n > 0 {
		l := &f.Floor[n-1]
		fmt.Fprintf(out, "; connections and generator alone take %.0f", l.CPU+l.BenchCPU)
	}
	if most.CPU+most.BenchCPU <= there {
		fmt.Fprint(out, ": processor time is not the limit, something waits")
	}
	fmt.Fprintln(out)
}
