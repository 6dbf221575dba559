package console

import "time"

// State is everything the page shows, at one moment. Whoever serves the page
// fills it in from one node's world and from the metrics of the others; the
// console itself asks nobody and decides nothing.
//
// The JSON names are what /api/state and /events send: append only. Slices may
// be nil and are sent as empty lists. A number that is not known is left out
// where its field says so, and the page shows a dash instead of a zero.
type State struct {
	Time    time.Time `json:"time"`
	World   World     `json:"world"`
	Regions []Region  `json:"regions"` // in the world's order
	POPs    []POP     `json:"pops"`    // in the world's order
	Pairs   []Pair    `json:"pairs"`   // every origin, destination and stream
	DNS     []Node    `json:"dns"`
	IDs     []Node    `json:"ids"`
	Alarms  []Alarm   `json:"alarms"` // the gravest first
}

// World names the world this console's node follows.
type World struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	Hash    string `json:"hash"` // hex; the page shows the first 8 digits
	Zone    string `json:"zone"` // DNS zone of the service
	Forced  bool   `json:"forced"`
	InForce bool   `json:"inForce"` // it took effect; false while it still gathers acceptances
}

// Region is one region as it is now.
type Region struct {
	ID        string   `json:"id"`
	Title     string   `json:"title"`
	Latitude  float64  `json:"lat"`    // degrees, WGS 84
	Longitude float64  `json:"lon"`    // degrees, WGS 84
	Acting    string   `json:"acting"` // region that acts for this home; its own ID when all is well
	Term      uint64   `json:"term"`   // counter of the home's term: how often the acting region changed
	Backups   []string `json:"backups"`
	Away      bool     `json:"away,omitempty"` // nobody waits for it

	Reachable bool     `json:"reachable"`         // its admin listener answered; else the numbers below are its last
	Ready     bool     `json:"ready"`             // admits writes
	Refuses   string   `json:"refuses,omitempty"` // why it admits none, in its own words
	Damaged   []string `json:"damaged,omitempty"` // rows changed behind its store's back: home and partition
	Fenced    bool     `json:"fenced"`            // refuses writes for its own home: not started, cut off, or another region acts

	Users             uint64  `json:"users"`             // online: distinct UINs with a connection
	Connections       uint64  `json:"connections"`       // long and web
	Capacity          uint64  `json:"capacity"`          // connections, as the world states; 0 is unstated
	MessagesPerSecond float64 `json:"messagesPerSecond"` // stored, over the last few seconds
	WorldVersion      uint64  `json:"worldVersion"`      // that the region follows; 0 is unknown

	Loss *Loss `json:"loss,omitempty"` // nil when unknown
}

// Loss is the recovery point: what the best copy would lack if the region died
// now.
type Loss struct {
	Backup  string  `json:"backup"`  // the region that would take over
	Records uint64  `json:"records"` // journaled here, not yet applied there
	Seconds float64 `json:"seconds"` // everything older than this is there
	Single  bool    `json:"single"`  // no copy is caught up: single copy
	Load    float64 `json:"load"`    // connections the backup has, in percent of what it is made for; 0 when that is unstated
}

// POP is one point of presence.
type POP struct {
	ID          string             `json:"id"`
	Title       string             `json:"title"`
	Latitude    float64            `json:"lat"`
	Longitude   float64            `json:"lon"`
	Near        string             `json:"near"`    // the region it stands nearest to
	Healthy     bool               `json:"healthy"` // as the steering sees it
	Drain       bool               `json:"drain"`   // takes no new clients
	Connections uint64             `json:"connections"`
	RTTMillis   map[string]float64 `json:"rttMillis"` // to each region; a missing one is unknown
}

// PairState says how the copying of one stream between two regions stands.
type PairState string

// The states of a pair.
const (
	PairLive       PairState = "live"       // applied to the head, or a few seconds behind
	PairBehind     PairState = "behind"     // progressing, but late
	PairStalled    PairState = "stalled"    // no progress although there is something to apply
	PairUnreadable PairState = "unreadable" // waits for an upgrade: the origin writes a newer format
	PairDiverged   PairState = "diverged"   // chain or digest differs: stopped, needs a person
	PairDiffers    PairState = "differs"    // follows, but rows are not the origin's: needs a repair
	PairBootstrap  PairState = "bootstrap"  // copying rows before it can follow the stream
	PairUnknown    PairState = "unknown"    // the origin or the destination does not answer
	PairQuarantine PairState = "quarantine" // follows, but owners are blocked in quarantine
)

// Pair is the lag of one stream from one region to another, summed over its
// partitions.
type Pair struct {
	From    string    `json:"from"`
	To      string    `json:"to"`
	Stream  string    `json:"stream"`  // "full", "shared", "to-hk"
	Records uint64    `json:"records"` // in the origin's journal when it last told, not yet applied at the destination
	Seconds float64   `json:"seconds"` // everything the origin had this long ago is applied; grows while the origin is silent
	State   PairState `json:"state"`
	Reason  string    `json:"reason,omitempty"` // when not live; names the worst partition
}

// Node is a DNS or ids node.
type Node struct {
	Name      string   `json:"name"`
	Address   string   `json:"address"` // host:port
	Healthy   bool     `json:"healthy"`
	Reason    string   `json:"reason,omitempty"`   // why it answers and is not healthy, in its own words
	Degraded  []string `json:"degraded,omitempty"` // what it does without although it is healthy
	PerSecond float64  `json:"perSecond"`          // questions answered
}

// Severity orders alarms.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // users are not served, or data could be lost
	Warning  Severity = "warning"  // served, but one more failure would hurt
	Notice   Severity = "notice"   // worth knowing
)

// Alarm is something a person should know.
type Alarm struct {
	Severity Severity  `json:"severity"`
	Subject  string    `json:"subject"` // what it is about: "sh", "pop-3", "sh -> hk full"
	Text     string    `json:"text"`    // what is wrong
	Hint     string    `json:"hint"`    // what to do
	Since    time.Time `json:"since"`
}
