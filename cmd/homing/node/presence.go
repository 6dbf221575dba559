package node

import (
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access/presence"
	"github.com/homing-im/homing/region/peer"
)

// getPresence answers which users are connected: GET /presence?uin=...&uin=...
// A region in one process knows it itself, others ask the presence nodes.
func (n *Node) getPresence(w http.ResponseWriter, r *http.Request) {
	given := r.URL.Query()["uin"]
	if len(given) == 0 || len(given) > presence.MaxQuery {
		peer.WriteError(w, region.Errorf(region.BadInput, "%d UINs", len(given)).WithHint("ask for /presence?uin=1000001&uin=..., 1 to %d of them", presence.MaxQuery))
		return
	}
	var uins []region.UIN
	for _, s := range given {
		u, err := region.ParseUIN(s)
		if err != nil {
			peer.WriteError(w, region.Errorf(region.BadInput, "uin=%.32q is not a UIN", s))
			return
		}
		uins = append(uins, u)
	}
	var found []presence.Entry
	if n.presence != nil {
		var err error
		if found, err = n.presence.Query(r.Context(), uins...); err != nil {
			peer.WriteError(w, err)
			return
		}
	} else {
		for _, u := range uins {
			for _, c := range n.region.online.Of(u) {
				e := presence.FromConnection(c)
				e.Name = n.cfg.Name
				found = append(found, e)
			}
		}
	}
	out := []observe.Presence{}
	for _, e := range found {
		out = append(out, observe.Presence{UIN: e.UIN, Region: region.ID(n.self.Name), Process: e.Name, Front: e.Front, Platform: e.Platform,
			ClientVersion: e.ClientVersion, Device: hex.EncodeToString(e.KeyID[:]), Since: e.Since})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}
