package idstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
)

// question and answer are one call, for the checker.
type question struct {
	claim  bool
	handle ids.Handle
	owner  region.UIN
}

type answer struct {
	owner   region.UIN // 0: nobody
	primary ids.Handle
	kind    region.Kind
}

// world is the checker's state: "handle=owner" of every claimed handle and
// "owner:primary" of every owner, sorted. A string compares cheaply and is never
// changed by accident.
type world string

func (w world) get(key string) string {
	for _, f := range strings.Fields(string(w)) {
		if v, ok := strings.CutPrefix(f, key); ok {
			return v
		}
	}
	return ""
}

func (w world) set(key, value string) world {
	fs := strings.Fields(string(w))
	for i, f := range fs {
		if strings.HasPrefix(f, key) {
			fs[i] = key + value
			return world(strings.Join(fs, " "))
		}
	}
	fs = append(fs, key+value)
	sort.Strings(fs)
	return world(strings.Join(fs, " "))
}

func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return world("") },
		Step: func(state, in, out any) (bool, any) {
			w, q, a := state.(world), in.(question), out.(answer)
			has := w.get(string(q.handle) + "=")
			me := q.owner.String()
			switch {
			case !q.claim && has == "":
				return a.kind == region.NotFound, w
			case !q.claim:
				return a.kind == 0 && a.owner.String() == has && string(a.primary) == w.get(has+":"), w
			case has != "" && has != me:
				return a.kind == region.Conflict, w
			default:
				return a.kind == 0, w.set(string(q.handle)+"=", me).set(me+":", string(q.handle))
			}
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

// linearizable records histories of concurrent calls and has porcupine look for
// an order that explains each.
func linearizable(t *testing.T, e Engine) {
	for round := range 8 {
		s := e.Open(t)
		start := time.Now()
		var mu sync.Mutex
		var history []porcupine.Operation
		var wg sync.WaitGroup
		for c := range 6 {
			rng := rand.New(rand.NewPCG(uint64(round), uint64(c)))
			wg.Go(func() {
				for range 25 {
					q := question{claim: rng.IntN(3) > 0, handle: ids.Handle(fmt.Sprintf("h%d", rng.IntN(6))), owner: region.UIN(1 + rng.IntN(4))}
					call := time.Since(start).Nanoseconds()
					a := perform(t.Context(), s, q)
					ret := time.Since(start).Nanoseconds()
					mu.Lock()
					history = append(history, porcupine.Operation{ClientId: c, Input: q, Call: call, Output: a, Return: ret})
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := porcupine.CheckOperationsTimeout(model(), history, 20*time.Second); got != porcupine.Ok {
			t.Fatalf("round %d: the history of %d calls is %s", round, len(history), got)
		}
	}
}

func perform(ctx context.Context, s ids.Store, q question) answer {
	var got ids.Claimed
	var err error
	if q.claim {
		got, err = s.Claim(ctx, q.handle, q.owner)
	} else {
		got, err = s.Resolve(ctx, q.handle)
	}
	return answer{got.Owner, got.Primary, region.KindOf(err)}
}

// likeTheTwin drives the engine and Memory with the same calls and wants the
// same answers, across restarts.
func likeTheTwin(t *testing.T, e Engine) {
	segments := []region.Segment{{First: 100, Last: 130, Home: "sh"}, {First: 200, Last: 260, Home: "sh"}}
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		s, twin := e.Open(t), NewMemory()
		defer func() { _ = s.Close() }()
		agree := func(got, want any, gotErr, wantErr error) {
			if region.KindOf(gotErr) != region.KindOf(wantErr) || gotErr == nil && got != want {
				rt.Fatalf("engine: %v, %v; twin: %v, %v", got, gotErr, want, wantErr)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"claim": func(rt *rapid.T) {
				h, o := ids.Handle(fmt.Sprintf("h%d", rapid.IntRange(0, 30).Draw(rt, "handle"))), region.UIN(rapid.IntRange(1, 3).Draw(rt, "owner"))
				a, aerr := s.Claim(ctx, h, o)
				b, berr := twin.Claim(ctx, h, o)
				agree(a, b, aerr, berr)
			},
			"resolve": func(rt *rapid.T) {
				h := ids.Handle(fmt.Sprintf("h%d", rapid.IntRange(0, 30).Draw(rt, "handle")))
				a, aerr := s.Resolve(ctx, h)
				b, berr := twin.Resolve(ctx, h)
				agree(a, b, aerr, berr)
			},
			"allot": func(rt *rapid.T) {
				q := ids.Allotment{
					Region: rapid.SampledFrom([]region.ID{"sh", "hk"}).Draw(rt, "region"), Key: fmt.Sprint(rapid.IntRange(0, 20).Draw(rt, "key")),
					Home: "sh", N: rapid.IntRange(1, 12).Draw(rt, "n"), Segments: segments[rapid.IntRange(0, 1).Draw(rt, "from"):],
				}
				a, aerr := s.Allot(ctx, q)
				b, berr := twin.Allot(ctx, q)
				agree(a, b, aerr, berr)
			},
			"reopen": func(*rapid.T) {
				if e.Reopen != nil {
					s = e.Reopen(t, s)
				}
			},
		})
	})
}
