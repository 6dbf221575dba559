package health

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

// Opinion is what an observer thinks of a member.
type Opinion uint8

// The opinions.
const (
	Unknown Opinion = iota // not checked yet
	Down
	Up
)

func (s State) opinion() Opinion {
	switch {
	case s.Up:
		return Up
	case s.Checked:
		return Down
	}
	return Unknown
}

// Agree says whether a member can take clients, by what observers think of it:
// somebody sees it up, and no majority of those who know it sees it down. So
// with two or more who know, one alone fails nobody, and with three or more one
// alone keeps nobody up either; what nobody knows is not healthy.
func Agree(own Opinion, others ...Opinion) bool {
	up, known := 0, 0
	for _, o := range append(others, own) {
		switch o {
		case Up:
			up++
			known++
		case Down:
			known++
		}
	}
	return up > 0 && 2*up >= known
}

// Told is an observer's view of a world: one opinion for each of its POPs and
// then its regions that are checked, in the world's order.
//
// On the wire, integers big-endian:
//
//	1 byte    1, the version of this form
//	8 bytes   version of the world
//	8 bytes   beginning of the world's hash
//	8 bytes   order: grows with each view of an observer
//	1 byte    length of the observer's name, then the name
//	2 bytes   number of opinions
//	...       opinions, two bits each, the first in the lowest bits; unused bits are 0
type Told struct {
	Observer string // kind and name of a member of the world: "dns dns-1"
	World    uint64
	Hash     region.ShortHash
	Order    uint64
	Opinions []Opinion
}

const toldVersion = 1

// Encode writes the view. Its name has at most 255 bytes and 65,535 opinions.
func (t *Told) Encode() []byte {
	b := []byte{toldVersion}
	b = binary.BigEndian.AppendUint64(b, t.World)
	b = append(b, t.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, t.Order)
	b = append(append(b, byte(len(t.Observer))), t.Observer...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Opinions)))
	bits := make([]byte, (len(t.Opinions)+3)/4)
	for i, o := range t.Opinions {
		bits[i/4] |= byte(o) << (i % 4 * 2)
	}
	return append(b, bits...)
}

// DecodeTold reads what [Told.Encode] wrote, and nothing else. Errors are of
// kind region.BadInput.
func DecodeTold(b []byte) (t Told, err error) {
	wrong := region.Errorf(region.BadInput, "%d bytes are no view of an observer", len(b))
	const fixed = 1 + 8 + len(t.Hash) + 8 + 1
	if len(b) < fixed+2 || b[0] != toldVersion || len(b) < fixed+int(b[fixed-1])+2 {
		return t, wrong
	}
	t.World = binary.BigEndian.Uint64(b[1:])
	copy(t.Hash[:], b[9:])
	t.Order = binary.BigEndian.Uint64(b[9+len(t.Hash):])
	name := int(b[fixed-1])
	t.Observer = string(b[fixed : fixed+name])
	b = b[fixed+name:]
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) != (n+3)/4 {
		return t, wrong
	}
	t.Opinions = make([]Opinion, n)
	for i := range 4 * len(b) {
		o := Opinion(b[i/4] >> (i % 4 * 2) & 3)
		if o > Up || i >= n && o != Unknown {
			return t, wrong
		}
		if i < n {
			t.Opinions[i] = o
		}
	}
	return t, nil
}

// tellEvery is how often an observer tells what it sees although nothing has
// changed, for those who missed it; with many observers they take turns, so that
// gossip stays as quiet.
const tellEvery = time.Second

// forgetAfter is how many of these an observer may miss before its opinion no
// longer counts.
const forgetAfter = 3

// council has what the other observers told. It is safe for concurrent use.
type council struct {
	self string
	now  func() time.Time

	mu    sync.Mutex
	seats map[string]seat
	news  bool // since the last look
}

type seat struct {
	told Told
	at   time.Time
}

// observes says whether a world has an observer of this name: POPs are watched,
// and do not vote.
func observes(w *region.World, name string) bool {
	return slices.ContainsFunc(w.DNS, func(n region.Node) bool { return "dns "+n.Name == name }) ||
		slices.ContainsFunc(w.Regions, func(r region.Region) bool { return "region "+string(r.ID) == name })
}

// hear takes a view of the newest world by one of its observers, and passes
// over everything else: another world's members are not ours.
func (c *council) hear(v *region.View, t Told) {
	if v == nil || t.World != v.World.Version || t.Hash != v.Hash.Short() || t.Observer == c.self || !observes(v.World, t.Observer) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	was, ok := c.seats[t.Observer]
	if ok && was.told.World == t.World && was.told.Hash == t.Hash && was.told.Order >= t.Order {
		return
	}
	c.news = c.news || !ok || was.told.World != t.World || !slices.Equal(was.told.Opinions, t.Opinions)
	c.seats[t.Observer] = seat{t, c.now()}
}

// pause is how long an observer waits before it tells the same again.
func (c *council) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pauseLocked()
}

func (c *council) pauseLocked() time.Duration {
	const loud = 20 // observers that may all speak every second
	return tellEvery * time.Duration(1+len(c.seats)/loud)
}

// changed forgets who has been silent, and says whether anything is new since it
// was last asked.
func (c *council) changed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.now().Add(-forgetAfter * c.pauseLocked())
	for name, s := range c.seats {
		if s.at.Before(old) {
			delete(c.seats, name)
			c.news = true
		}
	}
	news := c.news
	c.news = false
	return news
}

// opinions are the others' of each of the world's targets.
func (c *council) opinions(v *region.View, targets []Target) map[Target][]Opinion {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[Target][]Opinion, len(targets))
	for _, s := range c.seats {
		if s.told.World != v.World.Version || s.told.Hash != v.Hash.Short() || len(s.told.Opinions) != len(targets) {
			continue
		}
		for i, t := range targets {
			out[t] = append(out[t], s.told.Opinions[i])
		}
	}
	return out
}
