package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/deploy/lab/traffic"
	"github.com/homing-im/homing/deploy/lab/wan"
	"github.com/homing-im/homing/region"
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
		Lags []struct {
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

// copies says which replay does not follow its origin or, with whole, still lacks
// something. Regions that do not run are not asked.
func (w *world) copies(ctx context.Context, whole bool) error {
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
			if l.State != "live" || whole && l.Records > 0 {
				return fmt.Errorf("%s lacks %d records of %s's %s, %s %s", r, l.Records, l.Origin, l.Stream, l.State, l.Reason)
			}
		}
	}
	return nil
}

// reply is what the lab reads of an answer of HTTPDNS.
type reply struct {
	IPs    []string  `json:"ips"`
	Acting region.ID `json:"acting"`
}

// resolve asks a DNS node, where it is, for the long connection of a user (or of
// nobody known) at an address.
func (l *location) resolve(ctx context.Context, uin region.UIN, ip netip.Addr) (r reply, err error) {
	url := fmt.Sprintf("http://%s:7080/d?host=long.im.test&ver=80003&ip=%s", l.address, ip)
	if uin != 0 {
		url += "&uin=" + uin.String()
	}
	err = l.get(ctx, url, &r)
	return r, err
}

func (w *world) nameServers() []*location {
	return []*location{w.sites["dns-1"], w.sites["dns-2"]}
}

// beside is where people at the place of a site are.
func (w *world) beside(at wan.Site) netip.Addr {
	return w.sites["c-"+wan.Site(w.sites[at].place)].address
}

// answered says why a site's address is still, or not yet, among the answers of
// all DNS nodes, for people right beside it.
func (w *world) answered(ctx context.Context, at wan.Site, there bool) error {
	for _, dns := range w.nameServers() {
		r, err := dns.resolve(ctx, 0, w.beside(at))
		if err != nil {
			return err
		}
		if slices.Contains(r.IPs, w.sites[at].address.String()) != there {
			return fmt.Errorf("%s answers %q", dns.name, r.IPs)
		}
	}
	return nil
}

// answers watches the DNS nodes while who acts for a home changes.
type answers struct {
	asking sync.WaitGroup

	mu      sync.Mutex
	slowest time.Time // when the last of the name servers first answered with the successor
	errs    []error
}

// watchFor bounds how long the name servers are asked.
const watchFor = 20 * time.Second

// watch asks every DNS node all the time, until ctx ends, where a user of the
// home should go, until the answer is the successor's.
func (w *world) watch(ctx context.Context, c change, h *traffic.History) *answers {
	a := &answers{}
	var someone region.UIN
	for u, home := range h.Users() {
		if home == c.home {
			someone = u
		}
	}
	for _, dns := range w.nameServers() {
		a.asking.Go(func() {
			err := wait(ctx, watchFor, func() error {
				r, err := dns.resolve(ctx, someone, w.beside(wan.Site(c.home)))
				if err == nil && r.Acting != c.to {
					err = fmt.Errorf("%s answers %s", dns.name, r.Acting)
				}
				return err
			})
			a.mu.Lock()
			defer a.mu.Unlock()
			a.slowest = time.Now()
			a.errs = append(a.errs, err)
		})
	}
	return a
}

// all is when the slowest name server answered with the successor. It blocks
// until all have, or were asked long enough.
func (a *answers) all() (time.Time, error) {
	a.asking.Wait()
	return a.slowest, errors.Join(a.errs...)
}
