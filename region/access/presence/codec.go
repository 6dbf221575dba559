package presence

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/rpc"
)

// Methods, append-only.
const (
	methodUpdate rpc.Method = 1 // PresenceUpdate -> PresenceReply
	methodQuery  rpc.Method = 2 // PresenceQuery -> PresenceAnswer
	methodNotice rpc.Method = 3 // told: PresenceNotice, from logic to node, and on to access
)

// Limits of one call.
const (
	MaxQuery   = 1000 // UINs
	maxEntries = 2000 // of an update
)

func malformed(what string, cause error) error {
	return region.Errorf(region.BadInput, "%s cannot be read", what).WithHint("the processes of the region run different versions").WithCause(cause)
}

func encode(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, region.Errorf(region.BadInput, "cannot encode: a text is not UTF-8").WithCause(err)
	}
	return b, nil
}

func entryToProto(e *Entry) *v1.PresenceEntry {
	return &v1.PresenceEntry{
		Uin: uint64(e.UIN), Access: e.Name, Incarnation: e.Incarnation, Connection: e.ID, Gone: e.Gone, DeviceKeyId: e.KeyID[:],
		Platform: e.Platform, ClientVersion: e.ClientVersion, Front: e.Front, SinceUnixMilli: e.Since.UnixMilli(),
	}
}

func entryFromProto(p *v1.PresenceEntry) (Entry, error) {
	if p.Uin == 0 || p.Access == "" || p.Incarnation == 0 || len(p.DeviceKeyId) != 8 {
		return Entry{}, malformed("a connection", nil)
	}
	return Entry{
		Connection: Connection{Process{p.Access, p.Incarnation}, p.Connection}, UIN: region.UIN(p.Uin), Gone: p.Gone, KeyID: [8]byte(p.DeviceKeyId),
		Platform: p.Platform, ClientVersion: p.ClientVersion, Front: p.Front, Since: time.UnixMilli(p.SinceUnixMilli),
	}, nil
}

func entriesToProto(all []Entry) []*v1.PresenceEntry {
	out := make([]*v1.PresenceEntry, len(all))
	for i := range all {
		out[i] = entryToProto(&all[i])
	}
	return out
}

func entriesFromProto(all []*v1.PresenceEntry) ([]Entry, error) {
	out := make([]Entry, len(all))
	for i, p := range all {
		var err error
		if out[i], err = entryFromProto(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}
