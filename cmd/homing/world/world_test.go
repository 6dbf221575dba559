package world

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/worldfile"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"homing": func() {
		cmd := NewCommand(Env{Out: os.Stdout, Client: &http.Client{Timeout: 3 * time.Second}})
		cmd.SetArgs(os.Args[2:]) // "homing world ..."
		if err := cmd.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, "homing: "+err.Error())
			os.Exit(1)
		}
	}})
}

func TestStories(t *testing.T) {
	defer goleak.VerifyNone(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			rules, err := filepath.Abs("../../../region/worldfile/testdata/rules.yaml")
			if err != nil {
				return err
			}
			e.Setenv("RULES", rules)
			e.Values[earsKey] = make(map[string]net.Listener)
			return nil
		},
		// Commands of the test: `addresses FILE` puts listeners into a world file, in the
		// places of SH, HK and CA; `nodes DIR ID...` starts those regions on
		// them; `acting FILE ID` edits who acts for sh.
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"addresses": addresses, "nodes": nodes, "acting": acting},
	})
}

const earsKey = "ears"

func addresses(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	for _, id := range []string{"SH", "HK", "CA"} {
		ear, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Defer(func() {
			if err := ear.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				ts.Logf("%v", err)
			}
		})
		ears(ts)[strings.ToLower(id)] = ear
		text = strings.ReplaceAll(text, "ADDRESS-"+id, ear.Addr().String())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

// ears of the script, by region. Each script is one goroutine.
func ears(ts *testscript.TestScript) map[string]net.Listener {
	v, _ := ts.Value(earsKey).(map[string]net.Listener)
	return v
}

func nodes(ts *testscript.TestScript, _ bool, args []string) {
	d := worldfile.Directory{Dir: ts.MkAbs(args[0])}
	genesis, err := d.Genesis()
	ts.Check(err)
	root, err := d.Root()
	ts.Check(err)
	for _, id := range args[1:] {
		key, err := d.Key("region-" + id)
		ts.Check(err)
		k, err := keeper.Open(keeper.Options{Dir: filepath.Join(ts.MkAbs("."), "node-"+id), Self: peer.Identity{Kind: peer.KindRegion, Name: id},
			Key: key, Pinned: root, Genesis: genesis, FetchInterval: 20 * time.Millisecond, CompareInterval: 20 * time.Millisecond})
		ts.Check(err)
		s := &http.Server{Handler: k.Handler()}
		done := make(chan error, 1)
		go func() { done <- s.Serve(ears(ts)[id]) }()
		ts.Defer(func() {
			err := errors.Join(s.Close(), k.Close())
			if served := <-done; !errors.Is(served, http.ErrServerClosed) {
				err = errors.Join(err, served)
			}
			if err != nil {
				ts.Logf("%v", err)
			}
		})
	}
}

// acting edits who acts for sh, as an operator would.
func acting(ts *testscript.TestScript, _ bool, args []string) {
	var out []string
	for line := range strings.SplitSeq(ts.ReadFile(args[0]), "\n") {
		if strings.HasPrefix(line, "    acting: ") {
			line = "    acting: " + args[1]
		}
		out = append(out, line)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(out, "\n")), 0o644))
}
