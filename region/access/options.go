package access

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Logic is what access asks of the IM core. *core.Core is one. Calls block
// until answered or ctx ends, and are safe for concurrent use.
type Logic interface {
	Register(context.Context, core.Caller, *v1.RegisterRequest) (*v1.RegisterResponse, error)
	Challenge(context.Context, core.Caller, *v1.ChallengeRequest) (*v1.ChallengeResponse, error)
	Login(context.Context, core.Caller, *v1.LoginRequest) (*v1.LoginResponse, error)
	Send(context.Context, core.Caller, *v1.SendRequest) (*v1.SendResponse, error)
	Sync(context.Context, core.Caller, *v1.SyncRequest) (*v1.SyncResponse, error)
	ClaimHandle(context.Context, core.Caller, *v1.ClaimHandleRequest) (*v1.ClaimHandleResponse, error)
	Resolve(context.Context, core.Caller, *v1.ResolveRequest) (*v1.ResolveResponse, error)
	UpdateProfile(context.Context, core.Caller, *v1.UpdateProfileRequest) (*v1.UpdateProfileResponse, error)
	SetContact(context.Context, core.Caller, *v1.SetContactRequest) (*v1.SetContactResponse, error)
	CreateGroup(context.Context, core.Caller, *v1.CreateGroupRequest) (*v1.CreateGroupResponse, error)
	SetMember(context.Context, core.Caller, *v1.SetMemberRequest) (*v1.SetMemberResponse, error)
	AddDevice(context.Context, core.Caller, *v1.AddDeviceRequest) (*v1.AddDeviceResponse, error)
	ListDevices(context.Context, core.Caller, *v1.ListDevicesRequest) (*v1.ListDevicesResponse, error)
	RevokeDevice(context.Context, core.Caller, *v1.RevokeDeviceRequest) (*v1.RevokeDeviceResponse, error)
	RequestContact(context.Context, core.Caller, *v1.RequestContactRequest) (*v1.RequestContactResponse, error)
	AnswerContact(context.Context, core.Caller, *v1.AnswerContactRequest) (*v1.AnswerContactResponse, error)
	BlockUser(context.Context, core.Caller, *v1.BlockUserRequest) (*v1.BlockUserResponse, error)
	Recall(context.Context, core.Caller, *v1.RecallRequest) (*v1.RecallResponse, error)
	SetRead(context.Context, core.Caller, *v1.SetReadRequest) (*v1.SetReadResponse, error)
	UpdateGroup(context.Context, core.Caller, *v1.UpdateGroupRequest) (*v1.UpdateGroupResponse, error)
	SetRole(context.Context, core.Caller, *v1.SetRoleRequest) (*v1.SetRoleResponse, error)
	SetSetting(context.Context, core.Caller, *v1.SetSettingRequest) (*v1.SetSettingResponse, error)
	EraseAccount(context.Context, core.Caller, *v1.EraseAccountRequest) (*v1.EraseAccountResponse, error)

	// Authenticate verifies a ticket. Errors: region.Unauthenticated.
	Authenticate(ctx context.Context, ticket string) (core.Device, error)
}

// Sender is a [Logic] that answers a Send later, as core.Core does: see its
// SendThen. Sends of one connection then share commits.
type Sender interface {
	SendThen(ctx context.Context, c core.Caller, r *v1.SendRequest, then func(*v1.SendResponse, error))
}

// World is the newest world on this node. *keeper.Keeper is one. None of the
// methods blocks.
type World interface {
	View() *region.View       // nil when there is none yet
	Changed() <-chan struct{} // closed at the next change of world or overlay; take it before View
	Hint(version uint64)      // somebody claims that this version exists
	Admitting() error         // why this region may not admit writes, or nil
}

// Options configures a [Server]. Region, World, Presence, and one of Logic and
// Remote are required.
type Options struct {
	Region   region.ID
	World    World
	Logic    Logic  // in this process
	Remote   Remote // in others
	Presence *Presence

	// Redirect returns where a client of another region should connect, best
	// first, for a service. When nil or empty-handed the acting region's own
	// listeners are the answer.
	Redirect func(region.Service, core.Caller) []netip.AddrPort

	// Long, Short and Web are the listen addresses, IP:port; an empty one is
	// not served.
	Long, Short, Web string

	// TLS is for the long listener, WebTLS for the short and the web one. Nil is
	// plain text, which New refuses on anything but loopback.
	TLS, WebTLS *tls.Config

	// Proxies are the POPs and balancers whose PROXY header (v1 or v2) or
	// X-Forwarded-For is believed. Anybody else who sends a PROXY header is cut
	// off.
	Proxies []netip.Prefix

	// Origins are the host patterns of web pages that may use the web listener
	// besides those of the world's own web listeners, as path.Match has them:
	// "*.example.com".
	Origins []string

	// Heartbeat is the interval asked of clients, in whole seconds; 240 s when
	// 0. A connection silent for two and a half of them, or of the longest of
	// Heartbeats, is closed.
	Heartbeat time.Duration
	// Heartbeats are the intervals for clients of some carriers, whose networks
	// forget silent connections sooner or later than others, by the name that
	// Carrier gives. Carrier must not block; it is asked once for a connection.
	Heartbeats map[string]time.Duration
	Carrier    func(netip.Addr) string
	// Handshake is how long a client may take from connecting to its proof; 10 s
	// when 0. It bounds what a client that sends a byte a second costs.
	Handshake time.Duration
	// Request is how long one request may take; 15 s when 0.
	Request time.Duration
	// Write is how long one write to a client may take before the client counts
	// as gone; 15 s when 0.
	Write time.Duration
	// ReauthLead is how long before its ticket expires a client is asked for a
	// new one; 2 min when 0, and never more than half of what is left.
	ReauthLead time.Duration
	// Drain is how long Close lets clients go by themselves; 1 s when 0.
	Drain time.Duration

	// MaxConnections is the limit of long and web connections; 200,000 when 0.
	// Beyond it a connection is closed before its first byte is read.
	MaxConnections int
	// MaxHandshakes is the limit of long connections that have not proven
	// themselves yet; 4,096 when 0. Beyond it a connection is closed before its
	// first byte is read, and its client backs off: when all clients come back at
	// once, those who are let in get through within their patience.
	MaxHandshakes int
	// MaxInFlight is the limit of requests of one connection that are worked on;
	// 32 when 0. Beyond it the connection is not read.
	MaxInFlight int
	// MaxQueue is the limit of bytes waiting for one client; 4 MiB when 0. A
	// client that lets more pile up is cut off and syncs when it is back.
	MaxQueue int

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics unregistered
}

// linger is how long a client that was told to go has to read that, before the
// socket is closed under unread bytes, which would lose the last words.
const linger = time.Second

// Limits that no operator has a reason to turn.
const (
	maxHello       = 8 << 10 // bytes of a frame before the client has proven anything
	maxBadFrames   = 16      // refused frames of one connection before it is cut off
	maxPerUser     = 16      // connections of one user; the oldest goes
	maxNoticeBody  = 4 << 10 // bytes of a message that a notice carries along
	maxHeaderBytes = 16 << 10
)

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Region.Valid() != nil:
		return o, fmt.Errorf("access: %w", o.Region.Valid())
	case o.World == nil || o.Presence == nil || (o.Logic == nil) == (o.Remote == nil):
		return o, fmt.Errorf("access: World, Presence, and either Logic or Remote are required")
	case len(o.Heartbeats) > 0 && o.Carrier == nil:
		return o, fmt.Errorf("access: heartbeats of carriers need Carrier")
	case !wholeSeconds(o.Heartbeat):
		return o, fmt.Errorf("access: heartbeat %s is not a whole number of seconds", o.Heartbeat)
	}
	for name, d := range o.Heartbeats {
		if !wholeSeconds(d) || d == 0 {
			return o, fmt.Errorf("access: heartbeat %s of carrier %s is not a whole number of seconds", d, name)
		}
	}
	doors := wire.Listeners{Long: o.Long, Short: o.Short, Web: o.Web, TLS: o.TLS, WebTLS: o.WebTLS}
	if err := doors.Check(); err != nil {
		return o, fmt.Errorf("access: %w", err)
	}
	o.Heartbeat = cmp.Or(max(o.Heartbeat, 0), 240*time.Second)
	o.Handshake = cmp.Or(max(o.Handshake, 0), 10*time.Second)
	o.Request = cmp.Or(max(o.Request, 0), 15*time.Second)
	o.Write = cmp.Or(max(o.Write, 0), 15*time.Second)
	o.ReauthLead = cmp.Or(max(o.ReauthLead, 0), 2*time.Minute)
	o.Drain = cmp.Or(max(o.Drain, 0), time.Second)
	o.MaxConnections = cmp.Or(max(o.MaxConnections, 0), 200_000)
	o.MaxHandshakes = cmp.Or(max(o.MaxHandshakes, 0), 4096)
	o.MaxInFlight = cmp.Or(max(o.MaxInFlight, 0), 32)
	o.MaxQueue = cmp.Or(max(o.MaxQueue, 0), 4<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func wholeSeconds(d time.Duration) bool { return d >= 0 && d%time.Second == 0 }

// idle is how long the most patient of the clients may be silent: a parked
// connection is looked at by one clock for all.
func (o *Options) idle() time.Duration {
	longest := o.Heartbeat
	for _, d := range o.Heartbeats {
		longest = max(longest, d)
	}
	return longest * 5 / 2
}

// heartbeatOf is the interval asked of a client.
func (o *Options) heartbeatOf(a netip.Addr) time.Duration {
	if len(o.Heartbeats) == 0 {
		return o.Heartbeat
	}
	if d, ok := o.Heartbeats[o.Carrier(a)]; ok {
		return d
	}
	return o.Heartbeat
}
