package script

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var world = World{
	Sites: []string{"sh", "hk", "pop-sh", "c-sh", "ops"}, Regions: []string{"sh", "hk"}, Clients: []string{"c-sh"}, Members: []string{"pop-sh"},
}

const whole = `# A story.
# And more of it.
queue sh kafka
people c-sh home sh 10 every 200ms

do traffic on
at 3s do link sh > hk delay=80ms cut
when acked 100 within 20s
do failover sh hk
| hk acts for sh
|   and more
expect rto < 10s
do check
`

func TestParse(t *testing.T) {
	s, err := Parse("x", strings.NewReader(whole), world)
	if err != nil {
		t.Fatal(err)
	}
	if s.Title != "A story." || !slices.Equal(s.Kafka, []string{"sh"}) || len(s.People) != 1 || s.People[0] != (People{"c-sh", "sh", 10, 200 * time.Millisecond}) {
		t.Errorf("%+v", s)
	}
	var got []string
	for _, st := range s.Steps {
		got = append(got, strings.Join(append([]string{st.Text}, st.Trace...), "|"))
	}
	want := []string{"do traffic on", "at 3s do link sh > hk delay=80ms cut", "when acked 100 within 20s", "do failover sh hk|hk acts for sh|and more", "expect rto < 10s", "do check"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if st := s.Steps[1]; !st.Timed || st.At != 3*time.Second || st.Line != 7 || !st.Change.OneWay {
		t.Errorf("%+v", st)
	}
	if st := s.Steps[2]; st.Verb != When || st.What != "acked" || !slices.Equal(st.Words, []string{"100"}) || st.Within != 20*time.Second {
		t.Errorf("%+v", st)
	}
	if st := s.Steps[4]; st.Limit != 10*time.Second {
		t.Errorf("%+v", st)
	}
}

// Record changes traces and not a byte more.
func TestRecord(t *testing.T) {
	s, err := Parse("x", strings.NewReader(whole), world)
	if err != nil {
		t.Fatal(err)
	}
	trace := map[*Step][]string{}
	for _, st := range s.Steps {
		trace[st] = st.Trace
	}
	if got := s.Record(trace); got != strings.Replace(whole, "|   and", "| and", 1) {
		t.Errorf("the same trace gives\n%s", got)
	}
	got := s.Record(map[*Step][]string{s.Steps[5]: {"all is well"}})
	if want := strings.Replace(whole, "| hk acts for sh\n|   and more\n", "", 1) + "| all is well\n"; got != want {
		t.Errorf("another trace gives\n%s", got)
	}
}

// Every mistake is refused where it stands.
func TestParseRefuses(t *testing.T) {
	const head = "people c-sh home sh 1 every 1s\n"
	for text, want := range map[string]string{
		"":                                      "x:0: nobody is there",
		head:                                    "x:1: the last step has to be: do check",
		head + "do check\ndo traffic on\n":      "x:3: the last step",
		head + "dance\n":                        `x:2: "dance" begins no line`,
		head + "do\n":                           "x:2: do what?",
		head + "do dance\n":                     `x:2: do does not know "dance"`,
		head + "do kill\n":                      "x:2: do kill takes 1 words (node), not 0",
		head + "do kill c-sh\n":                 `x:2: "c-sh": want one of sh, hk, pop-sh`,
		head + "do failover sh\n":               "x:2: do failover takes 2 words",
		head + "do failover sh xx\n":            `x:2: "xx": want one of sh, hk`,
		head + "do traffic maybe\n":             `x:2: "maybe": want one of on, off`,
		head + "do link sh xx cut\n":            `x:2: "xx": want one of`,
		head + "do link sh hk dely=1s\n":        `x:2: a line has no setting "dely"`,
		head + "do admin\n":                     "x:2: want the arguments",
		head + "at 1s when acked 1 within 1s\n": "x:2: at DURATION goes with do",
		head + "at 1s\n":                        "x:2: want: at DURATION",
		head + "at soon do check\n":             `x:2: "soon": want a duration`,
		head + "when acked 10\n":                "x:2: when has to end with: within DURATION",
		head + "when acked 10 within 0s\n":      `x:2: "0s": want a duration`,
		head + "when acked 10 within 11m\n":     `x:2: "11m": want a duration`,
		head + "when acked -1 within 1s\n":      `x:2: "-1": want a number`,
		head + "when acked 1 2 within 1s\n":     "x:2: when acked takes 1 words",
		head + "expect rto 5s\n":                "x:2: want: expect rto < DURATION",
		head + "expect rto < fast\n":            `x:2: "fast": want a duration`,
		head + "expect luck < 5s\n":             `x:2: expect does not know "luck"`,
		head + "| ready\n":                      "x:2: a trace has to follow a step",
		head + "do check\n" + head:              "x:3: people stands before the first step",
		"people c-sh home sh\n":                 "x:1: want: people SITE",
		"people sh home sh 1 every 1s\n":        `x:1: "sh": want one of c-sh`,
		"people c-sh home sh 0 every 1s\n":      `x:1: "0": want a number of people`,
		"people c-sh home sh 201 every 1s\n":    `x:1: "201": want a number of people`,
		"queue sh rabbits\n":                    "x:1: want: queue REGION kafka",
		"queue sh kafka\nqueue sh kafka\n":      "x:2: the queue of sh was said before",
		head + strings.Repeat("x", 70_000):      "too long",
	} {
		_, err := Parse("x", strings.NewReader(text), world)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
}

// Whatever is read is read the same when it is written again.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("people c-sh home sh 1 every 1s\ndo check\n| \n||\n")
	f.Add("people c-sh home sh 1 every 1s\r\nat 1ns do admin |\r\ndo check")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x", strings.NewReader(text), world)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "x:") {
				t.Fatalf("an error without its place: %v", err)
			}
			return
		}
		trace := map[*Step][]string{}
		for _, st := range s.Steps {
			trace[st] = st.Trace
		}
		again, err := Parse("x", strings.NewReader(s.Record(trace)), world)
		if err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
		if len(again.Steps) != len(s.Steps) {
			t.Fatalf("%d steps become %d", len(s.Steps), len(again.Steps))
		}
		for i, st := range s.Steps {
			if a := again.Steps[i]; a.Text != st.Text || !slices.Equal(a.Trace, st.Trace) {
				t.Fatalf("%q %q becomes %q %q", st.Text, st.Trace, a.Text, a.Trace)
			}
		}
	})
}

// The lab's README lists every word of the grammar, and no other.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(do|when|expect) ([a-z-]+)").FindAllStringSubmatch(string(b), -1) {
		said[m[1]+" "+m[2]] = true
	}
	for verb, words := range grammar {
		for word := range words {
			if k := string(verb) + " " + word; !said[k] {
				t.Errorf("README.md lacks %q", k)
			} else {
				delete(said, k)
			}
		}
	}
	for k := range said {
		t.Errorf("README.md has %q, which nobody understands", k)
	}
}
