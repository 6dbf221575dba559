// Package bench is `homing bench`: it measures parts of Homing on this machine
// and says what the machine can do at the same time, so that figures of two
// machines, or of two hours, can be compared.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"
)

// NewCommand returns the command with what can be measured below it. It writes
// to out.
func NewCommand(out io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure parts of Homing on this machine",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(newStoreCommand(out), newIMCommand(out), newRestartCommand(out), newStormCommand(out), newDNSCommand(out), newReplicateCommand(out), newBrokerCommand(out), newDistanceCommand(out), newIMEchoCommand(out))
	return cmd
}

func newStoreCommand(out io.Writer) *cobra.Command {
	o := Options{Engine: "pebble", Callers: 512, Owners: 100_000, Batch: 4, Fresh: 3, Value: 100, Partitions: 64, Duration: defaultDuration}
	var output, profile string
	cmd := &cobra.Command{
		Use: "store", Short: "Measure a region's store: durable writes, point reads, delay at half load",
		Long: `Callers commit batches of one random owner each and wait until they are durable,
as a message does; journal and digests are included. Then, when nothing is flushed or
compacted any more, they read random rows, several times: the median counts.
Then batches arrive at half the rate that was reached, on schedule whether or not
the store keeps up, and the time from schedule to durable is the delay. Right after
it the floor is measured, at the same rate: the same batches as plain Pebble
batches, and one file that is written and synced.

"cpu" is the processor time of this process for one row, callers included; it
compares on a machine that does other work, where the rates do not. "written" is
what the disk took for a row, and how many times the bytes of its key and value
that is. The journal is trimmed every ten seconds, of what is older than that.

With --rows the store is filled to each size in turn and measured there; the
slowdown is the first size's rate over the last one's. With --keep the store stays,
and the next run goes on with it: filling to 50 million can be one run, and measuring
them another.

--engine postgres measures the store on PostgreSQL: in the database of --dsn, or on
a server that is started for it (Debian: apt-get install postgresql). Afterwards the
same batches go to the same server the plain way, a transaction each, which is the
peer to compare with. "cpu" is of this process then, not of the server.`,
		Example: "  homing bench store\n  homing bench store --callers 2048 --duration 30s -o json\n  homing bench store --rows 1m,10m,50m",
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
			stop, err := startProfile(profile)
			if err != nil {
				return err
			}
			report, err := Store(ctx, o)
			if err = errors.Join(err, stop()); err != nil {
				return err
			}
			if output == "json" {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(report)
			}
			return report.print(out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Engine, "engine", o.Engine, "pebble or postgres")
	f.StringVar(&o.DSN, "dsn", "", "database for engine postgres, in which schemas are made and removed (default: a server of its own)")
	f.StringVar(&o.Dir, "dir", "", "directory on the disk to measure; a new one is made below it, and removed (default: the system's for temporary files)")
	f.StringVar(&o.Keep, "keep", "", "directory of a store that stays, made when there is none (default: one below --dir that is removed)")
	f.DurationVar(&o.Duration, "duration", o.Duration, "of each measurement")
	f.IntVar(&o.Callers, "callers", o.Callers, "that wait at the same time")
	f.IntVar(&o.Owners, "owners", o.Owners, "to choose from")
	f.Var(&o.Rows, "rows", "sizes to fill the store to and to measure it at, such as 1m,10m,50m")
	f.IntVar(&o.Batch, "batch", o.Batch, "rows of a batch")
	f.IntVar(&o.Fresh, "new", o.Fresh, "of these rows are new; the others are written over")
	f.IntVar(&o.Value, "value", o.Value, "bytes of a row's value")
	f.IntVar(&o.Partitions, "partitions", o.Partitions, "of the store")
	f.StringVar(&profile, "cpuprofile", "", "file for a profile of the run, for go tool pprof")
	f.StringVarP(&output, "output", "o", "", "json prints it for programs")
	return cmd
}

// startProfile profiles into a file until the function it returns is called.
// Without a file it does nothing.
func startProfile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
