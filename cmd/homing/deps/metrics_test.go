package deps

import (
	"encoding/json"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// Names of metrics: homing_<role>_<what>_<unit>, counters ending in total.
var (
	metricRoles = []string{"access", "client", "console", "core", "dns", "gossip", "ids", "keeper", "node", "peer", "pop", "presence", "queue", "replicator", "store", "succession", "ticket"}

	// A unit is what one counts or measures, in base units.
	metricUnits = []string{
		"total", "seconds", "bytes", "ratio", "bool", "reachable", "version", // measured; bool and reachable are 0 or 1
		"batches", "connections", "entries", "files", "groups", "members", "messages", "operations", "owners", "partitions", "records", "regions",
		"requests", "rows", "sequence", "streams", "users", "voters", "commits", // counted
	}
)

// metric is a name where the source makes it.
type metric struct{ name, at, pkg string }

// metricsOf finds the names in a file's strings: whole ones, and where a helper
// puts a prefix such as "homing_replicator_" in front, its arguments.
func metricsOf(f *file) []metric {
	var prefix string
	var whole, parts []metric
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		s, err := strconv.Unquote(lit.Value)
		if err != nil || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || !strings.Contains(s, "_") {
			return true
		}
		switch {
		case strings.HasPrefix(s, "homing_") && strings.HasSuffix(s, "_"):
			prefix = s
		case strings.HasPrefix(s, "homing_"):
			whole = append(whole, metric{s, f.at(lit), f.pkg})
		default:
			parts = append(parts, metric{s, f.at(lit), f.pkg})
		}
		return true
	})
	if prefix != "" {
		for _, m := range parts {
			whole = append(whole, metric{prefix + m.name, m.at, m.pkg})
		}
	}
	return whole
}

// metrics returns every metric the tree makes. The wiring reads the metrics of
// others; its own begin with homing_node_.
func metrics(t *testing.T) []metric {
	t.Helper()
	var out []metric
	for _, f := range files(t, written) {
		for _, m := range metricsOf(f) {
			if !below(f.pkg, wiring) || strings.HasPrefix(m.name, "homing_node_") {
				out = append(out, m)
			}
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d metrics found: the test looks in the wrong place", len(out))
	}
	return out
}

func TestMetricNames(t *testing.T) {
	where := map[string]string{} // name -> package
	for _, m := range metrics(t) {
		for _, complaint := range metricComplaints(m.name) {
			t.Errorf("%s: metric %s: %s", m.at, m.name, complaint)
		}
		if p, twice := where[m.name]; twice && p != m.pkg {
			t.Errorf("%s: metric %s is also made in %s", m.at, m.name, p)
		}
		where[m.name] = m.pkg
	}
	for _, f := range files(t, written) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if l, ok := n.(*ast.CompositeLit); ok {
				checkOptions(t, f, l)
			}
			return true
		})
	}
}

func metricComplaints(name string) []string {
	var out []string
	words := strings.Split(name, "_")
	if len(words) < 3 {
		return []string{"want homing_<role>_<what>_<unit>"}
	}
	if !slices.Contains(metricRoles, words[1]) {
		out = append(out, "unknown role "+words[1])
	}
	if unit := words[len(words)-1]; !slices.Contains(metricUnits, unit) {
		out = append(out, "unknown unit "+unit+": end in what is counted or measured, in base units")
	}
	for _, w := range words {
		if slices.Contains([]string{"", "ms", "millis", "milliseconds", "minutes", "kb", "mb", "percent", "count", "num"}, w) {
			out = append(out, "base units and Prometheus' suffixes: seconds, bytes, ratio, total")
		}
		if w == "uin" || w == "handle" {
			out = append(out, "never an owner in a metric")
		}
	}
	return out
}

// checkOptions looks at prometheus.XOpts{...}: counters end in total and other
// kinds do not, the name is whole (no namespace), and there is help.
func checkOptions(t *testing.T, f *file, l *ast.CompositeLit) {
	kind, ok := l.Type.(*ast.SelectorExpr)
	if !ok {
		return
	}
	if x, ok := kind.X.(*ast.Ident); !ok || x.Name != "prometheus" || !strings.HasSuffix(kind.Sel.Name, "Opts") {
		return
	}
	fields := map[string]ast.Expr{}
	for _, e := range l.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if k, ok := kv.Key.(*ast.Ident); ok {
				fields[k.Name] = kv.Value
			}
		}
	}
	if fields["Namespace"] != nil || fields["Subsystem"] != nil {
		t.Errorf("%s: write the metric's name whole, so that it can be found", f.at(l))
	}
	if fields["Help"] == nil {
		t.Errorf("%s: a metric without help", f.at(l))
	}
	lit, ok := fields["Name"].(*ast.BasicLit)
	if !ok {
		return // a helper's argument; the names are checked where they stand
	}
	name, _ := strconv.Unquote(lit.Value)
	if counter := kind.Sel.Name == "CounterOpts"; counter != strings.HasSuffix(name, "_total") {
		t.Errorf("%s: metric %s: counters, and only counters, end in total", f.at(lit), name)
	}
}

// A dashboard or an alert for a metric that does not exist never fires.
func TestDashboardsNameRealMetrics(t *testing.T) {
	known := map[string]bool{}
	for _, m := range metrics(t) {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			known[m.name+suffix] = true
		}
	}
	pattern := regexp.MustCompile(`homing_[a-z0-9_]+`)
	for _, name := range []string{"prometheus/alerts.yml", "grafana/homing.json"} {
		b, err := os.ReadFile(filepath.Join("../../../deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		used := pattern.FindAllString(string(b), -1)
		if len(used) == 0 {
			t.Errorf("%s names no metric", name)
		}
		for _, m := range used {
			if !known[m] {
				t.Errorf("%s: no metric %s in the source", name, m)
			}
		}
	}
}

// The samples parse, and scrape the nodes of the sample world.
func TestSamplesParse(t *testing.T) {
	root := os.DirFS("../../../deploy")
	read := func(name string, into any, decode func([]byte, any) error) {
		t.Helper()
		b, err := fs.ReadFile(root, name)
		if err == nil {
			err = decode(b, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	yamlDecode := func(b []byte, into any) error { return yaml.Unmarshal(b, into) }

	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations struct{ Summary, Action string }
			}
		}
	}
	read("prometheus/alerts.yml", &alerts, yamlDecode)
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Expr == "" || r.Annotations.Summary == "" || r.Annotations.Action == "" {
				t.Errorf("alert %q lacks an expression, a summary or an action", r.Alert)
			}
		}
	}

	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Targets []struct{ Expr string }
		}
	}
	read("grafana/homing.json", &dashboard, json.Unmarshal)
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d shows nothing", p.ID)
		}
	}

	var scrape struct {
		Jobs []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	read("prometheus/prometheus.yml", &scrape, yamlDecode)
	type node struct{ Admin string }
	var world struct{ Regions, POPs, DNS, IDs []node }
	read("world.yaml", &world, yamlDecode)
	var want, have []string
	for _, nodes := range [][]node{world.Regions, world.POPs, world.DNS, world.IDs} {
		for _, n := range nodes {
			want = append(want, n.Admin)
		}
	}
	for _, j := range scrape.Jobs {
		for _, s := range j.Static {
			have = append(have, s.Targets...)
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if len(want) == 0 || !slices.Equal(want, have) {
		t.Errorf("Prometheus scrapes %q, the sample world has %q", have, want)
	}
}

// The lints find what they are for.
func TestLintsBite(t *testing.T) {
	for name, bad := range map[string]bool{
		"homing_store_commits_total":    false,
		"homing_pop_region_rtt_seconds": false,
		"homing_store_commit_millis":    true,
		"homing_shop_sales_total":       true,
		"homing_core_messages_of_uin":   true,
		"homing_up":                     true,
		"homing_access_online_percent":  true,
	} {
		if got := len(metricComplaints(name)) > 0; got != bad {
			t.Errorf("%s: complaints %q", name, metricComplaints(name))
		}
	}
	if !below("region/core", "region") || below("regional", "region") {
		t.Error("below")
	}
}
