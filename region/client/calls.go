package client

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// callTimeout is when a connection that does not answer counts as dead. It is
// longer than a region works on a request, so that a slow region is not taken
// for a dead network.
const callTimeout = 20 * time.Second

// Call makes one call of the region and decodes its answer into resp. It waits
// for a connection, and sends the request again when the connection is lost or
// the answer is retryable, until it is answered or ctx ends; so a mutation needs
// its idempotency key set. Errors: the region's (see region.KindOf), and
// region.Unavailable with ctx's error as its cause.
func (c *Client) Call(ctx context.Context, m wire.Method, req, resp proto.Message) error {
	_, err := c.call(ctx, m, req, resp)
	return err
}

// call is Call, and says at which epoch of the user the region answered.
func (c *Client) call(ctx context.Context, m wire.Method, req, resp proto.Message) (region.Epoch, error) {
	for tries := 1; ; tries++ {
		cn, err := c.ready(ctx)
		if err != nil {
			return region.Epoch{}, err
		}
		// Taken before the question: when the connection is rehomed in between,
		// the question goes unanswered.
		_, epoch := cn.place()
		try, cancel := context.WithTimeout(ctx, callTimeout)
		err = cn.call(try, m, req, resp)
		late := try.Err() != nil
		cancel()
		switch {
		case err == nil:
			return epoch, nil
		case ctx.Err() != nil:
			return epoch, err
		case late:
			cn.fail(err)
		case region.KindOf(err) == region.WrongRegion && wire.RedirectOf(err) != nil:
			// The region found out before its watcher did.
			cn.leave(ending{err: err, redirect: wire.RedirectOf(err)})
		case !region.KindOf(err).Retryable():
			return epoch, err
		}
		if err := c.waitRetry(ctx, cn, tries, err); err != nil {
			return epoch, err
		}
	}
}

// waitRetry pauses before another try; when the connection is gone the next one
// is pause enough. last is why: who gives up waiting is told.
func (c *Client) waitRetry(ctx context.Context, cn *conn, tries int, last error) error {
	pause := retryAfter(last) // who knows better than this client
	if pause == 0 {
		pause = c.backoff(min(tries, 5))
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	over := cn.gone
	if tries > 3 {
		over = nil // something is wrong beyond this connection
	}
	select {
	case <-t.C:
	case <-over:
	case <-ctx.Done():
		return region.Errorf(region.Unavailable, "no success in time").WithCause(fmt.Errorf("%w; the last try: %w", ctx.Err(), last))
	case <-c.ctx.Done():
		return errClosed
	}
	return nil
}

// NewKey returns a fresh idempotency key or client message ID.
func NewKey() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func orNew(key string) string {
	if key == "" {
		return NewKey()
	}
	return key
}

// SendText sends text to a user or group, as [Client.Send] does.
func (c *Client) SendText(ctx context.Context, to region.UIN, text string) (*v1.SendResponse, error) {
	return c.Send(ctx, &v1.SendRequest{To: uint64(to), Body: &v1.Body{Kind: &v1.Body_Text{Text: text}}})
}

// Changes is what one [Client.Sync] found.
type Changes struct {
	Snapshot []byte // store it after the changes, and send it the next time
	Account  *v1.Account
	Contacts []*v1.Contact
	Messages []*v1.Message // in order, each ID once; an ID of an earlier Sync may come again after a failover
	Reads    []*v1.ReadPosition
	Settings []*v1.Setting
	Full     bool   // the snapshot was unknown: this is everything
	Oldest   uint64 // sequence of the oldest message that the region still keeps; 0: it removed none
}

// Sync returns everything that changed since a snapshot, page by page until
// nothing is left; nil is the empty snapshot.
func (c *Client) Sync(ctx context.Context, snapshot []byte) (*Changes, error) {
	all := &Changes{Snapshot: snapshot}
	seen := map[string]bool{}
	err := c.SyncPages(ctx, snapshot, func(p *v1.SyncResponse) error {
		all.Snapshot = p.Snapshot
		if p.Account != nil {
			all.Account = p.Account
		}
		all.Full = all.Full || p.Full
		all.Contacts = append(all.Contacts, p.Contacts...)
		all.Reads = append(all.Reads, p.Reads...)
		all.Settings = append(all.Settings, p.Settings...)
		all.Oldest = p.Oldest
		for _, m := range p.Messages {
			if !seen[string(m.Id)] {
				seen[string(m.Id)] = true
				all.Messages = append(all.Messages, m)
			}
		}
		return nil
	})
	return all, err
}

// SyncPages is Sync for an inbox that does not fit into memory: each page is
// given to apply, which stores it together with its snapshot.
func (c *Client) SyncPages(ctx context.Context, snapshot []byte, apply func(*v1.SyncResponse) error) error {
	for {
		page := new(v1.SyncResponse)
		epoch, err := c.call(ctx, wire.Sync, &v1.SyncRequest{Snapshot: snapshot}, page)
		if err != nil {
			return err
		}
		if err := apply(page); err != nil {
			return err
		}
		c.outbox.held(epoch, page.Held)
		c.mu.Lock()
		c.snapshot = page.Snapshot
		c.mu.Unlock()
		if !page.More {
			return nil
		}
		if string(page.Snapshot) == string(snapshot) {
			return errors.New("client: the region says there is more, but its snapshot does not move")
		}
		snapshot = page.Snapshot
	}
}

// ClaimHandle gives the user a worldwide unique account ID.
func (c *Client) ClaimHandle(ctx context.Context, handle string) (*v1.ClaimHandleResponse, error) {
	resp := new(v1.ClaimHandleResponse)
	return resp, c.Call(ctx, wire.ClaimHandle, &v1.ClaimHandleRequest{Handle: handle, IdempotencyKey: NewKey()}, resp)
}

// Lookup finds a user or group by handle. ([Client.Resolve] finds endpoints.)
func (c *Client) Lookup(ctx context.Context, handle string) (*v1.Account, error) {
	resp := new(v1.ResolveResponse)
	err := c.Call(ctx, wire.Resolve, &v1.ResolveRequest{Handle: handle}, resp)
	return resp.Account, err
}

// LookupUIN finds a user or group by number.
func (c *Client) LookupUIN(ctx context.Context, uin region.UIN) (*v1.Account, error) {
	resp := new(v1.ResolveResponse)
	err := c.Call(ctx, wire.Resolve, &v1.ResolveRequest{Uin: uint64(uin)}, resp)
	return resp.Account, err
}

// UpdateProfile changes what the user's account says to others: nickname, about
// and avatar, as far as req sets them. An empty idempotency key is set in req.
func (c *Client) UpdateProfile(ctx context.Context, req *v1.UpdateProfileRequest) (*v1.Account, error) {
	req.IdempotencyKey = orNew(req.IdempotencyKey)
	resp := new(v1.UpdateProfileResponse)
	err := c.Call(ctx, wire.UpdateProfile, req, resp)
	return resp.Account, err
}

// SetSetting keeps a value under a name for the user's own devices; the others
// find it in Changes.Settings.
func (c *Client) SetSetting(ctx context.Context, s *v1.Setting) error {
	return c.Call(ctx, wire.SetSetting, &v1.SetSettingRequest{Setting: s, IdempotencyKey: NewKey()}, new(v1.SetSettingResponse))
}

// EraseAccount ends the user's account for ever and wipes its records in every
// region; with sent, what the user wrote is emptied in the inboxes of others too.
// This device's key vouches for it. The connection ends, perhaps before its
// answer is here: then that no device of the account is let in any more is the
// answer.
func (c *Client) EraseAccount(ctx context.Context, sent bool) error {
	id := c.Identity()
	req := &v1.EraseAccountRequest{Sent: sent, IdempotencyKey: NewKey(),
		Signature: ed25519.Sign(id.Key, wire.DeviceProof(wire.DeviceErase, id.UIN, wire.EraseSubject(sent)))}
	err := c.Call(ctx, wire.EraseAccount, req, new(v1.EraseAccountResponse))
	if region.KindOf(err) == region.Unauthenticated {
		if _, alive := c.Devices(ctx); region.KindOf(alive) == region.Unauthenticated {
			return nil
		}
	}
	return err
}

// SetContact adds, renames or removes a contact.
func (c *Client) SetContact(ctx context.Context, contact *v1.Contact) error {
	return c.Call(ctx, wire.SetContact, &v1.SetContactRequest{Contact: contact, IdempotencyKey: NewKey()}, new(v1.SetContactResponse))
}

// CreateGroup makes a group of the user and the members.
func (c *Client) CreateGroup(ctx context.Context, name string, members ...region.UIN) (region.UIN, error) {
	req := &v1.CreateGroupRequest{Name: name, IdempotencyKey: NewKey()}
	for _, m := range members {
		req.Members = append(req.Members, uint64(m))
	}
	resp := new(v1.CreateGroupResponse)
	err := c.Call(ctx, wire.CreateGroup, req, resp)
	return region.UIN(resp.Uin), err
}

// UpdateGroup changes a group's name, announcement or join policy, as far as req
// sets them. An empty idempotency key is set in req.
func (c *Client) UpdateGroup(ctx context.Context, req *v1.UpdateGroupRequest) error {
	req.IdempotencyKey = orNew(req.IdempotencyKey)
	return c.Call(ctx, wire.UpdateGroup, req, new(v1.UpdateGroupResponse))
}

// SetRole gives a member of a group another role; OWNER hands the group over.
func (c *Client) SetRole(ctx context.Context, group, member region.UIN, role v1.GroupRole) error {
	return c.Call(ctx, wire.SetRole, &v1.SetRoleRequest{Group: uint64(group), Member: uint64(member), Role: role, IdempotencyKey: NewKey()}, new(v1.SetRoleResponse))
}

// SetMember adds a member to a group, or removes one.
func (c *Client) SetMember(ctx context.Context, group, member region.UIN, remove bool) error {
	return c.Call(ctx, wire.SetMember, &v1.SetMemberRequest{Group: uint64(group), Member: uint64(member), Remove: remove, IdempotencyKey: NewKey()}, new(v1.SetMemberResponse))
}

// AddDevice adds a device to the user's account, by its public key; this
// device's key vouches for it. The new device then connects with an Identity of
// this UIN and its own key.
func (c *Client) AddDevice(ctx context.Context, key ed25519.PublicKey, platform string) error {
	id := c.Identity()
	req := &v1.AddDeviceRequest{DeviceKey: key, Platform: platform, IdempotencyKey: NewKey(),
		Signature: ed25519.Sign(id.Key, wire.DeviceProof(wire.DeviceAdd, id.UIN, key))}
	return c.Call(ctx, wire.AddDevice, req, new(v1.AddDeviceResponse))
}

// Devices returns the user's devices, revoked ones included.
func (c *Client) Devices(ctx context.Context) ([]*v1.Device, error) {
	resp := new(v1.ListDevicesResponse)
	err := c.Call(ctx, wire.ListDevices, &v1.ListDevicesRequest{}, resp)
	return resp.Devices, err
}

// RevokeDevice ends one of the user's devices for ever, by its key ID (wire.KeyID).
func (c *Client) RevokeDevice(ctx context.Context, keyID [8]byte) error {
	id := c.Identity()
	req := &v1.RevokeDeviceRequest{DeviceKeyId: keyID[:], IdempotencyKey: NewKey(),
		Signature: ed25519.Sign(id.Key, wire.DeviceProof(wire.DeviceRevoke, id.UIN, keyID[:]))}
	return c.Call(ctx, wire.RevokeDevice, req, new(v1.RevokeDeviceResponse))
}

// RequestContact asks another user to be a contact; state is AGREED when the
// other one had asked.
func (c *Client) RequestContact(ctx context.Context, uin region.UIN, text string) (v1.ContactState, error) {
	resp := new(v1.RequestContactResponse)
	err := c.Call(ctx, wire.RequestContact, &v1.RequestContactRequest{Uin: uint64(uin), Text: text, IdempotencyKey: NewKey()}, resp)
	return resp.State, err
}

// AnswerContact accepts or refuses another user's request.
func (c *Client) AnswerContact(ctx context.Context, uin region.UIN, accept bool) error {
	return c.Call(ctx, wire.AnswerContact, &v1.AnswerContactRequest{Uin: uint64(uin), Accept: accept, IdempotencyKey: NewKey()}, new(v1.AnswerContactResponse))
}

// BlockUser drops what another user sends to this one, or ends that. The other
// one is not told.
func (c *Client) BlockUser(ctx context.Context, uin region.UIN, blocked bool) error {
	return c.Call(ctx, wire.BlockUser, &v1.BlockUserRequest{Uin: uint64(uin), Blocked: blocked, IdempotencyKey: NewKey()}, new(v1.BlockUserResponse))
}

// Recall takes back a message of this user's by its client message ID. Others
// find a system message, "message-recalled", that names it.
func (c *Client) Recall(ctx context.Context, clientMessageID string) error {
	return c.Call(ctx, wire.Recall, &v1.RecallRequest{ClientMessageId: clientMessageID, IdempotencyKey: NewKey()}, new(v1.RecallResponse))
}

// SetRead says that everything of a user or group up to a sequence of this
// user's inbox was read; the user's other devices learn it by Sync.
func (c *Client) SetRead(ctx context.Context, peer region.UIN, sequence uint64) error {
	return c.Call(ctx, wire.SetRead, &v1.SetReadRequest{Peer: uint64(peer), Sequence: sequence, IdempotencyKey: NewKey()}, new(v1.SetReadResponse))
}
