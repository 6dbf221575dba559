package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/deploy/lab/traffic"
	"github.com/homing-im/homing/deploy/lab/wan"
)

// outcome reads the report that a change left on disk.
func (w *world) outcome(said string, into any) error {
	for line := range strings.Lines(said) {
		if file, ok := strings.CutPrefix(strings.TrimSpace(line), "report: "); ok && strings.HasSuffix(file, ".json") {
			if !filepath.IsAbs(file) {
				file = filepath.Join(w.dir, file)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			return json.Unmarshal(b, into)
		}
	}
	return fmt.Errorf("the command names no report: %s", said)
}

// status is what the lab reads of GET /status.
type status struct {
	Region *struct {
		Admitting bool   `json:"admitting"`
		Refuses   string `json:"refuses"`
		Lags      []struct {
			Origin  string `json:"origin"`
			Stream  string `json:"stream"`
			Records uint64 `json:"records"`
			State   string `json:"state"`
			Reason  string `json:"reason"`
		} `json:"lags"`
	} `json:"region"`
}

func (w *world) status(ctx context.Context, at string) (*status, error) {
	s := w.sites[wan.Site(at)]
	st := new(status)
	if err := s.get(ctx, fmt.Sprintf("http://%s:7400/status", s.address), st); err != nil {
		return nil, err
	}
	if st.Region == nil {
		return nil, fmt.Errorf("%s says nothing of its region", at)
	}
	return st, nil
}

// caughtUp says which copy still lacks something; regions that do not run are
// not asked.
func (w *world) caughtUp(ctx context.Context) error {
	for _, r := range vocabulary().Regions {
		w.mu.Lock()
		runs := w.processes[r] != nil
		w.mu.Unlock()
		if !runs {
			continue
		}
		st, err := w.status(ctx, r)
		if err != nil {
			return err
		}
		if len(st.Region.Lags) == 0 {
			return fmt.Errorf("%s replays nobody", r)
		}
		for _, l := range st.Region.Lags {
			if l.State != "live" || l.Records > 0 {
				return fmt.Errorf("%s lacks %d records of %s's %s, %s %s", r, l.Records, l.Origin, l.Stream, l.State, l.Reason)
			}
		}
	}
	return nil
}

// fenced says why a region still admits writes.
func (w *world) fenced(ctx context.Context, at string) error {
	st, err := w.status(ctx, at)
	if err == nil && st.Region.Admitting {
		err = fmt.Errorf("%s admits writes", at)
	}
	return err
}

// loseQueue kills a region's queue, wipes its disk, and starts it again.
func (w *world) loseQueue(ctx context.Context, at string) error {
	name := at + "-queue"
	if killed, err := w.killOne(name); err != nil || !killed {
		return errors.Join(err, fmt.Errorf("%s: killed is %v", name, killed))
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "state", name)); err != nil {
		return err
	}
	if err := w.run(w.sites[wan.Site(at)], name); err != nil {
		return err
	}
	return w.ready(ctx, wan.Site(at))
}

// resolve asks a DNS node for the long connection of a user at an address.
func (l *location) resolve(ctx context.Context, uin, ip string) ([]string, error) {
	var a struct {
		IPs []string `json:"ips"`
	}
	err := l.get(ctx, fmt.Sprintf("http://%s:7080/d?host=long.im.test&uin=%s&ver=80003&ip=%s", l.address, uin, ip), &a)
	return a.IPs, err
}

func (w *world) nameServers() []*location {
	return []*location{w.sites["dns-1"], w.sites["dns-2"]}
}

// answered says why a site's address is still, or not yet, among the answers of
// all DNS nodes, for people right beside it.
func (w *world) answered(ctx context.Context, at wan.Site, there bool) error {
	s := w.sites[at]
	for _, dns := range w.nameServers() {
		got, err := dns.resolve(ctx, "", w.sites["c-"+wan.Site(s.place)].address.String())
		if err != nil {
			return err
		}
		if slices.Contains(got, s.address.String()) != there {
			return fmt.Errorf("%s answers %q", dns.name, got)
		}
	}
	return nil
}

// answers watches the DNS nodes while who acts for a home changes.
type answers struct {
	mu    sync.Mutex
	first map[wan.Site]time.Duration // from the command to the first answer with the successor
	want  int
	last  map[wan.Site]string
}

// watchFor bounds how long the name servers are asked.
const watchFor = 20 * time.Second

// watch asks every DNS node all the time where a user of the home, far from
// POPs that could hide it, should go, until the successor comes before the one
// that acted.
func (w *world) watch(ctx context.Context, c change, h *traffic.History) *answers {
	a := &answers{first: map[wan.Site]time.Duration{}, last: map[wan.Site]string{}, want: len(w.nameServers())}
	var uin string
	for u, home := range h.Users() {
		if home == c.home {
			uin = u.String()
		}
	}
	to := w.sites[wan.Site(c.to)].address.String()
	for _, dns := range w.nameServers() {
		w.watching.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, watchFor)
			defer cancel()
			err := wait(ctx, watchFor, func() error {
				got, err := dns.resolve(ctx, uin, w.sites["c-"+wan.Site(w.sites[wan.Site(c.home)].place)].address.String())
				if err == nil && !slices.Contains(got, to) {
					err = fmt.Errorf("it answers %q", got)
				}
				return err
			})
			a.mu.Lock()
			defer a.mu.Unlock()
			if err == nil {
				a.first[dns.name] = time.Since(c.at)
			} else {
				a.last[dns.name] = err.Error()
			}
		})
	}
	return a
}

// took is how long the slowest name server needed, from the command.
func (a *answers) took() (time.Duration, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var slowest time.Duration
	for _, d := range a.first {
		slowest = max(slowest, d)
	}
	if len(a.first) < a.want {
		return 0, fmt.Errorf("of %d name servers %d answer with the successor: %v", a.want, len(a.first), a.last)
	}
	return slowest, nil
}
