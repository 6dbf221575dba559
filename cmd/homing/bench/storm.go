package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/region/client"
)

// StormOptions say how many clients lose their server.
type StormOptions struct {
	Scale
	Away   time.Duration // between the server's death and its next start
	Limit  time.Duration // by when all have to be back, from its next start
	Memory int64         // MiB that the server may have
}

// Validate reports what is wrong with the options, or nil.
func (o *StormOptions) Validate() error {
	switch {
	case o.Away < 0:
		return fmt.Errorf("--away %s: want 0 or more", o.Away)
	case o.Limit <= 0:
		return fmt.Errorf("--limit %s: want more than 0", o.Limit)
	case o.Memory < 1:
		return fmt.Errorf("--memory %d: want at least 1", o.Memory)
	}
	return o.Scale.validate()
}

// StormReport is what `homing bench storm -o json` prints. Times are in seconds
// from the server's next start; its start-up is in them.
type StormReport struct {
	Machine  Machine `json:"machine"`
	Users    int     `json:"users"`
	TLS      bool    `json:"tls"`
	Back     int     `json:"back"` // clients that were connected again in time
	Half     float64 `json:"half_seconds"`
	Most     float64 `json:"p99_seconds"`
	All      float64 `json:"all_seconds"`
	Attempts int64   `json:"failed_attempts"` // of clients, while the server was away or full
	CPU      float64 `json:"server_cpu_seconds"`
	Cores    float64 `json:"server_cores"`
	Peak     int64   `json:"server_peak_bytes"` // anonymous memory, sampled
}

func newStormCommand(out io.Writer) *cobra.Command {
	o := StormOptions{Scale: wholeScale, Away: 2 * time.Second, Limit: 30 * time.Second, Memory: 1024}
	var output string
	cmd := &cobra.Command{
		Use: "storm", Short: "Kill the process that has all connections: when are the clients back?",
		Long: `Starts a region in parts and connects users with the client SDK. Then the access
process is killed and started again, and all users find their way back by
themselves: they back off with jitter, and the server admits so many handshakes
at a time. The command ends with an error when not all are back within --limit,
or when the server took more than --memory.`,
		Example: "  homing bench storm\n  homing bench storm --users 500 --tls -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if err := o.Validate(); err != nil {
				return err
			}
			r, err := Storm(contextOf(c), o)
			if err != nil {
				return err
			}
			if err := printReport(out, output, r, r.print); err != nil {
				return err
			}
			if r.Back < r.Users {
				return fmt.Errorf("%d of %d clients were not back within %s", r.Users-r.Back, r.Users, o.Limit)
			}
			if r.Peak > o.Memory<<20 {
				return fmt.Errorf("the server took %d MiB, more than %d", r.Peak>>20, o.Memory)
			}
			return nil
		},
	}
	f := cmd.Flags()
	o.Scale.flags(cmd)
	f.DurationVar(&o.Away, "away", o.Away, "between the server's death and its next start")
	f.DurationVar(&o.Limit, "limit", o.Limit, "by when all have to be back, from its next start")
	f.Int64Var(&o.Memory, "memory", o.Memory, "MiB that the server may take")
	f.StringVarP(&output, "output", "o", "", "json prints it for programs")
	return cmd
}

// returns counts clients that are connected, and when.
type returns struct {
	now      atomic.Int64 // connected
	attempts atomic.Int64

	mu   sync.Mutex
	back []time.Time // of the storm
}

func (r *returns) follow(events <-chan client.Event) {
	connected := false
	for e := range events {
		switch e.Kind {
		case client.Connected:
			if !connected {
				connected = true
				r.now.Add(1)
				r.mu.Lock()
				r.back = append(r.back, e.At)
				r.mu.Unlock()
			}
		case client.Disconnected:
			if connected {
				connected = false
				r.now.Add(-1)
			} else {
				r.attempts.Add(1)
			}
		}
	}
}

// until waits for so many to be connected; it is false when ctx ended first.
func (r *returns) until(ctx context.Context, n int) bool {
	for r.now.Load() != int64(n) {
		if pause(ctx, 5*time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// Storm measures how clients come back to a server that died.
func Storm(ctx context.Context, o StormOptions) (_ *StormReport, err error) {
	dir, err := os.MkdirTemp(o.Dir, "homing-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	report := &StormReport{Machine: machine(), Users: o.Users, TLS: o.TLS}
	p, err := startParts(ctx, dir, partsOptions{Logic: 2, Presence: 2, Partitions: o.Partitions, TLS: o.TLS})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	defer http.DefaultClient.CloseIdleConnections()
	people, err := register(ctx, p.short, o.Users)
	if err != nil {
		return nil, err
	}

	var r returns
	var following sync.WaitGroup
	clients := make([]*client.Client, len(people))
	defer func() {
		for _, c := range clients {
			if c != nil {
				_ = c.Close()
			}
		}
		following.Wait()
	}()
	if err := parallel(ctx, 32, len(people), func(ctx context.Context, i int) error {
		c, err := client.New(client.Options{
			Zone: p.zone, Known: []netip.AddrPort{p.long}, Short: p.short, Plain: !o.TLS, RootCAs: p.roots, Identity: people[i].Identity, ClientVersion: 80003, Platform: "bench",
		})
		if err != nil {
			return err
		}
		clients[i] = c
		following.Go(func() { r.follow(c.Events()) })
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return c.Connect(ctx)
	}); err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !r.until(patience, o.Users) {
		return nil, fmt.Errorf("%d of %d clients are connected", r.now.Load(), o.Users)
	}

	server := p.process(p.access)
	_ = server.cmd.Process.Kill()
	<-server.done
	if !r.until(patience, 0) {
		return nil, fmt.Errorf("%d clients did not notice that the server died", r.now.Load())
	}
	r.mu.Lock()
	r.back = nil
	r.mu.Unlock()
	r.attempts.Store(0)
	if err := pause(ctx, o.Away); err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := p.restart(ctx, p.access, true); err != nil { // it is dead already
		return nil, err
	}
	limit, cancel := context.WithDeadline(ctx, began.Add(o.Limit))
	defer cancel()
	for {
		u := procOf(p.pid)
		report.Peak = max(report.Peak, u.memory)
		report.CPU = u.cpu.Seconds()
		step, cancel := context.WithTimeout(limit, 100*time.Millisecond)
		done := r.until(step, o.Users)
		cancel()
		if done || limit.Err() != nil {
			break
		}
	}
	report.Cores = report.CPU / time.Since(began).Seconds()
	report.Attempts = r.attempts.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	report.Back = int(r.now.Load())
	at := func(q float64) float64 {
		if len(r.back) == 0 {
			return 0
		}
		return r.back[int(q*float64(len(r.back)-1))].Sub(began).Seconds()
	}
	report.Half, report.Most, report.All = at(0.5), at(0.99), at(1)
	return report, nil
}

func (r *StormReport) print(out io.Writer) error {
	_, err := fmt.Fprintf(out, `%d CPUs, %s; load before the run %.1f
%d of %d clients are back: half after %.1f s, 99 %% after %.1f s, all after %.1f s; %d attempts failed
the server took %.1f s of processor time (%.2f cores) and %d MiB at most
`, r.Machine.CPUs, r.Machine.Go, r.Machine.Load, r.Back, r.Users, r.Half, r.Most, r.All, r.Attempts, r.CPU, r.Cores, r.Peak>>20)
	return err
}
