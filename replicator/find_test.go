package replicator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fakeLog is a queue of one log whose record batches hold several messages.
type fakeLog struct {
	Queue
	start int64
	lasts []uint64 // keys, by offset from start
	batch int64    // messages in a record batch
	looks int
}

func (f *fakeLog) Bounds(context.Context, TopicPartition) (Bounds, error) {
	return Bounds{f.start, f.start + int64(len(f.lasts))}, nil
}

func (f *fakeLog) Fetch(_ context.Context, at []FetchAt, _ time.Duration) ([]Fetched, error) {
	f.looks++
	var out Fetched
	end := (at[0].Offset-f.start)/f.batch*f.batch + f.batch
	for i := at[0].Offset - f.start; i < min(end, int64(len(f.lasts))); i++ {
		out.Messages = append(out.Messages, Message{Offset: f.start + i, Key: fmt.Append(nil, f.lasts[i], "-", f.lasts[i])})
	}
	return []Fetched{out}, nil
}

// TestFindOffsetSkipsNothing: in a log whose keys never skip forward, every
// record after the position is at or after the offset found, or comes again.
func TestFindOffsetSkipsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &fakeLog{start: rapid.Int64Range(0, 1000).Draw(t, "start"), batch: rapid.Int64Range(1, 7).Draw(t, "batch")}
		first := rapid.Uint64Range(1, 50).Draw(t, "first")
		last := first - 1
		for range rapid.IntRange(0, 6).Draw(t, "runs") { // each begins again somewhere behind
			last = rapid.Uint64Range(first-1, last).Draw(t, "from")
			for range rapid.IntRange(1, 60).Draw(t, "length") {
				last++
				f.lasts = append(f.lasts, last)
			}
		}
		seq := rapid.Uint64Range(0, 200).Draw(t, "position")
		at, err := findOffset(context.Background(), f, TopicPartition{}, seq)
		if err != nil {
			t.Fatal(err)
		}
		have := map[uint64]bool{}
		for i, l := range f.lasts {
			have[l] = have[l] || f.start+int64(i) >= at
		}
		for s := max(seq+1, first); s <= last; s++ { // what lies beyond, the last run has yet to repeat
			if !have[s] {
				t.Fatalf("position %d: reading from %d misses %d of %v", seq, at-f.start, s, f.lasts)
			}
		}
	})
}

func TestFindOffsetIsQuickNearTheEnd(t *testing.T) {
	f := &fakeLog{batch: 1}
	for i := range uint64(1 << 20) {
		f.lasts = append(f.lasts, i+1)
	}
	for position, want := range map[uint64]int{1 << 20: 1, 1<<20 - 1: 4, 1<<20 - 10: 8, 0: 30} {
		f.looks = 0
		at, err := findOffset(context.Background(), f, TopicPartition{}, position)
		if err != nil || uint64(at) != position || f.looks > want {
			t.Errorf("position %d is at %d after %d looks, want %d at most; %v", position, at, f.looks, want, err)
		}
	}
}
