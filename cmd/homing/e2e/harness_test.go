package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/deploy/test/child"
)

// bin is the directory of the binary under test, built once with the race
// detector when the tests have it.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "homing-e2e-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	args := []string{"build", "-o", dir + "/"}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/homing-im/homing/cmd/homing", "github.com/homing-im/homing/cmd/homing/e2e/ledger")...)
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "building the binary under test:", err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is a running demo and the directory its users keep their profiles in.
type world struct {
	t    testing.TB
	home string // $HOMING_HOME
	dir  string
	base int
	out  *lines

	cmd  *exec.Cmd
	done chan struct{}
}

var ports struct {
	mu   sync.Mutex
	next int
}

// freeBase returns a port base whose ports nobody uses.
func freeBase(t testing.TB) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.next == 0 {
		ports.next = 12000 + (os.Getpid()%20)*500
	}
	for range 20 {
		base := ports.next
		ports.next += 300
		if free(base) {
			return base
		}
	}
	t.Fatal("no free range of ports")
	return 0
}

func free(base int) bool {
	for _, off := range []int{0, 1, 2, 3, 4, 5, 53, 80, 81, 82, 90, 91, 92, 99} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+off))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// startDemo starts a demo and waits until it is ready.
func startDemo(t testing.TB, args ...string) *world {
	t.Helper()
	home := t.TempDir()
	w := &world{t: t, home: home, dir: filepath.Join(home, "demo"), base: freeBase(t)}
	w.start(args...)
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("demo's output:\n%s", w.out)
			if b, err := os.ReadFile(filepath.Join(w.dir, "demo.log")); err == nil {
				t.Logf("demo's log, its end:\n%s", tail(b, 8000))
			}
		}
	})
	return w
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

// start runs the demo on the world's directory, again if it ran before.
func (w *world) start(args ...string) {
	w.t.Helper()
	w.out = &lines{}
	w.cmd = exec.Command(filepath.Join(bin, "homing"), append([]string{"demo", "--dir", w.dir, "--port-base", fmt.Sprint(w.base)}, args...)...)
	w.cmd.Env = w.env()
	w.cmd.Stdout, w.cmd.Stderr = w.out, w.out
	var err error
	if w.done, err = child.Start(w.cmd); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.After(90 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-w.done:
			w.t.Fatalf("the demo ended before it was ready:\n%s", w.out)
		case <-deadline:
			w.t.Fatalf("the demo is not ready after 90 s:\n%s", w.out)
		case <-tick.C:
		}
		if _, err := os.Stat(filepath.Join(w.dir, endpoints.File)); err == nil {
			return
		}
	}
}

// stop interrupts the demo and waits; it returns how long that took.
func (w *world) stop() time.Duration {
	if w.cmd == nil {
		return 0
	}
	began := time.Now()
	_ = w.cmd.Process.Signal(os.Interrupt)
	select {
	case <-w.done:
	case <-time.After(20 * time.Second):
		w.t.Error("the demo did not stop within 20 s of an interrupt")
		w.kill()
	}
	w.cmd = nil
	return time.Since(began)
}

// kill ends the demo as a power cut would end its process. The endpoints file
// stays, so it is removed here for start to wait for the new one.
func (w *world) kill() {
	_ = w.cmd.Process.Signal(syscall.SIGKILL)
	<-w.done
	_ = os.Remove(filepath.Join(w.dir, endpoints.File))
}

func (w *world) endpoints() *endpoints.Endpoints {
	w.t.Helper()
	e, err := endpoints.Read(filepath.Join(w.dir, endpoints.File))
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) env() []string {
	return append(os.Environ(), "HOMING_HOME="+w.home, "PATH="+bin+":"+os.Getenv("PATH"))
}

// sh runs a shell command in the world's environment and returns what it
// printed.
func (w *world) sh(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	// All of it is to end with ctx: what the shell had started would hold the
	// output open, and the test would wait for ever.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = w.env()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// must runs a command that has to succeed within 20 s.
func (w *world) must(command string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := w.sh(ctx, command)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// refused runs a command that has to fail with one line on its output.
func (w *world) refused(command string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := w.sh(ctx, command)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		w.t.Fatalf("%s: want it refused, got %v\n%s", command, err, out)
	}
	if strings.Count(strings.TrimSpace(out), "\n") != 0 {
		w.t.Errorf("%s: want one line, got\n%s", command, out)
	}
	return out
}

// lines collects a process's output.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
