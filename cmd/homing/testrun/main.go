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
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Suite is one line of the table.
type Suite struct {
	Name string
	What string
	Run  func(ctx context.Context, out io.Writer) Tally
}

// suites in the order they run: what is quick to tell first.
var suites = []Suite{
	{"gofmt", "every file is formatted", gofmt},
	{"vet", "go vet", command("go", "vet", "./...")},
	{"staticcheck", "staticcheck", command("go", "tool", "staticcheck", "./...")},
	{"generated", "make generate changes nothing", generated},
	{"unit", "tests of every package, with -race", goTest(unitPackages, "-timeout", "10m", "-p", "2", "-skip", kafkaTests)},
	{"simulator", "2,000 seeds of disasters, with the invariants checked at every step", command("go", "run", "./cmd/homing/sim/play", "-seeds", "2000")},
	{"memory", "what the race detector would falsify", goTest(memoryPackages, "-race=false", "-count", "1", "-run", "TestIdleConnectionIsCheap")},
	{"postgres", "the store on real PostgreSQL servers, with -race", goTest(postgresPackages, "-timeout", "15m", "-p", "1", "-count", "1")},
	{"kafka", "copying over three brokers of Apache Kafka, with -race", withKafka(goTest(kafkaPackages, "-timeout", "20m", "-count", "1", "-run", kafkaTests))},
	{"system", "the whole program, as users run it, with -race", goTest(systemPackages, "-timeout", "25m", "-p", "1", "-count", "1")},
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

// run runs the suites one after the other and returns the exit status.
func run(ctx context.Context, out io.Writer, chosen []Suite) int {
	type result struct {
		Suite
		Tally
		took time.Duration
	}
	var results []result
	for _, s := range chosen {
		fmt.Fprintf(out, "== %s: %s\n", s.Name, s.What)
		start := time.Now()
		t := s.Run(ctx, out)
		took := time.Since(start)
		for _, slow := range t.Slow {
			fmt.Fprintf(out, "   slow  %6.1f s  %s\n", slow.seconds, slow.name)
		}
		results = append(results, result{s, t, took})
		fmt.Fprintf(out, "-- %s: %s, %.1f s\n", s.Name, t.verdict(), took.Seconds())
		if ctx.Err() != nil {
			fmt.Fprintln(out, "interrupted")
			break
		}
	}

	var total Tally
	var took time.Duration
	fmt.Fprintf(out, "\n%-12s %9s %7s %7s %8s\n", "suite", "seconds", "passed", "failed", "skipped")
	for _, r := range results {
		fmt.Fprintf(out, "%-12s %9.1f %7d %7d %8d\n", r.Name, r.took.Seconds(), r.Passed, r.Failed, r.Skipped)
		total.add(r.Tally)
		took += r.took
	}
	fmt.Fprintf(out, "%-12s %9.1f %7d %7d %8d\n\n", "all", took.Seconds(), total.Passed, total.Failed, total.Skipped)
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
