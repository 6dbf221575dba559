package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
)

// Tally is the outcome of a suite.
type Tally struct {
	Passed, Failed, Skipped int
	Failures                []string // what failed, by name
	Races                   []string // reports of the race detector, each of several lines
	Skips                   []string // what was skipped, and why
	Slow                    []timed  // its slowest tests, the slowest first
}

// timed is a test and how long it took.
type timed struct {
	name    string
	seconds float64
}

// slowest is how many tests of a suite are told by name: the whole run has to
// stay short enough to be run often, and these are where to look.
const slowest = 5

func (t *Tally) took(name string, seconds float64) {
	i, _ := slices.BinarySearchFunc(t.Slow, seconds, func(s timed, seconds float64) int { return cmp.Compare(seconds, s.seconds) })
	t.Slow = slices.Insert(t.Slow, i, timed{name, seconds})
	t.Slow = t.Slow[:min(len(t.Slow), slowest)]
}

func (t *Tally) add(u Tally) {
	t.Passed += u.Passed
	t.Failed += u.Failed
	t.Skipped += u.Skipped
	t.Failures = append(t.Failures, u.Failures...)
	t.Races = append(t.Races, u.Races...)
	t.Skips = append(t.Skips, u.Skips...)
}

func (t *Tally) fail(what string) {
	t.Failed++
	t.Failures = append(t.Failures, what)
}

func (t *Tally) verdict() string {
	if t.Failed > 0 {
		return "FAILED"
	}
	return "ok"
}

// event is a line of "go test -json"; see "go doc test2json".
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// name is what a person calls the event's test, or its package.
func (e *event) name() string {
	p := strings.TrimPrefix(e.Package, module+"/")
	if e.Test == "" {
		return p
	}
	return p + " " + e.Test
}

const module = "github.com/homing-im/homing"

// count reads the events of one run. A line per package goes to out as it
// ends, and the whole output of whatever failed.
func count(events io.Reader, out io.Writer) (Tally, error) {
	var t Tally
	output := map[string][]string{} // by package and test, or by import path of a build
	failed := map[string]int{}      // tests failed, by package
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Fprintln(out, lines.Text()) // go itself complaining
			continue
		}
		key := e.Package + "\x00" + e.Test
		switch e.Action {
		case "output":
			output[key] = append(output[key], e.Output)
			if top, _, sub := strings.Cut(e.Test, "/"); sub { // shown with its parent
				k := e.Package + "\x00" + top
				output[k] = append(output[k], e.Output)
			}
			continue
		case "build-output":
			output[e.ImportPath] = append(output[e.ImportPath], e.Output)
			continue
		case "build-fail":
			fmt.Fprint(out, strings.Join(output[e.ImportPath], ""))
			continue
		}
		if strings.Contains(e.Test, "/") {
			continue // its parent counts
		}
		switch {
		case e.Test != "" && e.Action == "pass":
			t.Passed++
			t.took(e.name(), e.Elapsed)
		case e.Test != "" && e.Action == "skip":
			t.Skipped++
			t.Skips = append(t.Skips, e.name()+": "+reason(output[key]))
		case e.Test != "" && e.Action == "fail":
			t.fail(e.name())
			failed[e.Package]++
			said := strings.Join(output[key], "")
			fmt.Fprint(out, said)
			t.Races = append(t.Races, races(said)...)
		case e.Action == "pass":
			fmt.Fprintf(out, "   ok    %6.1f s  %s\n", e.Elapsed, e.name())
		case e.Action == "fail":
			// Its tests were counted; a package that did not build or died was
			// not. What it said last may stand under the tests that never ended.
			if failed[e.Package] == 0 {
				t.fail(e.name())
				for _, k := range unended(output, e.Package) {
					fmt.Fprint(out, strings.Join(output[k], ""))
				}
			}
			fmt.Fprintf(out, "   FAIL  %6.1f s  %s\n", e.Elapsed, e.name())
		default:
			continue // run, pause, cont, start, bench; a package without tests
		}
		delete(output, key)
	}
	return t, lines.Err()
}

// unended lists the keys of a package whose output nobody has shown: those of
// its tests that began and never ended, then its own.
func unended(output map[string][]string, pkg string) []string {
	var keys []string
	for k := range output {
		if p, test, _ := strings.Cut(k, "\x00"); p == pkg && test != "" && !strings.Contains(test, "/") {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return append(keys, pkg+"\x00")
}

// races picks the reports of the race detector out of what a test said. Whoever
// sees no more than the end of a long run has at least them: which accesses
// raced is all there is to go by when a race does not come again.
func races(said string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(said, "WARNING: DATA RACE\n")
		if !ok {
			return found
		}
		report, after, _ := strings.Cut(rest, "==================")
		found = append(found, strings.TrimRight(report, " \n"))
		said = after
	}
}

// reason is what a skipped test said: "file.go:12: the reason".
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		if _, said, ok := strings.Cut(line, ": "); ok {
			return said
		}
		return line
	}
	return "it does not say why"
}
