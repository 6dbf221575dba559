package region

import (
	"encoding/hex"
	"fmt"
)

// ID names a region: 1 to 16 characters of a-z, 0-9 and '-', beginning with a
// letter. It is never re-assigned.
type ID string

// POPID names a POP; same alphabet as [ID], up to 32 characters.
type POPID string

// Valid reports why the ID is not well formed, or nil.
func (id ID) Valid() error { return validName("region", string(id), 16) }

// Valid reports why the ID is not well formed, or nil.
func (id POPID) Valid() error { return validName("POP", string(id), 32) }

func validName(what, s string, max int) error {
	if s == "" || len(s) > max {
		return fmt.Errorf("%s ID %q: want 1 to %d characters", what, s, max)
	}
	for i, c := range s {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (c != '-' && (c < '0' || c > '9'))) {
			return fmt.Errorf("%s ID %q: want a-z, 0-9 and '-', beginning with a letter", what, s)
		}
	}
	return nil
}

// Hash is the SHA-256 of what a world's signature covers; it names that world.
type Hash [32]byte

// Short returns the first eight bytes, which is what epochs carry.
func (h Hash) Short() ShortHash { return ShortHash(h[:8]) }

// IsZero says whether the hash is unset.
func (h Hash) IsZero() bool { return h == Hash{} }

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes lower-case hex.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hex of exactly 32 bytes.
func (h *Hash) UnmarshalText(b []byte) error { return decodeHex("world hash", h[:], b) }

// ShortHash is the first eight bytes of a [Hash].
type ShortHash [8]byte

func (h ShortHash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes lower-case hex.
func (h ShortHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hex of exactly 8 bytes.
func (h *ShortHash) UnmarshalText(b []byte) error { return decodeHex("short world hash", h[:], b) }

func decodeHex(what string, dst, src []byte) error {
	if hex.DecodedLen(len(src)) != len(dst) || len(src)%2 != 0 {
		return fmt.Errorf("%s has %d characters: want %d hex digits", what, len(src), 2*len(dst))
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
