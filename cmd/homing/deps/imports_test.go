package deps

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

const wiring = "cmd/homing"

// Every import of one package of ours by another is in the table, and every
// line of the table is true.
func TestImportsAreInTheTable(t *testing.T) {
	allowed := map[[2]string]bool{} // and whether it is used
	own := map[string]bool{}        // programs of their own
	for _, e := range edges {
		switch {
		case e.why == "":
			t.Errorf("%s -> %s: the table wants a reason", e.from, e.to)
		case e.to == "":
			own[e.from] = true
		default:
			allowed[[2]string{e.from, e.to}] = false
		}
	}
	known := map[string]bool{}
	for _, f := range files(t, code) {
		known[f.pkg] = true
		for _, path := range f.imports() {
			to, ours := local(path)
			if !ours {
				continue
			}
			k := [2]string{f.pkg, to}
			_, ok := allowed[k]
			switch {
			case below(to, wiring) && !below(f.pkg, wiring):
				t.Errorf("%s imports %s: nobody imports the wiring", f.name, to)
			case below(f.pkg, wiring), own[f.pkg]:
			case !ok:
				t.Errorf("%s imports %s: not in the table (table_test.go says what to consider)", f.name, to)
			default:
				allowed[k] = true
			}
		}
	}
	for k, used := range allowed {
		if !used {
			t.Errorf("%s -> %s is in the table, and nothing imports it: remove the line", k[0], k[1])
		}
	}
	for p := range own {
		if !known[p] {
			t.Errorf("%s is in the table and does not exist", p)
		}
	}
}

// Roles never import each other, whatever the table says.
func TestRolesDoNotImportEachOther(t *testing.T) {
	roles := []string{"region/core", "region/access", "replicator", "dns/authority", "dns/health", "accel", "ids"}
	role := func(pkg string) string {
		for _, r := range roles {
			if below(pkg, r) {
				return r
			}
		}
		return ""
	}
	for _, f := range files(t, code) {
		for _, path := range f.imports() {
			to, ours := local(path)
			from, other := role(f.pkg), role(to)
			if !ours || from == "" || other == "" || from == other || from == "region/access" && other == "region/core" {
				continue // access is core's front: the same role, a layer above
			}
			t.Errorf("%s imports %s: declare the interface it needs, cmd/homing joins them", f.name, to)
		}
	}
}

// Replacing an engine has to stay local.
func TestEnginesHaveTheirImporters(t *testing.T) {
	used := map[string]bool{}
	for _, f := range files(t, code) {
		for _, path := range f.imports() {
			if _, ours := local(path); ours || !strings.Contains(strings.Split(path, "/")[0], ".") {
				continue
			}
			i := slices.IndexFunc(engines, func(e engine) bool { return below(path, e.path) })
			if i < 0 {
				t.Errorf("%s imports %s: no engine of ours; add it to the table with its one importer", f.name, path)
				continue
			}
			e := engines[i]
			used[e.path] = true
			may := func(who string) bool {
				root, all := strings.CutSuffix(who, "/...")
				return who == f.pkg || all && below(f.pkg, root)
			}
			if e.importers != nil && !slices.ContainsFunc(e.importers, may) {
				t.Errorf("%s imports %s: only %s may (%s)", f.name, path, strings.Join(e.importers, ", "), e.why)
			}
		}
	}
	for _, e := range engines {
		if !used[e.path] {
			t.Errorf("engine %s is in the table, and nothing imports it: remove the line", e.path)
		}
	}
}

// The kernel decides who may write. It must be replayable from its arguments.
func TestKernelIsPure(t *testing.T) {
	for _, f := range files(t, func(f *file) bool { return f.pkg == "region" && !f.test }) {
		for _, path := range f.imports() {
			if strings.Contains(strings.Split(path, "/")[0], ".") {
				t.Errorf("%s imports %s: the kernel uses the standard library only", f.name, path)
			}
			if slices.Contains(kernelMustNot, path) {
				t.Errorf("%s imports %s: no clock, I/O or chance in the kernel", f.name, path)
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: the kernel starts no goroutine", f.at(n))
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok || !slices.Contains(f.imports(), x.Name) {
					return true
				}
				if may, limited := kernelMay[x.Name]; limited && !slices.Contains(may, n.Sel.Name) {
					t.Errorf("%s: %s.%s; of %s the kernel uses %s only", f.at(n), x.Name, n.Sel.Name, x.Name, strings.Join(may, ", "))
				}
			}
			return true
		})
	}
}
