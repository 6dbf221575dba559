// Package traffic is the people of the lab: clients of the SDK who write to each
// other all the time, and what happened to them.
//
// It guarantees that the history of a client is written down as it happens, and
// by nobody but the client: what was acknowledged to it, what its snapshots
// brought, and what was in its inbox in the end. [History.Judge] decides from
// histories alone whether the service kept its word.
//
// A process ([Run]) is a group of people at one place. It is told what to do on
// its standard input, a line each ("go", "pause", "off", "new", "inbox N"), and writes
// [Event]s to its standard output, a JSON object each.
package traffic

import (
	"time"

	"github.com/homing-im/homing/region"
)

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	Joined    Kind = "joined"    // User of Home has an account and is connected
	Ready     Kind = "ready"     // all of the process have
	Connected Kind = "connected" // User to Region, through POP
	Acked     Kind = "acked"     // User's message ID to To was stored; it took Took
	Refused   Kind = "refused"   // for good, which nothing in a scenario asks for: Text
	Pulled    Kind = "pulled"    // User's snapshot brought IDs
	Inbox     Kind = "inbox"     // User's whole inbox has IDs, in order; Text says what is wrong with their numbers
	Paused    Kind = "paused"    // nobody of the process is sending any more
	Off       Kind = "off"       // the process's phones are
	New       Kind = "new"       // and others, which know nothing, are connected
	Done      Kind = "done"      // with "inbox Round"
)

// Event is a line of a history.
type Event struct {
	At     time.Time     `json:"at"`
	Kind   Kind          `json:"kind"`
	User   region.UIN    `json:"user,omitempty"`
	Home   region.ID     `json:"home,omitempty"`
	Region region.ID     `json:"region,omitempty"` // where User was connected, before the call and after it; "" is several
	POP    string        `json:"pop,omitempty"`
	ID     string        `json:"id,omitempty"` // of the message, hexadecimal
	To     region.UIN    `json:"to,omitempty"`
	Took   time.Duration `json:"tookNanos,omitempty"`
	Mark   uint64        `json:"mark,omitempty"` // sequence in the region's journal
	Round  int           `json:"round,omitempty"`
	IDs    []string      `json:"ids,omitempty"`
	Text   string        `json:"text,omitempty"`
}
