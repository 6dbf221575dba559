package worldfile

import (
	"os"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

// The sample of deploy/ is what it says, and a signed world may not look so.
func TestCompileAlone(t *testing.T) {
	src, err := os.ReadFile("../../deploy/dns-only/names.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := CompileAlone("names.yaml", src, 7)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Services(); len(got) != 2 || got[0] != "api" || got[1] != "www" {
		t.Errorf("names %v", got)
	}
	fra, _ := w.POP("fra")
	if a, ok := fra.Serves.Of("www"); !ok || a.Addr().String() != "192.0.2.10" || fra.Serves.Other("www").Addr().String() != "2001:db8:1::10" || fra.Check.Via != region.ViaNone {
		t.Errorf("fra: %+v", fra)
	}
	if w.Version != 7 || w.Steering.Answers != 1 || w.Rules[0].Act.TTL != 20 {
		t.Errorf("%+v", w)
	}
	if len(w.ProblemsAlone()) != 0 || len(w.Problems()) == 0 {
		t.Errorf("alone: %v; as a world of regions: %v", w.ProblemsAlone(), w.Problems())
	}
	if _, err := Compile("names.yaml", src, func(string) (region.PublicKey, error) { return make(region.PublicKey, 32), nil }); err == nil {
		t.Error("it compiles as a world of regions")
	}
}

// Each mistake is one line with its place and what to do.
func TestBadAlone(t *testing.T) {
	const head = "zone: geo.test\npops:\n  - id: a\n"
	const pop = head + "    names: [{name: www, a: 192.0.2.1}]\n    check: {via: none}\n"
	for _, c := range []struct{ name, file, want string }{
		{"nothing to answer", "zone: geo.test\n", "1:1: no POP has a name"},
		{"no zone", "pops: [{id: a, names: [{name: www, a: 192.0.2.1}], check: {via: none}}]\n", "zone \"\": it is missing"},
		{"regions", pop + "regions: [{id: sh}]\n", "6:10: a stand-alone DNS server has no regions"},
		{"operators", pop + "threshold: 1\n", "6:12: a stand-alone DNS server has no threshold"},
		{"a POP of a region", head + "    serves: {long: \"192.0.2.1:1\"}\n", "what only a POP of a region has"},
		{"leads nowhere", head + "    names: [{name: www}]\n", `name "www" leads nowhere`},
		{"wrong family", head + "    names: [{name: www, aaaa: 192.0.2.1}]\n", `4:31: "192.0.2.1" is no address for aaaa`},
		{"typo", head + "    names: [{name: www, aa: 192.0.2.1}]\n", `unknown field "aa"`},
		{"twice", head + "    names: [{name: www, a: 192.0.2.1}, {name: www, a: 192.0.2.2}]\n    check: {via: none}\n", "name www is there twice"},
		{"reserved", head + "    names: [{name: ns1, a: 192.0.2.1}]\n    check: {via: none}\n", "the zone needs it for something else"},
		{"two labels", head + "    names: [{name: a.b, a: 192.0.2.1}]\n    check: {via: none}\n", "more than one label"},
		{"a user's label", head + "    names: [{name: u-7, a: 192.0.2.1}]\n    check: {via: none}\n", "reads as a user's number"},
		{"no port to check", head + "    names: [{name: www, a: 192.0.2.1}]\n", "nothing says on which port a is checked"},
		{"unknown check", head + "    names: [{name: www, a: 192.0.2.1}]\n    check: {via: htp}\n", `5:18: "htp" is no way to check (did you mean http?`},
		{"path without http", head + "    names: [{name: www, a: 192.0.2.1}]\n    check: {via: tcp, port: 1, path: /x}\n", "a check via tcp has a path"},
		{"port beyond", head + "    names: [{name: www, a: 192.0.2.1, port: 70000}]\n", "port cannot be 70000"},
		{"rule of an unknown name", pop + "rules: [{name: r, match: {services: [ww]}, act: {pops: [a]}}]\n", `6:38: "ww" is no service`},
		{"rule to an unknown POP", pop + "rules: [{name: r, act: {pops: [b]}}]\n", "which is no POP"},
	} {
		_, err := CompileAlone("x.yaml", []byte(c.file), 1)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.yaml:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
