package acting

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// shownGaps bounds how many partitions a plan lists one by one.
const shownGaps = 8

// Print says the plan to people.
func (p *Plan) Print(w io.Writer) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	say("plan: %s of %s, from %s to %s (world %d)", p.Kind, p.Home, p.From, p.To, p.World)
	if p.FromAnswers {
		say("  %s answers; %d users are connected to it", p.From, p.Online)
	} else {
		say("  %s does not answer, asked %d times", p.From, asks)
	}
	p.printSurvivors(say)
	switch {
	case !p.HasCopy:
		say("  %s HAS NO COPY that is caught up: everything it lacks would vanish until %s returns", p.To, p.From)
	case p.Kind == Failover:
		say("  %s has %s's records but for %d that it knows of; what was written in the last %.1f s may be missing until %s returns", p.To, p.From, p.Records, p.Seconds, p.From)
	default:
		say("  %s lacks %d records now, %.1f s; it serves when it has them all, and nothing is lost", p.To, p.Records, p.Seconds)
	}
	if p.Kind == Failover {
		p.printGaps(say)
	}
	p.printLost(say)
	if p.Open > 0 {
		say("  %d RANGES OF %s ARE OPEN since the last change: what %s acknowledged in them is not merged", p.Open, p.Home, p.OpenOf)
	}
	p.printRoom(say)
	because := "steering.ttl of the world"
	if p.TTLRule != "" {
		because = "ttl of rule " + p.TTLRule
	}
	say("  DNS answers already given lead to %s for up to %d s more (%s); clients behind a POP are not held up by them", p.From, p.TTL, because)
	switch {
	case p.NewBackup != "":
		say("  %s becomes the new backup of %s and %s: it begins a copy at once, and status is red until that is caught up", p.NewBackup, p.Home, p.To)
	case p.Single:
		say("  SINGLE COPY afterwards, until %s returns; --new-backup REGION begins another", p.From)
	}
}

type sayer func(format string, args ...any)

func (p *Plan) printSurvivors(say sayer) {
	for _, s := range p.Survivors {
		var total uint64
		for _, f := range s.Full {
			total += f.Sequence
		}
		text := fmt.Sprintf("  %s has no whole copy of %s's journal", s.Region, p.From)
		if len(s.Full) > 0 {
			text = fmt.Sprintf("  %s has %d records of %s's journal, in %d partitions", s.Region, total, p.From, len(s.Full))
		}
		switch {
		case s.Heard == nil:
			text += "; it has not heard from it"
		default:
			text += fmt.Sprintf("; it heard from it %.1f s ago", *s.Heard)
		}
		if !p.FromAnswers && s.Heard != nil && *s.Heard < heardLately {
			text += fmt.Sprintf(": %s IS ALIVE, only cut off from here", p.From)
		}
		say("%s", text)
	}
}

// printGaps lists what others know of and the region that shall act lacks.
func (p *Plan) printGaps(say sayer) {
	for i, g := range p.Gaps {
		if i == shownGaps {
			say("  and %d more partitions; the report has them all", len(p.Gaps)-i)
			break
		}
		say("  partition %d: %s has everything up to sequence %d; %s knows of %d", g.Partition, p.To, g.After, g.By, g.Known)
	}
}

func (p *Plan) printLost(say sayer) {
	if p.Lost == nil {
		return
	}
	say("  would vanish, compared with what %s has: %d rows of %d partitions, %d owners and %d messages among them", p.Lost.Best, p.Lost.Rows, len(p.Lost.Parts), p.Lost.Owners, p.Lost.Messages)
	for i, l := range p.Lost.Parts {
		if i == shownGaps {
			say("  and %d more partitions; the report has them all", len(p.Lost.Parts)-i)
			break
		}
		say("  partition %d: %d rows, %d owners, %d messages", l.Partition, l.Rows, l.Owners, l.Messages)
	}
	if len(p.Lost.Silent) > 0 {
		say("  what %s has is not known: it does not answer", strings.Join(slices.Sorted(maps.Keys(p.Lost.Silent)), ", "))
	}
}

func (p *Plan) printRoom(say sayer) {
	if p.Capacity == 0 {
		say("  how many connections %s has room for is not stated (users in the world's file)", p.To)
		return
	}
	share := func(n int) float64 { return 100 * float64(n) / float64(p.Capacity) }
	now := p.Load + p.Online
	say("  %s would have %d of %d connections, %.0f %%; at the peaks of both %d, %.0f %%", p.To, now, p.Capacity, share(now), p.peak(), share(p.peak()))
	if !p.PeakKnown {
		say("  the peak of %s is not known: nobody who answers has heard of it", p.From)
	}
	if p.crowded() {
		say("  %s IS TOO SMALL for both", p.To)
	}
}
