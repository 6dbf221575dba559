package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// need skips a test whose tool is not installed; deploy/test/run installs it
// or says what is skipped.
func need(t *testing.T, command string) {
	t.Helper()
	if _, err := exec.LookPath(command); err != nil {
		t.Skipf("no %s here", command)
	}
}

// sight is one line of testdata/client.py.
type sight struct {
	Saw           string
	UIN           uint64
	Region        string
	By            string
	POP           string
	TLS           string
	What          string
	Code          uint32
	Name          string
	Message       json.RawMessage // a text in refusals, a message in notices
	Hint          string
	Sequence      uint64
	ID            string
	Repeated      bool
	SnapshotBytes int `json:"snapshot_bytes"`
	Full          bool
	Account       *struct{ Home string }
	Messages      []foreignMessage
	Endpoint      string
	Endpoints     []string
}

type foreignMessage struct {
	ID               string
	Sequence, Sender uint64
	To               uint64
	Text             string
}

// foreign is a run of testdata/client.py.
type foreign struct {
	t   *testing.T
	out *bufio.Scanner
	cmd *exec.Cmd
	err lines

	redirects []sight // on the way; a loaded machine may need more of them
}

func startForeign(t *testing.T, config map[string]any) *foreign {
	t.Helper()
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	f := &foreign{t: t, cmd: exec.Command("python3", "testdata/client.py", string(b))}
	f.cmd.Stderr = &f.err
	out, err := f.cmd.StdoutPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.out = bufio.NewScanner(out)
	f.out.Buffer(nil, 1<<20)
	stuck := time.AfterFunc(3*time.Minute, func() { _ = f.cmd.Process.Kill() })
	t.Cleanup(func() {
		stuck.Stop()
		_ = f.cmd.Process.Kill()
		_ = f.cmd.Wait()
		if t.Failed() {
			t.Logf("the client's complaints:\n%s", &f.err)
		}
	})
	return f
}

// next returns the next thing the client saw; it has to be saw, of what.
// Redirects and tries are put aside: how many there are is up to the load.
func (f *foreign) next(saw, what string) sight {
	f.t.Helper()
	if !f.out.Scan() {
		f.t.Fatalf("the client ended and has not seen %s %s: %v", saw, what, f.out.Err())
	}
	f.t.Logf("%s", f.out.Text())
	var s sight
	if err := json.Unmarshal(f.out.Bytes(), &s); err != nil {
		f.t.Fatalf("%s: %v", f.out.Text(), err)
	}
	switch s.Saw {
	case "redirect":
		f.redirects = append(f.redirects, s)
		return f.next(saw, what)
	case "retrying", "dead-endpoint":
		return f.next(saw, what)
	}
	if s.Saw != saw || s.What != what {
		f.t.Fatalf("want %s %s, the client saw %s", saw, what, f.out.Text())
	}
	return s
}

// refusal is what somebody without the device key has to see.
func (f *foreign) refusal(what string) {
	f.t.Helper()
	s := f.next("refused", what)
	if s.Code != 3 || s.Name != "unauthenticated" || !strings.Contains(string(s.Message), "proof") || s.Hint == "" {
		f.t.Errorf("want a clear unauthenticated, got %+v", s)
	}
}

// A client that knows the package comment of region/wire and the .proto files
// only: registers, is led to a POP, sends, syncs with its snapshot, is told of
// an answer. Once through HTTPDNS, once from a region that is not its home.
func TestForeignClient(t *testing.T) {
	need(t, "python3")
	w := startDemo(t)
	at := w.endpoints()
	bob := register(t, w, "hk", "Bob")
	for _, c := range []struct{ name, via string }{{"led by HTTPDNS", ""}, {"led home by redirect", at.Regions["ca"].Long}} {
		t.Run(c.name, func(t *testing.T) {
			foreignStory(t, w, bob, c.via)
		})
	}
}

func register(t *testing.T, w *world, at, name string) uint64 {
	t.Helper()
	out := w.must("homing user register --region " + at + " --nickname " + name)
	var uin uint64
	m := regexp.MustCompile(`is UIN (\d+), at home in ` + at).FindStringSubmatch(out)
	if m != nil {
		_, _ = fmt.Sscan(m[1], &uin)
	}
	if uin == 0 {
		t.Fatalf("no UIN in %q", out)
	}
	return uin
}

func foreignStory(t *testing.T, w *world, bob uint64, via string) {
	at := w.endpoints()
	hello, answer := "hello from Python "+via, "an answer from Go "+via
	f := startForeign(t, map[string]any{
		"short": at.Regions["sh"].Short, "httpdns": at.HTTPDNS, "zone": at.Zone, "ca_cert": at.CACert,
		"ip": "223.5.5.5", "to": bob, "text": hello, "via": via,
	})
	me := f.next("registered", "")
	if me.Region != "sh" {
		t.Errorf("registered in %s, want sh", me.Region)
	}
	if s := f.next("resolved", ""); s.Account == nil || s.Account.Home != "sh" {
		t.Errorf("resolved %+v, want somebody at home in sh", s)
	}
	f.refusal("request-signature")
	var led []string
	if via == "" {
		led = f.next("where", "").Endpoints
	}
	f.refusal("connection-signature")
	// Whether led by HTTPDNS or by the wrong region, it has to end in sh, where it
	// was led to: a POP; or sh itself, when the region that redirects has not
	// checked the POPs yet.
	connected := func() {
		t.Helper()
		s := f.next("connected", "")
		if via != "" {
			if len(f.redirects) == 0 {
				t.Fatal("connected, and was not redirected")
			}
			last := f.redirects[len(f.redirects)-1]
			if led = last.Endpoints; last.By != via {
				t.Errorf("redirected by %s, want by %s", last.By, via)
			}
			f.redirects = nil
		}
		if s.Region != "sh" || at.POPs[s.POP].Long != s.Endpoint && (via == "" || s.POP != "" || s.Endpoint != at.Regions["sh"].Long) || !slices.Contains(led, s.Endpoint) || s.TLS != "TLSv1.3" {
			t.Errorf("connected to %s through %q at %s by %s, want to sh through one of %v by TLSv1.3", s.Region, s.POP, s.Endpoint, s.TLS, led)
		}
	}
	connected()
	f.next("heartbeat", "")

	// Nothing yet; then what it sent itself, once; each snapshot goes on where
	// the last ended.
	synced := func(snapshot bool, want ...string) {
		t.Helper()
		s := f.next("synced", "")
		var got []string
		for _, m := range s.Messages {
			got = append(got, m.Text)
		}
		if strings.Join(got, "|") != strings.Join(want, "|") || snapshot != (s.SnapshotBytes > 0) || s.Full == snapshot || (s.Account != nil) == snapshot {
			t.Errorf("sync with snapshot %v: got %+v, want messages %q", snapshot, s, want)
		}
	}
	synced(false)
	first, second := f.next("sent", ""), f.next("sent", "")
	if first.ID != second.ID || first.Sequence != second.Sequence || first.Repeated || !second.Repeated {
		t.Errorf("sent %+v, again %+v: want the same once more, and said so", first, second)
	}
	synced(true, hello)
	f.refusal("login-signature")
	f.next("logged-in", "")
	f.next("waiting", "")

	// Bob, a Go client, gets it once, and answers.
	var inbox string
	until(t, time.Minute, "Bob has it", func() bool {
		inbox += w.must("homing sync --as Bob")
		return strings.Contains(inbox, hello)
	})
	inbox += w.must("homing sync --as Bob")
	if n := strings.Count(inbox, hello); n != 1 {
		t.Errorf("Bob has it %d times:\n%s", n, inbox)
	}
	w.must(fmt.Sprintf("homing send --as Bob --to %d %q", me.UIN, answer))

	s := f.next("notice", "")
	var said foreignMessage
	if err := json.Unmarshal(s.Message, &said); err != nil || said.Text != answer || said.Sender != bob || said.To != me.UIN || s.Sequence != 2 || said.Sequence != 2 {
		t.Errorf("the notice is %+v with %+v (%v), want %q from Bob as the second message", s, said, err, answer)
	}
	synced(true, answer)
	synced(true)
	connected() // again, with the new ticket
	synced(true)
	f.next("done", "")
	if err := f.cmd.Wait(); err != nil {
		t.Errorf("the client ended badly: %v\n%s", err, &f.err)
	}
}

// The client imports nothing that Python does not bring along.
func TestForeignClientStandardLibraryOnly(t *testing.T) {
	standard := map[string]bool{}
	for m := range strings.FieldsSeq("base64 collections hashlib json os random socket ssl struct sys time urllib.error urllib.request") {
		standard[m] = true
	}
	for _, file := range []string{"testdata/client.py", "testdata/journal.py"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		imports := regexp.MustCompile(`(?m)^\s*(?:import|from)\s+(.*)$`).FindAllStringSubmatch(string(b), -1)
		if len(imports) == 0 {
			t.Errorf("%s imports nothing", file)
		}
		for _, m := range imports {
			if !standard[m[1]] {
				t.Errorf("%s imports %s", file, m[1])
			}
		}
	}
}
