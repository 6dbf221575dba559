package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/worldfile"
)

// Whatever is typed wrong is answered by one line that says what to do, and
// exit status 1.
func TestBadCommands(t *testing.T) {
	w := startDemo(t)
	w.hello("sh", "hk")
	before := w.must("homing sync --all --as Bob")
	bad := filepath.Join(w.home, "bad")
	w.must(fmt.Sprintf(`mkdir -p %[1]s/full && touch %[1]s/full/mine; echo '{' >%[1]s/half.json; echo '{}' >%[1]s/empty.json
		cp %[2]s/profiles/alice.json %[2]s/profiles/short.json && sed -i 's/"device_seed": "..../"device_seed": "/' %[2]s/profiles/short.json; echo x >%[2]s/profiles/x.json`, bad, w.dir))
	for command, want := range map[string]string{
		"homing --bogus":                                        "unknown flag: --bogus; see: homing --help",
		"homing demo --bogus":                                   "see: homing demo --help",
		"homing frobnicate":                                     `unknown command "frobnicate" for "homing"; see: homing --help`,
		"homing user frobnicate":                                `unknown command "frobnicate" for "homing user"; see: homing user --help`,
		"homing world frobnicate":                               "see: homing world --help",
		"homing sync --as":                                      "flag needs an argument: --as",
		"homing send --as Alice --to @bob":                      "see: homing send --help",
		"homing sync --as Alice extra":                          "see: homing sync --help",
		"homing user register --region xx --nickname X":         "there is ca, hk, sh",
		"homing user register --region sh":                      "say the user's --nickname",
		"homing user register --region sh --nickname Alice":     "say another name with --as",
		"homing user register --region sh --nickname a/b":       "profile name",
		"homing send --to @bob hi":                              "say who you are with --as NAME",
		"homing send --as Nobody --to @bob hi":                  "there are: alice, bob",
		"homing send --as ../alice --to @bob hi":                "want 1 to 64 letters",
		"homing send --as short --to @bob hi":                   "short.json is damaged",
		"homing send --as x --to @bob hi":                       "remove it and register again",
		"homing send --as Alice --to @nobody hi":                "check the spelling",
		"homing send --as Alice --to 1999999 hi":                "nobody has UIN 1999999",
		"homing send --as Alice --to 9999999 hi":                "belongs to no region",
		"homing send --as Alice --to bob hi":                    "want @handle or a UIN",
		"homing send --as Alice --to '' hi":                     "want @handle or a UIN",
		"homing send --as Alice --to @bob ''":                   "give a text",
		"homing send --as Alice --to @bob $(printf %020000d 1)": "at most 16384",
		"homing send --as Alice --ip banana --to @bob hi":       "want one such as 8.8.8.8",
		"homing id claim '!!' --as Alice":                       "want 3 to 32 characters",
		"homing id claim bob --as Alice":                        "alice", // has one already
		"homing explain --uin abc":                              "want a decimal number",
		"homing explain --ip 300.1.1.1":                         "want an address such as",
		"homing explain --service ftp":                          "want long, short or web",
		"homing context use nope":                               "known are: demo",
		"homing status --context nope":                          "see: homing context list",
		"homing status --endpoints " + bad + "/none.json":       "start one with: homing demo",
		"homing status --endpoints " + bad + "/half.json":       "damaged",
		"homing status --endpoints " + bad + "/empty.json":      "damaged",
		"homing run":                                                              "homing run -c node.yaml",
		"homing run -c " + bad + "/none.yaml":                                     "say the node's file with -c",
		"homing tls":                                                              "say --dir and --zone",
		"homing demo --scenario nope":                                             "there is hello",
		"homing demo --sabotage dns":                                              "say one",
		"homing demo --regions sh,xx --dir " + bad + "/d":                         "want some of sh,hk,ca,eu",
		"homing demo --port-base 80 --dir " + bad + "/d":                          "want 1024 to",
		"homing demo --dir /proc/nothing":                                         "say another --dir",
		"homing demo --dir " + bad + "/full":                                      "is not empty and not a demo's directory",
		"homing demo --fresh --dir " + bad + "/full":                              "is not empty and not a demo's directory",
		fmt.Sprintf("homing demo --dir %s --port-base %d", w.dir, w.base+300):     "is running in " + w.dir + " already",
		fmt.Sprintf("homing demo --fresh --dir %s --port-base %d", w.dir, w.base): "is running in " + w.dir + " already",
		fmt.Sprintf("homing demo --dir %s/d --port-base %d", bad, w.base):         "say another --port-base",
	} {
		out := w.refused(command + " 2>&1 >/dev/null")
		if !strings.HasPrefix(out, "homing: ") || !strings.Contains(out, want) {
			t.Errorf("$ %.120s\nwant %q in\n%s", command, want, out)
		}
	}
	if !strings.Contains(w.must("ls "+bad+"/full"), "mine") {
		t.Error("a directory that is no demo's was touched")
	}
	if _, err := os.Stat(filepath.Join(bad, "d", endpoints.File)); err == nil {
		t.Error("a demo that did not start left its endpoints")
	}
	if after := w.must("homing sync --all --as Bob"); after != before {
		t.Errorf("Bob's inbox was\n%s\nand is\n%s", before, after)
	}
	// A number of another region that nobody has: the region there says so.
	w.must("homing send --as Alice --to 2999999 hi")
	w.arrives("Alice", "[undelivered by 1000001")
}

// full mounts a small disk. Only root can.
func full(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "none", dir).CombinedOutput(); err != nil {
		t.Skipf("no small disk can be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), base: freeBase(t)}
	for _, size := range []string{"16k", "32m"} {
		out := w.refused(fmt.Sprintf("homing demo --dir %s/demo --port-base %d 2>&1 >/dev/null", full(t, size), w.base))
		if !regexp.MustCompile(`make room on .*or say a --dir on another one`).MatchString(out) {
			t.Errorf("%s: %s", size, out)
		}
	}

	disk := full(t, "700m")
	w.dir = filepath.Join(disk, "demo")
	w.start()
	t.Cleanup(func() { w.stop() }) // before the disk goes
	w.hello("sh", "hk")
	w.must("homing user register --region ca --nickname Dora")
	before := w.must("homing sync --all --as Bob")

	fill := filepath.Join(disk, "ballast")
	_ = exec.Command("dd", "if=/dev/zero", "of="+fill, "bs=64k").Run() // ends when the disk is full
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// A region looks at its disk once in a while, so a write right behind the last
	// byte may still find room in its log.
	text, send, out := "", "", ""
	err := error(nil)
	for i := 0; err == nil; i++ {
		text = fmt.Sprintf("while the disk was full (%d)", i)
		send = fmt.Sprintf("homing send --as Alice --to @bob --message-id once-%d %q", i, text)
		out, err = w.sh(ctx, send)
	}
	refused := func(command, out string, err error) {
		if err == nil || strings.Count(strings.TrimSpace(out), "\n") != 0 || !strings.Contains(out, "less than 160 MiB left (free space there; writes go on by themselves)") {
			t.Errorf("$ %s\nwant it refused and the disk named, got %v\n%s", command, err, out)
		}
	}
	refused(send, out, err)
	// What was acknowledged can be read, and the command says what it cannot do.
	register := "homing user register --region ca --nickname Carol"
	var trying sync.WaitGroup // both try again for a while before they give up
	trying.Go(func() {
		out, err := w.sh(ctx, register)
		refused(register, out, err)
	})
	trying.Go(func() {
		out, err := "", error(nil)
		for err == nil { // Bob's region looks, too
			out, err = w.sh(ctx, "homing sync --all --as Bob")
		}
		if !strings.HasPrefix(out, before) || !strings.Contains(out, "make room on the disk") {
			t.Errorf("reading from a full disk: %v\n%s\nwant\n%s", err, out, before)
		}
	})
	trying.Wait()

	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	w.must(send)
	w.must(register)
	after := w.arrives("Bob", text)
	if !strings.HasPrefix(after, before) || strings.Count(after, text) != 1 {
		t.Errorf("Bob's inbox was\n%s\nand is\n%s", before, after)
	}
	w.stopped()
	w.start()
	if again := w.must("homing sync --all --as Bob"); again != after {
		t.Errorf("after a restart Bob's inbox was\n%s\nand is\n%s", after, again)
	}
	w.stopped()
}

// Worlds that are forged, stale or of another chain change nothing, are
// counted, and say what is wrong.
func TestBadWorlds(t *testing.T) {
	w := startDemo(t)
	e := w.endpoints()
	directory := worldfile.Directory{Dir: filepath.Dir(filepath.Dir(e.OperatorKey))}
	genesis, err := directory.Genesis()
	if err != nil {
		t.Fatal(err)
	}
	admins := map[string]string{"sh": e.Regions["sh"].Admin, "pop-1": e.POPs["pop-1"].Admin}
	current := func(admin string) string { return metricsOf(t, admin)["homing_keeper_world_version"] }
	for _, admin := range admins {
		if got := current(strings.TrimPrefix(admin, "http://")); got != "1" {
			t.Fatalf("%s has world %s", admin, got)
		}
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	// A second world that the operator signed, and one that somebody else did.
	file := directory.File()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edited := bytes.Replace(b, []byte("ttl: 10"), []byte("ttl: 11"), 1)
	if bytes.Equal(b, edited) {
		t.Fatal("the world's file has no ttl of 10")
	}
	if err := os.WriteFile(file, edited, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := directory.SignNext(false)
	if err != nil {
		t.Fatal(err)
	}
	forged := *second.Signed
	forged.Signatures = nil
	forged.Sign(stranger)
	tampered := *second.Signed
	tampered.Payload = bytes.Replace(slices.Clone(tampered.Payload), []byte(`"ttl":11`), []byte(`"ttl":99`), 1)
	if bytes.Equal(tampered.Payload, second.Signed.Payload) {
		t.Fatalf("the payload has no ttl of 11: %.200s", tampered.Payload)
	}
	unheard := *second.Signed // its parent is known to nobody
	unheard.Version, unheard.Parents = 9, []region.Hash{{1, 2, 3}}
	for _, c := range []struct {
		name   string
		body   any
		status int
		text   string
		kind   string
	}{
		{"a stranger's", region.Envelope{Signed: &forged}, http.StatusForbidden, "signed by 0 operators", "forbidden"},
		{"tampered with", region.Envelope{Signed: &tampered}, http.StatusForbidden, "signed by 0 operators", "forbidden"},
		{"of another chain", region.Envelope{Signed: &unheard}, http.StatusServiceUnavailable, "offer the worlds in between first", "unavailable"},
		{"without a majority", second, http.StatusServiceUnavailable, "has not taken effect", "unavailable"},
		{"no world", map[string]string{"hello": "world"}, http.StatusBadRequest, "holds no world", "bad-input"},
		{"no JSON", nil, http.StatusBadRequest, "not the JSON expected", "bad-input"},
	} {
		for id, admin := range admins {
			count := func() float64 {
				return number(t, metricsOf(t, strings.TrimPrefix(admin, "http://"))[`homing_keeper_refused_worlds_total{kind="`+c.kind+`"}`])
			}
			before := count()
			body := []byte("{{{")
			if c.body != nil {
				if body, err = json.Marshal(c.body); err != nil {
					t.Fatal(err)
				}
			}
			status, text := post(t, admin+"/world", "application/json", body, nil)
			if status != c.status || !strings.Contains(text, c.text) {
				t.Errorf("%s, offered to %s: %d %s, want %d %s", c.name, id, status, text, c.status, c.text)
			}
			if after := count(); after != before+1 {
				t.Errorf("%s, offered to %s: counted %v times", c.name, id, after-before)
			}
			if got := current(strings.TrimPrefix(admin, "http://")); got != "1" {
				t.Fatalf("%s: %s follows world %s", c.name, id, got)
			}
		}
	}
	if status, text := post(t, admins["sh"]+"/world", "application/json", bytes.Repeat([]byte("x"), region.MaxEnvelope+10), nil); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a world of too many bytes: %d %s", status, text)
	}
	w.hello("sh", "hk") // all of it was nobody's business

	// The operator's own push is what changes it; then the old one is stale.
	w.must("homing world push")
	for id, admin := range admins {
		until(t, time.Minute, id+" follows world 2", func() bool { return current(strings.TrimPrefix(admin, "http://")) == "2" })
	}
	rival := *genesis.Signed
	rival.Payload = slices.Concat(rival.Payload, []byte(" "))
	rival.Sign(stranger)
	body, err := json.Marshal(region.Envelope{Signed: &rival})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := post(t, admins["sh"]+"/world", "application/json", body, nil); status != http.StatusConflict || !strings.Contains(text, "world 1 is stale: this node has world 2") {
		t.Errorf("an older world: %d %s", status, text)
	}
	if got := current(strings.TrimPrefix(admins["sh"], "http://")); got != "2" {
		t.Errorf("after an older world: version %s", got)
	}
}

func number(t testing.TB, s string) float64 {
	t.Helper()
	if s == "" {
		return 0
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func post(t testing.TB, url, contentType string, body []byte, headers map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
