package core

import (
	"unicode"
	"unicode/utf8"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// What a request may hold. Beyond it the answer is region.BadInput, or
// region.TooLarge for a body.
const (
	MaxNickname = 64        // characters, of a user's or a group's name
	MaxRemark   = 64        // characters
	MaxPlatform = 16        // bytes
	MaxRequest  = 256       // characters, of a contact request
	MaxAsking   = 2500      // contacts beyond which strangers cannot ask to be one
	MaxKey      = 64        // bytes, of an idempotency key or client message ID
	MaxText     = 16 << 10  // bytes
	MaxMembers  = 500       // of a group
	MaxDevices  = 16        // of a user, revoked ones not counted
	MaxRevoked  = 1000      // devices that a user ever had
	MaxContacts = 5000      // of a user, removed ones included
	MinHandle   = 3         // characters
	MaxHandle   = 32        // characters
	MaxReads    = 5000      // users and groups whose read position a user has
	MaxRecall   = 120       // seconds from sending a message to recalling it
	MaxPage     = 512 << 10 // bytes, of one answer to Sync
)

func checkName(what, s string) error {
	if s == "" {
		return region.Errorf(region.BadInput, "%s is missing", what).WithHint("give 1 to %d characters", MaxNickname)
	}
	return checkText(what, s, MaxNickname)
}

func checkText(what, s string, limit int) error {
	if !utf8.ValidString(s) {
		return region.Errorf(region.BadInput, "%s is not UTF-8", what).WithHint("encode it")
	}
	if n := utf8.RuneCountInString(s); n > limit {
		return region.Errorf(region.BadInput, "%s has %d characters", what, n).WithHint("at most %d", limit)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return region.Errorf(region.BadInput, "%s holds a control character", what).WithHint("leave it out")
		}
	}
	return nil
}

func checkPlatform(s string) error {
	if len(s) > MaxPlatform {
		return region.Errorf(region.BadInput, "platform has %d bytes", len(s)).WithHint("at most %d", MaxPlatform)
	}
	return checkText("platform", s, MaxPlatform)
}

func checkKey(what, s string) error {
	if len(s) < 1 || len(s) > MaxKey || !utf8.ValidString(s) {
		return region.Errorf(region.BadInput, "%s has %d bytes", what, len(s)).
			WithHint("give 1 to %d bytes of UTF-8, random, and the same ones again when retrying", MaxKey)
	}
	return nil
}

func checkHandle(s string) error {
	ok := len(s) >= MinHandle && len(s) <= MaxHandle
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (c != '_' && c != '.' && (c < '0' || c > '9'))) {
			ok = false
		}
	}
	if !ok {
		return region.Errorf(region.BadInput, "%.40q is no handle", s).
			WithHint("want %d to %d characters of a-z, 0-9, '_' and '.', beginning with a letter", MinHandle, MaxHandle)
	}
	return nil
}

// checkBody takes what a user may say.
func checkBody(b *v1.Body) error {
	switch k := b.GetKind().(type) {
	case *v1.Body_Text:
		switch {
		case k.Text == "":
			return region.Errorf(region.BadInput, "the message is empty").WithHint("give a text")
		case len(k.Text) > MaxText:
			return region.Errorf(region.TooLarge, "the text has %d bytes", len(k.Text)).WithHint("at most %d", MaxText)
		case !utf8.ValidString(k.Text):
			return region.Errorf(region.BadInput, "the text is not UTF-8").WithHint("encode it")
		}
		return nil
	case *v1.Body_System:
		return region.Errorf(region.BadInput, "system messages are written by regions").WithHint("send a text")
	default:
		return region.Errorf(region.BadInput, "the message has no body this region knows").WithHint("send a text")
	}
}
