package sim

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
)

// dice are all the randomness of a run. roll is the scheduler's sequence; hits is
// for what production code asks for in an order of its own, such as that of a
// map: it depends on the seed, the step and what is asked, not on what was asked
// before.
type dice struct {
	*rand.Rand
	seed uint64
	step uint64
	seen map[string]uint64
}

func newDice(seed uint64) *dice {
	return &dice{Rand: rand.New(rand.NewPCG(seed, 0x484f4d494e47)), seed: seed, seen: map[string]uint64{}}
}

// next begins a step.
func (d *dice) next() {
	d.step++
	clear(d.seen)
}

// hits is true once in n times.
func (d *dice) hits(what string, n uint64) bool { return d.pick(what, n) == 0 }

// pick is a number below n.
func (d *dice) pick(what string, n uint64) uint64 {
	d.seen[what]++
	h := fnv.New64a()
	b := strconv.AppendUint(nil, d.seed, 16)
	b = strconv.AppendUint(append(b, ' '), d.step, 16)
	b = strconv.AppendUint(append(b, ' '), d.seen[what], 16)
	_, _ = h.Write(append(b, what...))
	x := h.Sum64()
	x ^= x >> 33 // FNV's low bits are weak
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x % n
}

// roll is true once in n times.
func (d *dice) roll(n int) bool { return d.IntN(n) == 0 }
