package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// RestartOptions say what is restarted under what load.
type RestartOptions struct {
	Scale
	Logic  int     // processes
	Rate   float64 // requests a second, at most
	Rounds int
	Pause  time.Duration // between two restarts
	Kill   bool
}

// Validate reports what is wrong with the options, or nil.
func (o *RestartOptions) Validate() error {
	switch {
	case o.Users < 2:
		return fmt.Errorf("--users %d: want at least 2, who write to each other", o.Users)
	case o.Logic < 2 || o.Logic > 16:
		return fmt.Errorf("--logic %d: want 2 to 16; while one restarts another one serves", o.Logic)
	case o.Rate <= 0:
		return fmt.Errorf("--rate %g: want more than 0", o.Rate)
	case o.Rounds < 1:
		return fmt.Errorf("--rounds %d: want at least 1", o.Rounds)
	case o.Pause < 0:
		return fmt.Errorf("--pause %s: want 0 or more", o.Pause)
	}
	return o.Scale.validate()
}

// RestartReport is what `homing bench restart -o json` prints.
type RestartReport struct {
	Machine     Machine          `json:"machine"`
	Users       int              `json:"users"`
	Connected   float64          `json:"connected_per_second"`
	Restarts    []RestartProcess `json:"restarts"`
	Seconds     float64          `json:"seconds"`
	Requests    int64            `json:"requests"`
	PerSecond   float64          `json:"requests_per_second"`
	Failed      int64            `json:"failed_requests"` // answered with an error, or not at all
	FirstError  string           `json:"first_error,omitempty"`
	Dropped     int              `json:"dropped_connections"`
	Known       int              `json:"known_connections"` // to presence, afterwards
	Notices     int64            `json:"notices"`           // of messages, at their recipients
	Answer      Quantiles        `json:"answer"`
	LongestWait float64          `json:"longest_wait_millis"`
	Memory      int64            `json:"access_memory_bytes"`
}

// RestartProcess is one process that went and came.
type RestartProcess struct {
	Name string  `json:"name"`
	Away float64 `json:"away_millis"` // from the signal to ready again
}

func newRestartCommand(out io.Writer) *cobra.Command {
	o := RestartOptions{Scale: wholeScale, Logic: 3, Rate: 1000, Rounds: 1, Pause: time.Second}
	var output string
	cmd := &cobra.Command{
		Use: "restart", Short: "Restart all logic processes under load: no connection drops, no request fails",
		Long: `Starts a region in parts, each a process: store, presence, logic, access. Users
keep one long connection each and send messages to each other while the logic
processes are restarted one after the other. Every request must be answered
well and every connection must stay; else the command ends with an error.`,
		Example: "  homing bench restart\n  homing bench restart --users 500 --kill -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if err := o.Validate(); err != nil {
				return err
			}
			r, err := Restart(contextOf(c), o)
			if err != nil {
				return err
			}
			if err := printReport(out, output, r, r.print); err != nil {
				return err
			}
			if r.Known != r.Users {
				return fmt.Errorf("presence knows %d of %d connections", r.Known, r.Users)
			}
			if r.Dropped > 0 || r.Failed > 0 {
				return fmt.Errorf("%d connections dropped and %d requests failed: %s", r.Dropped, r.Failed, r.FirstError)
			}
			return nil
		},
	}
	f := cmd.Flags()
	o.Scale.flags(cmd)
	f.IntVar(&o.Logic, "logic", o.Logic, "processes")
	f.Float64Var(&o.Rate, "rate", o.Rate, "requests a second, at most")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "how often each logic process is restarted")
	f.DurationVar(&o.Pause, "pause", o.Pause, "between two restarts")
	f.BoolVar(&o.Kill, "kill", false, "kill the processes, in place of asking them to end")
	f.StringVarP(&output, "output", "o", "", "json prints it for programs")
	return cmd
}

// Restart measures what clients notice when all logic processes are restarted.
func Restart(ctx context.Context, o RestartOptions) (_ *RestartReport, err error) {
	dir, err := os.MkdirTemp(o.Dir, "homing-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &RestartReport{Machine: machine(), Users: o.Users}
	p, err := startParts(ctx, dir, partsOptions{Logic: o.Logic, Presence: 2, Partitions: o.Partitions, TLS: o.TLS})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	defer http.DefaultClient.CloseIdleConnections()
	people, err := register(ctx, p.short, o.Users)
	if err != nil {
		return nil, err
	}
	t := &chatter{people: people}
	began := time.Now()
	defer t.disconnect()
	if err := parallel(ctx, 32, len(people), func(ctx context.Context, i int) error {
		return people[i].connect(ctx, &p.target, func(*person, []byte) { t.notices.Add(1) }, func(*person, uint64, bool) {})
	}); err != nil {
		return nil, err
	}
	r.Connected = float64(o.Users) / time.Since(began).Seconds()

	began = time.Now()
	stop := t.start(ctx, o.Rate)
	restarts := func() error {
		for range o.Rounds {
			for _, name := range p.logic {
				if err := pause(ctx, o.Pause); err != nil {
					return err
				}
				away, err := p.restart(ctx, name, o.Kill)
				if err != nil {
					return err
				}
				r.Restarts = append(r.Restarts, RestartProcess{name, float64(away.Microseconds()) / 1000})
			}
		}
		return pause(ctx, o.Pause)
	}
	err = restarts()
	stop()
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	r.Requests, r.Failed, r.Notices = t.requests.Load(), t.failed.Load(), t.notices.Load()
	r.PerSecond = float64(r.Requests) / r.Seconds
	if e := t.first.Load(); e != nil {
		r.FirstError = *e
	}
	r.Answer, r.LongestWait = quantiles([]histogram{t.delays}), float64(t.longest.Microseconds())/1000
	for _, x := range people {
		select {
		case <-x.ended:
			r.Dropped++
		default:
		}
	}
	r.Memory = procOf(p.pid).memory
	r.Known, err = p.online(ctx, people)
	return r, err
}

func (r *RestartReport) print(out io.Writer) error {
	_, err := fmt.Fprintf(out, `%d CPUs, %s; load before the run %.1f
%d long connections (%.0f/s), %d restarts in %.1f s
%d requests (%.0f/s), %d failed; %d connections dropped, %d known to presence; %d notices
answers: p50 %.1f ms, p99 %.1f ms, p999 %.1f ms, the longest wait %.0f ms; access has %d MiB
`, r.Machine.CPUs, r.Machine.Go, r.Machine.Load, r.Users, r.Connected, len(r.Restarts), r.Seconds,
		r.Requests, r.PerSecond, r.Failed, r.Dropped, r.Known, r.Notices, r.Answer.P50, r.Answer.P99, r.Answer.P999, r.LongestWait, r.Memory>>20)
	return err
}

// answerPatience is how long a request may go unanswered before it counts as
// failed: as long as access lets one take, and a little.
const answerPatience = 20 * time.Second

// chatter is users who send each other messages and wait for the answers.
type chatter struct {
	people                    []*person
	requests, failed, notices atomic.Int64
	first                     atomic.Pointer[string]

	mu      sync.Mutex
	delays  histogram
	longest time.Duration
}

// start sends about so many requests a second until stop is called; stop waits
// for the last answers.
func (t *chatter) start(ctx context.Context, rate float64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	n := min(len(t.people), 64)
	every := time.Duration(float64(n) / rate * float64(time.Second))
	for w := range n {
		workers.Go(func() {
			for i := w; ; i += n {
				began := time.Now()
				t.send(t.people[i%len(t.people)])
				if pause(ctx, every-time.Since(began)) != nil {
					return
				}
			}
		})
	}
	return func() { cancel(); workers.Wait() }
}

func (t *chatter) send(p *person) {
	ctx, cancel := context.WithTimeout(context.Background(), answerPatience)
	defer cancel()
	to := t.people[mathrand.IntN(len(t.people))]
	began := time.Now()
	err := p.call(ctx, wire.Send, &v1.SendRequest{To: uint64(to.UIN), ClientMessageId: rand.Text(), Body: &v1.Body{Kind: &v1.Body_Text{Text: "restart"}}}, new(v1.SendResponse))
	took := time.Since(began)
	t.requests.Add(1)
	t.mu.Lock()
	t.delays.add(took)
	t.longest = max(t.longest, took)
	t.mu.Unlock()
	if err != nil {
		t.failed.Add(1)
		text := fmt.Sprintf("user %d: %v", p.UIN, err)
		t.first.CompareAndSwap(nil, &text)
	}
}

func (t *chatter) disconnect() {
	for _, p := range t.people {
		if p != nil {
			p.disconnect()
		}
	}
}

// pause is an error when ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
