package console_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/homing-im/homing/cmd/homing/console"
)

// browser starts Chromium, or skips the test where there is none: make test
// installs it. Whatever the page complains of fails the test, a violation of
// the content security policy included.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium in PATH")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(time.Minute)) // the machine may be busy with other tests
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("the page threw: %s", e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				t.Errorf("the page logged: %s %s", e.Entry.Text, e.Entry.URL)
			}
		}
	}))
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	return ctx
}

// page serves a feed and returns its address.
func page(t *testing.T, f *feed) string {
	t.Helper()
	c := console.New(console.Options{State: f.State})
	s := httptest.NewServer(c)
	t.Cleanup(func() { c.Close(); s.Close() })
	return s.URL
}

// step is one thing a test does with the page.
type step = chromedp.Action[chromedp.Void]

// shows waits until the script's expression is true. It evaluates from outside
// the page, which itself may not.
func shows(expression string) step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		again := time.NewTicker(25 * time.Millisecond)
		defer again.Stop()
		for {
			ok, err := chromedp.Evaluate[bool]("!!("+expression+")")(ctx, target)
			if ok {
				return nil
			}
			select {
			case <-again.C:
			case <-ctx.Done():
				return fmt.Errorf("never true: %s (%v)", expression, err)
			}
		}
	})
}

// shot keeps a screenshot; "go test -artifacts" says where.
func shot(t *testing.T, name string) step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		png, err := chromedp.FullScreenshot(100)(ctx, target)
		if err != nil {
			return err
		}
		if len(png) < 20_000 {
			return fmt.Errorf("screenshot %s has %d bytes: the page is blank", name, len(png))
		}
		return os.WriteFile(filepath.Join(t.ArtifactDir(), name+".png"), png, 0o644)
	})
}

// scheme sets the system's colours, and stands animations still for the shots.
func scheme(name string) step {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	})
}

func TestPageFollowsTheWorld(t *testing.T) {
	f := newFeed()
	ctx := browser(t)
	run := func(what string, steps ...step) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	run("a quiet day", chromedp.EmulateViewport(1280, 800), scheme("light"), chromedp.Navigate(page(t, f)),
		shows(`document.querySelector("#live").className == "on"`),
		shows(`document.querySelector("#total-users").textContent == "2,851"`),
		shows(`document.querySelector("#total-messages").textContent == "92.2"`),
		shows(`document.querySelector("#world-version").textContent == "v7" && document.querySelector("#world-hash").textContent == "9f3ac2d1"`),
		shows(`document.querySelectorAll("#pairs .cell").length == 12`),
		shows(`document.querySelector('[data-pair="sh ca to-ca"]').textContent == "0.26 s · 12"`),
		shows(`document.querySelector("#alarms").hidden`),
	)
	for _, p := range f.state.POPs {
		run(p.ID, shows(fmt.Sprintf(`[...document.querySelectorAll("#map text")].some(t => t.textContent == %q)`, p.Title)),
			shows(fmt.Sprintf(`document.querySelector('[data-pop=%q]').textContent.includes(%q)`, p.ID, p.Title)))
	}
	for _, p := range f.state.Pairs {
		run(p.From+p.To, shows(fmt.Sprintf(`document.querySelector('[data-pair="%s %s %s"]').textContent.endsWith(" %d")`, p.From, p.To, p.Stream, p.Records)),
			shows(fmt.Sprintf(`document.querySelector('#map [data-arc="%s-%s"]') != null`, p.From, p.To)))
	}
	for _, n := range []string{"dns-1", "ids-1"} {
		run(n, shows(fmt.Sprintf(`document.querySelector('[data-node=%q]') != null`, n)))
	}

	f.change(func(s *console.State) { s.Regions[0].Users = 5000; s.Regions[0].MessagesPerSecond = 77.7 })
	run("numbers change live",
		shows(`document.querySelector("#total-users").textContent == "6,567"`),
		shows(`document.querySelector('[data-region=sh] [data-k=rate]').textContent == "77.7"`),
		shows(`document.querySelector('[data-region=sh] polyline').getAttribute("points").split(" ").length >= 2`),
		shot(t, "quiet-light"), scheme("dark"), shot(t, "quiet-dark"),
	)

	f.change(func(s *console.State) { disaster(s) })
	run("hk acts for sh",
		shows(`document.querySelector('[data-region=sh]').dataset.acting == "hk"`),
		shows(`[...document.querySelectorAll("#map text")].some(t => t.textContent == "hk acts for sh")`),
		shows(`document.querySelector('[data-region=hk]').textContent.includes("acts for sh")`),
		shows(`document.querySelector('[data-region=sh] small').textContent == "term 2"`),
		shows(`document.querySelector("#announce").textContent.includes("hk now acts for Shanghai")`),
		shows(`document.querySelector("#map").getAttribute("aria-label").includes("hk acts for Shanghai")`),
		shows(`document.querySelector("#alarm-list .critical").textContent.includes("does not answer")`),
		shows(`document.querySelector('[data-pair="hk ca full"]').className == "cell broken"`),
		shows(`document.querySelector('[data-pair="sh hk full"]').textContent == "unknown"`),
		shows(`document.querySelector('[data-pop=pop-2]').textContent.includes("down")`),
		shot(t, "failover-dark"), scheme("light"), shot(t, "failover-light"),
	)

	run("a phone", chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateScale(2)),
		shows(`document.documentElement.scrollWidth <= innerWidth`), shot(t, "phone-light"), scheme("dark"), shot(t, "phone-dark"))
}

// A large world and a small one are drawn as well.
func TestPageOfOtherWorlds(t *testing.T) {
	large := newFeed()
	large.change(func(s *console.State) {
		s.Regions, s.POPs, s.Pairs = nil, nil, nil
		cities := []struct {
			name     string
			lat, lon float64
		}{
			{"London", 51.51, -0.13}, {"Frankfurt", 50.11, 8.68}, {"Sydney", -33.87, 151.21}, {"São Paulo", -23.55, -46.63}, {"Virginia", 38.9, -77.5},
			{"Mumbai", 19.08, 72.88}, {"Paris", 48.86, 2.35}, {"Madrid", 40.42, -3.7}, {"Stockholm", 59.33, 18.06}, {"Lagos", 6.52, 3.38},
			{"Nairobi", -1.29, 36.82}, {"Dubai", 25.2, 55.27}, {"Auckland", -36.85, 174.76}, {"Suva", -18.12, 178.45}, {"Santiago", -33.45, -70.67},
			{"Lima", -12.05, -77.04}, {"Boston", 42.36, -71.06}, {"Delhi", 28.61, 77.21},
		}
		for i, c := range cities {
			id := fmt.Sprintf("r%d", i)
			if i < 6 {
				s.Regions = append(s.Regions, region(id, c.name, c.lat, c.lon, 1_250_000, 31_234.5, fmt.Sprintf("r%d", (i+1)%6)))
				continue
			}
			s.POPs = append(s.POPs, pop(id, c.name, c.lat, c.lon, fmt.Sprintf("r%d", i%6), 100_000, 1, 2, 3))
		}
		for _, a := range s.Regions {
			for _, b := range s.Regions {
				if a.ID != b.ID {
					s.Pairs = append(s.Pairs, console.Pair{From: a.ID, To: b.ID, Stream: "shared", State: console.PairLive, Seconds: 0.8, Records: 52_010})
				}
			}
		}
	})
	small := newFeed()
	small.change(func(s *console.State) { s.Regions, s.POPs, s.Pairs, s.DNS, s.IDs = s.Regions[:1], nil, nil, nil, nil })
	empty := newFeed()
	empty.state = console.State{}

	ctx := browser(t)
	for _, k := range []struct {
		name    string
		feed    *feed
		regions int
	}{{"large", large, 6}, {"small", small, 1}, {"empty", empty, 0}} {
		err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800), scheme("light"), chromedp.Navigate(page(t, k.feed)),
			shows(`document.querySelector("#live").className == "on"`),
			shows(fmt.Sprintf(`document.querySelectorAll("#map .m-region").length == %d`, k.regions)),
			shows(`[...document.querySelectorAll("#map circle")].every(c => c.cx.baseVal.value >= 0 && c.cx.baseVal.value <= document.querySelector("#map").clientWidth)`),
			shot(t, k.name))
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

func disaster(s *console.State) {
	s.World.Version, s.World.Forced = 8, true
	sh := &s.Regions[0]
	sh.Acting, sh.Term, sh.Reachable, sh.Ready, sh.Fenced, sh.Loss = "hk", 2, false, false, true, nil
	s.Regions[1].WorldVersion, s.Regions[2].WorldVersion = 8, 8
	s.Regions[1].Loss = &console.Loss{Backup: "ca", Single: true}
	for i := range s.Pairs {
		p := &s.Pairs[i]
		switch {
		case p.From == "sh" || p.To == "sh":
			p.State = console.PairUnknown
		case p.From == "hk" && p.Stream == "shared": // its next backup is to follow it in full
			p.Stream, p.State, p.Seconds, p.Records = "full", console.PairStalled, 94, 12_480
		case p.From == "ca" && p.Stream == "full":
			p.State, p.Seconds, p.Records = console.PairBehind, 12.4, 310
		}
	}
	s.POPs[1].Healthy = false
	s.POPs[4].Drain = true
	s.Alarms = []console.Alarm{
		{Severity: console.Critical, Subject: "sh", Text: "does not answer any of 5 observers", Hint: "homing status", Since: time.Now().Add(-74 * time.Second)},
		{Severity: console.Warning, Subject: "hk → ca full", Text: "makes no progress", Hint: "homing replicate status", Since: time.Now().Add(-94 * time.Second)},
	}
}

// Names come from the operator's world and from other nodes. None of it may
// become markup.
func TestNothingIsMarkup(t *testing.T) {
	const evil = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
	f := newFeed()
	f.change(func(s *console.State) {
		s.World.Zone, s.World.Hash = evil, evil
		s.Regions[0].Title, s.Regions[0].Backups = evil, []string{evil}
		s.POPs[0].Title, s.POPs[0].Near = evil, evil
		s.Pairs[0].Stream, s.Pairs[1].State = evil, console.PairState(evil)
		s.DNS = []console.Node{{Name: evil, Address: evil}}
		s.Alarms = []console.Alarm{{Severity: evil, Subject: evil, Text: evil, Hint: evil}}
	})
	ctx := browser(t)
	err := chromedp.Do(ctx, chromedp.Navigate(page(t, f)),
		shows(`document.querySelector("#alarm-list").textContent.includes("onerror")`),
		shows(`document.querySelector("[data-region=sh] h3").textContent.includes("onerror")`),
		shows(`document.querySelectorAll("body img").length == 1`),
		shows(`document.scripts.length == 1`),
		shows(`document.title.startsWith("Homing <img")`))
	if err != nil {
		t.Fatal(err)
	}
}
