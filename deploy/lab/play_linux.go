package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/homing-im/homing/deploy/lab/script"
	"github.com/homing-im/homing/deploy/lab/traffic"
	"github.com/homing-im/homing/deploy/lab/wan"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/succession"
)

// player plays a scenario in a world.
type player struct {
	world    *world
	people   *clients
	scenario *script.Scenario
	began    time.Time
	out      io.Writer

	trace   map[*script.Step][]string
	figures []figure
	change  change
	watched []*answers // of every change
	excused int
	gone    time.Duration // the last "when gone" took, from the kill
	killed  time.Time
}

// change is the last time somebody else was to act.
type change struct {
	home, from, to region.ID
	at             time.Time // when the operator pressed the key
	report         struct {
		Began   time.Time `json:"began"`
		Signed  float64   `json:"signedSeconds"`
		Serving float64   `json:"servingSeconds"`
	}
	open, partitions int // of the report, right after the command
	answers          *answers
}

// play starts everything, and does one step after the other.
func (p *player) play(ctx context.Context, record bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		for _, a := range p.watched {
			a.asking.Wait()
		}
	}()
	if err := p.world.startAll(ctx); err != nil {
		return err
	}
	p.say("the world is ready")
	var err error
	if p.people, err = p.world.clients(ctx, p.scenario.People); err != nil {
		return err
	}
	p.say("%d people are connected", len(p.people.history.Users()))
	untimed := time.Now()
	for _, step := range p.scenario.Steps {
		if step.Timed {
			if err := sleep(ctx, time.Until(untimed.Add(step.At))); err != nil {
				return err
			}
		}
		p.say("%s", step.Text)
		seen, err := p.do(ctx, step)
		if !step.Timed {
			untimed = time.Now()
		}
		for _, line := range seen {
			p.say("| %s", line)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %s: %w", p.scenario.Name, step.Line, step.Text, err)
		}
		p.trace[step] = seen
		if !record && !slices.Equal(seen, step.Trace) {
			return fmt.Errorf("%s:%d: %s: the trace is\n| %s\nand should be\n| %s", p.scenario.Name, step.Line, step.Text,
				strings.Join(seen, "\n| "), strings.Join(step.Trace, "\n| "))
		}
	}
	return nil
}

// sleep waits until the scenario's next moment.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (p *player) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, "%7.2f s  "+format+"\n", append([]any{time.Since(p.began).Seconds()}, args...)...)
}

func (p *player) figure(name, format string, args ...any) {
	f := figure{name, fmt.Sprintf(format, args...)}
	p.figures = append(p.figures, f)
	p.say("%s: %s", f.name, f.value)
}

// do does a step, and returns what belongs into the trace.
func (p *player) do(ctx context.Context, st *script.Step) ([]string, error) {
	switch st.Verb {
	case script.When:
		return nil, p.when(ctx, st)
	case script.Expect:
		return nil, p.expect(st)
	}
	switch st.What {
	case "traffic":
		if st.Words[0] == "on" {
			p.people.say("go")
			return nil, nil
		}
		return nil, p.people.pause(ctx, time.Minute)
	case "link":
		_, err := p.world.wan.Apply(st.Change)
		return nil, err
	case "kill":
		n, err := p.world.kill(wan.Site(st.Words[0]))
		p.killed = time.Now()
		return []string{fmt.Sprintf("%d processes of %s are gone", n, st.Words[0])}, err
	case "start":
		at := wan.Site(st.Words[0])
		if err := p.world.start(at); err != nil {
			return nil, err
		}
		return []string{st.Words[0] + " is ready"}, p.world.ready(ctx, at)
	case "lose-queue":
		return []string{"the queue of " + st.Words[0] + " comes back empty"}, p.world.loseQueue(ctx, st.Words[0])
	case "kill-broker":
		line, err := p.world.killBroker(st.Words[0])
		return []string{line}, err
	case "kill-queue":
		return []string{"the queue of " + st.Words[0] + " is gone"}, p.world.killQueue(st.Words[0])
	case "start-queue":
		return []string{"the queue of " + st.Words[0] + " is back"}, p.world.startQueue(ctx, st.Words[0])
	case "switchover", "failover", "failback":
		return p.handOver(ctx, st.What, st.Words)
	case "admin":
		out, status, err := p.world.admin(ctx, st.Words...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		return []string{fmt.Sprintf("exit %d: %s", status, lines[len(lines)-1])}, err
	case "phones":
		return nil, p.people.phones(ctx, wan.Site(st.Words[0]), traffic.Kind(st.Words[1]))
	case "check":
		v, err := p.judge(ctx, nil)
		return []string{v.String()}, err
	case "account":
		h, err := p.home(ctx, p.change.home, p.change.to)
		if err != nil {
			return nil, err
		}
		v, err := p.judge(ctx, func(m traffic.Event, _ region.UIN) bool { return reported(h, m) })
		p.excused = v.Excused
		p.figure("in open ranges only", "%d", v.Excused)
		return []string{v.String()}, err
	}
	return nil, fmt.Errorf("%q is in the grammar, and nobody does it", st.What)
}

// settled bounds how long people wait for what was acknowledged to others.
const settled = 40 * time.Second

func (p *player) judge(ctx context.Context, excused func(traffic.Event, region.UIN) bool) (traffic.Verdict, error) {
	v, err := p.people.judge(ctx, settled, excused)
	if err == nil && !v.Good() {
		err = fmt.Errorf("the service did not keep its word: %s:\n%s", v, strings.Join(v.Complaints, "\n"))
	}
	return v, err
}

// reported says whether an acknowledged message is in an open range: what its
// sender's region wrote in the sender's partition, behind what the successor has.
// Both inboxes hang on that: the recipient's entry is a command of the same batch.
func reported(h *succession.HomeReport, m traffic.Event) bool {
	return m.Home == h.Home && m.Region == h.Before && slices.ContainsFunc(h.Open, func(r succession.OpenRange) bool {
		return r.Partition == region.PartitionOf(m.User, h.Partitions) && m.Mark > r.After
	})
}

// handOver has another region act for a home.
func (p *player) handOver(ctx context.Context, kind string, words []string) ([]string, error) {
	args := []string{"region", kind, words[0], "--dir", "world", "--yes"}
	p.change = change{home: region.ID(words[0]), to: region.ID(words[0]), at: time.Now()}
	if len(words) > 1 {
		p.change.to = region.ID(words[1])
		args = append(args, "--to", words[1])
	}
	p.change.answers = p.world.watch(ctx, p.change, p.people.history)
	p.watched = append(p.watched, p.change.answers)
	out, status, err := p.world.admin(ctx, args...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		p.say("  %s", strings.TrimRight(line, "\n"))
	}
	if status != 0 {
		return nil, fmt.Errorf("exit %d: %s", status, out)
	}
	if err := p.world.outcome(out, &p.change.report); err != nil {
		return nil, err
	}
	h, err := p.home(ctx, p.change.home, p.change.to)
	if err != nil {
		return nil, err
	}
	p.change.from, p.change.open, p.change.partitions = h.Before, len(h.Open), h.Partitions
	return []string{fmt.Sprintf("%s acts for %s: %d of %d partitions", h.Acting, h.Home, h.Opened, h.Partitions)}, nil
}

// home asks a region how it stands with a home.
func (p *player) home(ctx context.Context, home, at region.ID) (*succession.HomeReport, error) {
	s := p.world.sites[wan.Site(at)]
	var r succession.Report
	if err := s.get(ctx, fmt.Sprintf("http://%s:7400/region/report", s.address), &r); err != nil {
		return nil, err
	}
	for _, h := range r.Homes {
		if h.Home == home {
			return &h, nil
		}
	}
	return nil, fmt.Errorf("%s knows nothing of %s", at, home)
}

// when waits for a condition.
func (p *player) when(ctx context.Context, st *script.Step) error {
	switch st.What {
	case "acked":
		more, err := strconv.Atoi(st.Words[0])
		if err != nil {
			return err
		}
		before := p.people.history.Acked()
		return wait(ctx, st.Within, func() error {
			if n := p.people.history.Acked() - before; n < more {
				return fmt.Errorf("%d of %d messages were acknowledged", n, more)
			}
			return nil
		})
	case "served":
		home, at := region.ID(st.Words[0]), region.ID(st.Words[1])
		return wait(ctx, st.Within, func() error {
			if n, all := len(p.people.history.Acting(home, at, p.change.at)), p.of(home); n < all {
				return fmt.Errorf("%d of %d people of %s act at %s", n, all, home, at)
			}
			return nil
		})
	case "live", "caught-up":
		return wait(ctx, st.Within, func() error { return p.world.copies(ctx, st.What == "caught-up") })
	case "complete":
		return wait(ctx, st.Within, func() error {
			h, err := p.home(ctx, region.ID(st.Words[0]), p.change.to)
			if err == nil && !h.Complete() {
				err = fmt.Errorf("%d of %d partitions, %d ranges are open", h.Opened, h.Partitions, len(h.Open))
			}
			return err
		})
	case "gone", "back":
		err := wait(ctx, st.Within, func() error { return p.world.answered(ctx, wan.Site(st.Words[0]), st.What == "back") })
		p.gone = time.Since(p.killed)
		return err
	}
	return fmt.Errorf("%q is in the grammar, and nobody waits for it", st.What)
}

// of counts the people of a home.
func (p *player) of(home region.ID) int {
	return p.people.history.Count(func(e traffic.Event) bool { return e.Kind == traffic.Joined && e.Home == home })
}

// some checks a fact that is "some" or "none".
func some(st *script.Step, n int, of string) error {
	if (n > 0) != (st.Words[0] == "some") {
		return fmt.Errorf("%d %s", n, of)
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// share is how many of a home's people have to act at the successor in time.
const share = 0.99

// expect checks a fact that was measured.
func (p *player) expect(st *script.Step) error {
	var took time.Duration
	h := p.people.history
	switch st.What {
	case "open":
		if want := p.change.partitions; st.Words[0] == "all" && p.change.open != want || st.Words[0] == "none" && p.change.open != 0 {
			return fmt.Errorf("the report has %d open ranges of %d partitions", p.change.open, want)
		}
		return nil
	case "split":
		return some(st, len(h.Acting(p.change.home, p.change.from, p.change.at)), "people were served by the region before")
	case "excused":
		return some(st, p.excused, "messages are in open ranges only")
	case "rto":
		acting, all := h.Acting(p.change.home, p.change.to, p.change.at), p.of(p.change.home)
		if float64(len(acting)) < share*float64(all) {
			return fmt.Errorf("%d of %d people of %s act at %s", len(acting), all, p.change.home, p.change.to)
		}
		took = traffic.Percentile(acting, share)
	case "refused":
		took = h.Slowest(p.change.home, p.change.at)
	case "serving":
		took = seconds(p.change.report.Serving)
		if took <= 0 {
			return fmt.Errorf("the report does not say when %s served", p.change.to)
		}
	case "gone":
		took = p.gone
	case "redirected":
		all, err := p.change.answers.all()
		if err != nil {
			return err
		}
		took = all.Sub(p.change.report.Began.Add(seconds(p.change.report.Signed)))
	default:
		return fmt.Errorf("%q is in the grammar, and nobody looks", st.What)
	}
	p.figure(st.What, "%.2f s", took.Seconds())
	if took >= st.Limit {
		return fmt.Errorf("it is %s, want below %s", took.Round(time.Millisecond), st.Limit)
	}
	return nil
}
