// Package accesstest has what tests of the front doors, of clients and of POPs
// need around a real access server: a logic that keeps everything in memory, a
// world that can be changed, and a certificate authority.
package accesstest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Users is what all regions of a test know: devices, tickets and inboxes.
// Several Logics share one, so that a user may be moved between regions.
type Users struct {
	// TicketLife is how long tickets are good; an hour when 0.
	TicketLife time.Duration

	mu      sync.Mutex
	next    region.UIN
	devices map[region.UIN]ed25519.PublicKey
	once    map[string]region.UIN // idempotency key of Register
	tickets map[string]core.Device
	nonces  map[string]region.UIN
	inboxes map[region.UIN][]*v1.Message
	logins  int
}

// NewUsers makes an empty one; the first user to register gets UIN first.
func NewUsers(first region.UIN) *Users {
	return &Users{
		next: first, devices: map[region.UIN]ed25519.PublicKey{}, once: map[string]region.UIN{},
		tickets: map[string]core.Device{}, nonces: map[string]region.UIN{}, inboxes: map[region.UIN][]*v1.Message{},
	}
}

// Add makes a user with a device, and returns the device's key and a ticket.
func (u *Users) Add(uin region.UIN) (ed25519.PrivateKey, string) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.devices[uin] = pub
	ticket, _ := u.issue(uin)
	return key, ticket
}

// Issue makes a ticket that is good for as long as told.
func (u *Users) Issue(uin region.UIN, life time.Duration) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.issueFor(uin, life)
}

func (u *Users) issue(uin region.UIN) (string, time.Time) {
	life := u.TicketLife
	if life == 0 {
		life = time.Hour
	}
	t := u.issueFor(uin, life)
	return t, u.tickets[t].Expires
}

func (u *Users) issueFor(uin region.UIN, life time.Duration) string {
	pub := u.devices[uin]
	ticket := "test." + random()
	u.tickets[ticket] = core.Device{UIN: uin, KeyID: wire.KeyID(pub), PublicKey: pub, Expires: time.Now().Add(life)}
	return ticket
}

// Revoke makes the user's device unknown, and its tickets bad.
func (u *Users) Revoke(uin region.UIN) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.devices, uin)
	for t, d := range u.tickets {
		if d.UIN == uin {
			delete(u.tickets, t)
		}
	}
}

// Inbox returns the messages of a user.
func (u *Users) Inbox(uin region.UIN) []*v1.Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*v1.Message(nil), u.inboxes[uin]...)
}

// Lose forgets all but the first n messages of a user, as a region's death may.
func (u *Users) Lose(uin region.UIN, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.inboxes[uin] = u.inboxes[uin][:n]
}

// Logins returns how many logins succeeded.
func (u *Users) Logins() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.logins
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Logic is an access.Logic of one region over shared users. It admits anybody:
// that is for access to decide.
type Logic struct {
	Region region.ID
	Users  *Users
	Notify func(owner region.UIN, newest uint64, m *v1.Message) // may be nil

	// OnSend, when set, is called before a message is stored; it may block, and
	// its error is the answer.
	OnSend func(context.Context, core.Caller, *v1.SendRequest) error
	// OnSync, when set, is called before every Sync; it may block.
	OnSync func(context.Context, core.Caller)
	// Marks, when set, returns the mark of a message stored now and the one that
	// the backup is at; nil is not told.
	Marks func() (stored, held *v1.Mark)
	// AfterSend, when set, is called after a message is stored and before the
	// answer; its error is the answer all the same.
	AfterSend func(context.Context, core.Caller, *v1.SendRequest) error
}

func unauthenticated(format string, args ...any) error {
	return region.Errorf(region.Unauthenticated, format, args...)
}

// Authenticate verifies a ticket.
func (l *Logic) Authenticate(_ context.Context, ticket string) (core.Device, error) {
	l.Users.mu.Lock()
	defer l.Users.mu.Unlock()
	d, ok := l.Users.tickets[ticket]
	if !ok {
		return d, unauthenticated("the ticket is not one of ours")
	}
	if time.Now().After(d.Expires) {
		return d, unauthenticated("the ticket expired")
	}
	return d, nil
}

// Register makes a user.
func (l *Logic) Register(_ context.Context, _ core.Caller, r *v1.RegisterRequest) (*v1.RegisterResponse, error) {
	if len(r.DeviceKey) != ed25519.PublicKeySize || r.IdempotencyKey == "" {
		return nil, region.Errorf(region.BadInput, "want a device key of 32 bytes and an idempotency key")
	}
	u := l.Users
	u.mu.Lock()
	defer u.mu.Unlock()
	uin, again := u.once[r.IdempotencyKey]
	if !again {
		uin = u.next
		u.next++
		u.once[r.IdempotencyKey], u.devices[uin] = uin, r.DeviceKey
	}
	ticket, expires := u.issue(uin)
	id := wire.KeyID(r.DeviceKey)
	return &v1.RegisterResponse{Uin: uint64(uin), Ticket: ticket, TicketExpiresUnix: expires.Unix(), Region: string(l.Region), DeviceKeyId: id[:]}, nil
}

// Challenge returns a nonce.
func (l *Logic) Challenge(_ context.Context, _ core.Caller, r *v1.ChallengeRequest) (*v1.ChallengeResponse, error) {
	l.Users.mu.Lock()
	defer l.Users.mu.Unlock()
	nonce := random()
	l.Users.nonces[nonce] = region.UIN(r.Uin)
	return &v1.ChallengeResponse{Nonce: []byte(nonce), Region: string(l.Region)}, nil
}

// Login returns a ticket for a signed nonce.
func (l *Logic) Login(_ context.Context, _ core.Caller, r *v1.LoginRequest) (*v1.LoginResponse, error) {
	u := l.Users
	u.mu.Lock()
	defer u.mu.Unlock()
	uin := region.UIN(r.Uin)
	if u.nonces[string(r.Nonce)] != uin || uin == 0 {
		return nil, unauthenticated("the nonce is not one of ours")
	}
	delete(u.nonces, string(r.Nonce))
	pub := u.devices[uin]
	if len(pub) == 0 || !ed25519.Verify(pub, wire.LoginProof(string(l.Region), uin, r.Nonce), r.Signature) {
		return nil, unauthenticated("the signature is not by a device of this user")
	}
	u.logins++
	ticket, expires := u.issue(uin)
	return &v1.LoginResponse{Ticket: ticket, TicketExpiresUnix: expires.Unix()}, nil
}

// Send appends to the inboxes of both, once.
func (l *Logic) Send(ctx context.Context, c core.Caller, r *v1.SendRequest) (*v1.SendResponse, error) {
	if l.OnSend != nil {
		if err := l.OnSend(ctx, c, r); err != nil {
			return nil, err
		}
	}
	if r.ClientMessageId == "" {
		return nil, region.Errorf(region.BadInput, "no client message ID")
	}
	resp := l.store(c.UIN, r)
	if l.Marks != nil {
		resp.Mark, _ = l.Marks()
	}
	if l.AfterSend != nil {
		if err := l.AfterSend(ctx, c, r); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func (l *Logic) store(sender region.UIN, r *v1.SendRequest) *v1.SendResponse {
	u := l.Users
	u.mu.Lock()
	id := []byte(fmt.Sprintf("%d/%s", sender, r.ClientMessageId))
	for _, m := range u.inboxes[sender] {
		if string(m.Id) == string(id) {
			u.mu.Unlock()
			return &v1.SendResponse{Id: id, Sequence: m.Sequence, SentUnixMilli: m.SentUnixMilli, Repeated: true}
		}
	}
	owners := []region.UIN{sender}
	if to := region.UIN(r.To); to != sender {
		owners = append(owners, to)
	}
	now := time.Now().UnixMilli()
	var told []*v1.Message
	for _, owner := range owners {
		m := &v1.Message{Id: id, Sequence: uint64(len(u.inboxes[owner]) + 1), Sender: uint64(sender), To: r.To,
			ClientMessageId: r.ClientMessageId, SentUnixMilli: now, Body: proto.Clone(r.Body).(*v1.Body)}
		u.inboxes[owner] = append(u.inboxes[owner], m)
		told = append(told, m)
	}
	u.mu.Unlock()
	if l.Notify != nil {
		for i, owner := range owners {
			l.Notify(owner, told[i].Sequence, told[i])
		}
	}
	return &v1.SendResponse{Id: id, Sequence: told[0].Sequence, SentUnixMilli: now}
}

// Sync returns the inbox after the snapshot, ten messages at a time.
func (l *Logic) Sync(ctx context.Context, c core.Caller, r *v1.SyncRequest) (*v1.SyncResponse, error) {
	if l.OnSync != nil {
		l.OnSync(ctx, c)
	}
	var from uint64
	if len(r.Snapshot) == 8 {
		from = binary.BigEndian.Uint64(r.Snapshot)
	}
	l.Users.mu.Lock()
	defer l.Users.mu.Unlock()
	inbox := l.Users.inboxes[c.UIN]
	to := min(from+10, uint64(len(inbox)))
	var held *v1.Mark
	if l.Marks != nil {
		_, held = l.Marks()
	}
	return &v1.SyncResponse{
		Held:     held,
		Snapshot: binary.BigEndian.AppendUint64(nil, to), Messages: inbox[min(from, to):to],
		Account: &v1.Account{Uin: uint64(c.UIN), Home: string(l.Region)}, More: to < uint64(len(inbox)),
	}, nil
}

// ClaimHandle accepts any handle.
func (l *Logic) ClaimHandle(_ context.Context, _ core.Caller, r *v1.ClaimHandleRequest) (*v1.ClaimHandleResponse, error) {
	return &v1.ClaimHandleResponse{Handle: r.Handle}, nil
}

// Resolve knows every UIN and no handle.
func (l *Logic) Resolve(_ context.Context, _ core.Caller, r *v1.ResolveRequest) (*v1.ResolveResponse, error) {
	if r.Uin == 0 {
		return nil, region.Errorf(region.NotFound, "nobody is called %q", r.Handle)
	}
	return &v1.ResolveResponse{Account: &v1.Account{Uin: r.Uin}}, nil
}

// UpdateProfile echoes the nickname.
func (l *Logic) UpdateProfile(_ context.Context, c core.Caller, r *v1.UpdateProfileRequest) (*v1.UpdateProfileResponse, error) {
	return &v1.UpdateProfileResponse{Account: &v1.Account{Uin: uint64(c.UIN), Nickname: r.Nickname}}, nil
}

// SetContact accepts anything.
func (l *Logic) SetContact(context.Context, core.Caller, *v1.SetContactRequest) (*v1.SetContactResponse, error) {
	return &v1.SetContactResponse{}, nil
}

// CreateGroup panics for the name "panic", for tests of what that does to others.
func (l *Logic) CreateGroup(_ context.Context, _ core.Caller, r *v1.CreateGroupRequest) (*v1.CreateGroupResponse, error) {
	if r.Name == "panic" {
		panic("asked for")
	}
	return &v1.CreateGroupResponse{Uin: 9_000_001}, nil
}

// SetMember accepts anything.
func (l *Logic) SetMember(context.Context, core.Caller, *v1.SetMemberRequest) (*v1.SetMemberResponse, error) {
	return &v1.SetMemberResponse{}, nil
}
