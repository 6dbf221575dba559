package observe

import (
	"time"

	"github.com/homing-im/homing/region"
)

// Presence is one connection of a user, as GET /presence?uin=...&uin=... on a
// region's admin listener answers, in an array. The JSON names are append-only.
type Presence struct {
	UIN           region.UIN `json:"uin"`
	Region        region.ID  `json:"region"`
	Process       string     `json:"process"` // the node that has the connection
	Front         string     `json:"front"`   // long, ws, poll
	Platform      string     `json:"platform"`
	ClientVersion uint32     `json:"clientVersion"`
	Device        string     `json:"device"` // key ID, hex
	Since         time.Time  `json:"since"`
}
