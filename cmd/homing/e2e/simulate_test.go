package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/dns/steer"
)

// What homing dns simulate says of 1,000 random clients comes true when the world
// is pushed, over every transport; what breaks steering is not signed.
func TestSimulationComesTrue(t *testing.T) {
	d := startDemo(t)
	at := d.endpoints()
	all := askers(t, 1000)
	var traffic bytes.Buffer
	for _, a := range all {
		if err := json.NewEncoder(&traffic).Encode(map[string]any{"service": "long", "uin": a.uin, "version": a.version, "client": netip.PrefixFrom(a.ip, a.ip.BitLen())}); err != nil {
			t.Fatal(err)
		}
	}
	questions := filepath.Join(d.home, "questions.json")
	if err := os.WriteFile(questions, traffic.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	answers := func() (out [][]string) {
		for _, a := range all {
			q := url.Values{"host": {"long.demo.test"}, "ip": {a.ip.String()}}
			if a.uin != 0 {
				q.Set("uin", fmt.Sprint(a.uin))
			}
			if a.version != 0 {
				q.Set("ver", fmt.Sprint(a.version))
			}
			var got authority.Reply
			if code := getJSON(t, at.HTTPDNS+"/d?"+q.Encode(), &got); code != 200 {
				t.Fatalf("%s: HTTP %d", q.Encode(), code)
			}
			var addresses []string
			for _, e := range got.Endpoints {
				addresses = append(addresses, e.String())
			}
			out = append(out, addresses)
		}
		return out
	}

	file := filepath.Join(d.dir, "world", "world.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(text), "- id: pop-1\n", "- id: pop-1\n    drain: true\n", 1)
	edited = strings.Replace(edited, `share: "5.00%"`, `share: "30.00%"`, 1)
	edited = strings.Replace(edited, "rules:\n", `rules:
  - name: far-east
    match: {countries: [JP, KR, SG], healthy-pops: [pop-3, pop-4]}
    act:
      pool: [{pop: pop-3, weight: 3}, {pop: pop-4}, {pop: pop-2, drain: 25%}, {region: hk, tier: 1}]
      order: weighted
      sticky: prefix
      all-down: last-known-good
  - name: half
    match: {homes: [ca], percent: {salt: half, share: 50%}}
    act: {order: nearest, band: 4000km, sticky: uin}
`, 1)
	if !strings.Contains(edited, "far-east") || !strings.Contains(edited, "drain: true") || !strings.Contains(edited, "30.00%") {
		t.Fatalf("the demo's world is not as the test takes it to be:\n%s", text)
	}
	next := filepath.Join(d.dir, "world", "next.yaml")
	if err := os.WriteFile(next, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}

	was := answers()
	lines := strings.Split(strings.TrimSpace(d.must("homing dns simulate --geo demo,country --each --world "+next+" --traffic "+questions)), "\n")
	if len(lines) != len(all) {
		t.Fatalf("%d predictions for %d clients", len(lines), len(all))
	}
	predicted := make([][]string, len(all))
	differ := 0
	for i, line := range lines {
		var p struct{ Before, After []steer.Endpoint }
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		names := func(endpoints []steer.Endpoint) (out []string) {
			for _, e := range endpoints {
				out = append(out, e.Address.String())
			}
			return out
		}
		if before := names(p.Before); !slices.Equal(before, was[i]) {
			t.Errorf("%s is answered %v, and the simulation says %v", all[i], was[i], before)
		}
		if predicted[i] = names(p.After); !slices.Equal(predicted[i], was[i]) {
			differ++
		}
	}
	if differ < 100 {
		t.Errorf("only %d clients are answered differently", differ)
	}
	summary := d.must("homing dns simulate --geo demo,country --json --world " + next + " --traffic " + questions)
	var outcome struct {
		Clients, Moved, Changed int
		Faults                  []steer.Fault
	}
	if err := json.Unmarshal([]byte(summary), &outcome); err != nil || outcome.Clients != len(all) || outcome.Moved+outcome.Changed < differ || len(outcome.Faults) != 0 {
		t.Errorf("%v, %d differ:\n%s", err, differ, summary)
	}
	if live := d.must("homing dns simulate --world " + next + " --from-live 5m"); !strings.Contains(live, " go somewhere else") || strings.HasPrefix(live, "0 questions") {
		t.Errorf("from live:\n%s", live)
	}

	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	world := filepath.Dir(file)
	d.must("homing world sign --dir " + world + " && homing world push --dir " + world)
	wrong := 0
	for i, got := range answers() {
		if !slices.Equal(got, predicted[i]) {
			if wrong++; wrong < 5 {
				t.Errorf("%s is answered %v, and %v was predicted", all[i], got, predicted[i])
			}
		}
	}
	t.Logf("%d of %d clients answered differently, all as predicted but %d", differ, len(all), wrong)
	d.everyTransport(all, predicted)

	// A rule that nobody reaches is not signed.
	broken := strings.Replace(edited, "rules:\n", "rules:\n  - {name: everybody, match: {}, act: {pops: [\"pop-2\"]}}\n", 1)
	if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := d.refused("homing world sign --dir " + world); !strings.Contains(said, "no client reaches it: rule everybody") {
		t.Errorf("%s", said)
	}
	if said := d.refused("homing world check --dir " + world); !strings.Contains(said, "no client reaches it") {
		t.Errorf("%s", said)
	}
}
