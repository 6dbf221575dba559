package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/homing-im/homing"

// file is a parsed Go file of the tree.
type file struct {
	name      string // slash-separated, from the root
	pkg       string // directory, from the root
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
	set       *token.FileSet
}

func (f *file) at(n ast.Node) string {
	p := f.set.Position(n.Pos())
	return f.name + ":" + strconv.Itoa(p.Line)
}

// imports returns the paths the file imports.
func (f *file) imports() []string {
	var out []string
	for _, i := range f.syntax.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}

// local returns a path of this module without the module, and whether it is one.
func local(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// below says whether a package is root or inside it.
func below(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

// tree parses every Go file once.
var tree = sync.OnceValues(func() ([]*file, error) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		return nil, err
	}
	var files []*file
	set := token.NewFileSet()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); path != root && (base == "testdata" || base == "bin" || strings.HasPrefix(base, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(set, path, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		files = append(files, &file{
			name: name, pkg: strings.TrimSuffix(name[:strings.LastIndex("/"+name, "/")], "/"),
			test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(syntax),
			lines: strings.Count(string(source), "\n"), syntax: syntax, set: set,
		})
		return nil
	})
	return files, err
})

// files returns the tree's files that keep says yes to.
func files(t *testing.T, keep func(*file) bool) []*file {
	t.Helper()
	all, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	var out []*file
	for _, f := range all {
		if keep(f) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		t.Fatal("no files: the test looks in the wrong place")
	}
	return out
}

func code(f *file) bool    { return !f.test }
func written(f *file) bool { return !f.test && !f.generated }
