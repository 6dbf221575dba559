package console_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/homing-im/homing/cmd/homing/browsertest"
	"github.com/homing-im/homing/cmd/homing/console"
)

// page serves a feed and returns its address.
func page(t *testing.T, f *feed) string {
	t.Helper()
	c := console.New(console.Options{State: f.State})
	s := httptest.NewServer(c)
	t.Cleanup(func() { c.Close(); s.Close() })
	return s.URL
}

func TestPageFollowsTheWorld(t *testing.T) {
	f := newFeed()
	ctx := browsertest.Start(t)
	run := func(what string, steps ...browsertest.Step) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	run("a quiet day", chromedp.EmulateViewport(1280, 800), browsertest.Scheme("light"), chromedp.Navigate(page(t, f)),
		browsertest.Shows(`document.querySelector("#live").className == "on"`),
		browsertest.Shows(`document.querySelector("#total-users").textContent == "2,851"`),
		browsertest.Shows(`document.querySelector("#total-messages").textContent == "92.2"`),
		browsertest.Shows(`document.querySelector("#world-version").textContent == "v7" && document.querySelector("#world-hash").textContent == "9f3ac2d1"`),
		browsertest.Shows(`document.querySelectorAll("#pairs .cell").length == 12`),
		browsertest.Shows(`document.querySelector('[data-pair="sh ca to-ca"]').textContent == "0.26 s · 12"`),
		browsertest.Shows(`document.querySelector("#alarms").hidden`),
	)
	for _, p := range f.state.POPs {
		run(p.ID, browsertest.Shows(fmt.Sprintf(`[...document.querySelectorAll("#map text")].some(t => t.textContent == %q)`, p.Title)),
			browsertest.Shows(fmt.Sprintf(`document.querySelector('[data-pop=%q]').textContent.includes(%q)`, p.ID, p.Title)))
	}
	for _, p := range f.state.Pairs {
		run(p.From+p.To, browsertest.Shows(fmt.Sprintf(`document.querySelector('[data-pair="%s %s %s"]').textContent.endsWith(" %d")`, p.From, p.To, p.Stream, p.Records)),
			browsertest.Shows(fmt.Sprintf(`document.querySelector('#map [data-arc="%s-%s"]') != null`, p.From, p.To)))
	}
	for _, n := range []string{"dns-1", "ids-1"} {
		run(n, browsertest.Shows(fmt.Sprintf(`document.querySelector('[data-node=%q]') != null`, n)))
	}

	f.change(func(s *console.State) { s.Regions[0].Users = 5000; s.Regions[0].MessagesPerSecond = 77.7 })
	run("numbers change live",
		browsertest.Shows(`document.querySelector("#total-users").textContent == "6,567"`),
		browsertest.Shows(`document.querySelector('[data-region=sh] [data-k=rate]').textContent == "77.7"`),
		browsertest.Shows(`document.querySelector('[data-region=sh] polyline').getAttribute("points").split(" ").length >= 2`),
		browsertest.Shot(t, "quiet-light"), browsertest.Scheme("dark"), browsertest.Shot(t, "quiet-dark"),
	)

	f.change(func(s *console.State) { disaster(s) })
	run("hk acts for sh",
		browsertest.Shows(`document.querySelector('[data-region=sh]').dataset.acting == "hk"`),
		browsertest.Shows(`[...document.querySelectorAll("#map text")].some(t => t.textContent == "hk acts for sh")`),
		browsertest.Shows(`document.querySelector('[data-region=hk]').textContent.includes("acts for sh")`),
		browsertest.Shows(`document.querySelector('[data-region=sh] small').textContent == "term 2"`),
		browsertest.Shows(`document.querySelector("#announce").textContent.includes("hk now acts for Shanghai")`),
		browsertest.Shows(`document.querySelector("#map").getAttribute("aria-label").includes("hk acts for Shanghai")`),
		browsertest.Shows(`document.querySelector("#alarm-list .critical").textContent.includes("does not answer")`),
		browsertest.Shows(`document.querySelector('[data-pair="hk ca full"]').className == "cell broken"`),
		browsertest.Shows(`document.querySelector('[data-pair="sh hk full"]').textContent == "unknown"`),
		browsertest.Shows(`document.querySelector('[data-pop=pop-2]').textContent.includes("down")`),
		browsertest.Shot(t, "failover-dark"), browsertest.Scheme("light"), browsertest.Shot(t, "failover-light"),
	)

	run("a phone", chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateScale(2)),
		browsertest.Shows(`document.documentElement.scrollWidth <= innerWidth`), browsertest.Shot(t, "phone-light"), browsertest.Scheme("dark"), browsertest.Shot(t, "phone-dark"))
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

	ctx := browsertest.Start(t)
	for _, k := range []struct {
		name    string
		feed    *feed
		regions int
	}{{"large", large, 6}, {"small", small, 1}, {"empty", empty, 0}} {
		err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800), browsertest.Scheme("light"), chromedp.Navigate(page(t, k.feed)),
			browsertest.Shows(`document.querySelector("#live").className == "on"`),
			browsertest.Shows(fmt.Sprintf(`document.querySelectorAll("#map .m-region").length == %d`, k.regions)),
			browsertest.Shows(`[...document.querySelectorAll("#map circle")].every(c => c.cx.baseVal.value >= 0 && c.cx.baseVal.value <= document.querySelector("#map").clientWidth)`),
			browsertest.Shot(t, k.name))
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
	ctx := browsertest.Start(t)
	err := chromedp.Do(ctx, chromedp.Navigate(page(t, f)),
		browsertest.Shows(`document.querySelector("#alarm-list").textContent.includes("onerror")`),
		browsertest.Shows(`document.querySelector("[data-region=sh] h3").textContent.includes("onerror")`),
		browsertest.Shows(`document.querySelectorAll("body img").length == 1`),
		browsertest.Shows(`document.scripts.length == 1`),
		browsertest.Shows(`document.title.startsWith("Homing <img")`))
	if err != nil {
		t.Fatal(err)
	}
}
