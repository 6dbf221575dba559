package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
)

func runBench(t *testing.T, report any, args ...string) error {
	t.Helper()
	var out bytes.Buffer
	c := NewCommand(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(io.Discard)
	dir := t.TempDir()
	c.SetArgs(append(args, "--dir", dir, "-o", "json"))
	err := c.ExecuteContext(t.Context())
	if left, derr := os.ReadDir(dir); derr != nil || len(left) != 0 {
		t.Errorf("the directory has %v, %v", left, derr)
	}
	if out.Len() == 0 {
		t.Fatal(err)
	}
	if jerr := json.Unmarshal(out.Bytes(), report); jerr != nil {
		t.Fatal(jerr)
	}
	return err
}

// All logic processes go and come under load, politely and not; the clients
// notice nothing. HOMING_RESTART_USERS is how many there are: make test-restart
// has 10,000.
func TestRestart(t *testing.T) {
	users := os.Getenv("HOMING_RESTART_USERS")
	if users == "" {
		users = "500"
	}
	for name, more := range map[string]string{"asked": "--tls", "killed": "--kill"} {
		t.Run(name, func(t *testing.T) {
			users := users
			if name == "killed" && users == "500" {
				users = "50" // what differs does not depend on their number
			}
			var r RestartReport
			err := runBench(t, &r, append(strings.Fields("restart --rate 100 --pause 200ms --partitions 4 --users "+users), more)...)
			if err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			if r.Dropped != 0 || r.Failed != 0 || len(r.Restarts) != 3 || r.Requests < 20 || r.Notices == 0 || r.Known != r.Users || r.Answer.P99 <= 0 {
				t.Errorf("%+v", r)
			}
			t.Logf("%d requests, the longest wait %.0f ms", r.Requests, r.LongestWait)
		})
	}
}

func TestRestartOptions(t *testing.T) {
	for _, bad := range []string{"--users 1", "--users 20000", "--logic 1", "--rate 0", "--rounds 0", "--pause -1s", "--partitions 0", "-o xml"} {
		c := NewCommand(io.Discard)
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(append([]string{"restart"}, strings.Fields(bad)...))
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), strings.Fields(bad)[0]) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
