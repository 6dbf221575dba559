package deps

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxLines is the length from which a file has more than one idea.
const maxLines = 600

func TestFilesAreShort(t *testing.T) {
	for _, f := range files(t, func(f *file) bool { return !f.generated }) {
		if f.lines > maxLines {
			t.Errorf("%s has %d lines; at most %d", f.name, f.lines, maxLines)
		}
	}
}

// A package says once what it guarantees.
func TestPackageComments(t *testing.T) {
	type doc struct {
		name, text string
		main       bool
		files      []string
	}
	packages := map[string]*doc{}
	for _, f := range files(t, func(f *file) bool { return !f.generated }) {
		key := f.pkg
		if f.test {
			if f.syntax.Doc == nil || strings.HasSuffix(f.syntax.Name.Name, "_test") {
				continue
			}
		}
		p := packages[key]
		if p == nil {
			p = &doc{name: f.syntax.Name.Name, main: f.syntax.Name.Name == "main"}
			packages[key] = p
		}
		if f.syntax.Doc != nil {
			p.text = f.syntax.Doc.Text()
			p.files = append(p.files, f.name)
		}
	}
	for pkg, p := range packages {
		want := "Package " + p.name + " "
		if p.main {
			want = "Command " + pkg[strings.LastIndex(pkg, "/")+1:] + " "
		}
		switch {
		case len(p.files) != 1:
			t.Errorf("%s has %d package comments, want one: %q", pkg, len(p.files), p.files)
		case !strings.HasPrefix(p.text, want):
			t.Errorf("%s: its package comment begins %q, want %q", p.files[0], strings.SplitN(p.text, "\n", 2)[0], want)
		}
	}
}

// No init functions, no state that a package shares behind its callers' backs.
func TestNoGlobals(t *testing.T) {
	forbidden := map[string]map[string]string{
		"log":  {"Print": "", "Printf": "", "Println": "", "Fatal": "", "Fatalf": "", "Fatalln": "", "Panic": "", "Panicf": "", "Default": "", "SetOutput": ""},
		"slog": {"Default": "", "SetDefault": "", "Debug": "", "Info": "", "Warn": "", "Error": "", "DebugContext": "", "InfoContext": "", "WarnContext": "", "ErrorContext": ""},
		"prometheus": {
			"MustRegister": "", "Register": "", "Unregister": "",
			"DefaultRegisterer": "", "DefaultGatherer": "",
		},
		"promauto": {"*": "it registers in the default registry"},
		"expvar":   {"*": "it registers in a global"},
		"http":     {"Handle": "", "HandleFunc": "", "DefaultServeMux": "", "Get": "no timeout", "Post": "no timeout", "Head": "no timeout", "PostForm": "no timeout"},
		"rand":     {"Seed": "global state"},
	}
	for _, f := range files(t, written) {
		names := map[string]bool{}
		for _, path := range f.imports() {
			names[path[strings.LastIndex(path, "/")+1:]] = true
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: no init functions; let the caller construct it", f.at(n))
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok || !names[x.Name] {
					return true
				}
				why, bad := forbidden[x.Name][n.Sel.Name]
				if all, every := forbidden[x.Name]["*"]; every {
					why, bad = all, true
				}
				if bad {
					t.Errorf("%s: %s.%s is global %s: take it as an argument", f.at(n), x.Name, n.Sel.Name, why)
				}
			}
			return true
		})
	}
}

// Names of metrics: homing_<role>_<what>_<unit>, counters ending in total.
var (
	metricRoles = []string{"access", "client", "console", "core", "dns", "gossip", "ids", "keeper", "node", "peer", "pop", "queue", "replicator", "store", "ticket"}

	// A unit is what one counts or measures, in base units.
	metricUnits = []string{
		"total", "seconds", "bytes", "ratio", "bool", "reachable", "version", // measured; bool and reachable are 0 or 1
		"batches", "connections", "entries", "groups", "members", "messages", "operations", "owners", "partitions", "records", "regions",
		"requests", "rows", "sequence", "streams", "users", "voters", "commits", // counted
	}
)

func TestMetricNames(t *testing.T) {
	seen := 0
	where := map[string]string{} // name -> package
	for _, f := range files(t, written) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if l, ok := n.(*ast.CompositeLit); ok {
				checkOptions(t, f, l)
			}
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			name, err := strconv.Unquote(lit.Value)
			if err != nil || !isMetricName(name) {
				return true
			}
			if below(f.pkg, wiring) && !strings.HasPrefix(name, "homing_node_") {
				return true // reads the metrics of others
			}
			seen++
			for _, complaint := range metricComplaints(name) {
				t.Errorf("%s: metric %s: %s", f.at(lit), name, complaint)
			}
			if p, twice := where[name]; twice && p != f.pkg {
				t.Errorf("%s: metric %s is also made in %s", f.at(lit), name, p)
			}
			where[name] = f.pkg
			return true
		})
	}
	if seen < 10 {
		t.Errorf("only %d metrics found: the test looks in the wrong place", seen)
	}
}

func isMetricName(s string) bool {
	return strings.HasPrefix(s, "homing_") && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == "" && !strings.HasSuffix(s, "_")
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
