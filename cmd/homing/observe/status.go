// Package observe gathers what every node of a world says of itself into one
// picture. It only asks: nothing it does changes a node.
package observe

// NodeStatus is what GET /status on a node's admin listener answers. The JSON
// names are append-only.
type NodeStatus struct {
	Name     string   `json:"name"`
	Member   string   `json:"member"` // "region sh", "pop pop-1", ...
	Roles    []string `json:"roles"`
	World    uint64   `json:"world"`
	Hash     string   `json:"hash"`
	Forced   bool     `json:"forced"`
	Ready    bool     `json:"ready"`
	NotReady string   `json:"notReady,omitempty"` // why
	Degraded []string `json:"degraded,omitempty"` // what it does without although it is ready

	Region *RegionStatus `json:"region,omitempty"`
	POP    *POPStatus    `json:"pop,omitempty"`
	DNS    *DNSStatus    `json:"dns,omitempty"`
}

// RegionStatus is a region's part.
type RegionStatus struct {
	Users       int    `json:"users"`
	Connections int    `json:"connections"`
	Messages    uint64 `json:"messages"` // inbox entries stored since the process started
	Admitting   bool   `json:"admitting"`
	Refuses     string `json:"refuses,omitempty"` // why it admits no writes
	Lags        []Lag  `json:"lags"`              // of what this region replays

	Peak  int            `json:"peak,omitempty"`  // most connections at a time in the last week, or since the process started
	Peaks map[string]int `json:"peaks,omitempty"` // the same of the other regions, as they said last

	Damaged []string `json:"damaged,omitempty"` // rows changed behind the store's back: home and partition
}

// Lag is how far the replay of one origin's stream is behind, over all its
// partitions.
type Lag struct {
	Origin  string  `json:"origin"`
	Stream  string  `json:"stream"`
	Records uint64  `json:"records"`
	Seconds float64 `json:"seconds"`
	State   string  `json:"state"`             // a console.PairState
	Reason  string  `json:"reason"`            // when not live
	Unheard bool    `json:"unheard,omitempty"` // nothing is here, and nobody has said that there is nothing
}

// POPStatus is a POP's part.
type POPStatus struct {
	Connections int                `json:"connections"`
	Draining    bool               `json:"draining"`
	RTTMillis   map[string]float64 `json:"rttMillis"`
}

// DNSStatus is a DNS node's part, with the health it steers by.
type DNSStatus struct {
	Questions uint64          `json:"questions"`
	POPs      map[string]bool `json:"pops"`
	Regions   map[string]bool `json:"regions"`
}
