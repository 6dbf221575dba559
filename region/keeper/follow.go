package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// askedPerRound is how many nodes one round asks at most: enough to get past a
// few that lie or are down, few enough that a false hint costs little.
const askedPerRound = 3

// fetchLoop asks other nodes for worlds: at every hint, at most once per
// FetchInterval, and now and then without one.
func (k *Keeper) fetchLoop(ctx context.Context) {
	poll := time.NewTimer(jitter(k.o.PollInterval))
	defer poll.Stop()
	if k.View() == nil {
		poll.Reset(0)
	}
	for {
		var wanted uint64
		select {
		case <-ctx.Done():
			return
		case wanted = <-k.hints:
			if v := k.View(); wanted != 0 && v != nil && wanted < v.World.Version {
				continue
			}
		case <-poll.C:
		}
		k.fetch(ctx, wanted)
		next := k.o.PollInterval
		if k.View() == nil {
			next = k.o.FetchInterval
		}
		poll.Reset(jitter(next))
		select {
		case <-ctx.Done():
			return
		case <-time.After(k.o.FetchInterval):
		}
	}
}

// jitter keeps nodes that started together from asking together.
func jitter(d time.Duration) time.Duration { return d - d/4 + rand.N(d/2+1) }

// fetch is one round; it ends early when the wanted version is there.
func (k *Keeper) fetch(ctx context.Context, wanted uint64) {
	k.metrics.rounds.Inc()
	urls := k.others()
	rand.Shuffle(len(urls), func(i, j int) { urls[i], urls[j] = urls[j], urls[i] })
	for _, u := range urls[:min(len(urls), askedPerRound)] {
		if err := k.fetchFrom(ctx, u); err != nil {
			k.log.Debug("no worlds from there", "url", u, "err", err)
		}
		if v := k.View(); wanted != 0 && v != nil && v.World.Version >= wanted {
			return
		}
	}
}

// others returns the admin URLs of all other nodes of the world, or the seeds.
func (k *Keeper) others() []string {
	v := k.View()
	if v == nil {
		return append([]string(nil), k.o.Seeds...)
	}
	self, _ := peer.AdminOf(v.World, k.o.Self)
	var urls []string
	for _, a := range AdminURLs(v.World) {
		if a != region.AdminURL(self) {
			urls = append(urls, a)
		}
	}
	return urls
}

// AdminURLs returns the admin URLs of all nodes of a world.
func AdminURLs(w *region.World) []string {
	var urls []string
	add := func(a string) {
		if a != "" {
			urls = append(urls, region.AdminURL(a))
		}
	}
	for i := range w.Regions {
		add(w.Regions[i].Admin)
	}
	for i := range w.POPs {
		add(w.POPs[i].Admin)
	}
	for _, nodes := range [][]region.Node{w.DNS, w.IDs} {
		for i := range nodes {
			add(nodes[i].Admin)
		}
	}
	return urls
}

// VoterURLs returns the admin URLs of the voters of a world.
func VoterURLs(w *region.World) []string {
	var urls []string
	for _, v := range w.Voters() {
		if id, err := peer.ParseIdentity(v.Name); err == nil {
			if a, ok := peer.AdminOf(w, id); ok {
				urls = append(urls, region.AdminURL(a))
			}
		}
	}
	return urls
}

// fetchFrom asks one node for the worlds this one lacks and offers them. It
// returns an error when some could not be got or understood; those that lost a
// fork are none.
func (k *Keeper) fetchFrom(ctx context.Context, url string) error {
	for {
		path := "/world/chain"
		before := k.View()
		if before != nil {
			path += fmt.Sprintf("?after=%d&hash=%s", before.World.Version, before.Hash)
		}
		var all []*region.Envelope
		if err := getJSON(ctx, k.client, url+path, maxChain*region.MaxEnvelope, &all); err != nil {
			return err
		}
		if err := k.Offer(ctx, all...); err != nil && region.KindOf(err) != region.Conflict {
			return err
		}
		if len(all) < maxChain || k.View() == before {
			return nil
		}
	}
}

// errSilent marks a node that could not be reached at all.
var errSilent = errors.New("no answer")

// call sends a request and returns the body of a 200; the text of anything
// else is the error.
func call(ctx context.Context, c *http.Client, method, url string, body io.Reader, max int64) ([]byte, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, nil, region.Errorf(region.BadInput, "%q is no URL", url).WithCause(err)
	}
	res, err := c.Do(r)
	if err != nil {
		return nil, nil, region.Errorf(region.Unavailable, "%s does not answer", url).WithCause(errors.Join(errSilent, err))
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(res.Body, max+1))
	switch {
	case err != nil:
		return nil, nil, region.Errorf(region.Unavailable, "%s broke off", url).WithCause(err)
	case int64(len(data)) > max:
		return nil, nil, region.Errorf(region.TooLarge, "the answer of %s is over %d bytes", url, max)
	case res.StatusCode != http.StatusOK:
		return nil, nil, region.Errorf(kindOf(res.StatusCode), "%s: %.500s", url, strings.TrimSpace(string(data)))
	}
	return data, res.Header, nil
}

func kindOf(status int) region.Kind {
	switch status {
	case http.StatusBadRequest:
		return region.BadInput
	case http.StatusUnauthorized:
		return region.Unauthenticated
	case http.StatusForbidden:
		return region.Forbidden
	case http.StatusNotFound:
		return region.NotFound
	case http.StatusConflict:
		return region.Conflict
	case http.StatusNotImplemented:
		return region.Unsupported
	}
	return region.Unavailable
}

func getJSON(ctx context.Context, c *http.Client, url string, max int64, v any) error {
	data, _, err := call(ctx, c, http.MethodGet, url, nil, max)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return region.Errorf(region.BadInput, "the answer of %s is not the JSON expected", url).WithCause(err)
	}
	return nil
}

func chainURL(url string, after uint64) string {
	return fmt.Sprintf("%s/world/chain?after=%d", url, after)
}
