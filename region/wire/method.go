package wire

import (
	"fmt"
	"sort"

	"google.golang.org/protobuf/proto"

	v1 "github.com/homing-im/homing/region/homingv1"
)

// Method numbers what a frame is about. The numbers are append-only.
type Method uint16

// Methods of the connection itself.
const (
	Hello     Method = 1 // client; Hello -> HelloReply
	Heartbeat Method = 2 // client; Heartbeat -> HeartbeatReply
	Redirect  Method = 3 // server; response to Hello, or push; Redirect
	GoAway    Method = 4 // server; push; GoAway, or Error with the error flag
	Rehomed   Method = 5 // POP; push; Rehomed
	Reauth    Method = 6 // client; Reauth -> ReauthReply; as a push of the server it asks for one
	Notice    Method = 16
)

// Methods of the IM service, with the numbers of im.proto.
const (
	Register       Method = 32
	Challenge      Method = 33
	Login          Method = 34
	Send           Method = 35
	Sync           Method = 36
	ClaimHandle    Method = 37
	Resolve        Method = 38
	UpdateProfile  Method = 39
	SetContact     Method = 40
	CreateGroup    Method = 41
	SetMember      Method = 42
	AddDevice      Method = 43
	ListDevices    Method = 44
	RevokeDevice   Method = 45
	RequestContact Method = 46
	AnswerContact  Method = 47
	BlockUser      Method = 48
	Recall         Method = 49
	SetRead        Method = 50
	UpdateGroup    Method = 51
	SetRole        Method = 52
	SetSetting     Method = 53
	EraseAccount   Method = 54
)

// Info describes a method.
type Info struct {
	Method    Method
	Name      string // "Send"; the name in web envelopes
	Procedure string // "/homing.v1.IM/Send" on the short connection; "" for methods of the connection
	Anonymous bool   // needs no ticket on the short connection
	Mutation  bool   // changes records, and carries an idempotency key

	request  proto.Message
	response proto.Message
}

// NewRequest returns an empty request body.
func (i *Info) NewRequest() proto.Message { return i.request.ProtoReflect().New().Interface() }

// NewResponse returns an empty body of a response or push.
func (i *Info) NewResponse() proto.Message { return i.response.ProtoReflect().New().Interface() }

// byMethod and byName are never written to after index.
var byMethod, byName = index()

func table() []Info {
	im := func(m Method, name string, req, resp proto.Message) Info {
		return Info{Method: m, Name: name, Procedure: "/" + v1.IMName + "/" + name, request: req, response: resp}
	}
	anonymous := func(i Info) Info { i.Anonymous = true; return i }
	mutation := func(i Info) Info { i.Mutation = true; return i }
	return []Info{
		{Method: Hello, Name: "Hello", request: &v1.Hello{}, response: &v1.HelloReply{}},
		{Method: Heartbeat, Name: "Heartbeat", request: &v1.Heartbeat{}, response: &v1.HeartbeatReply{}},
		{Method: Redirect, Name: "Redirect", request: &v1.Redirect{}, response: &v1.Redirect{}},
		{Method: GoAway, Name: "GoAway", request: &v1.GoAway{}, response: &v1.GoAway{}},
		{Method: Rehomed, Name: "Rehomed", request: &v1.Rehomed{}, response: &v1.Rehomed{}},
		{Method: Reauth, Name: "Reauth", request: &v1.Reauth{}, response: &v1.ReauthReply{}},
		{Method: Notice, Name: "Notice", request: &v1.Notice{}, response: &v1.Notice{}},
		anonymous(mutation(im(Register, "Register", &v1.RegisterRequest{}, &v1.RegisterResponse{}))),
		anonymous(im(Challenge, "Challenge", &v1.ChallengeRequest{}, &v1.ChallengeResponse{})),
		anonymous(im(Login, "Login", &v1.LoginRequest{}, &v1.LoginResponse{})),
		mutation(im(Send, "Send", &v1.SendRequest{}, &v1.SendResponse{})),
		im(Sync, "Sync", &v1.SyncRequest{}, &v1.SyncResponse{}),
		mutation(im(ClaimHandle, "ClaimHandle", &v1.ClaimHandleRequest{}, &v1.ClaimHandleResponse{})),
		im(Resolve, "Resolve", &v1.ResolveRequest{}, &v1.ResolveResponse{}),
		mutation(im(UpdateProfile, "UpdateProfile", &v1.UpdateProfileRequest{}, &v1.UpdateProfileResponse{})),
		mutation(im(SetContact, "SetContact", &v1.SetContactRequest{}, &v1.SetContactResponse{})),
		mutation(im(CreateGroup, "CreateGroup", &v1.CreateGroupRequest{}, &v1.CreateGroupResponse{})),
		mutation(im(SetMember, "SetMember", &v1.SetMemberRequest{}, &v1.SetMemberResponse{})),
		mutation(im(AddDevice, "AddDevice", &v1.AddDeviceRequest{}, &v1.AddDeviceResponse{})),
		im(ListDevices, "ListDevices", &v1.ListDevicesRequest{}, &v1.ListDevicesResponse{}),
		mutation(im(RevokeDevice, "RevokeDevice", &v1.RevokeDeviceRequest{}, &v1.RevokeDeviceResponse{})),
		mutation(im(RequestContact, "RequestContact", &v1.RequestContactRequest{}, &v1.RequestContactResponse{})),
		mutation(im(AnswerContact, "AnswerContact", &v1.AnswerContactRequest{}, &v1.AnswerContactResponse{})),
		mutation(im(BlockUser, "BlockUser", &v1.BlockUserRequest{}, &v1.BlockUserResponse{})),
		mutation(im(Recall, "Recall", &v1.RecallRequest{}, &v1.RecallResponse{})),
		mutation(im(SetRead, "SetRead", &v1.SetReadRequest{}, &v1.SetReadResponse{})),
		mutation(im(UpdateGroup, "UpdateGroup", &v1.UpdateGroupRequest{}, &v1.UpdateGroupResponse{})),
		mutation(im(SetRole, "SetRole", &v1.SetRoleRequest{}, &v1.SetRoleResponse{})),
		mutation(im(SetSetting, "SetSetting", &v1.SetSettingRequest{}, &v1.SetSettingResponse{})),
		mutation(im(EraseAccount, "EraseAccount", &v1.EraseAccountRequest{}, &v1.EraseAccountResponse{})),
	}
}

func index() (map[Method]*Info, map[string]*Info) {
	numbers, names := map[Method]*Info{}, map[string]*Info{}
	for _, i := range table() {
		numbers[i.Method], names[i.Name] = &i, &i
		if i.Procedure != "" {
			names[i.Procedure] = &i
		}
	}
	return numbers, names
}

// Lookup returns what is known of a method.
func Lookup(m Method) (*Info, bool) {
	i, ok := byMethod[m]
	return i, ok
}

// LookupName finds a method by name ("Send") or procedure ("/homing.v1.IM/Send").
func LookupName(name string) (*Info, bool) {
	i, ok := byName[name]
	return i, ok
}

// Methods returns all methods by number.
func Methods() []*Info {
	all := make([]*Info, 0, len(byMethod))
	for _, i := range byMethod {
		all = append(all, i)
	}
	sort.Slice(all, func(a, b int) bool { return all[a].Method < all[b].Method })
	return all
}

// IM says whether the method belongs to the IM service.
func (m Method) IM() bool { return m >= Register }

func (m Method) String() string {
	if i, ok := byMethod[m]; ok {
		return i.Name
	}
	return fmt.Sprintf("method-%d", uint16(m))
}
