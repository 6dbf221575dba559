package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/homing-im/homing/deploy/lab/netns"
	"github.com/homing-im/homing/deploy/lab/script"
	"github.com/homing-im/homing/deploy/test/kafkatest"
)

// options of `lab run`.
type options struct {
	verbose bool
	keep    bool
	record  bool
	hold    bool
	binary  string
	files   []string
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("lab run", flag.ContinueOnError)
	f.BoolVar(&o.verbose, "v", false, "print every step as it is done")
	f.BoolVar(&o.keep, "keep", false, "keep the directory with logs and histories until the next run")
	f.BoolVar(&o.record, "record", false, "write the trace that was seen into the scenario")
	f.BoolVar(&o.hold, "hold", false, "after the last step, leave the world running until an interrupt")
	f.StringVar(&o.binary, "homing", "bin/homing", "the program to be tried")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.files = f.Args(); len(o.files) == 0 {
		return o, errors.New("which scenario? name some of deploy/lab/scenarios/*.txt")
	}
	o.binary, err = filepath.Abs(o.binary)
	if err == nil {
		_, err = os.Stat(o.binary)
	}
	return o, err
}

// socket is where the network takes commands, in a scenario's directory.
const socket = "wan.sock"

// scratch is the beginning of every run's directory; the process ID follows.
const scratch = "homing-lab-"

// sweep removes the directories of runs that were killed.
func sweep(parent string) error {
	dirs, err := filepath.Glob(filepath.Join(parent, scratch+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), scratch))
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// directory is where the environment says the run's directory is.
const directory = "HOMING_LAB_DIR"

// run plays scenarios one after the other.
func run(ctx context.Context, args []string) (status int, err error) {
	o, err := parse(args)
	if err != nil {
		return 2, err
	}
	var all []*script.Scenario
	for _, name := range o.files { // all are read before anything is started
		s, err := read(name)
		if err != nil {
			return 2, err
		}
		all = append(all, s)
	}
	if err := netns.Possible(); err != nil {
		return 1, err
	}
	dir := os.Getenv(directory)
	if dir == "" {
		if err := sweep(os.TempDir()); err != nil {
			return 1, err
		}
		dir = filepath.Join(os.TempDir(), fmt.Sprint(scratch, os.Getpid()))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return 1, err
		}
		if err := os.Setenv(directory, dir); err != nil {
			return 1, err
		}
		defer func() {
			if o.keep {
				fmt.Println("kept:", dir)
			} else if gone := os.RemoveAll(dir); err == nil {
				err = gone
			}
		}()
	}
	for _, s := range all {
		if len(s.Kafka) > 0 && kafkatest.Available() == nil {
			_, _ = kafkatest.Classpath() // fetched while there is a way out; play says what is missing
			break
		}
	}
	inside, status, err := netns.Enclose()
	if !inside || err != nil {
		return status, err
	}
	var results []result
	for _, s := range all {
		r := play(ctx, o, s, filepath.Join(dir, strings.TrimSuffix(filepath.Base(s.Name), ".txt")))
		results = append(results, r)
		if ctx.Err() != nil {
			break
		}
	}
	return table(os.Stdout, results), nil
}

func read(name string) (*script.Scenario, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return script.Parse(name, f, vocabulary())
}

// result is what became of a scenario.
type result struct {
	scenario *script.Scenario
	err      error
	skipped  string // why
	took     time.Duration
	acked    int
	figures  []figure
}

func (r *result) verdict() string {
	switch {
	case r.err != nil:
		return "FAILED"
	case r.skipped != "":
		return "skipped"
	}
	return "passed"
}

// figure is what was measured: never part of a trace.
type figure struct{ name, value string }

// play is one scenario in a world of its own.
func play(ctx context.Context, o options, s *script.Scenario, dir string) (r result) {
	r.scenario = s
	began := time.Now()
	fmt.Printf("== %s: %s\n", s.Name, s.Title)
	defer func() {
		r.took = time.Since(began)
		verdict := r.verdict()
		if r.err != nil {
			verdict += ": " + r.err.Error()
		} else if r.skipped != "" {
			verdict += ": " + r.skipped
		}
		fmt.Printf("-- %s: %s, %.1f s\n", s.Name, verdict, r.took.Seconds())
	}()
	if len(s.Kafka) > 0 {
		err := kafkatest.Available()
		if err == nil {
			_, err = kafkatest.Classpath()
		}
		if err != nil {
			r.skipped = err.Error()
			return r
		}
	}
	if r.err = os.MkdirAll(dir, 0o700); r.err != nil {
		return r
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var w *world
	if w, r.err = newWorld(ctx, dir, o.binary, s.Kafka, log); r.err != nil {
		return r
	}
	defer func() {
		if crash := w.crashed(); crash != "" {
			r.err = errors.Join(r.err, errors.New(crash))
		}
		r.err = errors.Join(r.err, w.close())
	}()
	p := &player{world: w, scenario: s, began: began, out: io.Discard, trace: map[*script.Step][]string{}}
	if o.verbose {
		p.out = os.Stdout
	}
	r.err = p.play(ctx, o.record)
	r.figures = p.figures
	if o.hold && r.err == nil {
		fmt.Printf("it runs on until an interrupt; its lines: lab wan %s show\n", filepath.Join(dir, socket))
		<-ctx.Done()
	}
	if p.people != nil {
		r.acked = p.people.history.Acked()
		p.people.close()
	}
	if o.record && r.err == nil {
		r.err = os.WriteFile(s.Name, []byte(s.Record(p.trace)), 0o644)
	}
	return r
}

// table prints what became of everything, and returns the exit status.
func table(out io.Writer, results []result) int {
	status := 0
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\nscenario\tresult\tseconds\tacked\tfigures")
	for _, r := range results {
		if r.err != nil {
			status = 1
		}
		var words []string
		for _, f := range r.figures {
			words = append(words, f.name+" "+f.value)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%.1f\t%d\t%s\n", strings.TrimSuffix(filepath.Base(r.scenario.Name), ".txt"), r.verdict(), r.took.Seconds(), r.acked, strings.Join(words, ", "))
	}
	_ = t.Flush()
	return status
}
