package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func runIM(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := NewCommand(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(io.Discard)
	c.SetArgs(append([]string{"im"}, args...))
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// A region of its own, as a process, with everything counted.
func TestIM(t *testing.T) {
	for name, args := range map[string]string{
		"direct": "--users 20 --rate 200",
		"tls":    "--users 10 --rate 50 --tls --queue",
		"echo":   "--users 10 --rate 100 --echo --tls",
		"group":  "--kind group --users 20 --members 5 --rate 40",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out, err := runIM(t, append(strings.Fields(args), "--dir", dir, "--duration", "1s", "--warmup", "200ms", "--partitions", "4", "-o", "json")...)
			if err != nil {
				t.Fatal(err)
			}
			var r IMReport
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatal(err)
			}
			if len(r.Tries) != 1 {
				t.Fatalf("%d tries", len(r.Tries))
			}
			got := r.Tries[0]
			if got.Delivered <= 0 || got.Acknowledged <= 0 || got.Delay.P50 <= 0 || got.Delay.P99 < got.Delay.P50 || got.Ack.P50 <= 0 || got.Memory <= 0 || got.CPU <= 0 {
				t.Errorf("not measured: %+v", got)
			}
			if got.Lost != 0 || got.Duplicates != 0 || got.Disorder != 0 || got.Refused != 0 || got.Unanswered != 0 || got.Bare != 0 {
				t.Errorf("a region without failures: %+v", got)
			}
			if s := got.Stored; name == "echo" {
				if s != nil {
					t.Errorf("a server that stores nothing stored: %+v", s)
				}
			} else if s == nil || s.Rows <= 0 || s.Commits <= 0 || s.Journal <= 0 || s.Disk <= 0 {
				t.Errorf("stored: %+v", s)
			} else if name == "direct" && s.Rows > 5 {
				t.Errorf("a message takes %.2f rows", s.Rows)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("the directory has %v, %v", left, err)
			}
		})
	}
}

func TestIMIdle(t *testing.T) {
	out, err := runIM(t, "--kind", "idle", "--users", "100", "--dir", t.TempDir(), "--duration", "200ms", "--partitions", "4")
	if err != nil || !strings.Contains(out, "100 idle connections, plain:") {
		t.Errorf("%q, %v", out, err)
	}
}

// What is lost, doubled or out of order is seen.
func TestIMCounts(t *testing.T) {
	o := &IMOptions{Bytes: 1, Duration: 1e9}
	people := make([]*person, 20)
	for i := range people {
		people[i] = &person{index: i}
		people[i].UIN = 1000
	}
	l := newLoad(traffic{people: people}, "abcdefgh", o, 1000)
	to := func(n int) *person { return people[l.recipient(n)] }
	l.arrived(to(1), 1, true)
	l.arrived(to(1), 1, true) // doubled
	l.arrived(people[(l.recipient(2)+1)%20], 2, true)
	l.answeredTo(people[3], 3, true) // and never delivered
	l.answeredTo(people[4], 4, false)
	if l.duplicates.Load() != 1 || l.disorder.Load() != 1 || l.refused.Load() != 1 || l.delivered.Load() != 1 {
		t.Errorf("doubled %d, out of order %d, refused %d, delivered %d", l.duplicates.Load(), l.disorder.Load(), l.refused.Load(), l.delivered.Load())
	}
	// Message n+20*peers is in the lane of message n.
	l.arrived(to(5+20*peers), 5+20*peers, true)
	l.arrived(to(5), 5, true)
	if l.disorder.Load() != 2 {
		t.Errorf("a later message first: %d", l.disorder.Load())
	}
	missing := 0
	for n := range l.total {
		if isSet(l.acked, n) {
			l.recipients(n, func(_ *person, slot int) {
				if !isSet(l.seen, n*l.slots()+slot) {
					missing++
				}
			})
		}
	}
	if missing != 1 {
		t.Errorf("%d missing", missing)
	}
}

// Every message has recipients, none of them its sender, and as many as said.
func TestIMTraffic(t *testing.T) {
	people := make([]*person, 60)
	for i := range people {
		people[i] = &person{index: i}
	}
	for name, tr := range map[string]traffic{
		"direct": {people: people},
		"group":  {people: people, groups: make([]region.UIN, 3), members: 20},
	} {
		for n := range 60 * peers * 2 {
			count := 0
			tr.recipients(n, func(p *person, slot int) {
				if p == tr.sender(n) {
					t.Errorf("%s: message %d is for its sender", name, n)
				}
				if s, ok := tr.slot(p, n); !ok || s != slot {
					t.Errorf("%s: message %d: slot %d of user %d, want %d", name, n, s, p.index, slot)
				}
				count++
			})
			if count != tr.fan() {
				t.Errorf("%s: message %d has %d recipients, want %d", name, n, count, tr.fan())
			}
		}
	}
}

func TestNoticed(t *testing.T) {
	b, err := proto.Marshal(&v1.Notice{Sequence: 7, Message: &v1.Message{Id: []byte("0123456789abcdef"), Sequence: 7, Sender: 1_000_001, To: 2,
		ClientMessageId: string(appendID(nil, "abcdefgh", 0xfe)), Body: &v1.Body{Kind: &v1.Body_Text{Text: "x"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if run, n, sender, ok := noticed(b); !ok || run != "abcdefgh" || n != 0xfe || sender != 1_000_001 {
		t.Errorf("%q %d %d %v", run, n, sender, ok)
	}
	for i := range b {
		noticed(b[:i]) // must not panic
	}
	if b, _ = proto.Marshal(&v1.Notice{Sequence: 7}); b != nil {
		if _, _, _, ok := noticed(b); ok {
			t.Error("a notice without a message has one")
		}
	}
}

func TestIMBadInput(t *testing.T) {
	for _, c := range []struct{ want, args string }{
		{"--kind", "--kind loud"},
		{"--users 1", "--users 1"},
		{"--members 7", "--kind group --users 100 --members 7"},
		{"--rate 0", "--rate 0"},
		{"--bytes 9999", "--bytes 9999"},
		{"--duration", "--duration 1ms"},
		{"--partitions 0", "--partitions 0"},
		{"--p99", "--find --p99 0s"},
		{"--target needs --short", "--target 127.0.0.1:1"},
		{"--tls, --ca and --zone together", "--target 127.0.0.1:1 --short http://127.0.0.1:2 --tls"},
		{"IP:port", "--target here --short http://127.0.0.1:2"},
		{"want json", "-o yaml"},
		{"no such file", "--dir /nowhere/at/all"},
	} {
		if _, err := runIM(t, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.args, err, c.want)
		}
	}
}

func FuzzNoticed(f *testing.F) {
	f.Add([]byte{0x08, 7, 0x12, 2, 0x18, 1})
	f.Fuzz(func(_ *testing.T, b []byte) { noticed(b) })
}
