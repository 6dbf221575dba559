package deps

import (
	"go/ast"
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
