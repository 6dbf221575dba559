package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/homing-im/homing/cmd/homing/endpoints"
)

// stopLimit is how long an interrupted demo may take to end. The promise is
// 3 s; the race detector and a busy machine stretch it.
func stopLimit() time.Duration {
	if raceEnabled {
		return 6 * time.Second
	}
	return 3 * time.Second
}

// stopped interrupts the demo, and checks what the README promises of its end.
func (w *world) stopped() {
	w.t.Helper()
	cmd := w.cmd
	took := w.stop()
	if took > stopLimit() {
		w.t.Errorf("the demo took %s to stop, want %s at most", took, stopLimit())
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		w.t.Errorf("the interrupted demo ended with status %d", code)
	}
	if _, err := os.Stat(filepath.Join(w.dir, endpoints.File)); err == nil {
		w.t.Error("the endpoints file is there after the demo ended")
	}
	w.t.Logf("stopped in %s", took.Round(time.Millisecond))
}

// listeners are all addresses that an endpoints file names, by what for.
func listeners(t testing.TB, e *endpoints.Endpoints) map[string]string {
	t.Helper()
	host := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" || u.Host == "" || strings.HasSuffix(raw, "/") {
			t.Errorf("%q is no URL without a slash at its end", raw)
			return raw
		}
		return u.Host
	}
	out := map[string]string{"dns": e.DNS, "httpdns": host(e.HTTPDNS), "ids": host(e.IDs), "console": host(e.Console)}
	for id, r := range e.Regions {
		out[id+" long"], out[id+" queue"] = r.Long, r.Queue
		out[id+" short"], out[id+" web"], out[id+" admin"] = host(r.Short), host(r.Web), host(r.Admin)
	}
	for id, p := range e.POPs {
		out[id+" long"], out[id+" short"], out[id+" admin"] = p.Long, host(p.Short), host(p.Admin)
	}
	return out
}

func TestEndpointsFile(t *testing.T) {
	w := startDemo(t)
	path := filepath.Join(w.dir, endpoints.File)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, want 0600", info.Mode())
	}
	var raw map[string]any
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "the file", raw, "dns", "httpdns", "ids", "console", "zone", "regions", "pops", "ca_cert", "operator_key")
	regions, _ := raw["regions"].(map[string]any)
	wantKeys(t, "regions", regions, "sh", "hk", "ca")
	for id, r := range regions {
		wantKeys(t, id, r, "long", "short", "web", "admin", "queue")
	}
	pops, _ := raw["pops"].(map[string]any)
	wantKeys(t, "pops", pops, "pop-1", "pop-2", "pop-3", "pop-4", "pop-5", "pop-6")
	for id, p := range pops {
		wantKeys(t, id, p, "long", "short", "admin", "near")
	}
	e := w.endpoints()
	if e.Zone != "demo.test" {
		t.Errorf("zone %q", e.Zone)
	}
	near := map[string]int{}
	for _, p := range e.POPs {
		near[p.Near]++
	}
	if near["sh"] != 2 || near["hk"] != 2 || near["ca"] != 2 {
		t.Errorf("POPs near the regions: %v, want two each", near)
	}
	for _, p := range []string{e.CACert, e.OperatorKey} {
		if info, err := os.Stat(p); err != nil || !filepath.IsAbs(p) || info.Size() == 0 {
			t.Errorf("%s: %v", p, err)
		}
	}
	if info, err := os.Stat(e.OperatorKey); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the operator's key: %v, %v", info, err)
	}
	for what, address := range listeners(t, e) {
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			t.Errorf("%s does not listen: %v", what, err)
			continue
		}
		_ = conn.Close()
	}
	if strings.Contains(w.must("ls -A "+w.dir), ".endpoints") {
		t.Error("a temporary file was left behind")
	}
	if !regexp.MustCompile(`\* demo\s+running\s+` + path).MatchString(w.must("homing context list")) {
		t.Error("the demo is not the current context")
	}
	if out := w.must("homing context use demo"); !strings.Contains(out, "demo") {
		t.Error(out)
	}
	line := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  world 1  \d+ online  \d+ msg/s  lag ca>hk \d+ ca>sh \d+ hk>ca \d+ hk>sh \d+ sh>ca \d+ sh>hk \d+`)
	until(t, time.Minute, "the status line is printed", func() bool { return line.MatchString(w.out.String()) })
	for _, want := range []string{`(?m)^region sh +Shanghai +127\.10\.1\.1:\d+`, `(?m)^pop-6 +New York +127\.20\.6\.1:\d+`, `Try, in another terminal:\n  dig @`} {
		if !regexp.MustCompile(want).MatchString(w.out.String()) {
			t.Errorf("no %q in\n%s", want, w.out)
		}
	}
	w.stopped()
	if out := w.must("homing context list"); !regexp.MustCompile(`demo\s+stopped`).MatchString(out) {
		t.Errorf("after the end: %s", out)
	}
	if out := w.refused("homing status"); !strings.Contains(out, "start it with: homing demo") {
		t.Error(out)
	}
}

func wantKeys(t *testing.T, what string, v any, keys ...string) {
	t.Helper()
	m, _ := v.(map[string]any)
	for _, k := range keys {
		if m[k] == nil || m[k] == "" {
			t.Errorf("%s: %q is missing or empty", what, k)
		}
	}
	if len(m) != len(keys) {
		t.Errorf("%s has %d fields, want %q", what, len(m), keys)
	}
}

// hello makes Alice in the first region and Bob in the second, and sends a
// message each way.
func (w *world) hello(first, second string) {
	w.t.Helper()
	w.must("homing user register --region " + first + " --nickname Alice && homing id claim alice --as Alice")
	w.must("homing user register --region " + second + " --nickname Bob && homing id claim bob --as Bob")
	w.must(`homing send --as Alice --to @bob "hello from ` + first + `"`)
	w.must(`homing send --as Bob --to @alice "hello from ` + second + `"`)
	w.arrives("Bob", "@alice to @bob: hello from "+first)
	w.arrives("Alice", "@bob to @alice: hello from "+second)
}

// arrives waits until a user's whole inbox has a line.
func (w *world) arrives(who, line string) string {
	w.t.Helper()
	out := ""
	until(w.t, time.Minute, who+" reads: "+line, func() bool {
		out = w.must("homing sync --all --as " + who)
		return strings.Contains(out, line)
	})
	return out
}

func TestDemoRemembers(t *testing.T) {
	w := startDemo(t)
	w.hello("sh", "hk")
	alice, bob := w.must("homing sync --all --as Alice"), w.must("homing sync --all --as Bob")
	if strings.Count(bob, "hello from") != 2 {
		t.Errorf("Bob's inbox has both messages once, got\n%s", bob)
	}
	addresses := listeners(t, w.endpoints())
	w.stopped()

	w.start()
	if got := w.must("homing sync --all --as Alice"); got != alice {
		t.Errorf("Alice's inbox was\n%s\nand is\n%s", alice, got)
	}
	if got := w.must("homing sync --all --as Bob"); got != bob {
		t.Errorf("Bob's inbox was\n%s\nand is\n%s", bob, got)
	}
	if got := listeners(t, w.endpoints()); fmt.Sprint(got) != fmt.Sprint(addresses) {
		t.Errorf("addresses were %v and are %v", addresses, got)
	}
	if out := w.must("homing user register --region sh --nickname Carol"); strings.Contains(out, "1000001") || !strings.Contains(out, "UIN 1") {
		t.Errorf("a UIN is given twice, or of another region: %s", out)
	}
	if out := w.refused("homing id claim alice --as Carol"); !strings.Contains(out, "alice") {
		t.Errorf("a handle of before: %s", out)
	}
	w.must("homing send --as Carol --to @bob 'after the night'")
	w.arrives("Bob", "after the night")
	w.stopped()

	// Another choice than the directory was made for says what to do.
	for _, args := range []string{"--port-base " + fmt.Sprint(w.base+300), fmt.Sprintf("--port-base %d --regions sh,hk", w.base), fmt.Sprintf("--port-base %d --shared-address", w.base)} {
		out := w.refused("homing demo --dir " + w.dir + " " + args + " 2>&1 >/dev/null")
		if !strings.Contains(out, "--port-base "+fmt.Sprint(w.base)) || !strings.Contains(out, "--fresh") {
			t.Errorf("%s: %s", args, out)
		}
	}

	w.start("--fresh")
	if out := w.refused("homing sync --as Alice"); !strings.Contains(out, "no profile Alice") {
		t.Errorf("after --fresh: %s", out)
	}
	w.hello("sh", "hk") // the same handles are free again
	w.stopped()
}

// Two regions, another port base, beside another demo: the two know nothing of
// each other.
func TestDemoOfTwoRegions(t *testing.T) {
	w, other := startDemo(t, "--regions", "sh,hk"), startDemo(t)
	e := w.endpoints()
	if len(e.Regions) != 2 || len(e.POPs) != 4 || e.Regions["ca"].Long != "" {
		t.Errorf("regions %v, POPs %v", e.Regions, e.POPs)
	}
	for what, address := range listeners(t, e) {
		_, port, _ := net.SplitHostPort(address)
		if n, _ := strconv.Atoi(port); n < w.base || n >= w.base+300 {
			t.Errorf("%s is at %s, outside of %d to %d", what, address, w.base, w.base+299)
		}
	}
	w.hello("sh", "hk")
	if out := w.must("homing status"); strings.Contains(out, "ca ") || !regexp.MustCompile(`sh -> hk\s+full`).MatchString(out) {
		t.Errorf("status: %s", out)
	}
	other.hello("ca", "sh")
	if out := other.must("homing sync --all --as Bob"); strings.Contains(out, "hello from hk") {
		t.Errorf("a message of another world: %s", out)
	}
}

// As on systems whose loopback is one address: SRV and HTTPDNS tell the ports.
func TestDemoOnOneAddress(t *testing.T) {
	w := startDemo(t, "--shared-address")
	e := w.endpoints()
	seen := map[string]string{}
	for what, address := range listeners(t, e) {
		host, port, err := net.SplitHostPort(address)
		if n, _ := strconv.Atoi(port); err != nil || host != "127.0.0.1" || n < w.base || n >= w.base+300 {
			t.Errorf("%s is at %s, want 127.0.0.1 and a port from %d on", what, address, w.base)
		}
		if was, ok := seen[address]; ok {
			t.Errorf("%s and %s are both at %s", was, what, address)
		}
		seen[address] = what
	}
	host, port, _ := net.SplitHostPort(e.DNS)
	var fromHTTP struct {
		Endpoints []string
		POPs      []string
	}
	if status := getJSON(t, e.HTTPDNS+"/d?host=long.demo.test&ip=223.5.5.5&ver=80003", &fromHTTP); status != http.StatusOK || len(fromHTTP.Endpoints) < 2 {
		t.Fatalf("HTTPDNS: %d, %+v", status, fromHTTP)
	}
	for i, id := range fromHTTP.POPs {
		if e.POPs[id].Long != fromHTTP.Endpoints[i] {
			t.Errorf("HTTPDNS sends to %s at %s, which is at %s", id, fromHTTP.Endpoints[i], e.POPs[id].Long)
		}
	}
	var overDNS []string
	for line := range strings.Lines(w.must("dig @" + host + " -p " + port + " v-80003.long.demo.test SRV +subnet=223.5.5.5/32 +short")) {
		f := strings.Fields(line) // priority weight port target
		overDNS = append(overDNS, "127.0.0.1:"+f[2])
	}
	if !slices.Equal(overDNS, fromHTTP.Endpoints) {
		t.Errorf("SRV records say %v, HTTPDNS %v", overDNS, fromHTTP.Endpoints)
	}
	w.hello("sh", "ca")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := w.sh(ctx, `(sleep 2; echo "@bob hello over a port"; sleep 2; echo /who; sleep 1; echo /quit) | homing chat --as Alice --ip 8.8.8.8`)
	if err != nil || !regexp.MustCompile(`(?s)\d+  stored.*UIN 1000001, in sh through pop-`).MatchString(out) {
		t.Errorf("chat: %v\n%s", err, out)
	}
	w.arrives("Bob", "hello over a port")
	w.stopped()
}

// The web page of the running demo, in a browser: what is on it is real, and
// the page complains of nothing.
func TestDemoPage(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium in PATH")
	}
	w := startDemo(t)
	w.hello("sh", "hk")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(time.Minute))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("the page threw: %s", e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			if e.Type == "error" {
				t.Errorf("the page complains on the console: %v", e.Args)
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				t.Errorf("the page logged: %s %s", e.Entry.Text, e.Entry.URL)
			}
		}
	}))
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(w.endpoints().Console)); err != nil {
		t.Fatal(err)
	}
	shows := func(expression string) {
		t.Helper()
		until(t, time.Minute, expression, func() bool {
			ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
			return err == nil && ok
		})
	}
	shows(`document.querySelector("#live").className == "on"`)
	for _, id := range []string{"sh", "hk", "ca"} {
		shows(fmt.Sprintf(`document.querySelector("[data-region=%s]").dataset.acting == %q`, id, id))
	}
	for i := range 6 {
		shows(fmt.Sprintf(`document.querySelector("[data-pop=pop-%d]") != null`, i+1))
	}
	shows(`document.querySelectorAll("[data-region]").length == 3 && document.querySelectorAll("#pop-rows [data-pop]").length == 6`)
	for _, pair := range []string{"sh hk full", "sh hk to-hk", "sh ca shared", "hk sh full", "hk ca shared", "ca hk full", "ca sh shared"} {
		shows(fmt.Sprintf(`document.querySelector('[data-pair=%q]').textContent.includes("·")`, pair)) // age and records
	}
	shows(`document.querySelector("#world-version").textContent == "v1"`)
	shows(`document.querySelector("#alarms").hidden`)
	shows(`parseFloat(document.querySelector("#total-messages").textContent) == 0`) // nobody has sent for a while
	counted := func() bool {
		w.must(`homing send --as Alice --to @bob "look at the page"`)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`parseFloat(document.querySelector("#total-messages").textContent) > 0`))
		return err == nil && ok
	}
	until(t, time.Minute, "the page counts messages", counted)
	shows(`[...document.querySelectorAll("[data-region=sh] [data-k=rate], [data-region=hk] [data-k=rate]")].some(e => parseFloat(e.textContent) > 0)`)
}
