package bench

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// The kinds of `homing bench im`.
const (
	kindDirect = "direct"
	kindGroup  = "group"
	kindIdle   = "idle"
)

// IMOptions say what `homing bench im` measures.
type IMOptions struct {
	Kind     string        `json:"kind"`
	Users    int           `json:"users"`
	Members  int           `json:"members,omitempty"` // of a group
	Rate     float64       `json:"rate"`              // messages a second
	Bytes    int           `json:"bytes"`             // of a text
	Warmup   time.Duration `json:"-"`
	Duration time.Duration `json:"-"`

	WarmupSeconds   float64 `json:"warmup_seconds"`   // for the report
	DurationSeconds float64 `json:"duration_seconds"` // for the report

	TLS        bool          `json:"tls"`
	Echo       bool          `json:"echo,omitempty"` // a bare server in the region's place
	Queue      bool          `json:"queue"`          // ships the journal to an embedded queue
	Partitions int           `json:"partitions"`
	GOMAXPROCS int           `json:"gomaxprocs,omitempty"`
	Find       bool          `json:"find"`
	Limit      time.Duration `json:"-"` // of the p99 that Find allows

	Dir, Profile            string `json:"-"`
	Target, Short, CA, Zone string `json:"-"`
	PID                     int    `json:"-"`
}

// Validate reports what is wrong with the options, or nil.
func (o *IMOptions) Validate() error {
	switch {
	case o.Kind != kindDirect && o.Kind != kindGroup && o.Kind != kindIdle:
		return fmt.Errorf("--kind %q: want direct, group or idle", o.Kind)
	case o.Users < 2 || o.Users > 1_000_000:
		return fmt.Errorf("--users %d: want 2 to 1000000", o.Users)
	case o.Kind == kindGroup && (o.Members < 2 || o.Members > 500 || o.Users%o.Members != 0):
		return fmt.Errorf("--members %d: want 2 to 500, and --users a multiple of it", o.Members)
	case o.Rate <= 0 || o.Rate > 1e6:
		return fmt.Errorf("--rate %g: want more than 0, and at most a million", o.Rate)
	case o.Bytes < 1 || o.Bytes > 3<<10:
		return fmt.Errorf("--bytes %d: want 1 to %d, which a notice carries", o.Bytes, 3<<10)
	case o.Duration < 100*time.Millisecond || o.Warmup < 0:
		return fmt.Errorf("--duration %s --warmup %s: want at least 100ms, and not less than 0", o.Duration, o.Warmup)
	case o.Partitions < 1 || o.Partitions > 1<<16:
		return fmt.Errorf("--partitions %d: want 1 to %d", o.Partitions, 1<<16)
	case o.Limit <= 0:
		return fmt.Errorf("--p99 %s: want more than 0", o.Limit)
	case o.Echo && (o.Kind != kindDirect || o.Target != "" || o.Profile != "" || o.Queue):
		return errors.New("--echo: it goes with 1:1 messages, and without --target, --queue and --cpuprofile")
	case o.Target != "" && o.Short == "":
		return errors.New("--target needs --short: the base URL of the short listener, where users are registered")
	case o.Target != "" && (o.CA == "") == o.TLS:
		return errors.New("--target: say --tls, --ca and --zone together, or none of them")
	case o.Target != "" && (o.Kind == kindIdle || o.Profile != ""):
		return errors.New("--target: the idle kind and --cpuprofile need a node that bench starts itself")
	}
	return nil
}

func newIMCommand(out io.Writer) *cobra.Command {
	o := IMOptions{Kind: kindDirect, Users: 1000, Members: 100, Rate: 10_000, Bytes: 128, Warmup: 2 * time.Second, Duration: defaultDuration, Partitions: 8, Limit: 100 * time.Millisecond}
	var output string
	cmd := &cobra.Command{
		Use: "im", Short: "Measure messages from wire to wire: rate, delay, loss, processor time, memory of connections",
		Long: `Starts a region of its own as a separate process (its store on the disk of
--dir, every message fsynced), registers users, and has each keep one long
connection. Messages leave on schedule whether or not the region keeps up, and
every delay counts from when the message was due, so a region that stalls
cannot hide it.

  --kind direct   1:1 messages; delay is from due to the recipient's push
  --kind group    groups of --members; every message is delivered to all others
  --kind idle     connections that do nothing: what each costs in memory once the
                  node is idle again, and after the garbage collections of eight
                  idle minutes, which are forced

--echo puts a bare server in the region's place, which stores nothing: it answers
each message and pushes it on, in the same frames. That is the most that this
machine's kernel, Go's net package and this generator can do. --find measures it as
well, at the rate that was found and at 25,000 a second, and says what is left for
everything else.

What a push did not bring is looked for by sync before it counts as lost. "cpu"
is the processor time of the region's process alone.`,
		Example: "  homing bench im --rate 25000\n  homing bench im --find --tls\n  homing bench im --kind group --users 1000 --rate 500\n  homing bench im --kind idle --users 10000 -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("-o %s: want json, or nothing for people", output)
			}
			if err := o.Validate(); err != nil {
				return err
			}
			ctx := c.Context()
			if ctx == nil {
				ctx = context.Background()
			}
			r, err := IM(ctx, o)
			if err != nil {
				return err
			}
			if output == "json" {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			return r.print(out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Kind, "kind", o.Kind, "direct, group or idle")
	f.IntVar(&o.Users, "users", o.Users, "each with one long connection")
	f.IntVar(&o.Members, "members", o.Members, "of a group; every user is in one")
	f.Float64Var(&o.Rate, "rate", o.Rate, "messages sent a second; with --find, where the search begins")
	f.IntVar(&o.Bytes, "bytes", o.Bytes, "of a message's text")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "sent before it counts")
	f.DurationVar(&o.Duration, "duration", o.Duration, "of the measurement; with --find, of every try")
	f.BoolVar(&o.TLS, "tls", false, "TLS 1.3 on the long connections")
	f.BoolVar(&o.Echo, "echo", false, "measure a bare server that stores nothing, in place of a region")
	f.BoolVar(&o.Queue, "queue", false, "the region also ships its journal to an embedded queue")
	f.IntVar(&o.Partitions, "partitions", o.Partitions, "of the region's store")
	f.IntVar(&o.GOMAXPROCS, "gomaxprocs", 0, "of the region's process (default: what a node takes)")
	f.BoolVar(&o.Find, "find", false, "search the highest rate whose p99 is below --p99, without loss")
	f.DurationVar(&o.Limit, "p99", o.Limit, "that --find allows")
	f.StringVar(&o.Dir, "dir", "", "directory on the disk to measure; a new one is made below it, and removed (default: the system's for temporary files)")
	f.StringVar(&o.Profile, "cpuprofile", "", "file for a profile of the region's process, for go tool pprof")
	f.StringVar(&o.Target, "target", "", "IP:port of a long listener that runs already, in place of a region of its own")
	f.StringVar(&o.Short, "short", "", "with --target: base URL of its short listener")
	f.StringVar(&o.CA, "ca", "", "with --target and --tls: PEM file of its CA")
	f.StringVar(&o.Zone, "zone", zone, "with --target and --tls: the world's zone")
	f.IntVar(&o.PID, "pid", 0, "with --target: process to read processor time and memory of")
	f.StringVarP(&output, "output", "o", "", "json prints it for programs")
	return cmd
}

// IM measures a region from wire to wire. It blocks for the warm-up, the
// duration and what users need to be registered, as often as it tries a rate.
func IM(ctx context.Context, o IMOptions) (r *IMReport, err error) {
	dir, err := os.MkdirTemp(o.Dir, "homing-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = &IMReport{Machine: machine(), Options: o}
	r.Options.WarmupSeconds, r.Options.DurationSeconds = o.Warmup.Seconds(), o.Duration.Seconds()
	if r.Machine.Fsync, err = probeFsync(dir); err != nil {
		return nil, err
	}
	b := &imBench{o: &o}
	if o.Echo {
		if b.site, err = startEcho(ctx, &o, dir); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, b.site.close()) }()
		b.target = b.site.target
	} else if o.Target == "" {
		if b.site, err = startSite(ctx, &o, dir); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, b.site.close()) }()
		b.target = b.site.target
	} else if b.target, err = elsewhere(&o); err != nil {
		return nil, err
	}
	defer b.disconnect()
	if o.Kind == kindIdle {
		r.Idle, err = b.idle(ctx)
		return r, err
	}
	if err := b.gather(ctx); err != nil {
		return nil, err
	}
	if !o.Find {
		res, err := b.try(ctx, o.Rate, o.Profile)
		if err != nil {
			return nil, err
		}
		r.Tries = []IMResult{*res}
		return r, nil
	}
	return r, b.find(ctx, r, dir)
}

func elsewhere(o *IMOptions) (t target, err error) {
	t = target{short: o.Short, zone: o.Zone, pid: o.PID}
	if t.long, err = parseAddr(o.Target); err == nil && o.TLS {
		t.roots, err = pki.Pool(o.CA)
	}
	return t, err
}

// imBench is one measurement of a region.
type imBench struct {
	o *IMOptions
	target
	site  *site // nil: somebody else's
	relay relay
	traffic
	tries int
}

// gather registers and connects the users, and makes the groups.
func (b *imBench) gather(ctx context.Context) (err error) {
	if b.o.Echo {
		b.people, err = strangers(b.o.Users)
	} else {
		b.people, err = register(ctx, b.short, b.o.Users)
	}
	if err != nil {
		return err
	}
	if err := b.connectAll(ctx, b.people); err != nil {
		return err
	}
	if b.o.Kind != kindGroup {
		return nil
	}
	b.members = b.o.Members
	b.groups = make([]region.UIN, b.o.Users/b.members)
	return parallel(ctx, 4, len(b.groups), func(ctx context.Context, g int) error {
		var members []uint64
		for i := g; i < len(b.people); i += len(b.groups) {
			members = append(members, uint64(b.people[i].UIN))
		}
		resp := new(v1.CreateGroupResponse)
		err := b.people[g].call(ctx, wire.CreateGroup, &v1.CreateGroupRequest{Name: fmt.Sprint("bench ", g), Members: members, IdempotencyKey: rand.Text()}, resp)
		b.groups[g] = region.UIN(resp.Uin)
		return err
	})
}

func (b *imBench) connectAll(ctx context.Context, people []*person) error {
	return parallel(ctx, 32, len(people), func(ctx context.Context, i int) error {
		return people[i].connect(ctx, &b.target, b.relay.pushed, b.relay.answered)
	})
}

func (b *imBench) disconnect() {
	for _, p := range b.people {
		if p != nil {
			p.disconnect()
		}
	}
}

// try measures one rate.
func (b *imBench) try(ctx context.Context, rate float64, profile string) (*IMResult, error) {
	b.tries++
	l := newLoad(b.traffic, strings.ToLower(rand.Text()[:8]), b.o, rate)
	b.relay.to(l)
	defer func() { b.relay.to(nil) }()
	r := &IMResult{Rate: rate}
	rows, err := b.storedBy(ctx) // with the warm-up, whose messages count too
	if err != nil {
		return nil, err
	}
	var before, after procUsage
	var mine used
	var began time.Time
	var deliveries, answers int64
	profiled := make(chan error, 1)
	err = l.send(ctx, func() {
		before, mine, began = procOf(b.pid), usage(), time.Now()
		deliveries, answers = l.delivered.Load(), l.answered.Load()
		if profile == "" {
			profiled <- nil
			return
		}
		go func() { profiled <- b.site.profile(ctx, profile, b.o.Duration) }()
	})
	if err != nil {
		return nil, err
	}
	after = procOf(b.pid)
	seconds := time.Since(began).Seconds()
	deliveries, answers = l.delivered.Load()-deliveries, l.answered.Load()-answers
	r.Sent = float64(l.total-l.warm) / seconds
	r.Acknowledged, r.Delivered = float64(answers)/seconds, float64(deliveries)/seconds
	r.Cores, r.BenchCores = (after.cpu-before.cpu).Seconds()/seconds, (usage().cpu-mine.cpu).Seconds()/seconds
	if deliveries > 0 {
		r.CPU = float64((after.cpu - before.cpu).Microseconds()) / float64(deliveries)
		r.BenchCPU = float64((usage().cpu - mine.cpu).Microseconds()) / float64(deliveries)
	}
	r.Memory = after.memory
	if err := errors.Join(l.settle(ctx), <-profiled); err != nil {
		return nil, err
	}
	then, err := b.storedBy(ctx)
	if err != nil {
		return nil, err
	}
	r.Stored = then.per(rows, float64(l.answered.Load()))
	if r.Synced, r.Lost, err = l.missing(ctx); err != nil {
		return nil, err
	}
	b.relay.to(nil) // waits for whoever is counting
	r.Refused, r.Unsendable = l.refused.Load(), l.unsendable.Load()
	r.Unanswered = l.sent.Load() - l.answered.Load() - l.refused.Load()
	r.Duplicates, r.Disorder, r.Bare = l.duplicates.Load(), l.disorder.Load(), l.bare.Load()
	r.Delay, r.Ack = quantiles(l.delays), quantiles(l.acks)
	return r, nil
}
