package node

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/peer"
)

// operateLimit bounds a request of an operator, in bytes.
const operateLimit = 64 << 10

// Letter is a dead letter as the admin listener tells of it.
type Letter struct {
	ID      string    `json:"id"`
	Method  string    `json:"method"`
	From    uint64    `json:"from"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	Payload []byte    `json:"payload,omitempty"`
}

// LettersRequest asks for dead letters behind one; empty is the beginning.
type LettersRequest struct {
	After string `json:"after,omitempty"`
	Limit int    `json:"limit"`
}

// LetterRequest names a dead letter.
type LetterRequest struct {
	ID string `json:"id"`
}

// EraseRequest names an account to be erased.
type EraseRequest struct {
	UIN  uint64 `json:"uin"`
	Sent bool   `json:"sent"` // and what it sent to others
}

// HoldingsRequest asks how much a region has of a home.
type HoldingsRequest struct {
	Home region.ID `json:"home"`
}

// FenceRequest has a region admit no writes, or lifts that.
type FenceRequest struct {
	Lift bool `json:"lift,omitempty"`
}

// ConflictsRequest asks for the conflicts of a region; those that are resolved
// only when all are asked for.
type ConflictsRequest struct {
	All bool `json:"all"`
}

// ConflictRequest names a conflict. Resolution is core.KeepHere or core.TakeTail.
type ConflictRequest struct {
	ID         string `json:"id"`
	Resolution string `json:"resolution,omitempty"`
}

func letterOf(l core.Letter) Letter {
	return Letter{ID: l.ID.String(), Method: l.Method, From: uint64(l.From), Reason: l.Reason, At: time.UnixMilli(l.Milli).UTC(), Payload: l.Payload}
}

// operate serves what an operator does to a region's records: each request is
// signed with an operator's key (region/peer), reading included, since dead
// letters hold what users wrote.
func (n *Node) operate(c *core.Core) {
	v := peer.NewVerifier(peer.Options{View: n.world.View})
	handle := func(path string, h http.Handler) {
		n.admin.mux.Handle("POST "+path, v.Require(func(i peer.Identity) bool { return i.Kind == peer.KindOperator }, http.MaxBytesHandler(h, operateLimit)))
	}
	handle("/operate/letters", operatorCall(func(ctx context.Context, r *LettersRequest) ([]Letter, error) {
		var after core.LetterID
		if r.After != "" {
			var err error
			if after, err = core.ParseLetterID(r.After); err != nil {
				return nil, err
			}
		}
		letters, err := c.Letters(ctx, after, r.Limit)
		out := make([]Letter, 0, len(letters))
		for _, l := range letters {
			l.Payload = nil
			out = append(out, letterOf(l))
		}
		return out, err
	}))
	handle("/operate/letters/show", operatorCall(func(ctx context.Context, r *LetterRequest) (Letter, error) {
		id, err := core.ParseLetterID(r.ID)
		if err != nil {
			return Letter{}, err
		}
		l, err := c.Letter(ctx, id)
		return letterOf(l), err
	}))
	for path, do := range map[string]func(context.Context, core.LetterID) error{
		"/operate/letters/replay": c.ReplayLetter, "/operate/letters/discard": c.DiscardLetter,
	} {
		handle(path, operatorCall(func(ctx context.Context, r *LetterRequest) (struct{}, error) {
			id, err := core.ParseLetterID(r.ID)
			if err == nil {
				err = do(ctx, id)
			}
			return struct{}{}, err
		}))
	}
	handle("/operate/unfence", operatorCall(func(context.Context, *struct{}) (struct{}, error) {
		n.world.UnfenceAlone()
		return struct{}{}, nil
	}))
	handle("/operate/holdings", operatorCall(func(ctx context.Context, r *HoldingsRequest) ([]core.Holding, error) {
		return c.Holdings(ctx, r.Home)
	}))
	handle("/operate/fence", operatorCall(func(_ context.Context, r *FenceRequest) (struct{}, error) {
		if r.Lift {
			return struct{}{}, n.world.Unfence()
		}
		return struct{}{}, n.world.Fence()
	}))
	handle("/operate/conflicts", operatorCall(func(ctx context.Context, r *ConflictsRequest) ([]core.Conflict, error) {
		return c.Conflicts(ctx, r.All)
	}))
	handle("/operate/conflicts/show", operatorCall(func(ctx context.Context, r *ConflictRequest) (core.Conflict, error) {
		id, err := core.ParseConflictID(r.ID)
		if err != nil {
			return core.Conflict{}, err
		}
		return c.Conflict(ctx, id)
	}))
	handle("/operate/conflicts/resolve", operatorCall(func(ctx context.Context, r *ConflictRequest) (struct{}, error) {
		id, err := core.ParseConflictID(r.ID)
		if err == nil {
			err = c.ResolveConflict(ctx, id, r.Resolution)
		}
		return struct{}{}, err
	}))
	handle("/operate/erase", operatorCall(func(ctx context.Context, r *EraseRequest) (struct{}, error) {
		return struct{}{}, c.Erase(ctx, region.UIN(r.UIN), r.Sent)
	}))
}

// operatorCall decodes a request as JSON, strictly, and encodes what f says.
func operatorCall[Q, A any](f func(context.Context, *Q) (A, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := new(Q)
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(q); err != nil {
			peer.WriteError(w, region.Errorf(region.BadInput, "the request is not what this node understands").WithHint("use a homing of its version").WithCause(err))
			return
		}
		a, err := f(r.Context(), q)
		if err != nil {
			peer.WriteError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a)
	})
}
