package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var write = flag.Bool("write", false, "record testdata/events.json anew")

// sample is a module whose tests pass, fail, are skipped, do not build and die.
var sample = map[string]string{
	"go.mod": "module " + module + "\n\ngo 1.26\n",
	"good/good_test.go": `package good
import "testing"
func TestOne(t *testing.T) {}
func TestTwo(t *testing.T) { t.Run("sub", func(t *testing.T) {}) }
func TestSkip(t *testing.T) { t.Skip("no chromium in PATH") }
func FuzzSeed(f *testing.F) { f.Add(1); f.Fuzz(func(t *testing.T, n int) {}) }
`,
	"bad/bad_test.go": `package bad
import "testing"
func TestFine(t *testing.T) {}
func TestBad(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Error("two and two are five") }) }
`,
	"broken/broken_test.go": "package broken\nvar x int = \"text\"\n",
	"dead/dead_test.go": `package dead
import ("os"; "testing"; "fmt")
func TestMain(m *testing.M) { m.Run(); fmt.Println("leaked"); os.Exit(1) }
func TestFine(t *testing.T) {}
`,
	"gone/gone_test.go": `package gone
import ("os"; "testing"; "fmt")
func TestFine(t *testing.T) {}
func TestGone(t *testing.T) { fmt.Println("the disk is full"); os.Exit(1) }
`,
}

// recorded is the output of the real go test for the sample.
func recorded(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join("testdata", "events.json")
	if *write {
		dir := t.TempDir()
		for name, text := range sample {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("go", "test", "-json", "./...")
		cmd.Dir = dir
		b, err := cmd.Output()
		if err == nil || len(b) == 0 {
			t.Fatalf("go test of the sample: %v, %d bytes", err, len(b))
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCount(t *testing.T) {
	var out bytes.Buffer
	got, err := count(bytes.NewReader(recorded(t)), &out)
	if err != nil {
		t.Fatal(err)
	}
	if got.Passed != 6 || got.Skipped != 1 || got.Failed != 4 {
		t.Errorf("%d passed, %d skipped, %d failed; want 6, 1, 4", got.Passed, got.Skipped, got.Failed)
	}
	if want := "bad TestBad|broken|dead|gone"; sorted(got.Failures) != want {
		t.Errorf("failures %q, want %q", sorted(got.Failures), want)
	}
	if len(got.Skips) != 1 || got.Skips[0] != "good TestSkip: no chromium in PATH" {
		t.Errorf("skips %q", got.Skips)
	}
	for _, want := range []string{"two and two are five", "leaked", "the disk is full", "cannot use \"text\"", "good\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}

func TestRacesAreShownAgainAtTheEnd(t *testing.T) {
	said := "=== RUN TestX\n" + strings.Repeat(`    ==================
    WARNING: DATA RACE
    Write at 0x01 by goroutine 7:
      pkg.set()
    ==================
`, 2) + "    Found 2 data race(s)\n"
	const want = "    Write at 0x01 by goroutine 7:\n      pkg.set()"
	if got := races(said); !slices.Equal(got, []string{want, want}) {
		t.Errorf("races %q, want %q twice", got, want)
	}
	var out bytes.Buffer
	racy := Suite{Name: "racy", What: "races", Run: func(context.Context, io.Writer) Tally {
		return Tally{Failed: 1, Failures: []string{"pkg TestX"}, Races: races(said)}
	}}
	run(t.Context(), &out, []Suite{racy})
	if _, end, _ := strings.Cut(out.String(), "\nall "); strings.Count(end, want) != 2 {
		t.Errorf("the end of the run lacks the reports:\n%s", &out)
	}
}

func TestSlowestAreNamed(t *testing.T) {
	var tally Tally
	for i, seconds := range []float64{3, 1, 7, 2, 9, 8, 4} {
		tally.took(string(rune('a'+i)), seconds)
	}
	if want := []timed{{"e", 9}, {"f", 8}, {"c", 7}, {"g", 4}, {"a", 3}}; !slices.Equal(tally.Slow, want) {
		t.Errorf("the slowest are %v, want %v", tally.Slow, want)
	}
}

func TestRunSaysWhatFailed(t *testing.T) {
	good := Suite{Name: "good", What: "passes", Run: func(context.Context, io.Writer) Tally { return Tally{Passed: 3} }}
	bad := Suite{Name: "bad", What: "fails", Run: func(context.Context, io.Writer) Tally {
		return Tally{Passed: 1, Failed: 1, Failures: []string{"pkg TestX"}}
	}}
	for _, c := range []struct {
		name   string
		suites []Suite
		code   int
		last   string
	}{
		{"all pass", []Suite{good}, 0, "3 passed, 0 failed"},
		{"one fails", []Suite{good, bad}, 1, "4 passed, 1 failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), &out, c.suites); code != c.code {
				t.Errorf("exit status %d, want %d", code, c.code)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if lines[len(lines)-1] != c.last {
				t.Errorf("last line %q, want %q", lines[len(lines)-1], c.last)
			}
		})
	}

	t.Run("two at once", func(t *testing.T) {
		first, second := make(chan struct{}), make(chan struct{})
		one := Suite{Name: "one", Run: func(_ context.Context, out io.Writer) Tally {
			close(first)
			<-second // runs only if both do
			fmt.Fprintln(out, "one is done")
			return Tally{Passed: 1}
		}}
		two := Suite{Name: "two", With: true, Run: func(_ context.Context, out io.Writer) Tally {
			<-first
			fmt.Fprintln(out, "two is bad")
			close(second)
			return Tally{Failed: 1, Failures: []string{"pkg TestTwo"}}
		}}
		var out bytes.Buffer
		if code := run(t.Context(), &out, []Suite{one, two, good}); code != 1 {
			t.Errorf("exit status %d, want 1", code)
		}
		said := out.String()
		for _, want := range []string{"one is done\n", "two is bad\n-- two: FAILED", "-- good: ok", "failed: pkg TestTwo", "4 passed, 1 failed"} {
			at := strings.Index(said, want)
			if at < 0 {
				t.Fatalf("%q is not there, or too early, in\n%s", want, &out)
			}
			said = said[at:]
		}
	})

	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if code := run(ctx, io.Discard, []Suite{good, good}); code == 0 {
			t.Error("an interrupted run must not look like a success")
		}
	})
}

func TestChooseUnknown(t *testing.T) {
	if _, err := choose([]string{"unti"}); err == nil || !strings.Contains(err.Error(), "unit") {
		t.Errorf("error %v should name the suites there are", err)
	}
}

func sorted(s []string) string { return strings.Join(slices.Sorted(slices.Values(s)), "|") }
