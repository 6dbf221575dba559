package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// systemPrefix is where the tests live that start the real program; they take
// the machine for themselves.
const systemPrefix = module + "/cmd/homing/e2e"

// start prepares a command that is told to stop, and then killed, when ctx ends.
func start(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// command is a suite that passes when the command succeeds; what it says is shown.
func command(name string, args ...string) func(context.Context, io.Writer) Tally {
	return func(ctx context.Context, out io.Writer) Tally {
		cmd := start(ctx, name, args...)
		cmd.Stdout, cmd.Stderr = out, out
		var t Tally
		if err := cmd.Run(); err != nil {
			t.fail(fmt.Sprintf("%s %s: %v", name, strings.Join(args, " "), err))
		}
		return t
	}
}

// gofmt fails when a file would change.
func gofmt(ctx context.Context, out io.Writer) Tally {
	var t Tally
	var files bytes.Buffer
	cmd := start(ctx, "gofmt", "-l", "-s", ".")
	cmd.Stdout, cmd.Stderr = &files, out
	if err := cmd.Run(); err != nil {
		t.fail("gofmt: " + err.Error())
	}
	for _, f := range strings.Fields(files.String()) {
		t.fail("not formatted: " + f + " (run gofmt -s -w)")
	}
	return t
}

// generated runs the generators and fails when a file changed by it. The tree
// is left as the generators made it: what is to be committed.
func generated(ctx context.Context, out io.Writer) Tally {
	before, err := digests(".")
	if err != nil {
		return Tally{Failed: 1, Failures: []string{err.Error()}}
	}
	t := command("make", "--no-print-directory", "generate")(ctx, out)
	after, err := digests(".")
	if err != nil {
		t.fail(err.Error())
		return t
	}
	for _, name := range changes(before, after) {
		t.fail("generated file changed: " + name + " (commit it)")
	}
	return t
}

// changes lists the files that are new or different.
func changes(before, after map[string][32]byte) []string {
	var changed []string
	for name, sum := range after {
		if before[name] != sum {
			changed = append(changed, name)
		}
	}
	sort.Strings(changed)
	return changed
}

// digests returns a sum of each file of the tree that could be generated.
func digests(root string) (map[string][32]byte, error) {
	sums := map[string][32]byte{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (base == "bin" || strings.HasPrefix(base, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		sums[name] = sha256.Sum256(b)
		return nil
	})
	return sums, err
}

// packages lists the module's packages that keep says yes to.
func packages(ctx context.Context, keep func(string) bool) ([]string, error) {
	var list, complaint bytes.Buffer
	cmd := start(ctx, "go", "list", "./...")
	cmd.Stdout, cmd.Stderr = &list, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, complaint.String())
	}
	var kept []string
	for _, p := range strings.Fields(list.String()) {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

func isSystem(p string) bool { return p == systemPrefix || strings.HasPrefix(p, systemPrefix+"/") }

func unitPackages(ctx context.Context) ([]string, error) {
	return packages(ctx, func(p string) bool { return !isSystem(p) && !isPostgres(p) })
}

// isPostgres says whether all of a package's tests are of real servers.
func isPostgres(p string) bool {
	return strings.HasPrefix(p, module+"/region/store/postgres") || p == module+"/region/store/dump"
}

func postgresPackages(ctx context.Context) ([]string, error) { return packages(ctx, isPostgres) }

// memoryPackages have tests in files with the build constraint !race.
func memoryPackages(context.Context) ([]string, error) {
	return []string{module + "/accel", module + "/region/access"}, nil
}

// kafkaTests are those that start Java brokers, and take minutes on a busy
// machine.
const kafkaTests = "^TestApache"

func kafkaPackages(context.Context) ([]string, error) {
	return []string{module + "/replicator", module + "/cmd/homing/node"}, nil
}

// withKafka has them run: without the variable they skip, for people who run a
// package's tests by hand.
func withKafka(suite func(context.Context, io.Writer) Tally) func(context.Context, io.Writer) Tally {
	return func(ctx context.Context, out io.Writer) Tally {
		if err := os.Setenv("HOMING_TEST_KAFKA", "1"); err != nil {
			return Tally{Failed: 1, Failures: []string{err.Error()}}
		}
		return suite(ctx, out)
	}
}

func systemPackages(ctx context.Context) ([]string, error) {
	return packages(ctx, isSystem)
}

// brisk is for programs with the race detector, which otherwise sleep for a second
// before they end, so that goroutines which are left can race a little more. Tests
// start hundreds of them.
const brisk = "GORACE=atexit_sleep_ms=0"

// goTest is a suite of Go tests.
func goTest(list func(context.Context) ([]string, error), flags ...string) func(context.Context, io.Writer) Tally {
	return func(ctx context.Context, out io.Writer) Tally {
		var t Tally
		packages, err := list(ctx)
		if err != nil {
			t.fail(err.Error())
			return t
		}
		if len(packages) == 0 {
			t.fail("there are no tests to run")
			return t
		}
		args := []string{"test", "-json"}
		if raceWorks(ctx) {
			args = append(args, "-race")
		} else {
			fmt.Fprintln(out, "no C compiler or no race detector for this platform: running without -race")
		}
		args = append(append(args, flags...), packages...)
		cmd := start(ctx, "go", args...)
		cmd.Env = append(os.Environ(), brisk)
		cmd.Stderr = out
		events, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.fail(err.Error())
			return t
		}
		t, err = count(events, out)
		if err != nil {
			t.fail("reading go test -json: " + err.Error())
		}
		if err := cmd.Wait(); err != nil && t.Failed == 0 {
			t.fail("go test: " + err.Error())
		}
		if t.Passed+t.Failed+t.Skipped == 0 {
			t.fail("there are no tests to run")
		}
		return t
	}
}

// raceWorks says whether a program can be built with the race detector here:
// it needs cgo and a platform that has one.
func raceWorks(ctx context.Context) bool {
	dir, err := os.MkdirTemp("", "homing-race-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "main.go")
	if os.WriteFile(name, []byte("package main\n\nimport \"C\"\n\nfunc main() {}\n"), 0o600) != nil {
		return false
	}
	return start(ctx, "go", "build", "-race", "-o", filepath.Join(dir, "main"), name).Run() == nil
}
