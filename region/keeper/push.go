package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"github.com/homing-im/homing/region"
)

// Report says who has a pushed world.
type Report struct {
	Version   uint64
	Hash      region.Hash
	Accepted  []string         // voters whose acceptance was collected
	Needed    int              // acceptances that make it take effect; 0 when forced
	Forced    bool             // the operator's word
	Delivered []string         // admin URLs that have it
	Failed    map[string]error // admin URLs that do not, and why
	Envelope  *region.Envelope // what was delivered; nil when too few accepted
}

// Push collects acceptances of a signed world from its parent's voters and
// delivers it to all nodes. voters and nodes are admin URLs; voters are nodes,
// so a URL may be in both. Nodes that lag are first brought to the parent from
// another node. Calls run side by side; Push blocks until every node answered
// or ctx ends. The report is there on errors, too.
//
// Errors: Unavailable when too few voters accepted, and nothing was delivered.
func Push(ctx context.Context, c *http.Client, s *region.Signed, voters, nodes []string) (Report, error) {
	p := &push{client: c, signed: s, held: make(map[string]*region.Envelope)}
	p.Version, p.Hash, p.Forced, p.Failed = s.Version, s.Hash(), s.Forced, make(map[string]error)
	everybody := union(voters, nodes)
	each(everybody, func(url string) {
		e := new(region.Envelope)
		err := getJSON(ctx, c, url+"/world", region.MaxEnvelope, e)
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case err == nil && e.Signed != nil:
			p.held[url] = e
		case errors.Is(err, errSilent): // asked once, not three times: each costs the client's timeout
			p.Failed[url] = err
		}
	})
	everybody, voters = p.answering(everybody), p.answering(voters)
	p.catchUp(ctx)
	e := &region.Envelope{Signed: s, Acceptances: []region.Acceptance{}}
	if parent := p.parent(ctx); parent != nil && s.Version > 1 {
		p.collect(ctx, voters, e, parent)
		p.Needed = parent.Majority()
		if n := e.Accepted(parent); !s.Forced && n < p.Needed {
			return p.Report, region.Errorf(region.Unavailable, "world %d has %d acceptances of %d voters, and needs %d", s.Version, n, len(parent.Voters()), p.Needed).
				WithHint("nothing has changed; bring voters back and push again, or sign it with --forced")
		}
	} else if s.Version > 1 && !s.Forced {
		return p.Report, region.Errorf(region.Unavailable, "no node that answers has a parent of world %d", s.Version).WithHint("are these the admin URLs of that world?")
	}
	if s.Forced {
		p.Needed = 0
	}
	p.Envelope = e
	body, err := json.Marshal(e)
	if err != nil {
		return p.Report, err
	}
	each(everybody, func(url string) {
		_, _, err := call(ctx, c, http.MethodPost, url+"/world", bytes.NewReader(body), 1<<16)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			p.Failed[url] = err
		} else {
			delete(p.Failed, url)
			p.Delivered = append(p.Delivered, url)
		}
	})
	return p.Report, nil
}

type push struct {
	client *http.Client
	signed *region.Signed

	mu   sync.Mutex
	held map[string]*region.Envelope // newest world per URL
	Report
}

// answering leaves out the nodes that were silent.
func (p *push) answering(urls []string) (out []string) {
	for _, u := range urls {
		if p.Failed[u] == nil {
			out = append(out, u)
		}
	}
	return out
}

// source returns a URL whose newest world is a parent of the pushed one, or is
// that one.
func (p *push) source() string {
	for url, e := range p.held {
		h := e.Signed.Hash()
		if h == p.Hash {
			return url
		}
		for _, parent := range p.signed.Parents {
			if h == parent {
				return url
			}
		}
	}
	return ""
}

// parent returns the world whose voters count.
func (p *push) parent(ctx context.Context) *region.World {
	from := p.source()
	if from == "" {
		return nil
	}
	links := []*region.Envelope{p.held[from]}
	if p.held[from].Signed.Hash() == p.Hash { // pushed before: its parent is further down the chain
		links = nil
		if err := getJSON(ctx, p.client, from+"/world/chain", maxChain*region.MaxEnvelope, &links); err != nil {
			return nil
		}
	}
	for _, e := range links {
		for _, h := range p.signed.Parents {
			if e.Signed != nil && e.Signed.Hash() == h {
				if w, err := e.Signed.Decode(); err == nil {
					return w
				}
			}
		}
	}
	return nil
}

// catchUp brings nodes behind the parent to it. What fails here fails again at
// delivery, and is reported there.
func (p *push) catchUp(ctx context.Context) {
	from := p.source()
	if from == "" {
		return
	}
	to := p.held[from].Signed.Version
	var behind []string
	for url, e := range p.held {
		if e.Signed.Version < to {
			behind = append(behind, url)
		}
	}
	each(behind, func(url string) {
		for after := p.held[url].Signed.Version; after < to; {
			var missing []*region.Envelope
			if err := getJSON(ctx, p.client, chainURL(from, after), maxChain*region.MaxEnvelope, &missing); err != nil || len(missing) == 0 {
				return
			}
			for _, e := range missing {
				body, err := json.Marshal(e)
				if err == nil {
					_, _, err = call(ctx, p.client, http.MethodPost, url+"/world", bytes.NewReader(body), 1<<16)
				}
				if err != nil || e.Signed == nil || e.Signed.Version <= after {
					return
				}
				after = e.Signed.Version
			}
		}
	})
}

func (p *push) collect(ctx context.Context, voters []string, e *region.Envelope, parent *region.World) {
	body, err := json.Marshal(p.signed)
	if err != nil {
		return
	}
	each(voters, func(url string) {
		data, _, err := call(ctx, p.client, http.MethodPost, url+"/world/accept", bytes.NewReader(body), 1<<16)
		var a region.Acceptance
		if err == nil {
			err = json.Unmarshal(data, &a)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			p.Failed[url] = err
			return
		}
		for _, v := range parent.Voters() {
			if a.World == p.Hash && a.Valid(v) {
				e.Acceptances = append(e.Acceptances, a)
				p.Accepted = append(p.Accepted, v.Name)
			}
		}
	})
}

// each runs f for all URLs side by side and waits.
func each(urls []string, f func(string)) {
	var wg sync.WaitGroup
	for _, u := range urls {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f(u)
		}()
	}
	wg.Wait()
}

func union(a, b []string) []string {
	var out []string
	seen := make(map[string]bool)
	for _, l := range [][]string{a, b} {
		for _, u := range l {
			if !seen[u] {
				seen[u] = true
				out = append(out, u)
			}
		}
	}
	return out
}

// Newest asks one node for its newest world. The answer is not verified.
func Newest(ctx context.Context, c *http.Client, url string) (*region.Envelope, error) {
	e := new(region.Envelope)
	if err := getJSON(ctx, c, url+"/world", region.MaxEnvelope, e); err != nil {
		return nil, err
	}
	if e.Signed == nil {
		return nil, region.Errorf(region.BadInput, "%s answers without a world", url)
	}
	return e, nil
}
