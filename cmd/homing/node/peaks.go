package node

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/region"
)

const (
	// peakInterval is how often connections are counted: a peak that is shorter
	// is one that nobody has to plan for.
	peakInterval = time.Second

	// peakAsk is every how many counts the other regions are asked for theirs, so
	// that it is known when one of them is gone.
	peakAsk = 10

	// peakHours is how long a peak counts: a day has one, and a week a few.
	peakHours = 7 * 24
)

// peak is the highest count of the last peakHours. The zero value has counted
// nothing.
type peak struct {
	hours [peakHours]struct {
		hour int64 // since 1970
		most int
	}
}

func (k *peak) add(now time.Time, n int) {
	hour := now.Unix() / 3600
	at := &k.hours[hour%peakHours]
	if at.hour != hour {
		at.hour, at.most = hour, 0
	}
	at.most = max(at.most, n)
}

func (k *peak) most(now time.Time) (n int) {
	oldest := now.Unix()/3600 - peakHours
	for _, h := range k.hours {
		if h.hour > oldest {
			n = max(n, h.most)
		}
	}
	return n
}

// peaks are those of all regions: this one counts its own, and remembers what the
// others say of theirs.
type peaks struct {
	mu     sync.Mutex
	own    peak
	others map[string]int
}

// read returns the own peak, and the last that the others told.
func (k *peaks) read(now time.Time) (own int, others map[string]int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	others = map[string]int{}
	for id, n := range k.others {
		others[id] = n
	}
	return k.own.most(now), others
}

// startPeaks counts until the node closes.
func (r *regionRole) startPeaks(self region.ID) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.peaks = &peaks{others: map[string]int{}}
	go func() {
		defer close(done)
		tick := time.NewTicker(peakInterval)
		defer tick.Stop()
		for i := 0; ; i++ {
			if r.access != nil {
				_, n := r.access.Online()
				r.peaks.mu.Lock()
				r.peaks.own.add(time.Now(), n)
				r.peaks.mu.Unlock()
			}
			if i%peakAsk == 0 {
				r.askPeaks(ctx, self)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	r.node.onClose("peaks", func(context.Context) error { stop(); <-done; return nil })
}

func (r *regionRole) askPeaks(ctx context.Context, self region.ID) {
	for _, other := range r.node.world.View().World.Regions {
		if other.ID == self || other.Admin == "" {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		n, err := r.askPeak(ask, other.Admin)
		cancel()
		if err != nil {
			continue // what it said last still counts
		}
		r.peaks.mu.Lock()
		r.peaks.others[string(other.ID)] = n
		r.peaks.mu.Unlock()
	}
}

func (r *regionRole) askPeak(ctx context.Context, admin string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, region.AdminURL(admin)+"/status", nil)
	if err != nil {
		return 0, err
	}
	res, err := r.node.peers.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	var st observe.NodeStatus
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&st); err != nil {
		return 0, err
	}
	if st.Region == nil {
		return 0, region.Errorf(region.Unavailable, "it says nothing of a region")
	}
	return st.Region.Peak, nil
}
