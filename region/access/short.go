package access

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Headers of a short request that say what Hello says on a long connection.
const (
	VersionHeader  = "Homing-Version"  // client version, decimal
	PlatformHeader = "Homing-Platform" // "ios", "cli", ...
)

// grpcPrefix is what gRPC puts in front of a message, bytes.
const grpcPrefix = 5

func (s *Server) serveHTTP(l net.Listener, h http.Handler) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // h2c, which gRPC without TLS is
	srv := &http.Server{
		Handler: h, Protocols: protocols,
		ReadHeaderTimeout: s.o.Handshake,
		ReadTimeout:       maxPollWait + s.o.Request, // longer than a poll waits, or it would end the poll
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ErrorLog:          nil,
	}
	s.https = append(s.https, srv)
	s.tasks.Go(func() {
		var err error
		if s.o.WebTLS != nil {
			srv.TLSConfig = s.o.WebTLS.Clone()
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.o.Logger.Error("an HTTP listener ended", "address", l.Addr().String(), "error", err)
		}
	})
}

// shortHandler serves homing.v1.IM by Connect, gRPC and gRPC-Web. What a client
// may do is decided here, before Connect decodes anything: the proof covers the
// HTTP body as sent. service is the listener's, for redirects to its like.
func (s *Server) shortHandler(service region.Service) http.Handler {
	path, im := v1.NewIMHandler(shortIM{s}, connect.WithReadMaxBytes(wire.MaxBody))
	mux := http.NewServeMux()
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		s.m.accepted.WithLabelValues("short").Inc()
		w.Header().Set(wire.WorldHeader, strconv.FormatUint(s.version(), 10))
		r.Body = http.MaxBytesReader(w, r.Body, wire.MaxBody+grpcPrefix)
		q := &shortRequest{service: service}
		var err error
		q.caller, err = s.admitShort(service, r)
		if err != nil {
			if wire.RedirectOf(err) != nil {
				s.m.redirects.WithLabelValues("short").Inc()
			}
			wire.Refuse(w, r, err, s.version())
			return
		}
		held := holdBack(w, &q.reached)
		im.ServeHTTP(held, r.WithContext(context.WithValue(r.Context(), shortKey{}, q)))
		if !q.reached {
			s.m.rejected.WithLabelValues("undecodable").Inc()
			held.refuse(r, s.version())
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "homing.v1.IM is served here, at /homing.v1.IM/<Method>", http.StatusNotFound)
	})
	return mux
}

type shortKey struct{}

// shortRequest travels with a request through Connect.
type shortRequest struct {
	service region.Service
	caller  core.Caller
	reached bool // Connect understood the request
}

// admitShort decides who asks, by ticket and proof, and whether this region
// serves them. It reads the body and puts it back.
func (s *Server) admitShort(service region.Service, r *http.Request) (core.Caller, error) {
	c := s.callerOf(r)
	info, ok := wire.LookupName(r.URL.Path)
	if !ok || info.Procedure == "" {
		return c, region.Errorf(region.Unsupported, "no method %s", r.URL.Path).WithHint("see homing.v1.IM in im.proto")
	}
	heardOf, _ := strconv.ParseUint(r.Header.Get(wire.WorldHeader), 10, 64)
	s.hint(heardOf)
	if info.Anonymous {
		_, err := s.readBody(r)
		return c, err // placed by their request's UIN in shortIM
	}
	scheme, ticket, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, wire.AuthorizationScheme) {
		return c, s.reject("no-ticket", region.Errorf(region.Unauthenticated, "no ticket").WithHint("send Authorization: %s <ticket>", wire.AuthorizationScheme))
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.o.Request)
	defer cancel()
	d, err := s.authenticate(ctx, ticket, 0, nil)
	c.UIN, c.DeviceKeyID = d.UIN, d.KeyID
	if region.KindOf(err) == region.WrongRegion && d.UIN != 0 {
		if _, placed := s.admit(service, c, heardOf); placed != nil {
			err = placed // the same, with the redirect
		}
	}
	if err != nil {
		return c, err
	}
	body, err := s.readBody(r)
	if err != nil {
		return c, err
	}
	if err := wire.CheckProof(r.Header.Get(wire.ProofHeader), d.PublicKey, info.Procedure, time.Now(), d.UIN, body); err != nil {
		return c, s.reject("bad-proof", err)
	}
	_, err = s.admit(service, c, heardOf)
	return c, err
}

// readBody reads a request's body and puts it back. Connect would refuse what is
// too large as well, but without the Error that clients branch on.
func (s *Server) readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		var big *http.MaxBytesError
		if errors.As(err, &big) {
			return nil, s.reject("too-large", region.Errorf(region.TooLarge, "body is over the limit of %d bytes", wire.MaxBody))
		}
		return nil, region.Errorf(region.BadInput, "body ended early").WithCause(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// callerOf reads what the request's address and headers say about the client.
func (s *Server) callerOf(r *http.Request) core.Caller {
	c := core.Caller{Platform: r.Header.Get(PlatformHeader)}
	if len(c.Platform) > 32 {
		c.Platform = c.Platform[:32]
	}
	if v, err := strconv.ParseUint(r.Header.Get(VersionHeader), 10, 32); err == nil {
		c.ClientVersion = uint32(v)
	}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Address = ap.Addr().Unmap()
	}
	if via := r.Header.Get("X-Forwarded-For"); via != "" && s.trusted(c.Address) {
		// Only the last element was written by the proxy that is trusted.
		last := strings.TrimSpace(via[strings.LastIndexByte(via, ',')+1:])
		if a, err := netip.ParseAddr(last); err == nil {
			c.Address = a.Unmap()
		}
	}
	return c
}

// shortIM is homing.v1.IM over the logic, for callers that admitShort let in.
type shortIM struct{ s *Server }

// short answers one request. place is the owner whose region has to answer when
// there is no ticket to say so; 0 is anybody.
func short[Q any, PQ interface {
	*Q
	proto.Message
}, R any](ctx context.Context, i shortIM, m wire.Method, place uint64, r *connect.Request[Q]) (*connect.Response[R], error) {
	s := i.s
	q, _ := ctx.Value(shortKey{}).(*shortRequest)
	q.reached = true
	err := s.admitAnonymous(q.service, m, q.caller, place)
	var resp proto.Message
	if err == nil {
		var do call
		do, err = s.handlers[m](func(into proto.Message) error {
			proto.Merge(into, PQ(r.Msg))
			return nil
		})
		if err == nil {
			resp, err = s.serve(ctx, "short", q.service, m, q.caller, do)
		}
	}
	if err != nil {
		if wire.RedirectOf(err) != nil {
			s.m.redirects.WithLabelValues("short").Inc()
		}
		return nil, wire.ToConnect(err, s.version())
	}
	return connect.NewResponse(any(resp).(*R)), nil
}

// admitAnonymous is admit for the methods that need no ticket: Challenge and
// Login belong to the region that acts for their UIN; Register to any that
// admits.
func (s *Server) admitAnonymous(service region.Service, m wire.Method, c core.Caller, place uint64) error {
	if info, ok := wire.Lookup(m); !ok || !info.Anonymous {
		return nil
	}
	if m == wire.Register {
		if err := s.o.World.Admitting(); err != nil {
			return region.Errorf(region.Unavailable, "region %s serves nobody yet", s.o.Region).WithHint("try again").WithCause(err)
		}
		return nil
	}
	c.UIN = region.UIN(place)
	_, err := s.admit(service, c, 0)
	return err
}

func (i shortIM) Register(ctx context.Context, r *connect.Request[v1.RegisterRequest]) (*connect.Response[v1.RegisterResponse], error) {
	return short[v1.RegisterRequest, *v1.RegisterRequest, v1.RegisterResponse](ctx, i, wire.Register, 0, r)
}

func (i shortIM) Challenge(ctx context.Context, r *connect.Request[v1.ChallengeRequest]) (*connect.Response[v1.ChallengeResponse], error) {
	return short[v1.ChallengeRequest, *v1.ChallengeRequest, v1.ChallengeResponse](ctx, i, wire.Challenge, r.Msg.Uin, r)
}

func (i shortIM) Login(ctx context.Context, r *connect.Request[v1.LoginRequest]) (*connect.Response[v1.LoginResponse], error) {
	return short[v1.LoginRequest, *v1.LoginRequest, v1.LoginResponse](ctx, i, wire.Login, r.Msg.Uin, r)
}

func (i shortIM) Send(ctx context.Context, r *connect.Request[v1.SendRequest]) (*connect.Response[v1.SendResponse], error) {
	return short[v1.SendRequest, *v1.SendRequest, v1.SendResponse](ctx, i, wire.Send, 0, r)
}

func (i shortIM) Sync(ctx context.Context, r *connect.Request[v1.SyncRequest]) (*connect.Response[v1.SyncResponse], error) {
	return short[v1.SyncRequest, *v1.SyncRequest, v1.SyncResponse](ctx, i, wire.Sync, 0, r)
}

func (i shortIM) ClaimHandle(ctx context.Context, r *connect.Request[v1.ClaimHandleRequest]) (*connect.Response[v1.ClaimHandleResponse], error) {
	return short[v1.ClaimHandleRequest, *v1.ClaimHandleRequest, v1.ClaimHandleResponse](ctx, i, wire.ClaimHandle, 0, r)
}

func (i shortIM) Resolve(ctx context.Context, r *connect.Request[v1.ResolveRequest]) (*connect.Response[v1.ResolveResponse], error) {
	return short[v1.ResolveRequest, *v1.ResolveRequest, v1.ResolveResponse](ctx, i, wire.Resolve, 0, r)
}

func (i shortIM) UpdateProfile(ctx context.Context, r *connect.Request[v1.UpdateProfileRequest]) (*connect.Response[v1.UpdateProfileResponse], error) {
	return short[v1.UpdateProfileRequest, *v1.UpdateProfileRequest, v1.UpdateProfileResponse](ctx, i, wire.UpdateProfile, 0, r)
}

func (i shortIM) SetContact(ctx context.Context, r *connect.Request[v1.SetContactRequest]) (*connect.Response[v1.SetContactResponse], error) {
	return short[v1.SetContactRequest, *v1.SetContactRequest, v1.SetContactResponse](ctx, i, wire.SetContact, 0, r)
}

func (i shortIM) CreateGroup(ctx context.Context, r *connect.Request[v1.CreateGroupRequest]) (*connect.Response[v1.CreateGroupResponse], error) {
	return short[v1.CreateGroupRequest, *v1.CreateGroupRequest, v1.CreateGroupResponse](ctx, i, wire.CreateGroup, 0, r)
}

func (i shortIM) SetMember(ctx context.Context, r *connect.Request[v1.SetMemberRequest]) (*connect.Response[v1.SetMemberResponse], error) {
	return short[v1.SetMemberRequest, *v1.SetMemberRequest, v1.SetMemberResponse](ctx, i, wire.SetMember, 0, r)
}

func (i shortIM) AddDevice(ctx context.Context, r *connect.Request[v1.AddDeviceRequest]) (*connect.Response[v1.AddDeviceResponse], error) {
	return short[v1.AddDeviceRequest, *v1.AddDeviceRequest, v1.AddDeviceResponse](ctx, i, wire.AddDevice, 0, r)
}

func (i shortIM) ListDevices(ctx context.Context, r *connect.Request[v1.ListDevicesRequest]) (*connect.Response[v1.ListDevicesResponse], error) {
	return short[v1.ListDevicesRequest, *v1.ListDevicesRequest, v1.ListDevicesResponse](ctx, i, wire.ListDevices, 0, r)
}

func (i shortIM) RevokeDevice(ctx context.Context, r *connect.Request[v1.RevokeDeviceRequest]) (*connect.Response[v1.RevokeDeviceResponse], error) {
	return short[v1.RevokeDeviceRequest, *v1.RevokeDeviceRequest, v1.RevokeDeviceResponse](ctx, i, wire.RevokeDevice, 0, r)
}

func (i shortIM) RequestContact(ctx context.Context, r *connect.Request[v1.RequestContactRequest]) (*connect.Response[v1.RequestContactResponse], error) {
	return short[v1.RequestContactRequest, *v1.RequestContactRequest, v1.RequestContactResponse](ctx, i, wire.RequestContact, 0, r)
}

func (i shortIM) AnswerContact(ctx context.Context, r *connect.Request[v1.AnswerContactRequest]) (*connect.Response[v1.AnswerContactResponse], error) {
	return short[v1.AnswerContactRequest, *v1.AnswerContactRequest, v1.AnswerContactResponse](ctx, i, wire.AnswerContact, 0, r)
}

func (i shortIM) BlockUser(ctx context.Context, r *connect.Request[v1.BlockUserRequest]) (*connect.Response[v1.BlockUserResponse], error) {
	return short[v1.BlockUserRequest, *v1.BlockUserRequest, v1.BlockUserResponse](ctx, i, wire.BlockUser, 0, r)
}

func (i shortIM) Recall(ctx context.Context, r *connect.Request[v1.RecallRequest]) (*connect.Response[v1.RecallResponse], error) {
	return short[v1.RecallRequest, *v1.RecallRequest, v1.RecallResponse](ctx, i, wire.Recall, 0, r)
}

func (i shortIM) SetRead(ctx context.Context, r *connect.Request[v1.SetReadRequest]) (*connect.Response[v1.SetReadResponse], error) {
	return short[v1.SetReadRequest, *v1.SetReadRequest, v1.SetReadResponse](ctx, i, wire.SetRead, 0, r)
}

func (i shortIM) UpdateGroup(ctx context.Context, r *connect.Request[v1.UpdateGroupRequest]) (*connect.Response[v1.UpdateGroupResponse], error) {
	return short[v1.UpdateGroupRequest, *v1.UpdateGroupRequest, v1.UpdateGroupResponse](ctx, i, wire.UpdateGroup, 0, r)
}

func (i shortIM) SetRole(ctx context.Context, r *connect.Request[v1.SetRoleRequest]) (*connect.Response[v1.SetRoleResponse], error) {
	return short[v1.SetRoleRequest, *v1.SetRoleRequest, v1.SetRoleResponse](ctx, i, wire.SetRole, 0, r)
}

func (i shortIM) SetSetting(ctx context.Context, r *connect.Request[v1.SetSettingRequest]) (*connect.Response[v1.SetSettingResponse], error) {
	return short[v1.SetSettingRequest, *v1.SetSettingRequest, v1.SetSettingResponse](ctx, i, wire.SetSetting, 0, r)
}

func (i shortIM) EraseAccount(ctx context.Context, r *connect.Request[v1.EraseAccountRequest]) (*connect.Response[v1.EraseAccountResponse], error) {
	return short[v1.EraseAccountRequest, *v1.EraseAccountRequest, v1.EraseAccountResponse](ctx, i, wire.EraseAccount, 0, r)
}
