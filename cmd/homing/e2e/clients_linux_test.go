package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// What clients live through in the world of deploy/, whose processes are killed
// and stopped under them.
func TestClientsOfADeployedWorld(t *testing.T) {
	d := startDeployed(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *deployed)
	}{
		{"terminal", terminalChat},
		{"addresses", addresses},
		{"epoch", newEpoch},
	} {
		if !t.Run(part.name, func(t *testing.T) { d.t = t; part.run(t, d) }) {
			break // what comes next needs the world whole
		}
	}
	d.t = t
}

// world makes the deployed world known to commands.
func (d *deployed) world(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, home: t.TempDir(), dir: filepath.Join(d.dir, "client")}
	e := endpoints.Endpoints{Zone: "im.test", DNS: "127.0.20.1:7053", HTTPDNS: "http://127.0.20.1:7080", IDs: "http://127.0.30.1:7600",
		Console: "http://127.0.20.1:7499", POPs: map[string]endpoints.POP{"pop-1": {Long: "127.0.11.1:7100", Short: "http://127.0.11.1:7200"}},
		CACert: filepath.Join(d.dir, "tls", "ca.pem"), Regions: map[string]endpoints.Region{}}
	for i, id := range []string{"sh", "hk", "ca"} {
		e.Regions[id] = endpoints.Region{Long: fmt.Sprintf("127.0.%d.1:7100", i+1), Short: fmt.Sprintf("http://127.0.%d.1:7200", i+1)}
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if err := endpoints.WriteFile(filepath.Join(w.dir, endpoints.File), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// user registers somebody for the SDK.
func (d *deployed) user(t *testing.T, at region.ID, nickname string) client.Identity {
	t.Helper()
	short := map[region.ID]string{"sh": "http://127.0.1.1:7200", "hk": "http://127.0.2.1:7200", "ca": "http://127.0.3.1:7200"}[at]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, err := client.Register(ctx, http.DefaultClient, short, nickname, "e2e")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// connect makes a client, and returns it with the event that told of its first
// connection and the events before that.
func (d *deployed) connect(t *testing.T, id client.Identity, change func(*client.Options)) (*client.Client, client.Event, []client.Event) {
	t.Helper()
	pool, err := pki.Pool(filepath.Join(d.dir, "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	o := client.Options{Zone: "im.test", RootCAs: pool, Identity: id, ClientVersion: 80003, Platform: "e2e",
		HTTPDNS: "http://127.0.20.1:7080", DNS: "127.0.20.1:7053", Settle: 200 * time.Millisecond}
	change(&o)
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	var before []client.Event
	for e := range c.Events() {
		if e.Kind == client.Connected {
			return c, e, before
		}
		before = append(before, e)
	}
	t.Fatal("no event tells of the connection")
	return nil, client.Event{}, nil
}

// terminalChat: lines typed arrive, messages are shown, a region's restart is
// shown and loses nothing that was typed meanwhile, Ctrl-D and Ctrl-C end it.
func terminalChat(t *testing.T, d *deployed) {
	w := d.world(t)
	at := "--endpoints " + filepath.Join(w.dir, endpoints.File)
	w.must("homing " + at + " user register --region sh --nickname Alice")
	w.must("homing " + at + " user register --region hk --nickname Bob")
	w.must("homing " + at + " id claim alice.terminal --as Alice")
	w.must("homing " + at + " id claim bob.terminal --as Bob")
	chat := openTerminal(t, w, "--endpoints", filepath.Join(w.dir, endpoints.File), "chat", "--as", "Alice")
	shows := func(text string, times int) {
		t.Helper()
		until(t, time.Minute, fmt.Sprintf("the terminal shows %q %d times", text, times), func() bool {
			return strings.Count(chat.screen.String(), text) >= times
		})
	}
	inbox := ""
	bobHas := func(text string) {
		t.Helper()
		until(t, time.Minute, "Bob has "+text, func() bool {
			inbox += w.must("homing " + at + " sync --as Bob")
			return strings.Contains(inbox, text)
		})
	}

	shows("-- connected to sh", 1)
	chat.types("@bob.terminal typed in a terminal\r")
	shows("stored", 1)
	bobHas("@alice.terminal to @bob.terminal: typed in a terminal")
	// An answer arrives above a line that is being typed, which stays.
	chat.types("half a l")
	w.must("homing " + at + ` send --as Bob --to @alice.terminal "seen in a terminal"`)
	shows("@bob.terminal to @alice.terminal: seen in a terminal", 1)
	chat.types("ine\r")
	bobHas("to @bob.terminal: half a line")

	d.kill("sh")
	shows("-- disconnected", 1)
	chat.types("typed while nobody was there\r")
	d.start("sh")
	shows("-- connected to sh", 2)
	bobHas("to @bob.terminal: typed while nobody was there")
	if n := strings.Count(inbox, "typed while nobody was there"); n != 1 {
		t.Errorf("it is there %d times", n)
	}
	chat.types("\x04") // Ctrl-D
	if err := chat.ends(); err != nil {
		t.Errorf("Ctrl-D: %v", err)
	}

	chat = openTerminal(t, w, "--endpoints", filepath.Join(w.dir, endpoints.File), "chat", "--as", "Alice")
	shows("-- connected to sh", 1)
	chat.types("a line that is given up\x03") // Ctrl-C
	if err := chat.ends(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	if out := w.must("homing " + at + " sync --as Bob"); strings.Contains(out, "given up") {
		t.Errorf("sent all the same: %s", out)
	}
}

// addresses: how a client finds its way when less and less of the world
// answers.
func addresses(t *testing.T, d *deployed) {
	sh, hk := netip.MustParseAddrPort("127.0.1.1:7100"), netip.MustParseAddrPort("127.0.2.1:7100")
	alice := d.user(t, "sh", "Alice")
	dir := t.TempDir()

	c, e, _ := d.connect(t, alice, func(o *client.Options) { o.Dir = dir })
	if e.Source != "httpdns" || e.POP == "" || e.Region != "sh" {
		t.Errorf("by HTTPDNS: %+v", e)
	}
	_ = c.Close()
	if _, e, _ = d.connect(t, alice, func(o *client.Options) { o.HTTPDNS = "http://127.0.20.1:1" }); e.Source != "dns" || e.Region != "sh" {
		t.Errorf("HTTPDNS is dead: %+v", e)
	}

	d.kill("dns-1")
	if _, e, _ = d.connect(t, alice, func(o *client.Options) { o.Dir = dir }); e.Source != "cached" || e.Region != "sh" {
		t.Errorf("both are dead: %+v", e)
	}
	builtIn := func(o *client.Options) { o.Fallback = []netip.AddrPort{sh} }
	if _, e, _ = d.connect(t, alice, builtIn); e.Source != "fallback" || e.Endpoint != sh {
		t.Errorf("and nothing is cached: %+v", e)
	}
	d.start("dns-1")

	// hk takes connections (the kernel does) and says nothing.
	stopped := d.nodes["hk"].cmd.Process
	if err := stopped.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	_, e, _ = d.connect(t, alice, func(o *client.Options) {
		o.HTTPDNS, o.DNS, o.Fallback = "", "", []netip.AddrPort{hk, sh}
	})
	if e.Endpoint != sh || e.Took > 4*time.Second {
		t.Errorf("the first of two addresses is silent: %+v", e)
	}
	if err := stopped.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}

	bob := d.user(t, "hk", "Bob")
	_, e, before := d.connect(t, bob, func(o *client.Options) {
		o.HTTPDNS, o.DNS, o.Fallback = "", "", []netip.AddrPort{sh}
	})
	redirects := 0
	for _, b := range before {
		if b.Kind == client.Redirected {
			redirects++
		}
	}
	if e.Region != "hk" || e.Source != "redirect" || redirects != 1 {
		t.Errorf("a user of hk at sh's door: %+v after %d redirects", e, redirects)
	}
	d.ready()
}

// newEpoch: sh stores a message, dies before anybody else has it, and hk is
// named to act for its users. The client sends the message again by itself, and
// its recipient finds it once.
func newEpoch(t *testing.T, d *deployed) {
	alice, bob := d.user(t, "sh", "Alice"), d.user(t, "hk", "Bob")
	a, _, _ := d.connect(t, alice, func(o *client.Options) { o.Dir = t.TempDir() })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	send := func(text string) {
		t.Helper()
		if _, err := a.SendText(ctx, bob.UIN, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	send("copied")
	until(t, time.Minute, "the backup holds the first message", func() bool { return len(a.Outbox()) == 0 })

	// From here on what sh stores stays there.
	d.kill("sh-queue")
	for _, name := range []string{"hk", "ca"} {
		if err := d.nodes[name].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	send("only sh had it")
	if k := a.Outbox(); len(k) != 1 || !k[0].Stored {
		t.Fatalf("kept: %v", k)
	}
	d.kill("sh")
	for _, name := range []string{"hk", "ca"} {
		if err := d.nodes[name].cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	d.takeover(t)

	resent := client.Event{}
	for resent.Kind != client.Resent {
		select {
		case resent = <-a.Events():
		case <-ctx.Done():
			t.Fatalf("nothing was sent again; kept: %v", a.Outbox())
		}
	}
	if resent.Repeated || resent.Region != "hk" {
		t.Errorf("sent again: %+v", resent)
	}
	send("after it")
	b, _, _ := d.connect(t, bob, func(*client.Options) {})
	var got []string
	until(t, time.Minute, "Bob has everything", func() bool {
		got = nil
		changes, err := b.Sync(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range changes.Messages {
			if m.Sender == uint64(alice.UIN) {
				got = append(got, m.Body.GetText())
			}
		}
		return len(got) >= 3
	})
	if s := strings.Join(got, "|"); s != "copied|only sh had it|after it" {
		t.Errorf("Bob has %s", s)
	}
	own := 0
	if err := a.SyncPages(ctx, nil, func(p *v1.SyncResponse) error {
		for _, m := range p.Messages {
			if m.Body.GetText() == "only sh had it" {
				own++
			}
		}
		return nil
	}); err != nil || own != 1 {
		t.Errorf("Alice has her message %d times, %v", own, err)
	}
	for _, name := range []string{"sh-queue", "sh"} {
		d.start(name)
	}
}

// takeover signs and spreads a world in which hk acts for sh.
func (d *deployed) takeover(t *testing.T) {
	t.Helper()
	file := filepath.Join(d.dir, "world", "world.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("    # acting: hk "), []byte("    acting: hk "), 1)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, home: t.TempDir()}
	dir := " --dir " + filepath.Join(d.dir, "world")
	if out := w.must("homing world sign --forced" + dir); !strings.Contains(out, "hk") {
		t.Fatalf("signed: %s", out)
	}
	w.must("homing world push" + dir + " --to http://127.0.2.1:7400 --to http://127.0.3.1:7400 --to http://127.0.20.1:7400")
}
