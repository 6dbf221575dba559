package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
)

// stolenTicket: Alice's ticket without her device key opens nothing.
func (h *hello) stolenTicket(ctx context.Context) (string, error) {
	thief, err := client.Register(ctx, http.DefaultClient, h.at.Regions["sh"].Short, "Mallory", "cli")
	if err != nil {
		return "", err
	}
	stolen := thief
	stolen.UIN, stolen.Ticket = h.alice.UIN, h.alice.Ticket
	c, err := h.client(stolen, h.at.Regions["sh"].Long)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	err = c.Connect(ctx)
	if region.KindOf(err) != region.Unauthenticated {
		return "", fmt.Errorf("want it refused as unauthenticated, got: %v", err)
	}
	return "refused: " + err.Error(), nil
}

// forgedWorld: a world nobody signed, and the mere claim of version 2^60,
// change nothing.
func (h *hello) forgedWorld(ctx context.Context) (string, error) {
	before := h.demo.View()
	raw, err := fetch(ctx, h.at.Regions["sh"].Admin+"/world")
	if err != nil {
		return "", err
	}
	var env region.Envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		return "", err
	}
	env.Signed.Version++
	env.Signed.Parents = []region.Hash{before.Hash}
	env.Signed.Forced = true
	env.Signed.Payload = bytes.Replace(env.Signed.Payload, []byte(`"version":1`), []byte(`"version":2`), 1)
	forged, err := json.Marshal(&env)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.at.Regions["sh"].Admin+"/world", bytes.NewReader(forged))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	_ = resp.Body.Close()
	if resp.StatusCode < 400 {
		return "", fmt.Errorf("sh took a forged world: %s %s", resp.Status, said)
	}
	h.demo.Node("sh").Keeper().Hint(1 << 60)
	for name := range h.at.Regions {
		if v := h.demo.Node(name).Keeper().View(); v.Hash != before.Hash {
			return "", fmt.Errorf("%s follows another world now", name)
		}
	}
	return fmt.Sprintf("refused with %d; all still follow world %d", resp.StatusCode, before.World.Version), nil
}

// explained: the explanation ends in the answer that DNS gives.
func (h *hello) explained(ctx context.Context) (string, error) {
	q := url.Values{"uin": {h.alice.UIN.String()}, "ip": {"223.5.5.5"}, "ver": {"80003"}, "service": {"long"}}
	why, err := h.httpDNS(ctx, "/explain", q)
	if err != nil {
		return "", err
	}
	q.Set("host", "long."+h.at.Zone)
	answer, err := h.httpDNS(ctx, "/d", q)
	if err != nil {
		return "", err
	}
	text, _ := why["text"].(string)
	eps := strs(answer["endpoints"])
	if len(eps) == 0 {
		return "", fmt.Errorf("no endpoints: %v", answer)
	}
	for _, e := range eps {
		if !strings.Contains(text, e) {
			return "", fmt.Errorf("DNS answers %s, which the explanation does not have:\n%s", e, text)
		}
	}
	return fmt.Sprintf("rule %v, home %v, %d lines of why", answer["rule"], answer["acting"], strings.Count(text, "\n")), nil
}
