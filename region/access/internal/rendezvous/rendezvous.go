// Package rendezvous is highest-random-weight hashing (Thaler and Ravishankar,
// "Using Name-Based Mappings to Increase Hit Rates", 1998): everybody who knows
// the same names puts them in the same order for a key, and a name that comes or
// goes changes nothing for the keys that others are first for.
package rendezvous

import (
	"cmp"
	"slices"
)

// Seed is a name as the hash sees it: FNV-1a 64, pinned, because processes of
// several versions have to agree.
func Seed(name string) uint64 {
	const offset64, prime64 = 14695981039346656037, 1099511628211
	h := uint64(offset64)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime64
	}
	return h
}

// Order returns the indices of pool, the one with the heaviest seed for the key
// first.
func Order(seeds []uint64, pool []int, key uint64) []int {
	order := slices.Clone(pool)
	k := mix(key)
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(mix(seeds[b]^k), mix(seeds[a]^k)), cmp.Compare(a, b))
	})
	return order
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
