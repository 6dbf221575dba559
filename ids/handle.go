package ids

import (
	"strings"

	"github.com/homing-im/homing/region"
)

// Bounds of a handle, in characters.
const (
	MinHandle = 3
	MaxHandle = 32
)

// Handle is an account ID in its normal form: lower case, 3 to 32 characters of
// a-z, 0-9, '_' and '.', beginning with a letter. [ParseHandle] makes one.
type Handle string

// reserved are names that users would take for the operator's word.
var reserved = map[Handle]bool{
	"abuse": true, "admin": true, "administrator": true, "help": true, "homing": true, "info": true, "moderator": true,
	"null": true, "official": true, "operator": true, "postmaster": true, "root": true, "security": true, "service": true,
	"support": true, "system": true, "webmaster": true,
}

// ParseHandle brings a handle into its normal form. A reserved one parses; it is
// only never claimed: see [Handle.Claimable].
//
// Errors: region.BadInput.
func ParseHandle(s string) (Handle, error) {
	if len(s) < MinHandle || len(s) > MaxHandle {
		return "", badHandle("a handle has %d to %d characters, not %d", MinHandle, MaxHandle, len(s))
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
			b[i] = c
		}
		letter := c >= 'a' && c <= 'z'
		if !letter && i == 0 {
			return "", badHandle("handle %q does not begin with a letter", s)
		}
		if !letter && (c < '0' || c > '9') && c != '_' && c != '.' {
			return "", badHandle("handle %q has a character that is not allowed", s)
		}
	}
	return Handle(b), nil
}

// Claimable reports why nobody may claim the handle, or nil. Dots and
// underscores do not hide a reserved word: "a.d.m.i.n" is one.
//
// Errors: region.BadInput.
func (h Handle) Claimable() error {
	bare := Handle(strings.NewReplacer(".", "", "_", "").Replace(string(h)))
	if reserved[h] || reserved[bare] {
		return region.Errorf(region.BadInput, "handle %q is reserved", string(h)).WithHint("choose another one")
	}
	return nil
}

func badHandle(format string, args ...any) error {
	return region.Errorf(region.BadInput, format, args...).WithHint("use a-z, 0-9, '_' and '.', beginning with a letter")
}
