package acting

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/succession"
	"github.com/homing-im/homing/region/worldfile"
)

// TestEdit: the file changes in one line, wherever that is.
func TestEdit(t *testing.T) {
	const before = "name: w\nregions:\n  - id: sh # Shanghai\n    title: x\n  - id: \"hk\"\n    acting: hk\n    # mine\npops:\n  - id: sh\n"
	for _, c := range []struct{ home, to, want string }{
		{"sh", "hk", "name: w\nregions:\n  - id: sh # Shanghai\n    acting: hk\n    title: x\n  - id: \"hk\"\n    acting: hk\n    # mine\npops:\n  - id: sh\n"},
		{"hk", "ca", "name: w\nregions:\n  - id: sh # Shanghai\n    title: x\n  - id: \"hk\"\n    acting: ca\n    # mine\npops:\n  - id: sh\n"},
		{"ca", "hk", ""},
	} {
		got, err := edit([]byte(before), line{region.ID(c.home), "acting", c.to})
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s to %s:\n%s%v\nwant\n%s", c.home, c.to, got, err, c.want)
		}
	}
}

// TestEditFields: a field is added, changed or removed in one line; one that has
// more lines is left to a person.
func TestEditFields(t *testing.T) {
	const before = "regions:\n  - id: sh\n    backups: [hk, ca] # order\n    away: true\n  - id: hk\n    backups:\n      - sh\n    place: {city: x,\n      lat: 1}\n"
	for _, c := range []struct {
		f    line
		want string
	}{
		{line{"sh", "backups", "[ca, hk]"}, strings.Replace(before, "backups: [hk, ca] # order", "backups: [ca, hk]", 1)},
		{line{"sh", "away", ""}, strings.Replace(before, "    away: true\n", "", 1)},
		{line{"hk", "away", ""}, before},
		{line{"hk", "away", "true"}, strings.Replace(before, "  - id: hk\n", "  - id: hk\n    away: true\n", 1)},
		{line{"hk", "backups", "[ca]"}, ""},
		{line{"hk", "place", "x"}, ""},
		{line{"ca", "away", "true"}, ""},
	} {
		got, err := edit([]byte(before), c.f)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v:\n%s%v\nwant\n%s", c.f, got, err, c.want)
		}
	}
}

// TestRefusal: what must not be done without a word more.
func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		what   string
		plan   Plan
		accept bool
		want   region.Kind
	}{
		{"a switchover", Plan{Kind: Switchover, FromAnswers: true, HasCopy: true}, false, 0},
		{"a switchover from a dead region", Plan{Kind: Switchover, HasCopy: true}, false, region.Unavailable},
		{"a switchover to a stranger", Plan{Kind: Switchover, FromAnswers: true}, true, region.Conflict},
		{"a failover", Plan{Kind: Failover, HasCopy: true}, false, 0},
		{"a failover to a stranger", Plan{Kind: Failover}, false, region.Conflict},
		{"a failover to a stranger, as the operator says", Plan{Kind: Failover}, true, 0},
		{"a failback before the tail is merged", Plan{Kind: Failback, FromAnswers: true, HasCopy: true, Open: 3}, true, region.Conflict},
		{"a failover before the tail is merged", Plan{Kind: Failover, HasCopy: true, Open: 3}, false, region.Conflict},
		{"a failover before the tail is merged, as the operator says", Plan{Kind: Failover, HasCopy: true, Open: 3}, true, 0},
		{"no room for the peaks", Plan{Kind: Switchover, FromAnswers: true, HasCopy: true, Capacity: 100, Load: 1, PeakTo: 60, PeakFrom: 41}, false, region.Conflict},
		{"just room for the peaks", Plan{Kind: Switchover, FromAnswers: true, HasCopy: true, Capacity: 101, Load: 1, PeakTo: 60, PeakFrom: 41}, false, 0},
		{"no room now", Plan{Kind: Failover, HasCopy: true, Capacity: 100, Load: 70, Online: 31}, false, region.Conflict},
		{"room is not stated", Plan{Kind: Failover, HasCopy: true, Load: 70, Online: 31}, false, 0},
	} {
		if got := region.KindOf(c.plan.Refusal(Accepted{Loss: c.accept})); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	crowded := Plan{Kind: Failover, HasCopy: true, Capacity: 100, PeakTo: 90, PeakFrom: 20}
	if err := crowded.Refusal(Accepted{Overload: true}); err != nil {
		t.Errorf("no room, as the operator says: %v", err)
	}
}

// TestAuditEntry: an entry is its signer's, as it is.
func TestAuditEntry(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{Time: time.UnixMilli(1_700_000_000_000).UTC(), Plan: &Plan{Home: "sh"}, Signer: region.PublicKey(pub)}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	e.Sig = ed25519.Sign(key, b)
	if !e.Valid() {
		t.Error("a true entry is not valid")
	}
	e.Plan = &Plan{Home: "hk"}
	if e.Valid() {
		t.Error("an altered entry is valid")
	}
}

// The plan says how long old answers of the DNS live, and which rule is to blame.
func TestPlanSaysTheTTL(t *testing.T) {
	w := &region.World{Steering: region.Steering{TTL: 10}, Rules: []region.Rule{{Name: "short", Act: region.Act{TTL: 5}}}}
	for _, c := range []struct{ rule, want string }{
		{"", "lead to sh for up to 10 s more (steering.ttl of the world)"},
		{"slow", "lead to sh for up to 600 s more (ttl of rule slow)"},
	} {
		if c.rule != "" {
			w.Rules = append(w.Rules, region.Rule{Name: c.rule, Act: region.Act{TTL: 600}}, region.Rule{Name: "mid", Act: region.Act{TTL: 60}})
		}
		p := Plan{Kind: Failover, Home: "sh", From: "sh", To: "hk", HasCopy: true}
		p.TTL, p.TTLRule = longestTTL(w)
		var b strings.Builder
		if p.Print(&b); !strings.Contains(b.String(), c.want) {
			t.Errorf("%s", b.String())
		}
	}
}

// TestReportIsSettled: the file of a failover is brought up to date when its open
// range closes, once, and says how long the change took.
func TestReportIsSettled(t *testing.T) {
	o := &Operator{Dir: worldfile.Directory{Dir: t.TempDir()}}
	began := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	term := region.Term{Counter: 2}
	open := succession.HomeReport{Home: "sh", Acting: "hk", Term: term, Partitions: 1, Opened: 1, Open: []succession.OpenRange{{After: 7, Origin: "sh"}}}
	if err := o.write(&Outcome{Plan: &Plan{Kind: Failover, Home: "sh", To: "hk"}, Began: began, Serving: 0.5, Home: open}); err != nil {
		t.Fatal(err)
	}
	closed := open
	closed.Open, closed.Ended = []succession.OpenRange{}, 1
	elsewhere := closed
	elsewhere.Acting = "ca"
	for _, c := range []struct {
		now  succession.HomeReport
		want bool
	}{{open, false}, {elsewhere, false}, {closed, true}, {closed, false}} {
		if changed, err := o.Settle(c.now); err != nil || changed != c.want {
			t.Errorf("%+v: changed %t, %v", c.now, changed, err)
		}
	}
	if got := newest(o.Dir.Dir, "sh"); got == nil || !got.Home.Complete() || !got.Began.Equal(began) {
		t.Errorf("the file has %+v", got)
	}
	if got, want := Drilled(o.Dir.Dir, "sh", began.Add(49*time.Hour)), "RTO 0.5 s (failover, 2 days ago)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Drilled(o.Dir.Dir, "hk", began), "RTO never drilled"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
