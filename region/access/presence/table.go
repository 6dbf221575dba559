package presence

import (
	"cmp"
	"slices"
	"time"

	"github.com/homing-im/homing/region"
)

// SegmentSize is how many UINs in a row share a primary and a backup.
const SegmentSize = 10_000

const (
	// TTL is how long an access process may not be heard of before its connections
	// count as gone.
	TTL = 10 * time.Second
	// goneFor is how long it is remembered that a connection is gone: longer than
	// an announcement can be under way, by either node.
	goneFor = 6 * TTL
)

// Process is one life of an access process.
type Process struct {
	Name        string
	Incarnation uint64 // Unix nanoseconds of its start
}

// Connection names a connection worldwide and for ever.
type Connection struct {
	Process
	ID uint64 // unique in the process's life
}

// Entry is one connection of a user, or the word that it is gone.
type Entry struct {
	Connection
	UIN           region.UIN
	Gone          bool
	KeyID         [8]byte // of the device
	Platform      string
	ClientVersion uint32
	Front         string // long, ws, poll
	Since         time.Time
}

// Table is what a presence node knows: a pure state, stepped by what it hears. It
// is not safe for concurrent use.
//
// Invariants:
//
//  1. Every entry of users is of the newest known life of its process.
//  2. A connection in gone is not in users.
//  3. Every process in heard is one whose entries count.
type Table struct {
	users map[region.UIN][]Entry
	gone  map[Connection]time.Time // until when it is remembered
	lives map[string]life
	size  int
}

type life struct {
	incarnation uint64
	heard       time.Time
	sum         uint64 // see mix; of its entries in users
}

// mix spreads a connection's ID (the finalizer of SplitMix64), so that the
// exclusive or over a set tells sets apart.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// NewTable makes an empty one.
func NewTable() *Table {
	return &Table{users: map[region.UIN][]Entry{}, gone: map[Connection]time.Time{}, lives: map[string]life{}}
}

// Heard notes that a process was alive at a time. It says whether that life is
// the newest one, and whether this table knew of it.
func (t *Table) Heard(p Process, at time.Time) (newest, known bool) {
	l, ok := t.lives[p.Name]
	switch {
	case ok && p.Incarnation < l.incarnation:
		return false, true
	case ok && p.Incarnation == l.incarnation:
		if at.After(l.heard) {
			l.heard = at
			t.lives[p.Name] = l
		}
		return true, true
	}
	t.Drop(p.Name)
	t.lives[p.Name] = life{incarnation: p.Incarnation, heard: at}
	return true, false
}

// Drop forgets the connections of a process, but not the process.
func (t *Table) Drop(name string) {
	t.forget(func(e *Entry) bool { return e.Name == name })
	if l, ok := t.lives[name]; ok {
		l.sum = 0
		t.lives[name] = l
	}
}

// Sum tells whether two sides know the same connections of a process.
func (t *Table) Sum(p Process) uint64 {
	if l := t.lives[p.Name]; l.incarnation == p.Incarnation {
		return l.sum
	}
	return 0
}

func (t *Table) toggle(c Connection) {
	l := t.lives[c.Name]
	l.sum ^= mix(c.ID)
	t.lives[c.Name] = l
}

// Apply takes an entry in; it says whether that changed anything.
func (t *Table) Apply(e Entry, now time.Time) bool {
	l, ok := t.lives[e.Name]
	if !ok || l.incarnation != e.Incarnation {
		if newest, _ := t.Heard(e.Process, now); !newest {
			return false
		}
	}
	if _, gone := t.gone[e.Connection]; gone {
		return false
	}
	list := t.users[e.UIN]
	i := slices.IndexFunc(list, func(o Entry) bool { return o.Connection == e.Connection })
	if e.Gone {
		t.gone[e.Connection] = now.Add(goneFor)
		if i >= 0 {
			t.remove(e.UIN, i)
			t.toggle(e.Connection)
		}
		return true
	}
	if i >= 0 {
		return false
	}
	t.users[e.UIN] = append(slices.Clip(list), e)
	t.size++
	t.toggle(e.Connection)
	return true
}

func (t *Table) remove(u region.UIN, i int) {
	t.size--
	if list := t.users[u]; len(list) > 1 {
		t.users[u] = slices.Delete(slices.Clone(list), i, i+1)
		return
	}
	delete(t.users, u)
}

func (t *Table) forget(which func(*Entry) bool) {
	for u, list := range t.users {
		kept := slices.DeleteFunc(slices.Clone(list), func(e Entry) bool { return which(&e) })
		if t.size -= len(list) - len(kept); len(kept) == 0 {
			delete(t.users, u)
		} else if len(kept) < len(list) {
			t.users[u] = kept
		}
	}
}

// Expire forgets processes that were not heard of for [TTL], with their
// connections, and old news of connections that are gone.
func (t *Table) Expire(now time.Time) {
	silent := map[string]bool{}
	for name, l := range t.lives {
		if now.Sub(l.heard) > TTL {
			silent[name] = true
			delete(t.lives, name)
		}
	}
	if len(silent) > 0 {
		t.forget(func(e *Entry) bool { return silent[e.Name] })
	}
	for c, until := range t.gone {
		if now.After(until) {
			delete(t.gone, c)
		}
	}
}

// Lookup returns a user's connections, oldest first. The slice is not changed
// afterwards.
func (t *Table) Lookup(u region.UIN) []Entry {
	return slices.Clip(t.users[u])
}

// Size returns the number of users and of their connections.
func (t *Table) Size() (users, connections int) { return len(t.users), t.size }

// Entries returns all connections that keep says yes to, and what is known to be
// gone of none.
func (t *Table) Entries(keep func(region.UIN) bool) []Entry {
	var all []Entry
	for u, list := range t.users {
		if keep(u) {
			all = append(all, list...)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.UIN, b.UIN), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Alive returns when each process was heard of.
func (t *Table) Alive() map[Process]time.Time {
	all := map[Process]time.Time{}
	for name, l := range t.lives {
		all[Process{name, l.incarnation}] = l.heard
	}
	return all
}
