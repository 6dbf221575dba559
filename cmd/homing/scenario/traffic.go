package scenario

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// traffic sends all the time, and remembers what was acknowledged. A send that
// is not answered is tried again under the same ID, as an app would.
type traffic struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	acked []delivery
	gap   time.Duration // longest that one send took
	who   string        // took that long
}

// delivery is an acknowledged message.
type delivery struct {
	id       []byte
	from, to *user
}

// tempo is the pause between two messages of one sender.
const tempo = 10 * time.Millisecond

// flow is who sends to whom.
type flow struct{ from, to *user }

func startTraffic(flows ...flow) *traffic {
	ctx, stop := context.WithCancel(context.Background())
	t := &traffic{stop: stop}
	for _, f := range flows {
		t.running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				t.send(ctx, f, fmt.Sprintf("message %d", i))
				wait := time.NewTimer(tempo)
				select {
				case <-ctx.Done():
				case <-wait.C:
				}
				wait.Stop()
			}
		})
	}
	return t
}

func (t *traffic) send(ctx context.Context, f flow, text string) {
	id, began := client.NewKey(), time.Now()
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		r, err := f.from.client.Send(once, &v1.SendRequest{To: uint64(f.to.id.UIN), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: text}}})
		cancel()
		if err == nil {
			t.mu.Lock()
			t.acked = append(t.acked, delivery{r.Id, f.from, f.to})
			if d := time.Since(began); d > t.gap {
				t.gap, t.who = d, f.from.name
			}
			t.mu.Unlock()
			return
		}
		pause := time.NewTimer(5 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// count says how much was acknowledged, and how long the slowest send took.
func (t *traffic) count() (int, time.Duration, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.acked), t.gap, t.who
}

// end stops sending, and returns what was acknowledged.
func (t *traffic) end() []delivery {
	t.stop()
	t.running.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.acked
}

// flowing waits until so many more messages were acknowledged.
func (t *traffic) flowing(ctx context.Context, more int) error {
	before, _, _ := t.count()
	return eventually(ctx, func(context.Context) error {
		if n, _, _ := t.count(); n < before+more {
			return fmt.Errorf("%d of %d messages were acknowledged", n-before, more)
		}
		return nil
	})
}

// everywhereOnce checks that each message is exactly once in the inbox of its
// sender and of its recipient, and that inboxes are dense.
func everywhereOnce(ctx context.Context, messages []delivery) error {
	want := map[*user]map[string]int{}
	for _, d := range messages {
		for _, u := range []*user{d.from, d.to} {
			if want[u] == nil {
				want[u] = map[string]int{}
			}
			want[u][string(d.id)] = 0
		}
	}
	for u, ids := range want {
		err := eventually(ctx, func(ctx context.Context) error {
			clear := map[string]int{}
			last := uint64(0)
			err := u.client.SyncPages(ctx, nil, func(p *v1.SyncResponse) error {
				for _, m := range p.Messages {
					if m.Sequence != last+1 {
						return fmt.Errorf("number %d of %s's inbox follows %d", m.Sequence, u.name, last)
					}
					last = m.Sequence
					clear[string(m.Id)]++
				}
				return nil
			})
			if err != nil {
				return err
			}
			lacks := 0
			for id := range ids {
				switch n := clear[id]; {
				case n == 0:
					lacks++
				case n > 1:
					return fmt.Errorf("a message is %d times in %s's inbox", n, u.name)
				}
			}
			if lacks > 0 {
				return fmt.Errorf("%s lacks %d of %d messages that were acknowledged", u.name, lacks, len(ids))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
