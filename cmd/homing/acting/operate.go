package acting

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// operate asks a region to do something in the operator's name, and decodes its
// answer into a, unless that is nil.
//
// Errors: Unavailable when it does not answer; else what it says.
func (o *Operator) operate(ctx context.Context, r *region.Region, path string, q, a any) error {
	key, err := o.Dir.Key("operator")
	if err != nil {
		return err
	}
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, region.AdminURL(r.Admin)+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	client := *o.Client
	client.Transport = peer.NewTransport(peer.Operator(key), key, o.Client.Transport)
	res, err := client.Do(req)
	if err != nil {
		return region.Errorf(region.Unavailable, "region %s does not answer", r.ID).WithCause(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return region.Errorf(peer.KindOfStatus(res.StatusCode), "region %s: %s", r.ID, strings.TrimSpace(string(b)))
	}
	if a == nil {
		return nil
	}
	return json.Unmarshal(b, a)
}

// whoActs asks the region that acts for the owner that a request is about: the
// one that does not send the question elsewhere.
func (o *Operator) whoActs(ctx context.Context, w *region.World, path string, q, a any) error {
	var last error
	for i := range w.Regions {
		err := o.operate(ctx, &w.Regions[i], path, q, a)
		switch region.KindOf(err) {
		case 0:
			return nil
		case region.WrongRegion, region.Unavailable:
			if last == nil || region.KindOf(err) == region.Unavailable {
				last = err
			}
		default:
			return err
		}
	}
	return last
}
