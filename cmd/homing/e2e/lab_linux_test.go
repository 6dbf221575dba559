package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/lab/netns"
)

// lab is a run of deploy/lab with the binary under test.
func lab(t *testing.T, args ...string) (cmd *exec.Cmd, out *lines, temporary string) {
	t.Helper()
	if err := netns.Possible(); err != nil {
		t.Skip("no lab: ", err)
	}
	dir := t.TempDir()
	if said, err := exec.Command("go", "build", "-o", dir+"/", "github.com/homing-im/homing/deploy/lab").CombinedOutput(); err != nil {
		t.Fatalf("building the lab: %v\n%s", err, said)
	}
	temporary, out = filepath.Join(dir, "tmp"), &lines{}
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(filepath.Join(dir, "lab"), append([]string{"run", "-v", "-homing", filepath.Join(bin, "homing")}, args...)...)
	cmd.Env, cmd.WaitDelay = append(os.Environ(), "TMPDIR="+temporary), 10*time.Second
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out, temporary
}

// smoke is the shortest scenario of the lab.
const smoke = "../../../deploy/lab/scenarios/smoke.txt"

// A scenario in network namespaces; make lab plays all of them.
func TestLab(t *testing.T) {
	cmd, out, temporary := lab(t, smoke)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the lab leaves %v behind, %v", left, err)
	}
}

// A lab that is killed takes everything with it: processes, and so namespaces
// and devices, which have no names.
func TestLabKilled(t *testing.T) {
	cmd, out, temporary := lab(t, smoke)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "the lab's world is ready", func() bool { return strings.Contains(out.String(), "the world is ready") })
	if n := len(processesOf(t, temporary)); n < 12 {
		t.Errorf("%d processes run in the lab, want 12 nodes and more", n)
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	until(t, time.Minute, "the lab's processes are gone", func() bool { return len(processesOf(t, temporary)) == 0 })
}

// processesOf lists the processes whose arguments or environment name a directory.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(all) == 0 {
		t.Fatalf("%d processes: %v", len(all), err)
	}
	var out []string
	for _, p := range all {
		for _, file := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(filepath.Join(p, file))
			if err == nil && strings.Contains(string(b), dir) {
				out = append(out, p)
				break
			}
		}
	}
	return out
}
