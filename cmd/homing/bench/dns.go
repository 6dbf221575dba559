package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// DNSOptions say what is measured of the smart DNS and its rivals.
type DNSOptions struct {
	Against  []string
	Duration time.Duration // of each measurement
	Rounds   int           // each measures every server once, in turn, so that all have the same neighbours
	Rules    int
	Overlay  int
	Networks int // different client subnets asked for
	Owners   int // of the overlay whose memory is measured; 0 for none
	Build    bool
}

// Validate reports what is wrong with the options, or nil.
func (o *DNSOptions) Validate() error {
	for _, a := range o.Against {
		if _, ok := rivals[a]; !ok {
			return fmt.Errorf("--against %s: want some of gdnsd,knot,pdns,coredns", a)
		}
	}
	switch {
	case o.Duration < 100*time.Millisecond:
		return fmt.Errorf("--duration %s: want 100ms or more", o.Duration)
	case o.Rounds < 1 || o.Rounds > 100:
		return fmt.Errorf("--rounds %d: want 1 to 100", o.Rounds)
	case o.Rules < 0 || o.Rules > 10_000:
		return fmt.Errorf("--rules %d: want 0 to 10000", o.Rules)
	case o.Overlay < 0 || o.Overlay > 10_000_000:
		return fmt.Errorf("--overlay %d: want 0 to 10000000", o.Overlay)
	case o.Owners < 0 || o.Owners > 100_000_000:
		return fmt.Errorf("--owners %d: want 0 to 100000000", o.Owners)
	case o.Networks < 1 || o.Networks > 1<<16:
		return fmt.Errorf("--networks %d: want 1 to %d", o.Networks, 1<<16)
	}
	return nil
}

func newDNSCommand(out io.Writer) *cobra.Command {
	o := DNSOptions{Against: []string{"gdnsd", "knot", "pdns", "coredns"}, Duration: 2 * time.Second, Rounds: 3, Rules: 1000, Overlay: 100_000, Networks: 1000, Owners: 10_000_000}
	var output string
	cmd := &cobra.Command{
		Use: "dns", Short: "Measure the smart DNS beside other geo DNS servers",
		Long: `Starts each server in turn, on loopback and with the same country database, and
asks it for one steered name on behalf of many client networks (EDNS client
subnet), with a window of questions under way at all times. What counts is the
processor time of the server's process for each query, because rates depend on
the load generator and on the neighbours; on Linux the server has the first
processor and the generator the others, where there are others.

Limits on what forged questions get back do not apply: the generator is one
network without a cookie, and who asks is known.

"echo" sends every packet back and does nothing else, by the same system calls:
what is left to save. "homing" has --rules rules that all are consulted, and an
overlay of --overlay moved owners, whom one in eight questions is about;
"homing-2" has two workers on all processors, and "homing-do" signs: its questions
are the same with the DO bit, but none about a user. "delay" is measured at half the
rate that homing reached, of echo and of homing in turn and by the same schedule, so that
what the machine and the generator add is seen; and of homing once more while its
garbage is collected every second, which it never is so often by itself; each
is the median of the rounds by its p99.9. The server goes before its neighbours,
where that may be had, and what was on its way while the generator itself was held
up is not counted, but reported: both are no delay of the server.
HTTPDNS is measured beside a net/http handler that returns a constant. An overlay
of --owners is filled in random order, and its memory read.

Peers that are not installed are listed as skipped. Debian has them:
  apt-get install gdnsd knot knot-module-geoip pdns-server pdns-backend-geoip
CoreDNS is taken from PATH, or with --build built from its Go module (a minute or
more), with no more plugins than the job needs.`,
		Example: "  homing bench dns\n  homing bench dns --against gdnsd -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output == "table" {
				output = ""
			}
			if err := errors.Join(checkOutput(output), o.Validate()); err != nil {
				return err
			}
			report, err := DNS(contextOf(c), o)
			if err != nil {
				return err
			}
			return printReport(out, output, report, report.print)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Against, "against", o.Against, "the servers to measure beside")
	f.DurationVar(&o.Duration, "duration", o.Duration, "of each measurement")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "how often each server is measured, in turn with the others")
	f.IntVar(&o.Rules, "rules", o.Rules, "steering rules")
	f.IntVar(&o.Overlay, "overlay", o.Overlay, "owners who moved")
	f.IntVar(&o.Networks, "networks", o.Networks, "different client networks")
	f.BoolVar(&o.Build, "build", false, "build CoreDNS when it is not installed")
	f.IntVar(&o.Owners, "owners", o.Owners, "owners in the overlay whose memory is measured; 0 for none")
	f.StringVarP(&output, "output", "o", "", "json, or a table for people")
	cmd.AddCommand(newDNSServerCommand(out))
	return cmd
}

// benchZone and benchName are what is asked for.
const (
	benchZone = "bench.test"
	benchName = "long." + benchZone
)

// contestant is a server to be measured. It is started anew for each round.
type contestant struct {
	name  string
	start func(dir string, at netip.AddrPort) (*child, error)
	asks  func(networks int) [][]byte
	two   bool // has two workers, on all processors
}

// DNS measures.
func DNS(ctx context.Context, o DNSOptions) (*DNSReport, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "homing-bench-dns-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	release := pinGenerator()
	defer release()
	r := &DNSReport{Options: o, Machine: machine(), Skipped: []Skipped{}}
	all := []contestant{
		{name: "echo", start: startSelf(kindEcho, o), asks: questions},
		{name: "homing", start: startSelf(kindDNS, o), asks: questionsWithUsers},
		{name: "homing-2", start: startSelf(kindDNS2, o), asks: questionsWithUsers, two: true},
		{name: "homing-do", start: startSelf(kindSigned, o), asks: questionsSigned},
	}
	for _, name := range o.Against {
		p := rivals[name]
		if why := p.missing(ctx, o.Build); why != "" {
			r.Skipped = append(r.Skipped, Skipped{Name: name, Why: why})
			continue
		}
		if p.note != "" {
			r.Notes = append(r.Notes, Note{name, p.note})
		}
		all = append(all, contestant{name: name, start: p.start, asks: questions})
	}
	broken := map[string]bool{}
	for round := range o.Rounds {
		for _, c := range all {
			if broken[c.name] {
				continue
			}
			m, err := c.measure(ctx, fmt.Sprintf("%s/%s-%d", dir, c.name, round), o, 0)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				if c.name == "echo" || strings.HasPrefix(c.name, "homing") {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
				broken[c.name] = true
				r.Skipped = append(r.Skipped, Skipped{Name: c.name, Why: oneLine(err)})
				continue
			}
			r.add(c.name, m)
		}
	}
	r.settle()
	if err := r.measureDelays(ctx, dir, all[0]); err != nil {
		return nil, err
	}
	if r.HTTP, err = measureHTTP(ctx, dir, o); err != nil {
		return nil, fmt.Errorf("HTTPDNS: %w", err)
	}
	if o.Owners > 0 {
		r.Overlay = measureOverlay(o.Owners)
	}
	return r, nil
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// measureDelays measures echo and homing at half of the rate that homing reached, in
// turn, so that all have the same sender and the same neighbours.
func (r *DNSReport) measureDelays(ctx context.Context, dir string, echo contestant) error {
	o := r.Options
	half := r.server("homing").PerSecond / 2
	all := []struct {
		contestant
		into **DNSDelay
		runs []*DNSDelay
	}{
		{contestant: echo, into: &r.Floor},
		{contestant: contestant{name: "homing", start: startSelf(kindDNS, o, "GODEBUG=gctrace=1"), asks: questionsWithUsers}, into: &r.Delay},
		{contestant: contestant{name: "collecting", start: startSelf(kindCollecting, o, "GODEBUG=gctrace=1"), asks: questionsWithUsers}, into: &r.Collecting},
	}
	for round := range o.Rounds {
		for i := range all {
			c := &all[i]
			m, err := c.measure(ctx, fmt.Sprintf("%s/half-%s-%d", dir, c.name, round), o, half)
			if errors.Is(err, errors.ErrUnsupported) {
				r.Skipped = append(r.Skipped, Skipped{Name: "delay", Why: "its load needs Linux"})
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.runs = append(c.runs, m.delay())
		}
	}
	for _, c := range all {
		slices.SortFunc(c.runs, func(a, b *DNSDelay) int { return cmp.Compare(a.P999, b.P999) })
		*c.into = c.runs[len(c.runs)/2]
	}
	return nil
}

// measure runs the server once, at a rate per second or, for 0, as fast as it
// answers.
func (c *contestant) measure(ctx context.Context, dir string, o DNSOptions, rate float64) (*dnsRun, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { // pdns and knot change users
		return nil, err
	}
	at := freePorts(1)[0]
	server, err := c.start(dir, at)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	if c.two {
		server.pin(0, runtime.NumCPU()-1)
	} else {
		server.pin(0, 0)
	}
	asks := c.asks(o.Networks)
	if err := server.answers(ctx, at, asks[0]); err != nil {
		return nil, err
	}
	const warmUp = 300 * time.Millisecond
	if _, err := flood(ctx, at, asks, warmUp); err != nil {
		return nil, err
	}
	before, err := server.cpu()
	if err != nil {
		return nil, err
	}
	collections, paused := server.collected()
	var run *dnsRun
	if rate > 0 {
		server.prefer()
		run, err = paced(ctx, at, asks, o.Duration, rate)
	} else {
		run, err = flood(ctx, at, asks, o.Duration)
	}
	if err != nil {
		return nil, err
	}
	run.collections, run.paused = server.collected()
	run.collections, run.paused = run.collections-collections, run.paused-paused
	after, err := server.cpu()
	if err != nil {
		return nil, err
	}
	run.cpu, run.rss = after-before, server.rss()
	if run.answered == 0 {
		return nil, errors.New("no answer: " + server.said())
	}
	return run, nil
}
