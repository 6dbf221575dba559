package worldfile

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

var update = flag.Bool("update", false, "write what is said now to testdata/bad.txt")

// Every mistake has a file, and testdata/bad.txt has the one line said about it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var got bytes.Buffer
	for _, f := range files {
		_, err := CompileFile(f)
		if err == nil {
			t.Errorf("%s compiles", f)
			continue
		}
		line := strings.ReplaceAll(err.Error(), "testdata/bad/", "")
		if strings.Contains(line, "\n") || !regexp.MustCompile(`^[a-z-]+\.yaml:\d+:\d+: .`).MatchString(line) {
			t.Errorf("not one line with a place: %s", line)
		}
		got.WriteString(line + "\n")
	}
	if *update {
		if err := os.WriteFile("testdata/bad.txt", got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got.Bytes()) {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

func TestGoodFile(t *testing.T) {
	w, err := CompileFile("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if p := w.Rules[0].Match.Percent; p == nil || p.Below != 500 || w.Steering.TTL != 30 || w.Threshold != 1 || w.Version != 1 {
		t.Fatalf("%+v", w)
	}
}

// Rules are no place for 10,001 UINs; the line names the rules and the way out.
func TestTooManyUINs(t *testing.T) {
	good, err := os.ReadFile("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	uins := "uins: [" + strings.Repeat("7, ", 10_000) + "8]"
	_, err = Compile("many.yaml", bytes.Replace(good, []byte("homes: [hk]"), []byte(uins), 1), nil)
	const want = "many.yaml:23:3: the rules list 10001 UIN ranges, more than 10000 (move the owners instead: the overlay holds millions)"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if _, err = Compile("enough.yaml", bytes.Replace(good, []byte("homes: [hk]"), []byte(strings.Replace(uins, "7, ", "", 1)), 1), nil); err != nil {
		t.Errorf("10,000 are refused: %v", err)
	}
}

// The example of all that rules can say uses all of it, and is shown as it is.
func TestRulesExample(t *testing.T) {
	w, err := CompileFile("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Compile("shown.yaml", []byte(Show(w)), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, Show(w))
	}
	if !reflect.DeepEqual(w, again) {
		t.Errorf("it reads again as\n%s", Show(again))
	}
	used := make(map[string]bool)
	var note func(v reflect.Value)
	note = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				note(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				note(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
					used[v.Type().Name()+"."+f.Name] = true
					note(v.Field(i))
				}
			}
		}
	}
	note(reflect.ValueOf(w.Rules))
	for _, of := range []reflect.Type{reflect.TypeFor[region.Match](), reflect.TypeFor[region.Act](), reflect.TypeFor[region.PoolMember]()} {
		for i := range of.NumField() {
			if name := of.Name() + "." + of.Field(i).Name; !used[name] && name != "Act.Nearest" { // an older word for an order
				t.Errorf("the example does not use %s", name)
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, "testdata/good.yaml", "testdata/rules.yaml", "../../deploy/world.yaml") {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	alone, err := os.ReadFile("../../deploy/dns-only/names.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(alone)
	f.Fuzz(func(t *testing.T, data []byte) {
		if w, err := CompileAlone("fuzz.yaml", data, 1); err == nil && len(w.ProblemsAlone()) > 0 {
			t.Errorf("a world with problems: %v", w.ProblemsAlone())
		}
		w, err := Compile("fuzz.yaml", data, nil)
		if err != nil {
			return
		}
		again, err := Compile("shown.yaml", []byte(Show(w)), nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, Show(w))
		}
		if Show(again) != Show(w) {
			t.Fatalf("%s\nreads again as\n%s", Show(w), Show(again))
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := parseKey(data); err == nil && len(k) != 64 {
			t.Fatal(len(k))
		}
	})
}
