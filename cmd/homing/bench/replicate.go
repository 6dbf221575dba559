package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	servers "github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/deploy/test/kafkatest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/embedded"
	"github.com/homing-im/homing/replicator/kafka"
)

// ReplicateOptions say what is measured.
type ReplicateOptions struct {
	Dir        string
	Queues     []string      // embedded, kafka
	Peer       bool          // MirrorMaker 2 too, on the brokers of kafka
	Batches    int           // that are copied as fast as it goes
	Duration   time.Duration // of the measurement at half load, and of the outage
	RTT        time.Duration // between the regions
	Callers    int
	Partitions int
	Value      int  // bytes of a row
	Zstd       bool // measure again with what is put into the queue compressed, as regions do by default
}

func (o *ReplicateOptions) validate() error {
	for _, q := range o.Queues {
		if q != queueEmbedded && q != queueKafka {
			return fmt.Errorf("--queue %s: want embedded or kafka", q)
		}
	}
	switch {
	case len(o.Queues) == 0:
		return errors.New("--queue: want embedded, kafka or both")
	case o.Batches < 100:
		return fmt.Errorf("--batches %d: want at least 100", o.Batches)
	case o.Duration <= 0 || o.RTT < 0:
		return fmt.Errorf("--duration %s, --rtt %s: want more than 0", o.Duration, o.RTT)
	case o.Callers < 1 || o.Partitions < 1 || o.Partitions > 1024 || o.Value < 1 || o.Value > 8<<10:
		return fmt.Errorf("--callers %d, --partitions %d, --value %d: want at least 1, 1 to 1024, 1 to 8192", o.Callers, o.Partitions, o.Value)
	}
	return nil
}

const (
	queueEmbedded = "embedded"
	queueKafka    = "kafka"
)

func newReplicateCommand(out io.Writer) *cobra.Command {
	o := ReplicateOptions{Queues: []string{queueEmbedded, queueKafka}, Peer: true, Batches: 100_000, Duration: 5 * time.Second,
		RTT: 150 * time.Millisecond, Callers: 256, Partitions: 8, Value: 100}
	var output, profile string
	cmd := &cobra.Command{
		Use: "replicate", Short: "Measure copying between two regions, beside MirrorMaker 2",
		Long: `Two regions with stores of their own and a queue, whose brokers are other processes
and do not count. Batches of four rows are committed in one region as fast as its store
takes them: its own rate. They are shipped to the queue; copied from it to nothing, which
is the cost of copying alone; and copied into the other region's store. MirrorMaker 2
copies the same messages on the same brokers; its start does not count.

Then batches are committed on schedule, at half of what this machine can commit, ship and
apply in turn, and the lag is the time from durable here to applied there, with
the round trip between the regions, which a proxy in a process of its own makes. What the
queue takes by itself at that rate stands beside it: messages as long, no stores, and a
consumer with one fetch under way, as Kafka's have. Before that the copying
is paused while a fifth of that is committed, and catches up while that goes on.

Ratios of processor time compare on a machine that does other work; rates do not.`,
		Example: "  homing bench replicate\n  homing bench replicate --queue embedded --batches 20000 -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "table" {
				if err := checkOutput(output); err != nil {
					return err
				}
			}
			if err := o.validate(); err != nil {
				return err
			}
			stop, err := startProfile(profile)
			if err != nil {
				return err
			}
			r, err := Replicate(contextOf(c), o)
			if err = errors.Join(err, stop()); err != nil {
				return err
			}
			return printReport(out, output, r, r.print)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "", "json for programs, table for people (default)")
	f.StringSliceVar(&o.Queues, "queue", o.Queues, "embedded, kafka")
	f.BoolVar(&o.Peer, "peer", o.Peer, "measure MirrorMaker 2 too, with queue kafka")
	f.IntVar(&o.Batches, "batches", o.Batches, "batches that are copied as fast as it goes")
	f.DurationVar(&o.Duration, "duration", o.Duration, "of the measurement at half load, and of the outage")
	f.DurationVar(&o.RTT, "rtt", o.RTT, "round trip between the regions")
	f.IntVar(&o.Callers, "callers", o.Callers, "callers that commit")
	f.IntVar(&o.Partitions, "partitions", o.Partitions, "partitions of the world")
	f.IntVar(&o.Value, "value", o.Value, "bytes of a row's value")
	f.BoolVar(&o.Zstd, "zstd", o.Zstd, "measure again with what is put into the queue compressed, as regions do by default; MirrorMaker 2 compresses too then")
	f.StringVar(&profile, "cpuprofile", "", "file for a profile of the run, for go tool pprof; -tagfocus phase=copied to nothing, for example")
	f.StringVar(&o.Dir, "dir", "", "where to put stores and queues (default: the system's place for temporary files)")
	return cmd
}

// newBrokerCommand is the embedded broker as a process of its own, so that its
// processor time is not the copying's.
func newBrokerCommand(out io.Writer) *cobra.Command {
	var dir string
	var partitions int
	cmd := &cobra.Command{
		Use: "broker", Hidden: true, Short: "The embedded broker, for bench replicate", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := embedded.Start(embedded.Options{Listen: "127.0.0.1:0", Dir: dir, Partitions: partitions})
			if err != nil {
				return err
			}
			fmt.Fprintln(out, b.Addr())
			<-contextOf(c).Done()
			return b.Close()
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory of the logs")
	cmd.Flags().IntVar(&partitions, "partitions", 8, "partitions")
	return cmd
}

// Replicate measures. It blocks for a minute or so for each queue.
func Replicate(ctx context.Context, o ReplicateOptions) (r *ReplicateReport, err error) {
	r = &ReplicateReport{Machine: machine(), Options: o}
	dir, err := os.MkdirTemp(o.Dir, "homing-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if r.Machine.Fsync, err = probeFsync(dir); err != nil {
		return nil, err
	}
	for _, v := range o.variants() {
		one, err := replicateOn(ctx, v, filepath.Join(dir, v.name()), o)
		var skip *skipped
		if errors.As(err, &skip) {
			r.Skipped = append(r.Skipped, skip.Error())
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("queue %s: %w", v.name(), err)
		}
		r.Queues = append(r.Queues, *one)
	}
	return r, nil
}

// variant is a column of the report.
type variant struct {
	queue string
	zstd  bool
}

func (v variant) name() string {
	if v.zstd {
		return v.queue + " zstd"
	}
	return v.queue
}

func (o *ReplicateOptions) variants() (out []variant) {
	for _, q := range o.Queues {
		out = append(out, variant{queue: q})
		if o.Zstd {
			out = append(out, variant{q, true})
		}
	}
	return out
}

// skipped is what cannot be measured here.
type skipped struct{ error }

// brokers is a queue's servers.
type brokers struct {
	kind    string
	address string
	cluster *kafkatest.Cluster // of kind kafka
	stop    func() error
}

func startBrokers(ctx context.Context, kind, dir string, partitions int) (*brokers, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if kind == queueEmbedded {
		return startEmbedded(ctx, dir, partitions)
	}
	if err := kafkatest.Available(); err != nil {
		return nil, &skipped{fmt.Errorf("kafka and MirrorMaker 2: %w", err)}
	}
	c, err := kafkatest.New(dir, kafkatest.Options{Brokers: 1, Settings: map[string]string{"log.cleaner.enable": "false"}})
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return &brokers{kind, c.Addresses(), c, c.Stop}, nil
}

func startEmbedded(ctx context.Context, dir string, partitions int) (*brokers, error) {
	address, stop, err := startProcess(ctx, "broker", "--dir", filepath.Join(dir, "queue"), "--partitions", fmt.Sprint(partitions))
	if err != nil {
		return nil, err
	}
	return &brokers{queueEmbedded, address, nil, stop}, nil
}

// startProcess starts a hidden command of bench as a process, whose first line is
// the address where it listens.
func startProcess(ctx context.Context, args ...string) (address string, stop func() error, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	out, write, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.CommandContext(ctx, program, append([]string{"bench"}, args...)...)
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	exited, err := servers.Start(cmd)
	_ = write.Close()
	if err != nil {
		return "", nil, err
	}
	stop = func() error {
		_ = cmd.Process.Kill()
		<-exited
		return nil
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("bench %s did not start: %w", args[0], err), stop())
	}
	return strings.TrimSpace(string(line[:n])), stop, nil
}

// twoRegions is sh, which writes, and hk, its backup.
type twoRegions struct {
	view   *region.View
	server *http.Server
	zstd   bool // what is put into the queue is compressed
	stages stages
}

func newTwoRegions(partitions int, queue string, journal http.Handler) (*twoRegions, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &twoRegions{server: &http.Server{Handler: journal, ReadHeaderTimeout: 5 * time.Second}}
	go func() { _ = w.server.Serve(l) }() // ends with close
	world := &region.World{Version: 1, Partitions: partitions}
	for i, id := range []region.ID{"sh", "hk"} {
		world.Regions = append(world.Regions, region.Region{ID: id, Backups: []region.ID{[]region.ID{"hk", "sh"}[i]}, Acting: region.Acting{Region: id},
			Queue: queue, Admin: l.Addr().String()})
	}
	w.view = region.NewView(world, region.Hash{1}, nil)
	return w, nil
}

func (w *twoRegions) close() error { return w.server.Close() }

// replicator starts a region's copying; far is how its connections to the other
// region are made, nil for the system's way.
func (w *twoRegions) replicator(id region.ID, s replicator.Store, far *distance) (*replicator.Replicator, *http.Transport, error) {
	transport := &http.Transport{}
	dial := func(of region.ID) func(context.Context, string, string) (net.Conn, error) {
		if far == nil || of == id {
			return nil
		}
		return far.dial
	}
	if far != nil {
		transport.DialContext = far.dial
	}
	never := make(chan struct{})
	r, err := replicator.New(replicator.Options{
		Self: id, Store: s, Executor: noCommands{}, Merger: noCommands{},
		View: func() *region.View { return w.view }, Changed: func() <-chan struct{} { return never },
		Open: func(of region.ID, brokers string) (replicator.Queue, error) {
			q, err := kafka.New(kafka.Options{Brokers: slices.Collect(strings.SplitSeq(brokers, ",")), Dial: dial(of), Zstd: w.zstd})
			if err != nil || of != "sh" {
				return q, err
			}
			return timedQueue{q, &w.stages}, nil
		},
		Client: &http.Client{Transport: transport},
	})
	return r, transport, err
}
