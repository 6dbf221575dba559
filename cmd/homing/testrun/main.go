// Command testrun is what "make test" runs, once what the tests need is
// installed: checks of the source, then every Go test with the race detector.
// It guarantees that its exit status is 0 only when every suite it was asked
// for ran and nothing in it failed, and that the output of whatever failed is
// shown whole.
//
// Its last line is "N passed, N failed": Go tests (not counting subtests), and
// among the failed every package that did not build or died, and every check
// of the source that found something.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Suite is one line of the table.
type Suite struct {
	Name string
	What string
	Run  func(ctx context.Context, out io.Writer) Tally
	// With the suite before it: both mostly wait for servers that start and die.
	With bool
}

// suites in the order they run: what is quick to tell first.
var suites = []Suite{
	{Name: "gofmt", What: "every file is formatted", Run: gofmt},
	{Name: "vet", What: "go vet", Run: command("go", "vet", "./...")},
	{Name: "staticcheck", What: "staticcheck", Run: command("go", "tool", "staticcheck", "./...")},
	{Name: "generated", What: "make generate changes nothing", Run: generated},
	{Name: "unit", What: "tests of every package, with -race", Run: goTest(unitPackages, "-timeout", "10m", "-p", "2", "-skip", kafkaTests)},
	{Name: "simulator", What: "2,000 seeds of disasters, with the invariants checked at every step", Run: command("go", "run", "./cmd/homing/sim/play", "-seeds", "2000")},
	{Name: "memory", What: "what the race detector would falsify", Run: goTest(memoryPackages, "-race=false", "-count", "1", "-run", "TestIdleConnectionIsCheap")},
	{Name: "postgres", What: "the store on real PostgreSQL servers, with -race", Run: goTest(postgresPackages, "-timeout", "15m", "-p", "1", "-count", "1")},
	{Name: "kafka", What: "copying over three brokers of Apache Kafka, with -race", Run: withKafka(goTest(kafkaPackages, "-timeout", "20m", "-count", "1", "-run", kafkaTests)), With: true},
	{Name: "system", What: "the whole program, as users run it, with -race", Run: goTest(systemPackages, "-timeout", "25m", "-p", "1", "-count", "1")},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	chosen, err := choose(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(2)
	}
	os.Exit(run(ctx, os.Stdout, chosen))
}

// choose returns the suites named, all when none is.
func choose(names []string) ([]Suite, error) {
	if len(names) == 0 {
		return suites, nil
	}
	var chosen []Suite
next:
	for _, n := range names {
		for _, s := range suites {
			if s.Name == n {
				chosen = append(chosen, s)
				continue next
			}
		}
		var known []string
		for _, s := range suites {
			known = append(known, s.Name)
		}
		return nil, fmt.Errorf("no suite %q; there are %s", n, strings.Join(known, ", "))
	}
	return chosen, nil
}

// result is what came of a suite, and what it said.
type result struct {
	Suite
	Tally
	took time.Duration
	said bytes.Buffer
}

// run runs the suites, in their order, and returns the exit status. What a suite
// says is shown as it says it, unless it has another beside it.
func run(ctx context.Context, out io.Writer, chosen []Suite) int {
	began := time.Now()
	var results []*result
	for rest := chosen; len(rest) > 0 && ctx.Err() == nil; {
		n := 1
		for n < len(rest) && rest[n].With {
			n++
		}
		results = append(results, together(ctx, out, rest[:n])...)
		rest = rest[n:]
	}
	if ctx.Err() != nil {
		fmt.Fprintln(out, "interrupted")
	}

	var total Tally
	fmt.Fprintf(out, "\n%-12s %9s %7s %7s %8s\n", "suite", "seconds", "passed", "failed", "skipped")
	for _, r := range results {
		fmt.Fprintf(out, "%-12s %9.1f %7d %7d %8d\n", r.Name, r.took.Seconds(), r.Passed, r.Failed, r.Skipped)
		total.add(r.Tally)
	}
	fmt.Fprintf(out, "%-12s %9.1f %7d %7d %8d\n\n", "all", time.Since(began).Seconds(), total.Passed, total.Failed, total.Skipped)
	for _, s := range total.Skips {
		fmt.Fprintln(out, "skipped:", s)
	}
	for _, r := range total.Races {
		fmt.Fprintf(out, "data race:\n%s\n", r)
	}
	for _, f := range total.Failures {
		fmt.Fprintln(out, "failed:", f)
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", total.Passed, total.Failed)
	if total.Failed > 0 || len(results) < len(chosen) {
		return 1
	}
	return 0
}

// together runs suites at the same time.
func together(ctx context.Context, out io.Writer, suites []Suite) []*result {
	results := make([]*result, len(suites))
	var running sync.WaitGroup
	for i, s := range suites {
		r := &result{Suite: s}
		results[i] = r
		says := io.Writer(&r.said)
		if i == 0 {
			says = out
		}
		fmt.Fprintf(out, "== %s: %s\n", s.Name, s.What)
		running.Go(func() {
			start := time.Now()
			r.Tally = s.Run(ctx, says)
			r.took = time.Since(start)
		})
	}
	running.Wait()
	for _, r := range results {
		_, _ = r.said.WriteTo(out)
		for _, slow := range r.Slow {
			fmt.Fprintf(out, "   slow  %6.1f s  %s\n", slow.seconds, slow.name)
		}
		fmt.Fprintf(out, "-- %s: %s, %.1f s\n", r.Name, r.verdict(), r.took.Seconds())
	}
	return results
}
