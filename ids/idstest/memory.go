package idstest

import (
	"context"
	"slices"
	"sync"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
)

// Memory is the naive twin of every engine: the rules of ids.Store over maps and
// under one lock, as plainly as they can be said. It keeps nothing.
type Memory struct {
	mu      sync.Mutex
	closed  bool
	handles map[ids.Handle]region.UIN
	owners  map[region.UIN][]ids.Handle // the primary one last
	ranges  []allotted
}

type allotted struct {
	ids.Allotment
	ids.Range
}

var _ ids.Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{handles: make(map[ids.Handle]region.UIN), owners: make(map[region.UIN][]ids.Handle)}
}

// Claim implements ids.Store.
func (m *Memory) Claim(ctx context.Context, h ids.Handle, owner region.UIN) (ids.Claimed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return ids.Claimed{}, err
	}
	has, taken := m.handles[h]
	if taken && has != owner {
		return ids.Claimed{}, ids.Taken(h)
	}
	mine := slices.DeleteFunc(m.owners[owner], func(x ids.Handle) bool { return x == h })
	if len(mine) >= ids.MaxHandles {
		return ids.Claimed{}, ids.TooMany()
	}
	m.handles[h] = owner
	m.owners[owner] = append(mine, h)
	return ids.Claimed{Handle: h, Owner: owner, Primary: h}, nil
}

// Resolve implements ids.Store.
func (m *Memory) Resolve(ctx context.Context, h ids.Handle) (ids.Claimed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return ids.Claimed{}, err
	}
	owner, ok := m.handles[h]
	if !ok {
		return ids.Claimed{}, ids.Unknown(h)
	}
	mine := m.owners[owner]
	return ids.Claimed{Handle: h, Owner: owner, Primary: mine[len(mine)-1]}, nil
}

// Allot implements ids.Store. It looks for room UIN by UIN.
func (m *Memory) Allot(ctx context.Context, a ids.Allotment) (ids.Range, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return ids.Range{}, err
	}
	for _, x := range m.ranges {
		if x.Allotment.Region == a.Region && x.Key == a.Key {
			if x.Home != a.Home || x.N != a.N {
				return ids.Range{}, ids.KeyReused(a.Key)
			}
			return x.Range, nil
		}
	}
	for _, s := range a.Segments {
		first := s.First + 1
		for _, x := range m.ranges {
			if x.First <= s.Last && x.Last >= first {
				first = x.Last + 1
			}
		}
		if first > s.Last || uint64(s.Last-first)+1 < uint64(a.N) {
			continue
		}
		r := ids.Range{First: first, Last: first + region.UIN(a.N) - 1}
		m.ranges = append(m.ranges, allotted{a, r})
		return r, nil
	}
	return ids.Range{}, ids.Exhausted(a.Home, a.N)
}

// Close implements ids.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func (m *Memory) usable(ctx context.Context) error {
	if m.closed {
		return ids.Closed()
	}
	return ctx.Err()
}
