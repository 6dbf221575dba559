package authority

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/authority/static"
)

// ferretCase is one file of FerretDataset's ExpectedResponses, an element of its list.
type ferretCase struct {
	Query struct {
		Name string
		Type string
	}
	Responses []struct {
		Servers  string   `json:"Server/s"` // names, each with a space behind it
		Response []string // the message as text, one record a line; "No response" when there was none
	} `json:"Expected Response"`
}

// FerretDataset (github.com/dns-groot/FerretDataset) has small zones, questions
// about them and the answers of four name servers. HOMING_FERRET is the path of
// a copy. Where more of the servers agree on an answer than on any other, ours
// has to be that in at least 99.9 % of the questions: response code, AA, answer
// and authority, whatever their order.
func TestFerret(t *testing.T) {
	root := os.Getenv("HOMING_FERRET")
	if root == "" {
		t.Skip("HOMING_FERRET is not set: skipped is the comparison with four name servers on FerretDataset's zones (git clone https://github.com/dns-groot/FerretDataset)")
	}
	files, err := filepath.Glob(filepath.Join(root, "ValidZoneFileTests", "ExpectedResponses", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no ValidZoneFileTests/ExpectedResponses: %v", root, err)
	}
	var zones atomic.Pointer[static.Set]
	h := startWith(t, func(o *Options) { o.Static = zones.Load })
	asked, agreed, split, refused := 0, 0, 0, 0
	kinds := map[string]int{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var cases []ferretCase
		if err := json.Unmarshal(raw, &cases); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		base := strings.TrimSuffix(filepath.Base(f), ".json")
		text, err := os.ReadFile(filepath.Join(root, "ValidZoneFileTests", "ZoneFiles", base+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		zone, err := static.Parse(base, string(text))
		if err != nil {
			refused++
			if refused <= 5 {
				t.Logf("zone %s is refused: %v", base, err)
			}
			continue
		}
		set, err := static.NewSet(zone)
		if err != nil {
			t.Fatal(err)
		}
		zones.Store(set)
		for _, c := range cases {
			want, ok := majority(t, c)
			if !ok {
				split++
				continue
			}
			m := new(dns.Msg)
			m.SetQuestion(c.Query.Name, dns.StringToType[c.Query.Type])
			m.RecursionDesired = false
			packet, err := m.Pack()
			if err != nil {
				t.Fatalf("%s %s: %v", base, c.Query.Name, err)
			}
			var got dns.Msg
			if err := got.Unpack(h.respond(packet, netip.MustParseAddr("192.0.2.1"), overTCP)); err != nil {
				t.Fatal(err)
			}
			asked++
			if is := canonical(&got); is == want {
				agreed++
			} else {
				kind := difference(want, is)
				if kinds[kind]++; kinds[kind] <= 2 {
					t.Logf("zone %s, %s %s: %s\nmost say\n%s\nwe say\n%s", base, c.Query.Name, c.Query.Type, kind, want, is)
				}
			}
		}
	}
	share := float64(agreed) / float64(max(1, asked))
	t.Logf("%d zones, %d of them refused; %d questions with a majority, %d without; %d agreed (%.3f %%); differences: %v", len(files), refused, asked, split, agreed, 100*share, kinds)
	if share < 0.999 {
		t.Errorf("only %.3f %% of the answers are those of most servers", 100*share)
	}
}

// majority is the answer that more servers gave than any other.
func majority(t *testing.T, c ferretCase) (string, bool) {
	t.Helper()
	votes := map[string]int{}
	for _, r := range c.Responses {
		votes[canonicalText(r.Response)] += len(strings.Fields(r.Servers))
	}
	best, most, tie := "", 0, false
	for text, n := range votes {
		switch {
		case n > most:
			best, most, tie = text, n, false
		case n == most:
			tie = true
		}
	}
	return best, !tie && best != ""
}

// canonicalText brings the dataset's form into that of canonical.
func canonicalText(lines []string) string {
	rcode, aa, section := "", false, ""
	sections := map[string][]string{}
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "rcode "):
			rcode = strings.TrimPrefix(l, "rcode ")
		case strings.HasPrefix(l, "flags "):
			aa = slices.Contains(strings.Fields(l), "AA")
		case strings.HasPrefix(l, ";"):
			section = l[1:]
		case section == "ANSWER" || section == "AUTHORITY":
			rr, err := dns.NewRR(l)
			if err != nil || rr == nil {
				sections[section] = append(sections[section], l)
				continue
			}
			sections[section] = append(sections[section], recordText(rr))
		}
	}
	if rcode == "" {
		return "" // no response
	}
	return assemble(rcode, aa, sections["ANSWER"], sections["AUTHORITY"])
}

func canonical(m *dns.Msg) string {
	var answer, authority []string
	for _, rr := range m.Answer {
		answer = append(answer, recordText(rr))
	}
	for _, rr := range m.Ns {
		authority = append(authority, recordText(rr))
	}
	return assemble(dns.RcodeToString[m.Rcode], m.Authoritative, answer, authority)
}

// recordText leaves out the TTL: servers differ in that of negative answers.
func recordText(rr dns.RR) string {
	rr = dns.Copy(rr)
	rr.Header().Ttl = 0
	return strings.ToLower(strings.Join(strings.Fields(rr.String()), " "))
}

// assemble leaves out the zone's name servers beside an answer, which some
// servers add and nobody needs (they are the only difference in one of fourteen
// questions). What else differs is the length at which endless chains of aliases
// are cut.
func assemble(rcode string, aa bool, answer, authority []string) string {
	if aa && len(answer) > 0 && !slices.ContainsFunc(authority, func(rr string) bool { return !strings.Contains(rr, " 0 in ns ") }) {
		authority = nil
	}
	slices.Sort(answer)
	slices.Sort(authority)
	return fmt.Sprintf("rcode %s\naa %v\nanswer %s\nauthority %s", rcode, aa,
		strings.Join(slices.Compact(answer), " | "), strings.Join(slices.Compact(authority), " | "))
}

// difference names the first line that differs.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range x {
		if x[i] != y[i] {
			kind, _, _ := strings.Cut(x[i], " ")
			return kind
		}
	}
	return "nothing"
}
