package traffic

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// user is one person with a phone.
type user struct {
	group  *group
	people People
	uin    region.UIN
	id     client.Identity
	phones int            // so far
	client *client.Client // nil while the phone is off

	stop    chan struct{}
	pulling sync.WaitGroup

	mu       sync.Mutex // held while a snapshot is used
	snapshot []byte
}

const (
	// pullEvery is how often an app looks by itself: a notice may be lost.
	pullEvery = time.Second
	// backoff keeps a cut of seconds from becoming one of half a minute.
	backoff = 2 * time.Second
	// settle is how often the region is asked what its backup holds.
	settle = 2 * time.Second
	// attempt bounds one connection attempt: packets to a dead site vanish.
	attempt = 3 * time.Second
)

// on gives the user a phone without a memory, and connects it.
func (u *user) on(ctx context.Context) error {
	u.phones++
	g := u.group
	c, err := client.New(client.Options{
		Zone: g.config.Zone, HTTPDNS: g.config.HTTPDNS, DNS: g.config.DNS, Short: g.config.Short[u.people.Home], RootCAs: g.roots,
		Identity: u.id, ClientVersion: 80003, Platform: "lab", Dir: filepath.Join(g.config.Dir, fmt.Sprint(u.uin, "-", u.phones)),
		BackoffMax: backoff, Settle: settle, ConnectTimeout: attempt,
		OnEvent: u.happened,
	})
	if err != nil {
		return err
	}
	u.client, u.snapshot, u.stop = c, nil, make(chan struct{})
	u.pulling.Go(u.look)
	if err := c.Connect(ctx); err != nil {
		return fmt.Errorf("connecting %d of %s: %w", u.uin, u.people.Home, err)
	}
	return nil
}

// off switches the phone off for good, if there is one.
func (u *user) off() {
	if u.client == nil {
		return
	}
	close(u.stop)
	u.id = u.client.Identity() // a login that the next phone shares
	_ = u.client.Close()
	u.pulling.Wait()
	u.client = nil
}

func (u *user) happened(e client.Event) {
	if e.Kind == client.Connected || e.Kind == client.Rehomed {
		u.group.tell(Event{Kind: Connected, User: u.uin, Home: u.people.Home, Region: e.Region, POP: e.POP})
	}
}

// send writes to anybody, and waits before the next message.
func (u *user) send(ctx context.Context, stop <-chan struct{}) {
	// The first is at any time, so that people do not march in step.
	wait := rand.N(u.people.Every)
	for {
		pause := time.NewTimer(wait)
		select {
		case <-stop:
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		u.sendOne(ctx)
		wait = u.people.Every
	}
}

func (u *user) sendOne(ctx context.Context) {
	to := u.group.peers[rand.IntN(len(u.group.peers))]
	if to == u.uin {
		return
	}
	began := time.Now()
	before, _, was := u.client.Where()
	r, err := u.client.Send(ctx, &v1.SendRequest{To: uint64(to), Body: &v1.Body{Kind: &v1.Body_Text{Text: "said in the lab"}}})
	e := Event{Kind: Acked, User: u.uin, Home: u.people.Home, To: to, Took: time.Since(began)}
	switch {
	case err == nil:
		e.ID, e.Mark = hex.EncodeToString(r.Id), r.Mark.GetSequence()
		if after, _, is := u.client.Where(); was && is && before == after {
			e.Region = after
		}
	case ctx.Err() != nil:
		return
	default: // Send waits out whatever is retryable
		e.Kind, e.Text = Refused, err.Error()
	}
	u.group.tell(e)
}

// look pulls when there is a notice, and now and then without one.
func (u *user) look() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with look, which cancels
		select {
		case <-u.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(pullEvery)
	defer tick.Stop()
	for {
		select {
		case <-u.stop:
			return
		case <-u.client.Notices():
		case <-tick.C:
		}
		once, done := context.WithTimeout(ctx, 5*time.Second)
		u.pull(once)
		done()
	}
}

// pull brings what is new since the last snapshot. What fails is asked again by
// the next one.
func (u *user) pull(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	changes, err := u.client.Sync(ctx, u.snapshot)
	if err != nil {
		return
	}
	u.snapshot = changes.Snapshot
	if len(changes.Messages) == 0 {
		return
	}
	ids := make([]string, len(changes.Messages))
	for i, m := range changes.Messages {
		ids[i] = hex.EncodeToString(m.Id)
	}
	u.group.tell(Event{Kind: Pulled, User: u.uin, IDs: ids})
}

// inbox reads everything, and checks that its numbers are dense.
func (u *user) inbox(ctx context.Context, round int) {
	e := Event{Kind: Inbox, User: u.uin, Home: u.people.Home, Round: round, IDs: []string{}}
	last := uint64(0)
	err := u.client.SyncPages(ctx, nil, func(p *v1.SyncResponse) error {
		for _, m := range p.Messages {
			if m.Sequence != last+1 && e.Text == "" {
				e.Text = fmt.Sprintf("number %d follows %d", m.Sequence, last)
			}
			last = m.Sequence
			e.IDs = append(e.IDs, hex.EncodeToString(m.Id))
		}
		return nil
	})
	if err != nil {
		e.Text = "reading it: " + err.Error()
	}
	u.group.tell(e)
}
