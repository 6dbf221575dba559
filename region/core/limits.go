package core

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/homing-im/homing/region"
)

// What a request may hold. Beyond it the answer is region.BadInput, or
// region.TooLarge for a body.
const (
	MaxNickname     = 64        // characters, of a user's or a group's name
	MaxAbout        = 256       // characters, of what a user says of itself
	MaxAnnouncement = 1024      // characters, of a group
	MaxRemark       = 64        // characters
	MaxPlatform     = 16        // bytes
	MaxRequest      = 256       // characters, of a contact request
	MaxURL          = 1024      // bytes
	MinHandle       = 3         // characters
	MaxHandle       = 32        // characters
	MaxKey          = 64        // bytes, of an idempotency key or client message ID
	MaxText         = 16 << 10  // bytes, of a text or a custom payload
	MaxMediaType    = 127       // bytes
	MaxFileName     = 255       // characters
	MaxPreview      = 8 << 10   // bytes
	MaxCustomType   = 64        // bytes
	MaxMembers      = 500       // of a group
	MaxAdmins       = 50        // of a group, the owner not counted
	MaxGroups       = 1000      // that a user ever made
	MaxDevices      = 16        // of a user, revoked ones not counted
	MaxRevoked      = 1000      // devices that a user ever had
	MaxContacts     = 5000      // of a user, removed ones included
	MaxAsking       = 2500      // contacts beyond which strangers cannot ask to be one
	MaxReads        = 5000      // users and groups whose read position a user has
	MaxSettings     = 500       // of a user, removed ones included
	MaxSettingName  = 64        // bytes
	MaxSetting      = 4 << 10   // bytes, of a setting's value
	MaxRecall       = 120       // seconds from sending a message to recalling it
	MaxLetters      = 100       // in one answer of Core.Letters
	MaxPage         = 512 << 10 // bytes, of one answer to Sync

	maxBody = MaxText + MaxPreview // bytes of a message's body, whatever its kind
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

// checkParagraph is checkText for what may have several lines.
func checkParagraph(what, s string, limit int) error {
	return checkText(what, strings.ReplaceAll(s, "\n", " "), limit)
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
