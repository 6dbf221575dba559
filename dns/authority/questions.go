package authority

import (
	"net/netip"
	"sync"
	"time"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// Question is one that was asked about a steered name, without the answer.
type Question struct {
	At      int64          `json:"at"` // Unix seconds
	Service region.Service `json:"service"`
	UIN     region.UIN     `json:"uin,omitempty"`
	Version uint32         `json:"version,omitempty"`
	// Client is the network in the question's subnet option, else who asked.
	Client netip.Prefix `json:"client"`
	// Facts are what the geo databases say of it now.
	Facts steer.Facts `json:"facts"`
}

const (
	// maxQuestions are kept: those of the last minutes.
	maxQuestions = 1 << 16
	// questionsPerSecond are noted at most by one worker, so that a busy server
	// remembers as far back as an idle one and spends nothing on it.
	questionsPerSecond = 100
)

// Steered is the question as steering sees it.
func (q *Question) Steered() steer.Client {
	return steer.Client{Service: q.Service, UIN: q.UIN, Version: q.Version, Prefix: q.Client, Facts: q.Facts}
}

// questions remembers some of the questions.
type questions struct {
	mu   sync.Mutex
	ring []Question
	next int // where the next one goes, once the ring is full
}

func (q *questions) add(x Question) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ring) < maxQuestions {
		q.ring = append(q.ring, x)
		return
	}
	q.ring[q.next] = x
	q.next = (q.next + 1) % maxQuestions
}

// budget is one worker's allowance for a second.
type budget struct {
	second uint32
	noted  int
}

// allows says whether one more question may be noted in this second.
func (b *budget) allows(now uint32) bool {
	if b.second != now {
		b.second, b.noted = now, 0
	}
	b.noted++
	return b.noted <= questionsPerSecond
}

// Questions are those of the time before now that were noted, the oldest first:
// up to a hundred per second and worker.
func (s *Server) Questions(before time.Duration) []Question {
	since := s.now().Add(-before).Unix()
	q := &s.questions
	out := []Question{}
	q.mu.Lock()
	for i := range q.ring {
		if x := q.ring[(q.next+i)%len(q.ring)]; x.At >= since {
			out = append(out, x)
		}
	}
	q.mu.Unlock()
	for i := range out {
		if out[i].Client.IsValid() {
			out[i].Facts = s.o.Geo.Lookup(out[i].Client.Masked().Addr())
		}
	}
	return out
}

// note remembers a question that took the slow way.
func (s *Server) note(t target, client netip.Prefix) {
	now := s.unix()
	s.slowBudget.mu.Lock()
	allowed := s.slowBudget.allows(now)
	s.slowBudget.mu.Unlock()
	if allowed {
		s.questions.add(Question{At: int64(now), Service: t.service, UIN: t.uin, Version: t.version, Client: client})
	}
}
