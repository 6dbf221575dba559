package region

import (
	"fmt"
	"strconv"
)

// UIN is the number of an owner: a user or a group. Zero is nobody.
type UIN uint64

func (u UIN) String() string { return strconv.FormatUint(uint64(u), 10) }

// ParseUIN reads a decimal UIN; zero and anything else is an error.
func ParseUIN(s string) (UIN, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a UIN: want a decimal number from 1 to 18446744073709551615", s)
	}
	return UIN(n), nil
}

// Partition is the hash class of an owner. Every region of a world has the
// same number of partitions, fixed when the world is made.
type Partition uint16

// PartitionOf returns the partition of an owner among n: FNV-1a 64 over the
// eight big-endian bytes of the UIN, modulo n. It is pinned for ever, because
// topics, journals and digests are laid out by it.
func PartitionOf(owner UIN, n int) Partition {
	const offset64, prime64 = 14695981039346656037, 1099511628211
	h := uint64(offset64)
	for shift := 56; shift >= 0; shift -= 8 {
		h ^= uint64(byte(owner >> uint(shift)))
		h *= prime64
	}
	return Partition(h % uint64(n))
}

// Segment is a range of UINs, First and Last included, that belongs to one
// region for ever. ids allots smaller ranges inside it.
type Segment struct {
	First UIN `json:"first"`
	Last  UIN `json:"last"`
	Home  ID  `json:"home"`
}

// Contains says whether the segment holds the owner.
func (s Segment) Contains(u UIN) bool { return s.First <= u && u <= s.Last }
