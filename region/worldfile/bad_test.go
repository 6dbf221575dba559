package worldfile

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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

func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, "testdata/good.yaml", "../../deploy/world.yaml") {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
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
