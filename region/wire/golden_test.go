package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

var record = flag.Bool("record", false, "write golden files of frames that have none; never changes one that is there")

// version1 holds the bytes that wire version 1 writes. Files are added, never changed:
// clients that were released speak them.
const version1 = "testdata/version1"

type goldenFrame struct {
	name     string
	method   Method
	flags    Flags
	sequence uint64
	body     proto.Message
}

func (g goldenFrame) bytes() []byte {
	b, err := AppendMessage(nil, g.method, g.flags, g.sequence, g.body)
	if err != nil {
		panic(err)
	}
	return b
}

func golden() []goldenFrame {
	seq := func(first byte, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = first + byte(i)
		}
		return b
	}
	epoch := &v1.Epoch{Moves: 1, Counter: 7, Raised: seq(0xa0, 8)}
	message := &v1.Message{Id: seq(0x10, 16), Sequence: 3, Sender: 1000001, To: 2000001, ClientMessageId: "m-1", SentUnixMilli: 1700000000123,
		Body: &v1.Body{Kind: &v1.Body_Text{Text: "你好"}}}
	redirect := &v1.Redirect{Home: "sh", Acting: "hk", Endpoints: []string{"127.2.1.1:7101", "[::1]:7101"}, WorldVersion: 9, Epoch: epoch}
	return []goldenFrame{
		{"hello", Hello, 0, 1, &v1.Hello{WireVersion: 1, Uin: 1000001, ClientVersion: 80003, Platform: "cli", WorldVersion: 9, DeviceKeyId: seq(1, 8), Ticket: "v4.public.x", ConnectionId: seq(0x40, 16)}},
		{"hello-reply", Hello, FlagResponse, 1, &v1.HelloReply{WireVersion: 1, Nonce: seq(0x80, 32), Region: "sh", Epoch: epoch, WorldVersion: 9, Pop: "pop-1"}},
		{"hello-redirect", Redirect, FlagResponse, 1, redirect},
		{"hello-error", Hello, FlagResponse | FlagError | FlagRetryable, 1, &v1.Error{Code: 8, Name: "unavailable", Message: "not now", Hint: "try again", Retryable: true, WorldVersion: 9, RetryAfterMilli: 300}},
		{"reauth", Reauth, 0, 2, &v1.Reauth{Nonce: seq(0x80, 32), Signature: seq(0, 64)}},
		{"reauth-reply", Reauth, FlagResponse, 2, &v1.ReauthReply{HeartbeatSeconds: 240, TicketExpiresUnix: 1700003600}},
		{"reauth-push", Reauth, FlagPush, 0, &v1.Reauth{Nonce: seq(0x80, 32)}},
		{"heartbeat", Heartbeat, 0, 3, &v1.Heartbeat{WorldVersion: 9}},
		{"heartbeat-reply", Heartbeat, FlagResponse, 3, &v1.HeartbeatReply{WorldVersion: 10, HeartbeatSeconds: 300}},
		{"redirect-push", Redirect, FlagPush, 0, redirect},
		{"goaway", GoAway, FlagPush, 0, &v1.GoAway{DelayMilli: 1000, Reason: "the node is going down"}},
		{"goaway-error", GoAway, FlagPush | FlagError, 0, &v1.Error{Code: 2, Name: "bad-input", Message: "garbage"}},
		{"rehomed", Rehomed, FlagPush, 0, &v1.Rehomed{Region: "hk", Epoch: epoch}},
		{"notice", Notice, FlagPush, 0, &v1.Notice{Sequence: 3, Message: message}},
		{"send", Send, 0, 4, &v1.SendRequest{To: 2000001, ClientMessageId: "m-1", Body: message.Body}},
		{"send-reply", Send, FlagResponse, 4, &v1.SendResponse{Id: message.Id, Sequence: 3, SentUnixMilli: 1700000000123, Repeated: true}},
		{"sync", Sync, 0, 5, &v1.SyncRequest{Snapshot: seq(0x20, 5), MaxBytes: 1000}},
		{"sync-reply", Sync, FlagResponse, 5, &v1.SyncResponse{Snapshot: seq(0x21, 5), Account: &v1.Account{Uin: 1000001, Nickname: "Alice", Handle: "alice", Home: "sh"},
			Contacts: []*v1.Contact{{Uin: 2000001, Remark: "Bob"}}, Messages: []*v1.Message{message}, More: true, Full: true}},
		{"send-wrong-region", Send, FlagResponse | FlagError, 4, &v1.Error{Code: 7, Name: "wrong-region", Message: "region hk acts for UIN 1000001, not sh", WorldVersion: 9, Redirect: redirect}},
		{"register", Register, 0, 6, &v1.RegisterRequest{Nickname: "Alice", DeviceKey: seq(0, 32), Platform: "cli", IdempotencyKey: "k"}},
		{"challenge", Challenge, 0, 7, &v1.ChallengeRequest{Uin: 1000001, DeviceKeyId: seq(1, 8)}},
		{"login", Login, 0, 8, &v1.LoginRequest{Uin: 1000001, DeviceKeyId: seq(1, 8), Nonce: seq(0x80, 32), Signature: seq(0, 64)}},
		{"create-group", CreateGroup, 0, 9, &v1.CreateGroupRequest{Name: "g", Members: []uint64{1, 2, 300}, IdempotencyKey: "k"}},
		{"add-device", AddDevice, 0, 10, &v1.AddDeviceRequest{DeviceKey: seq(0, 32), Platform: "web", Signature: seq(0, 64), IdempotencyKey: "k"}},
		{"list-devices-reply", ListDevices, FlagResponse, 11, &v1.ListDevicesResponse{Devices: []*v1.Device{{DeviceKeyId: seq(1, 8), Platform: "ios", AddedUnixMilli: 1700000000123,
			Revoked: true, AddedBy: seq(2, 8), RevokedUnixMilli: 1700000000124, Current: true}}}},
		{"request-contact", RequestContact, 0, 13, &v1.RequestContactRequest{Uin: 2000001, Text: "it is me", IdempotencyKey: "k"}},
		{"request-contact-reply", RequestContact, FlagResponse, 13, &v1.RequestContactResponse{State: v1.ContactState_CONTACT_STATE_ASKED}},
		{"answer-contact", AnswerContact, 0, 14, &v1.AnswerContactRequest{Uin: 2000001, Accept: true, IdempotencyKey: "k"}},
		{"block-user", BlockUser, 0, 15, &v1.BlockUserRequest{Uin: 2000001, Blocked: true, IdempotencyKey: "k"}},
		{"sync-reply-contacts", Sync, FlagResponse, 16, &v1.SyncResponse{Contacts: []*v1.Contact{{Uin: 2000001, Removed: true, Blocked: true, State: v1.ContactState_CONTACT_STATE_AGREED}}}},
		{"recall", Recall, 0, 17, &v1.RecallRequest{ClientMessageId: "m-1", IdempotencyKey: "k"}},
		{"sync-reply-recalled", Sync, FlagResponse, 18, &v1.SyncResponse{Messages: []*v1.Message{{Id: seq(0x10, 16), Sequence: 3, Recalled: true,
			Body: &v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: "recalled", Actor: 1000001, Message: seq(0x10, 16), Text: "t", Device: seq(1, 8)}}}}}}},
		{"set-read", SetRead, 0, 19, &v1.SetReadRequest{Peer: 2000001, Sequence: 7, IdempotencyKey: "k"}},
		{"sync-reply-reads", Sync, FlagResponse, 20, &v1.SyncResponse{Reads: []*v1.ReadPosition{{Peer: 2000001, Sequence: 7}}}},
		{"update-group", UpdateGroup, 0, 21, &v1.UpdateGroupRequest{Group: 1000009, Name: proto.String("g"), Announcement: proto.String(""), Join: v1.JoinPolicy_JOIN_POLICY_APPROVAL.Enum(), IdempotencyKey: "k"}},
		{"set-role", SetRole, 0, 22, &v1.SetRoleRequest{Group: 1000009, Member: 2000001, Role: v1.GroupRole_GROUP_ROLE_ADMIN, IdempotencyKey: "k"}},
		{"set-setting", SetSetting, 0, 23, &v1.SetSettingRequest{Setting: &v1.Setting{Name: "theme", Value: "dark", Removed: true}, IdempotencyKey: "k"}},
		{"erase-account", EraseAccount, 0, 24, &v1.EraseAccountRequest{Signature: seq(0, 64), Sent: true, IdempotencyKey: "k"}},
		{"update-profile", UpdateProfile, 0, 25, &v1.UpdateProfileRequest{Nickname: "A", About: proto.String("sings"), Avatar: proto.String("https://m.test/1"), IdempotencyKey: "k"}},
		{"resolve-reply-group", Resolve, FlagResponse, 26, &v1.ResolveResponse{Account: &v1.Account{Uin: 1000009, Nickname: "g", Home: "sh", Group: true, Members: []uint64{1, 2, 300}, Owner: 1,
			Admins: []uint64{2}, Announcement: "a", Join: v1.JoinPolicy_JOIN_POLICY_OPEN, About: "b", Avatar: "c", Erased: true}}},
		{"send-media", Send, 0, 27, &v1.SendRequest{To: 2000001, ClientMessageId: "m-2", Body: &v1.Body{Kind: &v1.Body_Media{Media: &v1.Media{Url: "https://m.test/1", MimeType: "image/png",
			Bytes: 5, Sha256: seq(0, 32), Name: "cat.png", Width: 3, Height: 4, DurationMilli: 6, Preview: seq(9, 3)}}}}},
		{"send-custom", Send, 0, 28, &v1.SendRequest{To: 2000001, ClientMessageId: "m-3", Body: &v1.Body{Kind: &v1.Body_Custom{Custom: &v1.Custom{Type: "poll", Payload: seq(0, 4)}}}}},
		{"sync-reply-settings", Sync, FlagResponse, 29, &v1.SyncResponse{Settings: []*v1.Setting{{Name: "theme", Value: "dark"}}, Oldest: 7}},
		{"notice-role", Notice, FlagPush, 0, &v1.Notice{Sequence: 4, Message: &v1.Message{Sequence: 4, Body: &v1.Body{Kind: &v1.Body_System{System: &v1.System{Event: "role-changed", Role: v1.GroupRole_GROUP_ROLE_OWNER}}}}}},
		{"revoke-device", RevokeDevice, 0, 12, &v1.RevokeDeviceRequest{DeviceKeyId: seq(1, 8), Signature: seq(0, 64), IdempotencyKey: "k"}},
	}
}

// Every recorded frame of a released version is read today as it was meant
// then, and written with the same bytes.
func TestGoldenFrames(t *testing.T) {
	names := map[string]bool{}
	for _, g := range golden() {
		names[g.name+".hex"] = true
		t.Run(g.name, func(t *testing.T) {
			want := readGolden(t, g.name+".hex", g.bytes())
			if got := g.bytes(); !bytes.Equal(got, want) {
				t.Errorf("written today %x\nreleased      %x", got, want)
			}
			f, err := NewReader(bytes.NewReader(want)).Next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Method != g.method || f.Flags != g.flags || f.Sequence != g.sequence {
				t.Errorf("header %v %v %d", f.Method, f.Flags, f.Sequence)
			}
			m := g.body.ProtoReflect().New().Interface()
			if err := Unmarshal(f, m); err != nil || !proto.Equal(m, g.body) {
				t.Errorf("body %v, want %v (%v)", m, g.body, err)
			}
		})
	}
	files, err := os.ReadDir(version1)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !names[f.Name()] && !strings.HasPrefix(f.Name(), "proof-") {
			t.Errorf("%s is replayed by nothing", f.Name())
		}
	}
}

func readGolden(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	path := filepath.Join(version1, name)
	if _, err := os.Stat(path); os.IsNotExist(err) && *record {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(now)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (new frames are recorded with -record)", err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes that are signed never change: released clients sign them.
func TestGoldenProofs(t *testing.T) {
	nonce := bytes.Repeat([]byte{0x55}, 32)
	connection := bytes.Repeat([]byte{0x66}, 16)
	epoch := region.Epoch{Moves: 2, Term: region.Term{Counter: 3, Raised: region.ShortHash{1, 2, 3, 4, 5, 6, 7, 8}}}
	for name, b := range map[string][]byte{
		"proof-login.hex":      LoginProof("sh", 1000001, nonce),
		"proof-connection.hex": ConnectionProof("sh", epoch, connection, nonce, 1000001),
		"proof-device.hex":     DeviceProof(DeviceAdd, 1000001, bytes.Repeat([]byte{0x77}, 32)),
		"proof-request.hex":    RequestProof("/homing.v1.IM/Send", 1700000000123, 1000001, []byte(`{"to":"2000001"}`)),
	} {
		if want := readGolden(t, name, b); !bytes.Equal(b, want) {
			t.Errorf("%s: %x, released %x", name, b, want)
		}
	}
}

// im.proto promises the numbers of its methods in comments; the table has to
// keep the promise, for every method of the service.
func TestMethodsAreThoseOfTheProto(t *testing.T) {
	text, err := os.ReadFile("../homingv1/im.proto")
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(`Method (\d+)\.\n\s+rpc (\w+)\((\w+)\) returns \((\w+)\)`)
	found := re.FindAllStringSubmatch(string(text), -1)
	service := v1.File_im_proto.Services().ByName("IM").Methods()
	if len(found) != service.Len() {
		t.Fatalf("%d methods have numbers, the service has %d", len(found), service.Len())
	}
	for _, m := range found {
		n, _ := strconv.Atoi(m[1])
		info, ok := Lookup(Method(n))
		if !ok || info.Name != m[2] {
			t.Errorf("method %d is %v here, %s in im.proto", n, info, m[2])
			continue
		}
		if req := info.NewRequest().ProtoReflect().Descriptor().Name(); string(req) != m[3] {
			t.Errorf("%s takes %s here, %s in im.proto", m[2], req, m[3])
		}
		if resp := info.NewResponse().ProtoReflect().Descriptor().Name(); string(resp) != m[4] {
			t.Errorf("%s returns %s here, %s in im.proto", m[2], resp, m[4])
		}
		if byName, ok := LookupName("/homing.v1.IM/" + m[2]); !ok || byName.Method != info.Method {
			t.Errorf("%s is not found by procedure", m[2])
		}
		if fields := info.NewRequest().ProtoReflect().Descriptor().Fields(); info.Mutation != (fields.ByName("idempotency_key") != nil || fields.ByName("client_message_id") != nil) {
			t.Errorf("%s: mutation is %v, but its idempotency key says otherwise", m[2], info.Mutation)
		}
	}
	if len(Methods()) != service.Len()+7 {
		t.Errorf("%d methods are known", len(Methods()))
	}
}

// A proof is for one purpose, region, epoch, connection, nonce and user; a
// change of any of them needs another signature.
func TestProofsBind(t *testing.T) {
	pub, key, _ := ed25519.GenerateKey(nil)
	e := region.Epoch{Moves: 1, Term: region.Term{Counter: 2}}
	conn, nonce := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32)
	good := &v1.Reauth{Nonce: nonce, Signature: ed25519.Sign(key, ConnectionProof("sh", e, conn, nonce, 7))}
	if err := CheckReauth(good, nonce, pub, "sh", e, conn, 7); err != nil {
		t.Fatal(err)
	}
	otherKey, _, _ := ed25519.GenerateKey(nil)
	later := e
	later.Term.Counter++
	for name, err := range map[string]error{
		"nonce":      CheckReauth(good, bytes.Repeat([]byte{3}, 32), pub, "sh", e, conn, 7),
		"key":        CheckReauth(good, nonce, otherKey, "sh", e, conn, 7),
		"no key":     CheckReauth(good, nonce, nil, "sh", e, conn, 7),
		"region":     CheckReauth(good, nonce, pub, "hk", e, conn, 7),
		"epoch":      CheckReauth(good, nonce, pub, "sh", later, conn, 7),
		"connection": CheckReauth(good, nonce, pub, "sh", e, nonce[:16], 7),
		"user":       CheckReauth(good, nonce, pub, "sh", e, conn, 8),
		"purpose": CheckReauth(&v1.Reauth{Nonce: nonce, Signature: ed25519.Sign(key, LoginProof("sh", 7, nonce))},
			nonce, pub, "sh", e, conn, 7),
	} {
		if region.KindOf(err) != region.Unauthenticated {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if a, b := LoginProof("sh", 7, []byte("x")), LoginProof("s", 7, []byte("x")); bytes.Equal(a, b) {
		t.Error("fields run into each other")
	}
}
