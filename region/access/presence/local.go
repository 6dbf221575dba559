package presence

import (
	"github.com/homing-im/homing/region/access"
)

// Local makes Connections of an access server's own presence.
func Local(p *access.Presence) Connections { return local{p} }

type local struct{ *access.Presence }

func (l local) Watch(f func(Entry)) {
	l.Presence.Watch(func(c access.Connection, gone bool) {
		e := FromConnection(c)
		e.Gone = gone
		f(e)
	})
}

func (l local) Entries() []Entry {
	all := l.Connections()
	out := make([]Entry, len(all))
	for i, c := range all {
		out[i] = FromConnection(c)
	}
	return out
}

// FromConnection is the entry of a connection of this process, without the
// process.
func FromConnection(c access.Connection) Entry {
	return Entry{Connection: Connection{ID: c.ID}, UIN: c.UIN, KeyID: c.DeviceKeyID, Platform: c.Platform,
		ClientVersion: c.ClientVersion, Front: c.Front, Since: c.Since}
}
