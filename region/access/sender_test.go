package access_test

import (
	"context"
	"sync"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/accesstest"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// later is a logic that answers a Send when it is told to.
type later struct {
	*accesstest.Logic
	mu       sync.Mutex
	waiting  []func()
	asked    []string
	contexts []context.Context
}

func (l *later) SendThen(ctx context.Context, c core.Caller, r *v1.SendRequest, then func(*v1.SendResponse, error)) {
	if r.ClientMessageId == "panic" {
		panic("of a test")
	}
	resp, err := l.Send(ctx, c, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, r.ClientMessageId)
	l.contexts = append(l.contexts, ctx)
	l.waiting = append(l.waiting, func() { then(resp, err) })
}

func (l *later) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// TestSendsAreAnsweredLater: Sends of a connection do not wait for each other's
// answers, reach the logic in their order, and each gets its own answer, whatever
// the order of answers is.
func TestSendsAreAnsweredLater(t *testing.T) {
	l := &later{}
	r := newRig(t, func(o *access.Options) {
		l.Logic = o.Logic.(*accesstest.Logic)
		o.Logic = l
	})
	a, _ := r.raw(1_000_001), r.raw(1_000_002)
	a.login()
	ids := []string{"a", "b", "", "c"} // the third is refused
	var sequences []uint64
	for _, id := range ids {
		sequences = append(sequences, a.send(wire.Send, &v1.SendRequest{To: 1_000_002, ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: "hello"}}}))
	}
	eventually(t, "the logic has all", func() bool { return l.count() == len(ids) })
	l.mu.Lock()
	for i, id := range l.asked {
		if id != ids[i] {
			t.Errorf("message %d at the logic is %q, sent was %q", i, id, ids[i])
		}
	}
	answers := l.waiting
	l.mu.Unlock()
	for i := len(answers) - 1; i >= 0; i-- {
		answers[i]()
		f := a.response(sequences[i])
		if ids[i] == "" {
			if e := errorOf(t, f); region.Kind(e.Code) != region.BadInput {
				t.Errorf("a Send without an ID answered %v", e)
			}
			continue
		}
		resp := new(v1.SendResponse)
		body(t, f, resp)
		if want := map[string]uint64{"a": 1, "b": 2, "c": 3}[ids[i]]; resp.Sequence != want {
			t.Errorf("message %q has sequence %d, want %d", ids[i], resp.Sequence, want)
		}
	}
	if e := errorOf(t, a.response(a.send(wire.Send, &v1.SendRequest{To: 1_000_002, ClientMessageId: "panic"}))); region.Kind(e.Code) != region.Internal {
		t.Errorf("a panic answered %v", e)
	}
}

// TestSendKeepsItsTime: the context of a Send that is answered later lasts until
// then, so that the logic can answer when the time is up.
func TestSendKeepsItsTime(t *testing.T) {
	l := &later{}
	r := newRig(t, func(o *access.Options) {
		l.Logic = o.Logic.(*accesstest.Logic)
		o.Logic = l
	})
	a, _ := r.raw(1_000_001), r.raw(1_000_002)
	a.login()
	sequence := a.send(wire.Send, &v1.SendRequest{To: 1_000_002, ClientMessageId: "a", Body: &v1.Body{Kind: &v1.Body_Text{Text: "hello"}}})
	eventually(t, "the logic has it", func() bool { return l.count() == 1 })
	// The next one is at the logic, so the first call has returned.
	a.send(wire.Send, &v1.SendRequest{To: 1_000_002, ClientMessageId: "b", Body: &v1.Body{Kind: &v1.Body_Text{Text: "hello"}}})
	eventually(t, "the logic has both", func() bool { return l.count() == 2 })
	l.mu.Lock()
	first, answer, rest := l.contexts[0], l.waiting[0], l.waiting[1:]
	l.mu.Unlock()
	if _, bounded := first.Deadline(); !bounded || first.Err() != nil {
		t.Errorf("bounded %v, ended before the answer: %v", bounded, first.Err())
	}
	answer()
	a.response(sequence)
	if first.Err() == nil {
		t.Error("the timer runs on after the answer")
	}
	for _, answer := range rest {
		answer()
	}
}
