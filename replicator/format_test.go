package replicator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
)

// older is how a region of an older version sees what another one writes: batches
// of one owner are in a format that it does not know, wherever it reads them.
type older struct {
	origin region.ID
	owner  region.UIN

	mu    sync.Mutex
	asked map[replicator.TopicPartition]int // fetches
}

// see returns a batch as the region reads it.
func (o *older) see(value []byte) []byte {
	b, err := journal.Decode(value)
	if err != nil || b.Origin != o.origin || b.Owner != o.owner {
		return value
	}
	value = bytes.Clone(value)
	value[0] = journal.Format + 1
	return value
}

func (o *older) count(log replicator.TopicPartition) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[log]
}

type olderQueue struct {
	replicator.Queue
	*older
}

func (q olderQueue) Fetch(ctx context.Context, at []replicator.FetchAt, wait time.Duration) ([]replicator.Fetched, error) {
	q.mu.Lock()
	for _, a := range at {
		q.asked[a.TopicPartition]++
	}
	q.mu.Unlock()
	got, err := q.Queue.Fetch(ctx, at, wait)
	for i := range got {
		for j := range got[i].Messages {
			got[i].Messages[j].Value = q.see(got[i].Messages[j].Value)
		}
	}
	return got, err
}

// transport has what other regions' journals answer seen in the same way.
func (o *older) transport(t http.RoundTripper) http.RoundTripper {
	if o == nil {
		return t
	}
	return olderTransport{t, o}
}

type olderTransport struct {
	http.RoundTripper
	*older
}

func (t olderTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(r)
	if err != nil || r.URL.Path != "/journal" || res.StatusCode != http.StatusOK {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	var seen []byte
	for len(body) >= 4 {
		n := binary.BigEndian.Uint32(body)
		seen = append(append(seen, body[:4]...), t.see(body[4:4+n])...)
		body = body[4+n:]
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(seen)), int64(len(seen))
	return res, err
}

// TestNewerFormat upgrades a region of three before the others, and it writes a
// format that they do not read, in one partition. What those read of that
// partition's streams stops right before it, says so, and is not asked for all the
// time; nothing else stops. Each goes on from there when it is upgraded too.
func TestNewerFormat(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	sh, hk, ca := w.regions["sh"], w.regions["hk"], w.regions["ca"]
	owner := user("sh", 11)
	in := region.PartitionOf(owner, partitions)
	for _, r := range []*testRegion{hk, ca} {
		r.older = &older{origin: "sh", owner: owner, asked: map[replicator.TopicPartition]int{}}
	}
	w.start()
	n := 0
	write := func(until int) {
		for ; n < until; n++ {
			for _, r := range w.regions {
				r.write(n)
			}
		}
	}
	write(60)

	// waits reports how a region does not wait as it has to, or nil.
	waits := func(r *testRegion) error {
		for _, l := range r.Lag() {
			for _, p := range l.Partitions {
				if l.Origin != "sh" {
					continue
				}
				if p.Partition != in {
					for _, h := range sh.store.Head(p.Partition).Streams {
						if h.Stream == l.Stream && (p.State == replicator.StateUnreadable || p.Position < h.Last) {
							return fmt.Errorf("%s of sh/%d at %s is %s at %d of %d", l.Stream, p.Partition, r.id, p.State, p.Position, h.Last)
						}
					}
					continue
				}
				before := sh.before(t, l.Stream, in, owner)
				switch {
				case p.State != replicator.StateUnreadable || p.Position != before || !strings.Contains(p.Reason, "upgrade"):
					return fmt.Errorf("%s of sh/%d at %s is %s (%s) at %d, want unreadable after %d", l.Stream, p.Partition, r.id, p.State, p.Reason, p.Position, before)
				case l.State != replicator.StateUnreadable || l.Records == 0:
					return fmt.Errorf("%s of sh at %s is %s, %d records behind", l.Stream, r.id, l.State, l.Records)
				}
			}
		}
		return nil
	}
	eventually(t, func() error { return waits(hk) })
	eventually(t, func() error { return waits(ca) })
	full := replicator.TopicPartition{Topic: journal.Topic("sh", journal.Full), Partition: in}
	before := hk.older.count(full)
	write(120) // that others go on is seen again
	eventually(t, func() error { return waits(hk) })
	eventually(t, func() error { return waits(ca) })
	if again := hk.older.count(full) - before; again > 2 { // what was under way
		t.Errorf("the queue was asked %d times for what cannot be read", again)
	}
	for _, pair := range [][2]*testRegion{{hk, sh}, {hk, ca}, {ca, sh}, {ca, hk}} {
		eventually(t, func() error { return w.equal(pair[0], pair[1]) })
	}

	for _, r := range []*testRegion{hk, ca} {
		r.stopReplicator()
		r.older = nil
		r.startReplicator()
		eventually(t, func() error { return w.equal(sh, r) })
		if r == hk {
			if err := waits(ca); err != nil {
				t.Error(err)
			}
		}
	}
	w.settle()
	w.executedOnce(n)
}

// before returns the last sequence of a stream before the first batch of an owner.
func (r *testRegion) before(t *testing.T, s journal.Stream, p region.Partition, owner region.UIN) (last uint64) {
	batches, err := r.store.Journal(context.Background(), p, s, 1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		if b.Owner == owner {
			break
		}
		last = b.Last()
	}
	return last
}
