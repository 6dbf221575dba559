package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

func TestPushReachesEverybodyAndSurvivesARestart(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	all := []peer.Identity{sh, hk, ca, pop}
	for _, id := range all {
		l.start(id)
	}
	next := l.after(l.genesis, false, failover("sh", "hk"))
	changed := l.nodes[pop].Changed()
	r, err := l.push(next, all[:3], all)
	if err != nil || len(r.Accepted) != 3 || len(r.Delivered) != 4 || len(r.Failed) != 0 || r.Needed != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	<-changed
	for _, id := range all {
		if a, term, _ := l.nodes[id].View().Acting("sh"); a != "hk" || term.Counter != 2 || term.Raised != next.Signed.Hash().Short() {
			t.Errorf("%s: %s acts for sh at %s", id, a, term)
		}
	}
	// Pushing it again changes nothing and says so.
	if r, err = l.push(next, all[:3], all); err != nil || len(r.Delivered) != 4 || len(r.Accepted) != 3 {
		t.Fatalf("again: %+v, %v", r, err)
	}
	l.stop(hk)
	if n := l.start(hk); !n.at(2)() {
		t.Fatalf("after a restart: %s", n.Keeper)
	}
}

// Rule 3: the guard has raised the fence before anybody can see the newer
// world, and a world whose fence cannot be raised is not taken up.
func TestGuardRunsBeforeTheWorldShows(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(sh)
	broken := errors.New("the disk is full")
	var seen []uint64
	fail := false
	if err := n.Guard(func(v *region.View) error {
		if now := n.View(); now.World.Version > v.World.Version || (len(seen) > 0 && now.World.Version == v.World.Version) {
			t.Errorf("world %d shows before its guard ran", v.World.Version)
		}
		if fail {
			return broken
		}
		seen = append(seen, v.World.Version)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	next := l.accepted(l.after(l.genesis, false, failover("sh", "hk")), sh, hk, ca)
	fail = true
	if err := n.Offer(context.Background(), next); region.KindOf(err) != region.Unavailable || !errors.Is(err, broken) || !n.at(1)() {
		t.Fatalf("with a broken disk: %v at %s", err, n.Keeper)
	}
	fail = false
	if err := n.Offer(context.Background(), next); err != nil || !n.at(2)() {
		t.Fatalf("with the disk mended: %v at %s", err, n.Keeper)
	}
	if len(seen) != 2 || seen[0] != 1 || seen[1] != 2 {
		t.Errorf("the guard saw worlds %v, want 1 and 2", seen)
	}
}

func TestMinorityCannotChangeTheWorldButForceCan(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(sh)
	next := l.after(l.genesis, false, failover("hk", "sh"))
	r, err := l.push(next, []peer.Identity{sh, hk, ca}, []peer.Identity{sh, pop})
	wantKind(t, err, region.Unavailable)
	if len(r.Accepted) != 1 || len(r.Delivered) != 0 || !n.at(1)() {
		t.Fatalf("%+v at %s", r, n.Keeper)
	}
	wantKind(t, n.Offer(context.Background(), next), region.Unavailable)
	wantKind(t, n.Offer(context.Background(), l.accepted(next, sh)), region.Unavailable)
	wantKind(t, n.Offer(context.Background(), l.accepted(next, sh, sh, pop)), region.Unavailable) // one voter twice, and a POP that is no witness

	forced := l.after(l.genesis, true, failover("hk", "sh"))
	if _, err := l.push(forced, []peer.Identity{sh, hk, ca}, []peer.Identity{sh}); err != nil || !n.at(2)() {
		t.Fatalf("%v at %s", err, n.Keeper)
	}
}

func TestVoterAcceptsOneSuccessorAcrossARestart(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	l.start(sh)
	one := l.after(l.genesis, false, failover("hk", "sh"))
	two := l.after(l.genesis, false, failover("hk", "ca"))
	ask := func(e *region.Envelope) (int, string) {
		body, err := json.Marshal(e.Signed)
		if err != nil {
			t.Fatal(err)
		}
		return post(t, l.url(sh)+"/world/accept", body)
	}
	status, first := ask(one)
	if status != http.StatusOK {
		t.Fatal(first)
	}
	l.stop(sh)
	l.start(sh)
	if status, text := ask(two); status != http.StatusConflict || !strings.Contains(text, "has accepted world 2") {
		t.Fatalf("%d %s", status, text)
	}
	if status, again := ask(one); status != http.StatusOK || again != first {
		t.Fatalf("the same question, another answer: %s and %s", first, again)
	}
	// A world that names what was accepted comes after both: the voter may go on.
	w, err := one.Signed.Decode()
	if err != nil {
		t.Fatal(err)
	}
	w.Version = 3
	h := l.genesis.Signed.Hash()
	for i := range w.Regions {
		w.Regions[i].Acting = region.Acting{Region: w.Regions[i].ID, Counter: 3}
	}
	three := &region.Envelope{Signed: seal(t, w, []region.Hash{h, one.Signed.Hash()}, false, l.operator)}
	if status, text := ask(three); status != http.StatusOK {
		t.Fatal(text)
	}
}

func post(t *testing.T, url string, body []byte) (int, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(data)
}

// Whatever is not a verified successor in effect is refused, counted, and
// changes nothing.
func TestForgeriesChangeNothing(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(pop)
	ctx := context.Background()
	good := l.after(l.genesis, false, failover("sh", "hk"))
	w, err := good.Signed.Decode()
	if err != nil {
		t.Fatal(err)
	}
	parents := good.Signed.Parents
	stolen := l.keys[sh] // a region's key is no operator's
	huge := *w
	huge.Version = 1 << 60
	tampered := *good.Signed
	tampered.Payload = bytes.Replace(tampered.Payload, []byte(`"hk"`), []byte(`"ca"`), 1)
	unforced := *good.Signed
	unforced.Forced = true // the signature covers it
	for name, c := range map[string]struct {
		e    *region.Envelope
		kind region.Kind
	}{
		"nothing":                {&region.Envelope{}, region.BadInput},
		"unsigned":               {&region.Envelope{Signed: seal(t, w, parents, true)}, region.Forbidden},
		"signed by a region":     {&region.Envelope{Signed: seal(t, w, parents, true, stolen)}, region.Forbidden},
		"tampered":               {l.accepted(&region.Envelope{Signed: &tampered}, sh, hk), region.Forbidden},
		"force added":            {&region.Envelope{Signed: &unforced}, region.Forbidden},
		"version 2^60":           {&region.Envelope{Signed: seal(t, &huge, parents, true, l.operator)}, region.BadInput},
		"of unknown parents":     {&region.Envelope{Signed: seal(t, &huge, []region.Hash{{1}}, true, l.operator)}, region.Unavailable},
		"another first world":    {&region.Envelope{Signed: seal(t, w, nil, true, l.operator)}, region.Unavailable},
		"acceptances of another": {&region.Envelope{Signed: good.Signed, Acceptances: l.accepted(l.genesis, sh, hk).Acceptances}, region.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			wantKind(t, n.Offer(ctx, c.e), c.kind)
			if !n.at(1)() {
				t.Fatalf("now %s", n.Keeper)
			}
			if got := counted(n.metrics.refused.WithLabelValues(c.kind.String())); got == 0 {
				t.Fatal("not counted")
			}
		})
	}
	for name, body := range map[string]string{"no JSON": "{", "other JSON": "[]", "too large": strings.Repeat(" ", region.MaxEnvelope+1)} {
		status, text := post(t, l.url(pop)+"/world", []byte(body))
		if status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge || text == "" {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if err := n.Offer(ctx, l.accepted(good, sh, hk)); err != nil || !n.at(2)() {
		t.Fatalf("and the good one: %v", err)
	}
}

func TestHintsFetchAndNothingElse(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n, source := l.start(pop), l.start(sh)
	n.Hint(1 << 60) // a lie costs a round
	e := l.genesis
	for range 3 { // the hinted node missed several
		e = l.accepted(l.after(e, false, failover("sh", "hk")), sh, hk)
		if err := source.Offer(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	// Only sh is up, and three nodes are asked per round: it may take a few.
	n.until(t, "world 4", func() bool { n.Hint(4); return n.at(4)() })
	if got := len(n.chain.Links()); got != 4 {
		t.Fatalf("a chain of %d", got)
	}
}

func TestForkFollowsTheGreaterHashEverywhere(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	a, b := l.start(sh), l.start(hk)
	ctx := context.Background()
	one := l.after(l.genesis, true, failover("ca", "sh"))
	two := l.after(l.genesis, true, failover("ca", "hk"))
	if h1, h2 := one.Signed.Hash(), two.Signed.Hash(); bytes.Compare(h1[:], h2[:]) > 0 {
		one, two = two, one
	}
	if err := a.Offer(ctx, one, two); err != nil {
		t.Fatal(err)
	}
	wantKind(t, b.Offer(ctx, two, one), region.Conflict)
	for _, n := range []*node{a, b} {
		if n.View().Hash != two.Signed.Hash() {
			t.Errorf("%s follows the lesser", n.Keeper)
		}
		if counted(n.metrics.forks) < 1 {
			t.Errorf("%s raised no alarm", n.Keeper)
		}
	}
	// A majority's word outranks the hash.
	if err := b.Offer(ctx, l.accepted(one, sh, ca)); err != nil || b.View().Hash != one.Signed.Hash() {
		t.Fatalf("%v, %s", err, b.Keeper)
	}
	// What was decided is still so after a restart, from what is on disk.
	for _, id := range []peer.Identity{sh, hk} {
		was := l.nodes[id].View().Hash
		l.stop(id)
		if n := l.start(id); n.View().Hash != was {
			t.Errorf("%s changed its mind", n.Keeper)
		}
	}
}

func TestAdmittingWaitsForAMajority(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(sh)
	wantKind(t, n.Admitting(), region.Unavailable)
	// hk missed nothing; sh slept through a failover of its own users.
	failed := l.accepted(l.after(l.genesis, false, failover("sh", "hk")), hk, ca)
	other := l.start(hk)
	if err := other.Offer(context.Background(), failed); err != nil {
		t.Fatal(err)
	}
	n.until(t, "admitting", func() bool { return n.Admitting() == nil })
	if a, _, _ := n.View().Acting("sh"); a != "hk" {
		t.Fatalf("sh admits with %s acting for it by %s", a, n.Keeper)
	}
	p := l.start(pop)
	wantKind(t, p.Admitting(), region.Forbidden)
}

// A world can have taken effect without anybody having it: a majority accepted
// it and its operator's machine died. A starting region still finds out.
func TestAdmittingCollectsAcceptances(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	next := l.after(l.genesis, false, failover("sh", "hk"))
	for _, id := range []peer.Identity{hk, ca} {
		n := l.start(id)
		if _, err := n.accept(next.Signed); err != nil {
			t.Fatal(err)
		}
	}
	n := l.start(sh)
	n.until(t, "world 2 from two acceptances", n.at(2))
}

func TestAdmittingAlone(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(sh)
	wantKind(t, n.Admitting(), region.Unavailable)
	n.UnfenceAlone()
	if err := n.Admitting(); err != nil {
		t.Fatal(err)
	}
	single := newLab(t, "sh").start(sh)
	single.until(t, "a single voter admits", func() bool { return single.Admitting() == nil })
}

// What an admin fenced stays so over a restart, whoever else is there.
func TestFenceOfAnAdmin(t *testing.T) {
	l := newLab(t, "sh")
	n := l.start(sh)
	n.until(t, "a single voter admits", func() bool { return n.Admitting() == nil })
	for range 2 { // twice is no error
		if err := n.Fence(); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, n.Admitting(), region.Unavailable)
	l.stop(sh)
	n = l.start(sh)
	n.UnfenceAlone() // is about other voters
	if err := n.Admitting(); region.KindOf(err) != region.Unavailable || !strings.Contains(err.Error(), "fenced") {
		t.Fatalf("after a restart: %v", err)
	}
	for range 2 {
		if err := n.Unfence(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Admitting(); err != nil {
		t.Fatal(err)
	}
	l.stop(sh)
	n = l.start(sh)
	n.until(t, "it admits after another restart", func() bool { return n.Admitting() == nil })
}

func TestUnknownRequirementsKeepTheOldWorld(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(sh)
	n.UnfenceAlone()
	s := *l.after(l.genesis, true, failover("sh", "hk")).Signed
	s.Requires, s.Signatures = []string{"time-travel"}, nil
	s.Sign(l.operator)
	wantKind(t, n.Offer(context.Background(), &region.Envelope{Signed: &s}), region.Unsupported)
	wantKind(t, n.Ready(), region.Unsupported)
	wantKind(t, n.Admitting(), region.Unsupported)
	if !n.at(1)() {
		t.Fatal("the old world is gone")
	}
}

func TestNodeWithoutAWorldFindsOneBySeeds(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	if err := l.start(sh).Offer(context.Background(), l.accepted(l.after(l.genesis, false, nil), sh, hk)); err != nil {
		t.Fatal(err)
	}
	n := l.start(pop, func(o *Options) { o.Genesis, o.Seeds = nil, []string{l.url(sh)} })
	n.until(t, "world 2", n.at(2))
}

func TestOpenRefuses(t *testing.T) {
	l := newLab(t, "sh")
	l.start(sh)
	_, err := Open(l.options(sh)) // the directory is locked
	wantKind(t, err, region.Unavailable)
	l.stop(sh)
	o := l.options(sh)
	o.Pinned = public(key("another root"))
	_, err = Open(o)
	wantKind(t, err, region.BadInput)
	o.Dir = t.TempDir()
	_, err = Open(o)
	wantKind(t, err, region.Forbidden)
	o.Pinned = nil
	_, err = Open(o)
	wantKind(t, err, region.BadInput)
	o = l.options(sh)
	if err := os.WriteFile(filepath.Join(o.Dir, "ballot.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(o) // a forgotten vote could elect two worlds
	wantKind(t, err, region.Internal)
}

func TestGetWorldAnswersNotModified(t *testing.T) {
	l := newLab(t, "sh")
	l.start(sh)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	r, err := http.NewRequest(http.MethodGet, l.url(sh)+"/world", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("If-None-Match", `"`+l.genesis.Signed.Hash().String()+`"`)
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusNotModified {
		t.Fatal(res.Status)
	}
}
