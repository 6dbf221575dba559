package traffic

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told makes a history of what was told.
func told(events ...Event) *History {
	h := NewHistory()
	for _, e := range events {
		h.Add(e)
	}
	return h
}

// The checker sees each way in which the service could break its word.
func TestJudge(t *testing.T) {
	joined := []Event{{Kind: Joined, User: 1, Home: "sh"}, {Kind: Joined, User: 2, Home: "hk"}}
	acked := Event{Kind: Acked, User: 1, To: 2, ID: "m", Region: "sh", Mark: 7}
	pulled := func(u region.UIN, ids ...string) Event { return Event{Kind: Pulled, User: u, IDs: ids} }
	inbox := func(u region.UIN, ids ...string) Event { return Event{Kind: Inbox, User: u, Round: 1, IDs: ids} }
	for _, c := range []struct {
		what   string
		events []Event
		want   Verdict
	}{
		{"all is well", []Event{acked, pulled(1, "m"), pulled(2, "m"), inbox(1, "m"), inbox(2, "m")}, Verdict{Acked: 1}},
		{"brought twice, after a failover", []Event{acked, pulled(1, "m"), pulled(1, "m"), pulled(2, "m"), inbox(1, "m"), inbox(2, "m")}, Verdict{Acked: 1}},
		{"more than was acknowledged", []Event{pulled(1, "m"), pulled(2, "m"), inbox(1, "m"), inbox(2, "m")}, Verdict{}},
		{"missing at the recipient", []Event{acked, pulled(1, "m"), inbox(1, "m"), inbox(2)}, Verdict{Acked: 1, Missing: 1}},
		{"missing at both", []Event{acked, inbox(1), inbox(2)}, Verdict{Acked: 1, Missing: 2}},
		{"twice", []Event{acked, pulled(1, "m"), pulled(2, "m"), inbox(1, "m"), inbox(2, "m", "m")}, Verdict{Acked: 1, Twice: 1}},
		{"a snapshot missed it", []Event{acked, pulled(1, "m"), inbox(1, "m"), inbox(2, "m")}, Verdict{Acked: 1, Missed: 1}},
		{"numbers with a gap", []Event{{Kind: Inbox, User: 1, Round: 1, Text: "number 3 follows 1"}, inbox(2)}, Verdict{Gaps: 1}},
		{"an inbox of another round", []Event{inbox(1), {Kind: Inbox, User: 2, Round: 2}}, Verdict{Gaps: 1}},
		{"refused", []Event{{Kind: Refused, User: 1, Text: "no"}, inbox(1), inbox(2)}, Verdict{Refused: 1}},
	} {
		got := told(append(joined, c.events...)...).Judge(1, nil)
		if complaints := len(got.Complaints); (complaints > 0) == got.Good() {
			t.Errorf("%s: good is %v with %d complaints", c.what, got.Good(), complaints)
		}
		got.Complaints = nil
		if got.String() != c.want.String() || got.Acked != c.want.Acked || got.Good() != c.want.Good() {
			t.Errorf("%s: %s of %d, want %s of %d", c.what, got, got.Acked, c.want, c.want.Acked)
		}
	}
	lost := told(append(joined, acked, inbox(1), inbox(2))...)
	if v := lost.Judge(1, func(m Event, in region.UIN) bool { return m.Mark > 6 }); !v.Good() || v.Excused != 2 {
		t.Errorf("what a report names: %s, %d excused", v, v.Excused)
	}
	if v := lost.Judge(1, func(m Event, in region.UIN) bool { return m.Mark > 7 }); v.Good() || v.Missing != 2 {
		t.Errorf("what a report does not name: %s, %d excused", v, v.Excused)
	}
}

func TestTimes(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	at := func(d int, u region.UIN, in region.ID, took time.Duration) Event {
		return Event{At: begin.Add(time.Duration(d) * time.Second), Kind: Acked, User: u, Home: "sh", Region: in, Took: took}
	}
	h := told(at(-1, 1, "hk", time.Hour), at(1, 1, "sh", time.Second), at(2, 1, "hk", 2*time.Second), at(3, 1, "hk", time.Second), at(4, 2, "hk", time.Second))
	acting := h.Acting("sh", "hk", begin)
	if len(acting) != 2 || acting[1] != 2*time.Second || acting[2] != 4*time.Second {
		t.Errorf("acting: %v", acting)
	}
	if p := Percentile(acting, 0.99); p != 4*time.Second {
		t.Errorf("99 %%: %s", p)
	}
	if p := Percentile(acting, 0.5); p != 2*time.Second {
		t.Errorf("50 %%: %s", p)
	}
	if p := Percentile(map[int]time.Duration{}, 0.99); p != 0 {
		t.Errorf("of nobody: %s", p)
	}
	if s := h.Slowest("sh", begin); s != 2*time.Second {
		t.Errorf("slowest: %s", s)
	}
	if h.Acked() != 5 {
		t.Errorf("%d acknowledged", h.Acked())
	}
}

// A process's output is read as it was told.
func TestRead(t *testing.T) {
	var out strings.Builder
	g := &group{out: json.NewEncoder(&out)}
	g.tell(Event{Kind: Joined, User: 7, Home: "sh"})
	g.tell(Event{Kind: Acked, User: 7, Home: "sh", Region: "hk", To: 8, ID: "m", Took: time.Second, Mark: 9})
	h := NewHistory()
	if err := h.Read(strings.NewReader(out.String())); err != nil {
		t.Fatal(err)
	}
	if n := h.Count(func(e Event) bool { return e.User == 7 && e.To == 8 && e.Took == time.Second && e.Mark == 9 }); n != 1 || h.Users()[7] != "sh" {
		t.Errorf("%s is read as %+v", out.String(), h.events)
	}
	for _, text := range []string{"panic: out of luck", `{"kind":`} {
		if err := NewHistory().Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
