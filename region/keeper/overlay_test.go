package keeper

import (
	"bytes"
	"context"
	"encoding/hex"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

func (l *lab) batch(from peer.Identity, entries ...Entry) *Batch {
	return NewBatch(region.ID(from.Name), l.genesis.Signed.Hash(), entries, l.keys[from])
}

func TestOverlayFeedReachesEverybody(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	src, dst, p := l.start(sh), l.start(hk), l.start(pop)
	ctx := context.Background()
	if err := src.OfferOverlay(ctx, l.batch(sh, Entry{1_000_001, "hk", 1}, Entry{1_000_002, "ca", 1})); err != nil {
		t.Fatal(err)
	}
	lives := func(n *node, u region.UIN, home region.ID, moves uint64) func() bool {
		return func() bool {
			got, ok := n.View().Placement(u)
			return ok && got.Home == home && got.Epoch.Moves == moves
		}
	}
	p.until(t, "1000001 lives in hk", lives(p, 1_000_001, "hk", 1))
	dst.until(t, "1000001 lives in hk", lives(dst, 1_000_001, "hk", 1))
	// hk, its home now, gives it on to ca.
	if err := dst.OfferOverlay(ctx, l.batch(hk, Entry{1_000_001, "ca", 2})); err != nil {
		t.Fatal(err)
	}
	p.until(t, "1000001 lives in ca", lives(p, 1_000_001, "ca", 2))
	l.stop(pop)
	if p = l.start(pop); !lives(p, 1_000_001, "ca", 2)() || !lives(p, 1_000_002, "ca", 1)() {
		t.Fatal("a restart forgot who moved")
	}
}

func TestForgedBatchesAreRefused(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(pop)
	ctx := context.Background()
	if err := n.OfferOverlay(ctx, l.batch(sh, Entry{1_000_001, "hk", 3})); err != nil {
		t.Fatal(err)
	}
	forged := l.batch(sh, Entry{1_000_005, "hk", 1})
	forged.Entries[0].Home = "ca"
	elsewhere := NewBatch("sh", region.Hash{1}, []Entry{{1_000_005, "hk", 1}}, l.keys[sh])
	for name, c := range map[string]struct {
		b    *Batch
		kind region.Kind
	}{
		"not the region's key":     {NewBatch("sh", l.genesis.Signed.Hash(), []Entry{{1_000_005, "hk", 1}}, l.keys[hk]), region.Forbidden},
		"changed after signing":    {forged, region.Forbidden},
		"another region's owner":   {l.batch(hk, Entry{1_000_005, "hk", 1}), region.Forbidden},
		"one of them another's":    {l.batch(sh, Entry{1_000_005, "hk", 1}, Entry{2_000_005, "sh", 1}), region.Forbidden},
		"given away already":       {l.batch(sh, Entry{1_000_001, "ca", 4}), region.Forbidden},
		"stale":                    {l.batch(hk, Entry{1_000_001, "ca", 3}), region.Conflict},
		"twice in one batch":       {l.batch(sh, Entry{1_000_005, "hk", 1}, Entry{1_000_005, "ca", 2}), region.BadInput},
		"to nowhere":               {l.batch(sh, Entry{1_000_005, "xx", 1}), region.BadInput},
		"nobody's number":          {l.batch(sh, Entry{9_000_005, "hk", 1}), region.Forbidden},
		"under a world not here":   {elsewhere, region.Unavailable},
		"of a region that is none": {NewBatch("xx", l.genesis.Signed.Hash(), []Entry{{1_000_005, "hk", 1}}, l.keys[sh]), region.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			before := counted(n.metrics.forged.WithLabelValues(c.kind.String()))
			wantKind(t, n.OfferOverlay(ctx, c.b), c.kind)
			if counted(n.metrics.forged.WithLabelValues(c.kind.String())) != before+1 {
				t.Error("not counted")
			}
			if n.overlay.Len() != 1 {
				t.Error("it had an effect")
			}
		})
	}
	if status, _ := post(t, l.url(pop)+"/overlay", l.batch(sh, Entry{1_000_005, "hk", 1}).Encode()); status != 401 {
		t.Errorf("an unsigned request: %d", status)
	}
}

// After a failover the acting region gives owners away; with the world later
// moved on, a newcomer still believes the batch, because it names the world it
// was made under.
func TestBatchOfAFormerActingRegion(t *testing.T) {
	l := newLab(t, "sh", "hk", "ca")
	n := l.start(pop)
	ctx := context.Background()
	failed := l.after(l.genesis, true, failover("sh", "hk"))
	back := l.after(failed, true, failover("sh", "sh"))
	if err := n.Offer(ctx, failed, back); err != nil {
		t.Fatal(err)
	}
	b := NewBatch("hk", failed.Signed.Hash(), []Entry{{1_000_001, "ca", 1}}, l.keys[hk])
	if err := n.OfferOverlay(ctx, b); err != nil {
		t.Fatal(err)
	}
	wantKind(t, n.OfferOverlay(ctx, NewBatch("hk", back.Signed.Hash(), []Entry{{1_000_002, "ca", 1}}, l.keys[hk])), region.Forbidden)
}

func TestTornLogLosesOnlyTheTornBatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlay.log")
	o, err := openOverlay(path)
	if err != nil {
		t.Fatal(err)
	}
	id := o.id
	for i := range region.UIN(3) {
		if err := o.append(NewBatch("sh", region.Hash{}, []Entry{{i + 1, "hk", 1}}, key("sh"))); err != nil {
			t.Fatal(err)
		}
	}
	cut := o.offsets[3] - 5
	if err := o.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, cut); err != nil {
		t.Fatal(err)
	}
	if o, err = openOverlay(path); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	}()
	if o.Len() != 2 || o.id != id {
		t.Fatalf("%d entries in log %s", o.Len(), o.id)
	}
	if err := o.append(NewBatch("sh", region.Hash{}, []Entry{{3, "hk", 1}}, key("sh"))); err != nil || o.Len() != 3 {
		t.Fatal(err)
	}
}

// entries behave like a map, whatever the order of insertion.
func TestEntriesAgainstAMap(t *testing.T) {
	for seed := range int64(4) {
		r := rand.New(rand.NewSource(seed))
		var e entries
		twin := make(map[region.UIN]Entry)
		homes := []region.ID{"sh", "hk", "ca"}
		for i := range 20_000 {
			u := region.UIN(r.Int63n(30_000)) + 1
			switch seed {
			case 1:
				u = region.UIN(i + 1) // ascending
			case 2:
				u = region.UIN(20_000 - i) // descending
			case 3:
				u = region.UIN(r.Uint64() | 1) // far apart
			}
			n := Entry{u, homes[r.Intn(3)], r.Uint32() | 1}
			e.put(n)
			twin[u] = n
		}
		if e.n != len(twin) {
			t.Fatalf("seed %d: %d entries, want %d", seed, e.n, len(twin))
		}
		for u, n := range twin {
			if got, ok := e.get(u); !ok || got.Home != n.Home || got.Moves != uint64(n.Moves) {
				t.Fatalf("seed %d: %d: %v %v, want %v", seed, u, got, ok, n)
			}
			if _, ok := e.get(u + 1); ok != has(twin, u+1) {
				t.Fatalf("seed %d: %d", seed, u+1)
			}
		}
	}
}

func has(m map[region.UIN]Entry, u region.UIN) bool { _, ok := m[u]; return ok }

// Ten million must fit in 200 MB: twenty bytes each.
func TestEntriesMemory(t *testing.T) {
	const n = 300_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for name, next := range map[string]func(i int) region.UIN{
		"ascending": func(i int) region.UIN { return region.UIN(i + 1) },
		"random":    func(i int) region.UIN { return region.UIN(uint64(i+1) * 2654435761 % (10 * n)) },
	} {
		before := heap()
		e := new(entries)
		for i := range n {
			e.put(Entry{next(i), "hk", 1})
		}
		perEntry := float64(heap()-before) / float64(e.n)
		t.Logf("%s: %.1f bytes per entry", name, perEntry)
		if perEntry > 20 {
			t.Errorf("%s: ten million would take %.0f MB", name, perEntry*10)
		}
		runtime.KeepAlive(e)
	}
}

func TestBatchGolden(t *testing.T) {
	b := NewBatch("sh", region.Hash{0xab}, []Entry{{1_000_001, "hk", 2}}, key("sh"))
	const want = "686f6d696e672e6f7665726c617900" + "027368" + "ab00000000000000000000000000000000000000000000000000000000000000" + "0001" + "00000000000f4241" + "00000002" + "02686b"
	got := b.Encode()
	if hex.EncodeToString(got[:len(got)-64]) != want {
		t.Fatalf("%x", got)
	}
	if !bytes.Equal(got[len(got)-64:], b.Sig) {
		t.Fatal("the signature is not at the end")
	}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(NewBatch("sh", region.Hash{0xab}, []Entry{{1_000_001, "hk", 2}, {5, "ca", 1}}, key("sh")).Encode())
	f.Add([]byte(batchContext))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeBatch(data)
		if err != nil {
			if region.KindOf(err) != region.BadInput {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(b.Encode(), data) {
			t.Fatalf("%x reads as %x", data, b.Encode())
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, NewBatch("sh", region.Hash{}, []Entry{{1, "hk", 2}}, key("sh"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, b, err := readFrame(bytes.NewReader(data))
		if err == nil && !bytes.Equal(appendFrame(nil, b), frame) {
			t.Fatalf("%x", data)
		}
	})
}
