package access

import (
	"testing"

	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"method":"Send","sequence":1,"body":{"to":"1"}}`))
	f.Add([]byte(`{"method":"Hello","sequence":18446744073709551615,"body":{"wireVersion":1,"connectionId":"AAAA"}}`))
	f.Add([]byte(`{"method":"GoAway","push":true}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		fr, err := openEnvelope(in)
		if err != nil {
			return
		}
		info, ok := wire.Lookup(fr.Method)
		if !ok {
			return
		}
		m := info.NewRequest()
		if (jsonCodec{}).decode(fr, m) != nil {
			return
		}
		out, err := jsonCodec{}.encode(fr.Method, 0, fr.Sequence, m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := openEnvelope(out)
		if err != nil || again.Method != fr.Method || again.Sequence != fr.Sequence {
			t.Fatalf("%s became %s: %v", in, out, err)
		}
	})
}

// An outbox keeps order, blocks put and never offer, and says when it is over.
func TestOutbox(t *testing.T) {
	o := newOutbox(3)
	if ok, _ := o.offer([]byte("ab")); !ok {
		t.Fatal("refused below the limit")
	}
	if !o.put([]byte("cd")) {
		t.Fatal("refused below the limit")
	}
	if ok, full := o.offer([]byte("e")); ok || !full {
		t.Fatal("offer takes more than the limit")
	}
	put := make(chan bool)
	go func() { put <- o.put([]byte("e")) }()
	var got string
	for len(got) < 5 {
		batch, ok := o.take(t.Context())
		if !ok {
			t.Fatal("over too early")
		}
		for _, b := range batch {
			got += string(b)
		}
	}
	if !<-put || got != "abcde" {
		t.Errorf("took %q", got)
	}
	_, _ = o.offer([]byte("f"))
	o.close()
	if ok, full := o.offer([]byte("g")); ok || full || o.put([]byte("g")) {
		t.Error("a closed box takes more")
	}
	if batch, ok := o.take(t.Context()); !ok || string(batch[0]) != "f" {
		t.Error("what was in a closed box is lost")
	}
	if _, ok := o.take(t.Context()); ok {
		t.Error("a closed box is never over")
	}
}

func TestNoticeLeavesLargeMessagesOut(t *testing.T) {
	big := &v1.Message{Body: &v1.Body{Kind: &v1.Body_Text{Text: string(make([]byte, maxNoticeBody))}}}
	for m, want := range map[*v1.Message]bool{big: false, {Sequence: 1}: true} {
		n := &session{codec: binary{}, out: newOutbox(1 << 20), hello: &v1.Hello{}}
		p, err := NewPresence(nil)
		if err != nil {
			t.Fatal(err)
		}
		n.caller.UIN = 7
		p.add(n)
		p.Notify(7, 9, m)
		batch, _ := n.out.take(t.Context())
		f := wire.Frame{Body: batch[0][wire.HeaderSize:]}
		got := new(v1.Notice)
		if err := wire.Unmarshal(f, got); err != nil || got.Sequence != 9 || (got.Message != nil) != want {
			t.Errorf("%v, %v", got, err)
		}
	}
}
