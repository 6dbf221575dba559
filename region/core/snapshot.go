package core

import (
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// snapshotVersion is of the layout of v1.Snapshot; another one is unknown.
const snapshotVersion = 1

// maxSnapshot is the longest snapshot looked at, in bytes; a real one has about 50.
const maxSnapshot = 256

// snapshot is how far a client has seen an owner's records. Clients store the
// bytes and understand nothing of them.
type snapshot struct {
	owner    region.UIN
	epoch    region.Epoch
	account  uint64 // version of the account row
	contacts uint64 // newest change seen
	messages uint64 // newest sequence seen
	reads    uint64 // newest change of a read position seen
	settings uint64 // newest change of a setting seen
}

func (s snapshot) encode() ([]byte, error) {
	return marshal(&v1.Snapshot{Version: snapshotVersion, Uin: uint64(s.owner), Moves: s.epoch.Moves, Counter: s.epoch.Term.Counter,
		Raised: s.epoch.Term.Raised[:], Account: s.account, Contacts: s.contacts, Messages: s.messages, Reads: s.reads, Settings: s.settings})
}

// decodeSnapshot reads what a client sent back. It is false for anything that
// is not a snapshot of this owner, the empty one included.
func decodeSnapshot(b []byte, owner region.UIN) (snapshot, bool) {
	var p v1.Snapshot
	if len(b) == 0 || len(b) > maxSnapshot || proto.Unmarshal(b, &p) != nil {
		return snapshot{}, false
	}
	var raised region.ShortHash
	if p.Version != snapshotVersion || region.UIN(p.Uin) != owner || len(p.Raised) != len(raised) {
		return snapshot{}, false
	}
	copy(raised[:], p.Raised)
	return snapshot{owner: owner, epoch: region.Epoch{Moves: p.Moves, Term: region.Term{Counter: p.Counter, Raised: raised}},
		account: p.Account, contacts: p.Contacts, messages: p.Messages, reads: p.Reads, settings: p.Settings}, true
}
