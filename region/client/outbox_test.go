package client

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func textTo(to uint64, id, text string) *v1.SendRequest {
	return &v1.SendRequest{To: to, ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: text}}}
}

func epoch(counter uint64) region.Epoch { return region.Epoch{Term: region.Term{Counter: counter}} }

// The life of a message in the outbox, step by step.
func TestOutbox(t *testing.T) {
	stored := func(incarnation, sequence uint64) *v1.SendResponse {
		return &v1.SendResponse{Mark: &v1.Mark{Incarnation: incarnation, Sequence: sequence}}
	}
	mark := func(incarnation, sequence uint64) *v1.Mark { return stored(incarnation, sequence).Mark }
	for name, c := range map[string]struct {
		do   func(*outbox)
		kept bool
		due1 bool // to be sent under epoch 1
		due2 bool // under epoch 2
	}{
		"no answer":              {func(b *outbox) { b.done("m", epoch(1), nil, false) }, true, true, true},
		"a Send is busy with it": {func(*outbox) {}, true, false, false},
		"stored":                 {func(b *outbox) { b.done("m", epoch(1), stored(1, 5), false) }, true, false, true},
		"refused":                {func(b *outbox) { b.done("m", epoch(1), nil, true) }, false, false, false},
		"a region without marks": {func(b *outbox) { b.done("m", epoch(1), &v1.SendResponse{}, false) }, false, false, false},
		"held":                   {func(b *outbox) { b.done("m", epoch(1), stored(1, 5), false); b.held(epoch(1), mark(1, 5)) }, false, false, false},
		"not yet held":           {func(b *outbox) { b.done("m", epoch(1), stored(1, 5), false); b.held(epoch(1), mark(1, 4)) }, true, false, true},
		"held at another epoch":  {func(b *outbox) { b.done("m", epoch(1), stored(1, 5), false); b.held(epoch(2), mark(1, 9)) }, true, false, true},
		"a newer incarnation":    {func(b *outbox) { b.done("m", epoch(1), stored(1, 5), false); b.held(epoch(1), mark(2, 9)) }, true, true, true},
		"an older incarnation":   {func(b *outbox) { b.done("m", epoch(1), stored(2, 5), false); b.held(epoch(1), mark(1, 9)) }, true, false, true},
		"nobody knows":           {func(b *outbox) { b.done("m", epoch(1), stored(1, 5), false); b.held(epoch(1), nil) }, true, false, true},
		"forgotten":              {func(b *outbox) { b.forget("m"); b.done("m", epoch(1), nil, false) }, false, false, false},
		"held, a repeat is busy": {func(b *outbox) {
			b.done("m", epoch(1), stored(1, 5), false)
			_ = b.keep(textTo(2, "m", "hello"))
			b.held(epoch(1), mark(1, 5))
		}, true, false, false},
	} {
		b, err := openOutbox("", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.keep(textTo(2, "m", "hello")); err != nil {
			t.Fatal(err)
		}
		c.do(b)
		if b.empty() == c.kept || len(b.due(epoch(1))) == 1 != c.due1 || len(b.due(epoch(2))) == 1 != c.due2 {
			t.Errorf("%s: kept %v, due at 1: %v, at 2: %v", name, !b.empty(), b.due(epoch(1)), b.due(epoch(2)))
		}
	}
}

func TestOutboxRefusesAnotherMessageUnderTheID(t *testing.T) {
	b, _ := openOutbox("", slog.New(slog.DiscardHandler))
	if err := errors.Join(b.keep(textTo(2, "m", "one")), b.keep(textTo(2, "m", "one"))); err != nil {
		t.Fatal(err)
	}
	if err := b.keep(textTo(2, "m", "two")); region.KindOf(err) != region.Conflict {
		t.Errorf("another text: %v", err)
	}
}

// A full outbox gives up what is stored, the oldest first, and nothing else.
func TestOutboxIsBounded(t *testing.T) {
	b, _ := openOutbox("", slog.New(slog.DiscardHandler))
	for i := range maxKept {
		if err := b.keep(textTo(2, NewKey(), "x")); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := b.keep(textTo(2, "one more", "x")); region.KindOf(err) != region.Overloaded {
		t.Fatalf("beyond the limit: %v", err)
	}
	third := b.all()[2].req.ClientMessageId
	b.done(third, epoch(1), &v1.SendResponse{Mark: &v1.Mark{Sequence: 1}}, false)
	if err := b.keep(textTo(2, "one more", "x")); err != nil || b.messages[third] != nil || len(b.messages) != maxKept {
		t.Errorf("%v, %d kept", err, len(b.messages))
	}
}

// What a process kept is there for the next one, in order, with what was known.
func TestOutboxSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox-1")
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	b, err := openOutbox(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"z first", "../second", "a third"} {
		if err := b.keep(textTo(2, id, "text of "+id)); err != nil {
			t.Fatal(err)
		}
	}
	b.done("../second", epoch(3), &v1.SendResponse{Mark: &v1.Mark{Incarnation: 7, Sequence: 9}}, false)
	b.done("a third", epoch(3), nil, true)
	if err := os.WriteFile(filepath.Join(dir, "00.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := openOutbox(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	all := again.all()
	if len(all) != 2 || all[0].req.ClientMessageId != "z first" || all[1].req.GetBody().GetText() != "text of ../second" {
		t.Fatalf("found %v", all)
	}
	if k := all[1]; all[0].acked || !k.acked || k.epoch != epoch(3) || k.mark.Incarnation != 7 || k.mark.Sequence != 9 {
		t.Errorf("%+v and %+v", all[0], k)
	}
	if !strings.Contains(said.String(), "00.json") {
		t.Errorf("nothing was said of the damaged file: %s", said.String())
	}
	again.held(epoch(3), &v1.Mark{Incarnation: 7, Sequence: 9})
	again.forget("z first")
	if last, err := openOutbox(dir, log); err != nil || !last.empty() {
		t.Errorf("left over: %v, %v", last.all(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "00.json")); errors.Is(err, fs.ErrNotExist) {
		t.Error("what cannot be read was removed")
	}
}

// Golden bytes of an outbox file: an update of the app must not lose messages.
const goldenKept = `{"number":4,"request":"CAIaAW0iBAoCaGk=","epoch":"CAEQAhoIAQIDAAAAAAA=","mark":"CAcQCQ=="}`

func TestKeptGolden(t *testing.T) {
	e := region.Epoch{Moves: 1, Term: region.Term{Counter: 2, Raised: region.ShortHash{1, 2, 3}}}
	k := &kept{number: 4, req: textTo(2, "m", "hi"), acked: true, epoch: e, mark: &v1.Mark{Incarnation: 7, Sequence: 9}}
	b, err := encodeKept(k)
	if err != nil || string(b) != goldenKept {
		t.Errorf("%s, %v", b, err)
	}
	got, err := decodeKept([]byte(goldenKept))
	if err != nil || got.number != 4 || got.req.Body.GetText() != "hi" || got.epoch != e || got.mark.Sequence != 9 || !got.acked {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzKept(f *testing.F) {
	f.Add([]byte(goldenKept))
	f.Add([]byte(`{"number":4,"request":"CAIaAW0iBAoCaGk="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeKept(b)
		if err != nil {
			return
		}
		again, err := encodeKept(k)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := decodeKept(again); err != nil || r.number != k.number || r.acked != k.acked || r.epoch != k.epoch {
			t.Fatalf("%+v became %+v, %v", k, r, err)
		}
	})
}

func FuzzCache(f *testing.F) {
	f.Add([]byte(`{"endpoints":["127.0.0.1:7101","[::1]:7101"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ends := decodeCache(b); len(ends) > maxKnown {
			t.Fatalf("%d endpoints", len(ends))
		}
	})
}
