package keeper

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// Standing is what a voter says it holds, for a region that starts. It is
// signed together with the asker's nonce, so it can be neither forged nor
// repeated.
type Standing struct {
	Voter    string           `json:"voter"`
	Nonce    string           `json:"nonce"`
	Version  uint64           `json:"version"`            // of its newest world
	World    region.Hash      `json:"world"`              // of its newest world
	Accepted *region.Envelope `json:"accepted,omitempty"` // a successor it accepted, with its acceptance
	Sig      []byte           `json:"sig"`
}

// covered is a context string, then voter, nonce, each after its length in
// eight big-endian bytes, version, hash, and the accepted world's hash or zeros.
func (s *Standing) covered() []byte {
	var b bytes.Buffer
	b.WriteString("homing.standing\x00")
	for _, f := range []string{s.Voter, s.Nonce} {
		_ = binary.Write(&b, binary.BigEndian, uint64(len(f)))
		b.WriteString(f)
	}
	_ = binary.Write(&b, binary.BigEndian, s.Version)
	b.Write(s.World[:])
	var accepted region.Hash
	if s.Accepted != nil && s.Accepted.Signed != nil {
		accepted = s.Accepted.Signed.Hash()
	}
	b.Write(accepted[:])
	return b.Bytes()
}

func (k *Keeper) getStanding(w http.ResponseWriter, r *http.Request) {
	nonce := r.URL.Query().Get("nonce")
	if len(nonce) < 16 || len(nonce) > 64 {
		peer.WriteError(w, region.Errorf(region.BadInput, "nonce has %d characters: want 16 to 64", len(nonce)))
		return
	}
	k.mu.Lock()
	n := k.chain.Newest()
	if n == nil || !k.isVoter(n.World) {
		k.mu.Unlock()
		peer.WriteError(w, region.Errorf(region.Forbidden, "%s is no voter", k))
		return
	}
	s := &Standing{Voter: k.o.Self.String(), Nonce: nonce, Version: n.World.Version, World: n.Hash}
	if k.ballot.Signed != nil && k.ballot.Parent == n.Hash {
		s.Accepted = &region.Envelope{Signed: k.ballot.Signed, Acceptances: []region.Acceptance{region.Accept(s.Voter, k.ballot.Accepted, k.o.Key)}}
	}
	k.mu.Unlock()
	s.Sig = ed25519.Sign(k.o.Key, s.covered())
	reply(w, s)
}

// Admitting returns nil when this region may admit writes as far as knowing the
// world goes: since it started it has compared worlds with so many voters that
// they and it are a majority, or an admin let it go on alone. A
// world of one voter needs nobody else.
//
// Errors: Forbidden for a node that is no region, Unavailable while it waits or
// an admin has it fenced ([Keeper.Fence]),
// Unsupported when the newest world needs a newer program.
func (k *Keeper) Admitting() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.chain.Newest()
	switch {
	case k.o.Self.Kind != peer.KindRegion:
		return region.Errorf(region.Forbidden, "%s is no region", k.o.Self)
	case n == nil:
		return region.Errorf(region.Unavailable, "%s has no world yet", k.o.Self).WithHint("push one to it")
	case k.unready != nil:
		return k.unready
	case k.fenced != nil:
		return k.fenced.err(k.o.Self.Name)
	case k.admits:
		return nil
	}
	have, need := k.agreedLocked(n.World)
	return region.Errorf(region.Unavailable, "%s has compared worlds with %d of the %d voters it needs", k.o.Self, have, need).
		WithHint("start other regions or witnesses, or `homing region unfence %s --alone` if they are gone for good", k.o.Self.Name)
}

// UnfenceAlone is the admin's word that this region may admit writes without
// having compared worlds: the others are gone, or cut off and known to be at no
// newer world.
func (k *Keeper) UnfenceAlone() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log.Warn("admitting without a majority of voters, as the admin said")
	k.admits = true
	k.notifyLocked()
}

// agreedLocked counts the voters compared with, this node included.
func (k *Keeper) agreedLocked(w *region.World) (have, need int) {
	for _, v := range w.Voters() {
		if k.compared[v.Name] || v.Name == k.o.Self.String() {
			have++
		}
	}
	return have, w.Majority()
}

// settleLocked opens admission once enough voters were compared with. It stays
// open: from here on worlds arrive by hints and polls, as at every region.
func (k *Keeper) settleLocked() bool {
	n := k.chain.Newest()
	if k.admits || n == nil {
		return k.admits
	}
	have, need := k.agreedLocked(n.World)
	k.metrics.compared.Set(float64(have))
	if have >= need {
		k.admits = true
		k.log.Info("compared worlds with a majority of voters", "voters", have, "version", n.World.Version)
		k.notifyLocked()
	}
	return k.admits
}

// compareLoop asks the voters until a majority is compared with.
func (k *Keeper) compareLoop(ctx context.Context) {
	if k.o.Self.Kind != peer.KindRegion {
		return
	}
	pause := k.o.CompareInterval
	for {
		changed := k.Changed()
		k.mu.Lock()
		done := k.settleLocked()
		k.mu.Unlock()
		if done {
			return
		}
		if v := k.View(); v != nil {
			var wg sync.WaitGroup // side by side: one that hangs must not delay the others
			for _, voter := range v.World.Voters() {
				if voter.Name == k.o.Self.String() {
					continue
				}
				wg.Add(1)
				go func() {
					defer wg.Done()
					if err := k.compare(ctx, v.World, voter); err != nil {
						k.log.Debug("voter not compared with", "voter", voter.Name, "err", err)
					}
				}()
			}
			wg.Wait()
			k.mu.Lock()
			done = k.settleLocked()
			k.mu.Unlock()
			if done {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			pause = k.o.CompareInterval
		case <-time.After(jitter(pause)):
			pause = min(2*pause, 16*k.o.CompareInterval)
		}
	}
}

// compare asks one voter what it holds, and fetches from it what this node
// lacks. The voter counts when nothing it holds is unknown here afterwards.
func (k *Keeper) compare(ctx context.Context, w *region.World, voter region.Voter) error {
	id, err := peer.ParseIdentity(voter.Name)
	if err != nil {
		return err
	}
	admin, ok := peer.AdminOf(w, id)
	if !ok {
		return region.Errorf(region.NotFound, "%s has no admin address", voter.Name)
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return err
	}
	nonce := hex.EncodeToString(raw[:])
	var s Standing
	if err := getJSON(ctx, k.client, region.AdminURL(admin)+"/world/standing?nonce="+nonce, region.MaxEnvelope+1<<16, &s); err != nil {
		return err
	}
	if s.Voter != voter.Name || s.Nonce != nonce || !ed25519.Verify(ed25519.PublicKey(voter.Key), s.covered(), s.Sig) {
		return region.Errorf(region.Forbidden, "%s answered with somebody else's standing", voter.Name)
	}
	k.mu.Lock()
	_, known := k.chain.Find(s.World)
	k.mu.Unlock()
	if !known {
		if err := k.fetchFrom(ctx, region.AdminURL(admin)); err != nil {
			return err
		}
	}
	if s.Accepted != nil && s.Accepted.Signed != nil {
		k.collect(ctx, s.Accepted)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := k.chain.Newest(); n != nil && n.World.Version < s.Version {
		return region.Errorf(region.Unavailable, "%s has world %d, which could not be had", voter.Name, s.Version)
	}
	k.compared[voter.Name] = true
	k.settleLocked()
	return nil
}

// collect joins the acceptances of one world that several voters report: it may
// have taken effect without this node having been told.
func (k *Keeper) collect(ctx context.Context, e *region.Envelope) {
	k.mu.Lock()
	n := k.chain.Newest()
	h := e.Signed.Hash()
	if _, known := k.chain.Find(h); known || n == nil {
		k.mu.Unlock()
		return
	}
	if _, err := region.VerifySuccessor(&n.Known, e.Signed); err != nil {
		k.mu.Unlock()
		return
	}
	have := k.pending[h]
	if have == nil {
		have = &region.Envelope{Signed: e.Signed}
		k.pending[h] = have
	}
	have.Acceptances = merge(have.Acceptances, e.Acceptances)
	if k.ballot.Signed != nil && k.ballot.Parent == n.Hash && k.ballot.Accepted == h {
		have.Acceptances = merge(have.Acceptances, []region.Acceptance{region.Accept(k.o.Self.String(), h, k.o.Key)})
	}
	ready := region.TakesEffect(n.World, have)
	offer := &region.Envelope{Signed: have.Signed, Acceptances: append([]region.Acceptance(nil), have.Acceptances...)}
	k.mu.Unlock()
	if ready {
		if err := k.Offer(ctx, offer); err != nil {
			k.log.Warn("an accepted world is refused", "version", offer.Signed.Version, "err", err)
		}
	}
}

// merge adds the acceptances of voters that are not there yet.
func merge(have, more []region.Acceptance) []region.Acceptance {
	for _, a := range more {
		found := false
		for _, b := range have {
			found = found || a.Voter == b.Voter
		}
		if !found && len(have) < 1024 {
			have = append(have, a)
		}
	}
	return have
}
