package client_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// marks makes both regions tell marks: what is stored is at 5, and the backup
// is where the returned number is.
func (r *rig) marks() *atomic.Uint64 {
	held := new(atomic.Uint64)
	for _, s := range []*site{r.sh, r.hk} {
		s.logic.Marks = func() (*v1.Mark, *v1.Mark) {
			return &v1.Mark{Incarnation: 1, Sequence: 5}, &v1.Mark{Incarnation: 1, Sequence: held.Load()}
		}
	}
	return held
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) texts(uin region.UIN) string {
	var s []string
	for _, m := range r.users.Inbox(uin) {
		s = append(s, m.Body.GetText())
	}
	return strings.Join(s, "|")
}

// A message is kept until the backup has it: by the app's Sync, or by the
// client's own question when the app does not ask.
func TestKeptUntilHeld(t *testing.T) {
	r := newRig(t)
	held := r.marks()
	c := r.client(1_000_001, func(o *client.Options) { o.Settle = 20 * time.Millisecond })
	r.connected(c)
	if _, err := c.SendText(t.Context(), 1_000_002, "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sync(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if k := c.Outbox(); len(k) != 1 || !k[0].Stored || k[0].Request.Body.GetText() != "one" {
		t.Fatalf("kept: %v", k)
	}
	held.Store(5)
	eventually(t, "the client asks by itself", func() bool { return len(c.Outbox()) == 0 })
	if got := r.texts(1_000_002); got != "one" {
		t.Errorf("inbox: %s", got)
	}
}

// The region dies with a message its backup has not got: the client sends it
// again there, and what both know is stored once.
func TestResentAtANewEpoch(t *testing.T) {
	r := newRig(t)
	held := r.marks()
	c := r.client(1_000_001, nil)
	r.connected(c)
	for _, text := range []string{"one", "two", "three"} {
		if _, err := c.SendText(t.Context(), 1_000_002, text); err != nil {
			t.Fatal(err)
		}
	}
	r.users.Lose(1_000_001, 1) // the backup had only the first
	r.users.Lose(1_000_002, 1)
	r.setWorld(2, "hk", "hk", 1, 0)
	var again []bool
	for range 3 {
		again = append(again, last(await(t, c, client.Resent)).Repeated)
	}
	if !slices.Equal(again, []bool{true, false, false}) {
		t.Errorf("known before: %v", again)
	}
	if a, b := r.texts(1_000_001), r.texts(1_000_002); a != "one|two|three" || b != a {
		t.Errorf("inboxes %q and %q", a, b)
	}
	// At the same epoch nothing is sent again, and the first thing that is asked
	// is what the backup has by now.
	held.Store(5)
	c.Reconnect()
	eventually(t, "nothing is kept", func() bool { return len(c.Outbox()) == 0 })
	for _, e := range await(t, c, client.Connected) {
		if e.Kind == client.Resent {
			t.Errorf("sent again: %+v", e)
		}
	}
}

// An endpoint that takes the connection and then says nothing leaves time for
// the next one, and goes to the end of the list.
func TestSilentEndpoint(t *testing.T) {
	shortURL, long, stop := exampleRegion()
	defer stop()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	mute := netip.MustParseAddrPort(silent.Addr().String())
	o := exampleUser(t.Context(), shortURL, long, "Alice")
	o.Known, o.Fallback, o.ConnectTimeout = []netip.AddrPort{mute, long}, nil, 2*time.Second
	c := exampleConnect(t.Context(), o)
	defer c.Close()
	if e := last(await(t, c, client.Connected)); e.Endpoint != long {
		t.Errorf("%+v", e)
	}
	if k := c.Known(); len(k) != 2 || k[0] != long || k[1] != mute {
		t.Errorf("known: %v", k)
	}
}

// What one process could not send, the next one does.
func TestSentByTheNextProcess(t *testing.T) {
	r := newRig(t)
	r.marks()
	dir := t.TempDir()
	same := func(o *client.Options) { o.Dir = dir }
	var closed atomic.Bool
	closed.Store(true)
	r.sh.logic.OnSend = func(context.Context, core.Caller, *v1.SendRequest) error {
		if closed.Load() {
			return region.Errorf(region.Unavailable, "not now")
		}
		return nil
	}
	one := r.client(1_000_001, same)
	r.connected(one)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := one.Send(ctx, &v1.SendRequest{To: 1_000_002, ClientMessageId: "m", Body: &v1.Body{Kind: &v1.Body_Text{Text: "late"}}}); region.KindOf(err) != region.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a region that takes nothing: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	closed.Store(false)
	two := r.client(1_000_001, same)
	if k := two.Outbox(); len(k) != 1 || k[0].Stored {
		t.Fatalf("the next process finds %v", k)
	}
	r.connected(two)
	if e := last(await(t, two, client.Resent)); e.MessageID != "m" || r.texts(1_000_002) != "late" {
		t.Errorf("%+v, inbox %s", e, r.texts(1_000_002))
	}
}

// A message that the new region refuses is told and forgotten.
func TestResentAndRefused(t *testing.T) {
	r := newRig(t)
	r.marks()
	c := r.client(1_000_001, nil)
	r.connected(c)
	resp, err := c.SendText(t.Context(), 1_000_002, "one")
	if err != nil {
		t.Fatal(resp, err)
	}
	id := c.Outbox()[0].Request.ClientMessageId
	r.hk.logic.OnSend = func(context.Context, core.Caller, *v1.SendRequest) error {
		return region.Errorf(region.Forbidden, "no longer a member")
	}
	r.setWorld(2, "hk", "hk", 1, 0)
	if e := last(await(t, c, client.Refused)); e.MessageID != id || region.KindOf(e.Err) != region.Forbidden {
		t.Errorf("%+v", e)
	}
	if k := c.Outbox(); len(k) != 0 {
		t.Errorf("kept: %v", k)
	}
}

// Where neither HTTPDNS nor DNS answers, the endpoints of the last time are
// tried before the built-in ones; and an unreadable file is no harm.
func TestCachedOnDisk(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	c := r.client(1_000_001, func(o *client.Options) { o.Dir = dir })
	r.connected(c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	dark := func(o *client.Options) {
		o.Dir, o.HTTPDNS, o.DNS = dir, "http://127.0.0.1:1", "127.0.0.1:1"
	}
	c = r.client(1_000_002, dark)
	started := time.Now()
	r.connected(c)
	if e := last(await(t, c, client.Connected)); e.Source != "cached" || e.Endpoint != r.sh.long() {
		t.Errorf("%+v after %s", e, time.Since(started))
	}
	if err := os.WriteFile(filepath.Join(dir, "endpoints.json"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = r.client(1_000_003, func(o *client.Options) { dark(o); o.Fallback = append(o.Fallback, r.sh.long()) })
	r.connected(c)
	if e := last(await(t, c, client.Connected)); e.Source != "fallback" {
		t.Errorf("%+v", e)
	}
}

// Callbacks get what the channels would.
func TestCallbacks(t *testing.T) {
	r := newRig(t)
	connected, noticed := make(chan client.Event, 16), make(chan *v1.Notice, 16)
	c := r.client(1_000_001, func(o *client.Options) {
		o.OnEvent = func(e client.Event) {
			if e.Kind == client.Connected {
				connected <- e
			}
		}
		o.OnNotice = func(n *v1.Notice) { noticed <- n }
	})
	r.connected(c)
	if _, err := c.SendText(t.Context(), 1_000_001, "to myself"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case e := <-connected:
			if e.Region != "sh" {
				t.Errorf("%+v", e)
			}
		case n := <-noticed:
			if n.GetSequence() != 1 {
				t.Errorf("%v", n)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is called back")
		}
	}
}
