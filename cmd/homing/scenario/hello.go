package scenario

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/homing-im/homing/cmd/homing/demo"
	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/answer"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// hello is the first story: three users in three regions find each other.
type hello struct {
	demo *demo.Demo
	at   *endpoints.Endpoints

	probes            map[string]client.Identity // by region
	alice, bob, carol client.Identity
	a, b, c           *client.Client
	greeting          *v1.SendResponse
	group             region.UIN
}

const greetingID, greetingText = "greeting-1", "hello from Shanghai"

func (h *hello) steps() []Step {
	const quick, slow = 10 * time.Second, 20 * time.Second
	return []Step{
		{"dns", quick, h.resolve},
		{"epoch", quick, h.epoch},
		{"key", quick, h.key},
		{"register", quick, h.register},
		{"ids", quick, h.handles},
		{"pop", slow, h.connectThroughPOP},
		{"redirect", slow, h.redirected},
		{"send", quick, h.send},
		{"inbox", quick, h.arrives},
		{"retry", quick, h.retried},
		{"queue", quick, h.queued},
		{"copies", slow, h.copies},
		{"group", slow, h.groupMessage},
		{"thief", quick, h.stolenTicket},
		{"forgery", quick, h.forgedWorld},
		{"explain", quick, h.explained},
	}
}

func (h *hello) close() {
	for _, c := range []*client.Client{h.a, h.b, h.c} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// httpDNS asks where a client should connect.
func (h *hello) httpDNS(ctx context.Context, path string, q url.Values) (map[string]any, error) {
	b, err := fetch(ctx, h.at.HTTPDNS+path+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(b, &m)
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	_, b, err := request(ctx, url)
	return b, err
}

func request(ctx context.Context, url string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return resp, b, err
}

func strs(v any) []string {
	var out []string
	l, _ := v.([]any)
	for _, x := range l {
		out = append(out, fmt.Sprint(x))
	}
	return out
}

// resolve: a client in Hangzhou and one in North America get POPs near them,
// and DNS over UDP says what HTTPDNS says.
func (h *hello) resolve(ctx context.Context) (string, error) {
	host := "long." + h.at.Zone
	var seen []string
	for _, place := range []struct{ ip, near string }{{"223.5.5.5", "sh"}, {"8.8.8.8", "ca"}} {
		m, err := h.httpDNS(ctx, "/d", url.Values{"host": {host}, "ip": {place.ip}})
		if err != nil {
			return "", err
		}
		pops := strs(m["pops"])
		if len(pops) == 0 {
			return "", fmt.Errorf("no POP for %s: %v", place.ip, m)
		}
		if near := h.at.POPs[pops[0]].Near; near != place.near {
			return "", fmt.Errorf("%s is sent to %s near %s, want one near %s", place.ip, pops[0], near, place.near)
		}
		seen = append(seen, place.ip+" to "+pops[0])
	}
	name := "u-1000001.v-80003." + host
	m, err := h.httpDNS(ctx, "/d", url.Values{"host": {host}, "uin": {"1000001"}, "ver": {"80003"}})
	if err != nil {
		return "", err
	}
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, h.at.DNS)
	}}
	udp, err := r.LookupHost(ctx, name)
	if err != nil {
		return "", err
	}
	ips := strs(m["ips"])
	slices.Sort(udp)
	slices.Sort(ips)
	if !slices.Equal(udp, ips) {
		return "", fmt.Errorf("DNS says %v, HTTPDNS %v", udp, ips)
	}
	if err := h.signedAnswer(ctx, host); err != nil {
		return "", err
	}
	return strings.Join(seen, ", ") + "; UDP and HTTPDNS agree, and the answer is signed", nil
}

// signedAnswer waits for an answer that a region's key proves: a DNS node that has
// just started may not have its grant yet.
func (h *hello) signedAnswer(ctx context.Context, host string) error {
	keys, err := h.at.AnswerKeys()
	if err != nil {
		return err
	}
	if len(keys) != len(h.at.Regions) {
		return fmt.Errorf("the keys of %d regions are known, of %d", len(keys), len(h.at.Regions))
	}
	for {
		target := "/d?" + url.Values{"host": {host}, answer.Nonce: {rand.Text()}}.Encode()
		resp, b, err := request(ctx, h.at.HTTPDNS+target)
		if err != nil {
			return err
		}
		if err = answer.Verify(keys, resp.Header.Get(answer.Header), target, b, time.Now()); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (h *hello) register(ctx context.Context) (string, error) {
	for _, u := range []struct {
		id           *client.Identity
		region, name string
	}{{&h.alice, "sh", "Alice"}, {&h.bob, "hk", "Bob"}, {&h.carol, "ca", "Carol"}} {
		id, err := client.Register(ctx, http.DefaultClient, h.at.Regions[u.region].Short, u.name, "cli")
		if err != nil {
			return "", fmt.Errorf("%s in %s: %w", u.name, u.region, err)
		}
		if string(id.Region) != u.region {
			return "", fmt.Errorf("%s asked %s and was registered in %s", u.name, u.region, id.Region)
		}
		*u.id = id
	}
	return fmt.Sprintf("Alice %d in sh, Bob %d in hk, Carol %d in ca", h.alice.UIN, h.bob.UIN, h.carol.UIN), nil
}

func (h *hello) client(id client.Identity, direct string) (*client.Client, error) {
	pool, err := pki.Pool(h.at.CACert)
	if err != nil {
		return nil, err
	}
	o := client.Options{Zone: h.at.Zone, RootCAs: pool, Identity: id, ClientVersion: 80003, Platform: "cli", Short: h.at.Regions[string(id.Region)].Short}
	if direct == "" {
		o.HTTPDNS, o.DNS = h.at.HTTPDNS, h.at.DNS
		if o.AnswerKeys, err = h.at.AnswerKeys(); err != nil {
			return nil, err
		}
	} else {
		a, err := netip.ParseAddrPort(direct)
		if err != nil {
			return nil, err
		}
		o.Fallback = []netip.AddrPort{a}
	}
	return client.New(o)
}

func (h *hello) connectThroughPOP(ctx context.Context) (string, error) {
	var seen []string
	for _, u := range []struct {
		name string
		id   client.Identity
		c    **client.Client
	}{{"Alice", h.alice, &h.a}, {"Carol", h.carol, &h.c}} {
		var err error
		if *u.c == nil {
			if *u.c, err = h.client(u.id, ""); err != nil {
				return "", err
			}
		}
		if err := (*u.c).Connect(ctx); err != nil {
			return "", fmt.Errorf("%s: %w", u.name, err)
		}
		in, pop, _ := (*u.c).Where()
		if in != u.id.Region {
			return "", fmt.Errorf("%s of %s is served by %s", u.name, u.id.Region, in)
		}
		if pop == "" {
			return "", fmt.Errorf("%s reached %s without a POP", u.name, in)
		}
		seen = append(seen, fmt.Sprintf("%s in %s through %s", u.name, in, pop))
	}
	return strings.Join(seen, ", "), nil
}

// redirected: Bob of hk connects straight to sh and ends up home by himself.
func (h *hello) redirected(ctx context.Context) (string, error) {
	var err error
	if h.b, err = h.client(h.bob, h.at.Regions["sh"].Long); err != nil {
		return "", err
	}
	began := time.Now()
	if err := h.b.Connect(ctx); err != nil {
		return "", err
	}
	redirects := 0
	for {
		select {
		case ev := <-h.b.Events():
			switch ev.Kind {
			case client.Redirected:
				redirects++
			case client.Connected:
				if ev.Region != "hk" {
					return "", fmt.Errorf("@bob ended up in %s", ev.Region)
				}
				if redirects != 1 {
					return "", fmt.Errorf("@bob was redirected %d times, want once", redirects)
				}
				return fmt.Sprintf("Bob knocked at sh, was redirected once, is home in hk after %s", time.Since(began).Round(100*time.Microsecond)), nil
			}
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (h *hello) handles(ctx context.Context) (string, error) {
	a, err := h.client(h.alice, h.at.Regions["sh"].Long)
	if err != nil {
		return "", err
	}
	defer func() { _ = a.Close() }()
	b, err := h.client(h.bob, h.at.Regions["hk"].Long)
	if err != nil {
		return "", err
	}
	defer func() { _ = b.Close() }()
	if err := errors.Join(a.Connect(ctx), b.Connect(ctx)); err != nil {
		return "", err
	}
	if _, err := a.ClaimHandle(ctx, "alice"); err != nil {
		return "", fmt.Errorf("@alice claims alice: %w", err)
	}
	if _, err := b.ClaimHandle(ctx, "bob"); err != nil {
		return "", fmt.Errorf("@bob claims bob: %w", err)
	}
	if _, err := b.ClaimHandle(ctx, "alice"); region.KindOf(err) != region.Conflict {
		return "", fmt.Errorf("@bob claims alice too: want a conflict, got %v", err)
	}
	return "@alice and @bob are taken; Bob cannot have @alice", nil
}

func (h *hello) send(ctx context.Context) (string, error) {
	r, err := h.a.Send(ctx, &v1.SendRequest{ToHandle: "bob", ClientMessageId: greetingID, Body: &v1.Body{Kind: &v1.Body_Text{Text: greetingText}}})
	if err != nil {
		return "", err
	}
	h.greeting = r
	return fmt.Sprintf("stored as number %d of Alice's inbox", r.Sequence), nil
}

// arrives: a notice comes by itself, and the inbox has the greeting once.
func (h *hello) arrives(ctx context.Context) (string, error) {
	began := time.Now()
	select {
	case <-h.b.Notices():
	case <-ctx.Done():
		return "", errors.New("@bob got no notice: the command was not replayed into his inbox")
	}
	waited := time.Since(began).Round(100 * time.Microsecond)
	n, err := count(ctx, h.b, h.greeting.Id)
	if err != nil {
		return "", err
	}
	if n != 1 {
		return "", fmt.Errorf("the greeting is %d times in Bob's inbox, want once", n)
	}
	return fmt.Sprintf("notice after %s; the snapshot sync has it once", waited), nil
}

// count syncs from the beginning and counts a message. Sequences must be dense.
func count(ctx context.Context, c *client.Client, id []byte) (int, error) {
	n, last := 0, uint64(0)
	err := c.SyncPages(ctx, nil, func(p *v1.SyncResponse) error {
		for _, m := range p.Messages {
			if m.Sequence != last+1 {
				return fmt.Errorf("inbox number %d follows %d", m.Sequence, last)
			}
			last = m.Sequence
			if bytes.Equal(m.Id, id) {
				n++
			}
		}
		return nil
	})
	return n, err
}

func (h *hello) retried(ctx context.Context) (string, error) {
	r, err := h.a.Send(ctx, &v1.SendRequest{ToHandle: "bob", ClientMessageId: greetingID, Body: &v1.Body{Kind: &v1.Body_Text{Text: greetingText}}})
	if err != nil {
		return "", err
	}
	if !r.Repeated || !bytes.Equal(r.Id, h.greeting.Id) || r.Sequence != h.greeting.Sequence {
		return "", fmt.Errorf("the repeat was stored as another message: %v", r)
	}
	return "a repeat under the same client message ID is the same message", nil
}

func (h *hello) groupMessage(ctx context.Context) (string, error) {
	g, err := h.a.CreateGroup(ctx, "three seas", h.bob.UIN, h.carol.UIN)
	if err != nil {
		return "", err
	}
	h.group = g
	var ids [][]byte
	// Bob may learn of the group a moment after Alice made it.
	for _, c := range []*client.Client{h.a, h.b, h.c} {
		var r *v1.SendResponse
		id := client.NewKey()
		if err := eventually(ctx, func(ctx context.Context) (err error) {
			r, err = c.Send(ctx, &v1.SendRequest{To: uint64(g), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: "hello all"}}})
			return err
		}); err != nil {
			return "", err
		}
		ids = append(ids, r.Id)
	}
	for i, c := range []*client.Client{h.a, h.b, h.c} {
		for j, id := range ids {
			if err := eventually(ctx, func(ctx context.Context) error {
				n, err := count(ctx, c, id)
				if err == nil && n != 1 {
					err = fmt.Errorf("member %d has member %d's message %d times, want once", i+1, j+1, n)
				}
				return err
			}); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("group %d: three members, three regions, three messages, each once in each inbox", g), nil
}
