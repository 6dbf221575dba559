package core

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// What one device of a user sets, the others sync; nobody else does.
func TestProfileAndSettingsAreSynced(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	c := u.core("sh")
	set := func(key, name, value string, removed bool) error {
		_, err := c.SetSetting(ctx, alice.Caller, &v1.SetSettingRequest{Setting: &v1.Setting{Name: name, Value: value, Removed: removed}, IdempotencyKey: key})
		return err
	}
	laptop := u.synced(alice)
	must(t, set("1", "theme", "dark", false))
	must(t, set("2", "mute/5", "until noon", false))
	must(t, set("3", "theme", "light", false))
	must(t, set("1", "theme", "dark", false)) // a late repeat changes nothing
	must(t, set("4", "mute/5", "", true))
	must(t, set("5", "never there", "", true))
	_, err := c.UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{About: proto.String("sings"), Avatar: proto.String("https://media.demo.test/1"), IdempotencyKey: "p"})
	must(t, err)
	r, err := c.Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: laptop})
	must(t, err)
	var got []string
	for _, s := range r.Settings {
		got = append(got, fmt.Sprint(s.Name, "=", s.Value, s.Removed))
	}
	if strings.Join(got, " ") != "theme=lightfalse mute/5=true" || r.Account.GetAbout() != "sings" || r.Account.Avatar == "" || r.Account.Nickname != "Alice" {
		t.Errorf("%v, %v", got, r.Account)
	}
	again, err := c.Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: r.Snapshot})
	must(t, err)
	if len(again.Settings) != 0 || again.Account != nil {
		t.Errorf("again: %v", again)
	}
	u.eventually("Bob sees the profile", func() error {
		if a := u.resolved(bob, alice.UIN); a.About != "sings" {
			return fmt.Errorf("%v", a)
		}
		return nil
	})
	wantKind(t, set("6", "", "x", false), region.BadInput)
	wantKind(t, set("7", strings.Repeat("x", MaxSettingName+1), "x", false), region.BadInput)
	wantKind(t, set("8", "x", strings.Repeat("x", MaxSetting+1), false), region.TooLarge)
	wantKind(t, set("1", "theme", "blue", false), region.Conflict)
	_, err = c.UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{Avatar: proto.String("not absolute"), IdempotencyKey: "q"})
	wantKind(t, err, region.BadInput)
	_, err = c.UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{IdempotencyKey: "q"})
	wantKind(t, err, region.BadInput)
}

func TestSettingsAreBounded(t *testing.T) {
	u := newUniverseWith(t, inMemory, nil, "sh")
	alice := u.register("sh", "Alice")
	set := func(i int) error {
		_, err := u.core("sh").SetSetting(ctx, alice.Caller, &v1.SetSettingRequest{Setting: &v1.Setting{Name: fmt.Sprint(i), Value: "x"}, IdempotencyKey: fmt.Sprint(i)})
		return err
	}
	for i := range MaxSettings {
		must(t, set(i))
	}
	wantKind(t, set(MaxSettings), region.TooLarge)
}

// Every kind of message arrives as it was sent, one that this version does not
// know included, byte for byte, over a region boundary.
func TestMessageKinds(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	later := protowire.AppendTag(nil, 77, protowire.BytesType)
	later = protowire.AppendBytes(later, []byte("a kind of the year 2031"))
	unknown := new(v1.Body)
	must(t, proto.Unmarshal(later, unknown))
	bodies := map[string]*v1.Body{
		"text":   {Kind: &v1.Body_Text{Text: "hello"}},
		"media":  {Kind: &v1.Body_Media{Media: &v1.Media{Url: "https://media.demo.test/1", MimeType: "image/png", Bytes: 5, Sha256: make([]byte, 32), Name: "cat.png", Width: 3, Height: 4, Preview: []byte{1}}}},
		"custom": {Kind: &v1.Body_Custom{Custom: &v1.Custom{Type: "poll.demo.test", Payload: []byte{0, 1, 2}}}},
		"later":  unknown,
	}
	send := func(id string, b *v1.Body) (*v1.SendResponse, error) {
		return u.core("sh").Send(ctx, alice.Caller, &v1.SendRequest{To: uint64(bob.UIN), ClientMessageId: id, Body: b})
	}
	for id, b := range bodies {
		_, err := send(id, b)
		must(t, err)
		if r, err := send(id, proto.CloneOf(b)); err != nil || !r.Repeated {
			t.Errorf("%s again: %v, %v", id, r, err)
		}
	}
	u.eventually("delivery", func() error {
		all, err := u.inbox(bob)
		if err != nil || len(all) != len(bodies) {
			return fmt.Errorf("%d, %v", len(all), err)
		}
		for _, m := range all {
			if !proto.Equal(m.Body, bodies[m.ClientMessageId]) {
				t.Fatalf("%s arrives as %v", m.ClientMessageId, m.Body)
			}
			if b, _ := proto.Marshal(m.Body); m.ClientMessageId == "later" && !bytes.Equal(b, later) {
				t.Fatalf("an unknown kind was changed: %x", b)
			}
		}
		return nil
	})
	_, err := send("later", bodies["text"])
	wantKind(t, err, region.Conflict)
	for name, c := range map[string]struct {
		body *v1.Body
		want region.Kind
	}{
		"nothing":       {&v1.Body{}, region.BadInput},
		"none":          {nil, region.BadInput},
		"relative":      {&v1.Body{Kind: &v1.Body_Media{Media: &v1.Media{Url: "cat.png", MimeType: "image/png"}}}, region.BadInput},
		"no type":       {&v1.Body{Kind: &v1.Body_Media{Media: &v1.Media{Url: "https://x.test/"}}}, region.BadInput},
		"short sum":     {&v1.Body{Kind: &v1.Body_Media{Media: &v1.Media{Url: "https://x.test/", MimeType: "a/b", Sha256: []byte{1}}}}, region.BadInput},
		"large preview": {&v1.Body{Kind: &v1.Body_Media{Media: &v1.Media{Url: "https://x.test/", MimeType: "a/b", Preview: make([]byte, MaxPreview+1)}}}, region.TooLarge},
		"no media":      {&v1.Body{Kind: &v1.Body_Media{}}, region.BadInput},
		"no custom":     {&v1.Body{Kind: &v1.Body_Custom{}}, region.BadInput},
		"large custom":  {&v1.Body{Kind: &v1.Body_Custom{Custom: &v1.Custom{Type: "x", Payload: make([]byte, MaxText+1)}}}, region.TooLarge},
		"system":        {&v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: "x"}}}, region.BadInput},
	} {
		if _, err := send(name, c.body); region.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := new(v1.Body)
	must(t, proto.Unmarshal(protowire.AppendBytes(protowire.AppendTag(nil, 77, protowire.BytesType), make([]byte, maxBody+1)), large))
	_, err = send("large", large)
	wantKind(t, err, region.TooLarge)
}
