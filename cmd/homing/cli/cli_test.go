package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/spf13/cobra"
)

func run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// Every command takes --help, and none swallows a word it does not know.
func TestEveryCommand(t *testing.T) {
	t.Setenv("HOMING_HOME", t.TempDir())
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		if code, out, errs := run(t, append(path, "--help")...); code != 0 || errs != "" || !strings.Contains(out, "Usage:") {
			t.Errorf("%v --help: %d %q %q", path, code, out, errs)
		}
		code, out, errs := run(t, append(path, "--no-such-flag")...)
		if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "see: ") {
			t.Errorf("%v --no-such-flag: %d %q %q", path, code, out, errs)
		}
		if c.HasSubCommands() {
			code, out, errs := run(t, append(path, "frobnicate")...)
			if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "--help") {
				t.Errorf("%v frobnicate: %d %q %q", path, code, out, errs)
			}
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" {
				walk(sub, append(append([]string{}, path...), sub.Name()))
			}
		}
	}
	walk(newRoot(&env{}), nil)
}

func TestContexts(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOMING_HOME", home)
	if _, out, _ := run(t, "context", "list"); !strings.Contains(out, "homing demo") {
		t.Errorf("an empty list: %q", out)
	}
	for _, name := range []string{"one", "two"} {
		if err := RegisterContext(name, filepath.Join(home, name, "endpoints.json")); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, errs := run(t, "context", "use", "three"); code != 1 || !strings.Contains(errs, "known are: one, two") {
		t.Errorf("use three: %d %q", code, errs)
	}
	if code, _, errs := run(t, "context", "use", "one"); code != 0 {
		t.Errorf("use one: %d %q", code, errs)
	}
	if _, out, _ := run(t, "context", "list"); !strings.Contains(out, "* one") || !strings.Contains(out, "  two") || strings.Contains(out, "running") {
		t.Errorf("list: %q", out)
	}
	if code, _, errs := run(t, "status"); code != 1 || !strings.Contains(errs, `the world of context "one" is not running`) {
		t.Errorf("status: %d %q", code, errs)
	}
	if err := os.WriteFile(filepath.Join(home, "contexts.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(t, "status"); code != 1 || !strings.Contains(errs, "contexts.json is damaged") {
		t.Errorf("a damaged file: %d %q", code, errs)
	}
}

// A world keeps its name when another one of the same directory name starts;
// and gives it back when its directory is gone.
func TestContextsOfOneName(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOMING_HOME", home)
	in := func(dir string) string {
		path := filepath.Join(home, dir, "demo")
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := RegisterContext("demo", filepath.Join(path, "endpoints.json")); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := in("a")
	in("b")
	in("b")
	in("c")
	_, out, _ := run(t, "context", "list")
	for _, want := range []string{"demo ", "demo-2 ", "demo-3 "} {
		if strings.Count(out, " "+want) != 1 {
			t.Errorf("%q is not there once: %s", want, out)
		}
	}
	if err := os.RemoveAll(first); err != nil {
		t.Fatal(err)
	}
	in("d")
	if _, out, _ = run(t, "context", "list"); strings.Count(out, "demo") != 6 || strings.Contains(out, first) {
		t.Errorf("after the first one is gone: %s", out)
	}
}

func TestHelp(t *testing.T) {
	for args, want := range map[string]string{
		"help": "Start with: homing demo", "help demo": "--port-base", "help user register": "--nickname",
		"help help": "Explain a command",
	} {
		if code, out, errs := run(t, strings.Fields(args)...); code != 0 || !strings.Contains(out, want) || errs != "" {
			t.Errorf("%s: %d %q %q", args, code, out, errs)
		}
	}
	for args, want := range map[string]string{
		"help nonsense":        `unknown command "nonsense" for "homing"; see: homing --help`,
		"help statsu":          `did you mean status?`,
		"help user regster":    `unknown command "regster" for "homing user"; did you mean register?; see: homing user --help`,
		"help status nonsense": `unknown command "nonsense" for "homing status"`,
		"chta":                 `did you mean chat?`,
	} {
		if code, out, errs := run(t, strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %d %q %q", args, code, out, errs)
		}
	}
}

// What a sender wrote cannot move the reader's cursor.
func TestTextIsHarmless(t *testing.T) {
	got := text(&v1.Body{Kind: &v1.Body_Text{Text: "a\x1b[2Jb\nc\u009bd\x7f"}})
	if got != "a\uFFFD[2Jb c\uFFFDd\uFFFD" {
		t.Errorf("%q", got)
	}
}
