package core

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

// CreateGroup makes a group that lives in the region that serves the caller:
// its UIN is of that region. The caller owns it; any member adds others until
// UpdateGroup says otherwise. The group is durable as a command when this
// returns, and usually there already. Members hear by a system message,
// "group-created".
//
// Errors: BadInput for a name that is not 1 to MaxNickname characters, or a
// member that is a group; TooLarge beyond MaxMembers, the caller included, or
// MaxGroups made by the caller; NotFound for a member who cannot exist;
// Unavailable when no UIN can be had.
func (c *Core) CreateGroup(ctx context.Context, by Caller, r *v1.CreateGroupRequest) (_ *v1.CreateGroupResponse, err error) {
	defer c.m.count("CreateGroup", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if err := checkName("name", r.Name); err != nil {
		return nil, err
	}
	if len(r.Members) > MaxMembers {
		return nil, tooManyMembers()
	}
	all := append(slices.Clone(r.Members), uint64(by.UIN))
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > MaxMembers {
		return nil, tooManyMembers()
	}
	for _, m := range all {
		to, err := c.reachable(ctx, region.UIN(m))
		if err != nil {
			return nil, err
		}
		if to.group {
			return nil, region.Errorf(region.BadInput, "member %d is a group", m).WithHint("list its members instead")
		}
	}
	var group region.UIN
	var command journal.Command
	resp := new(v1.CreateGroupResponse)
	err = c.once(ctx, by.UIN, "CreateGroup", r.IdempotencyKey, r, resp, func(t *txn) error {
		if err := t.countGroup(); err != nil {
			return err
		}
		if group == 0 { // not again when the commit is tried again
			if group, err = c.numbers.take(ctx); err != nil {
				return err
			}
		}
		resp.Uin = uint64(group)
		if command, err = c.creation(by.UIN, group, r.Name, all); err == nil {
			t.batch.Commands = append(t.batch.Commands, command)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// The group is as good as there, but the caller may use it at once. A repeat
	// whose first try died just here ends up here too.
	if group == 0 {
		if command, err = c.creation(by.UIN, region.UIN(resp.Uin), r.Name, all); err != nil {
			return nil, err
		}
	}
	return resp, c.eagerly(ctx, by.UIN, &command)
}

// creation is the command that makes a group.
func (c *Core) creation(by, group region.UIN, name string, all []uint64) (journal.Command, error) {
	v, err := c.view()
	if err != nil {
		return journal.Command{}, err
	}
	p, ok := v.Placement(group)
	if !ok {
		return journal.Command{}, region.Errorf(region.Internal, "UIN %d belongs to no region", group)
	}
	payload, err := marshal(&v1.GroupCreate{Name: name, Creator: uint64(by), Members: all, CreatedUnixMilli: c.o.Clock().UnixMilli()})
	return journal.Command{ID: digest("homing.create", keyUIN(group)), To: p.Home, Target: group, Method: uint16(methodGroupCreate), Payload: payload}, err
}

func tooManyMembers() error {
	return region.Errorf(region.TooLarge, "too many members").WithHint("at most %d, you included", MaxMembers)
}

// eagerly executes a command that is durable already, so that its caller finds
// its effect; the command loop will find it done. Its error is for the caller to
// retry: until then the loop does it.
func (c *Core) eagerly(ctx context.Context, by region.UIN, cmd *journal.Command) error {
	if _, err := c.acts(cmd.Target); err != nil {
		return nil // another region's
	}
	ops, _, err := parse(origin{region: c.o.Self, owner: by, unixMilli: c.o.Clock().UnixMilli()}, cmd)
	if err != nil {
		return region.Errorf(region.Internal, "a command of this region is malformed").WithCause(err)
	}
	return c.run(ctx, cmd.Target, []*operation{ops[cmd.Target]})
}

// SetMember adds or removes a member of a group. Who may add says the group's
// JoinPolicy; a member may leave; the owner removes anybody, an admin plain
// members. When the owner leaves, the admin who has been there longest, or else
// the member, becomes the owner. Adding oneself to a group with the policy
// APPROVAL asks its owner and admins, by a system message "join-request", at most
// once a day.
//
// The group's region decides: for a group of another region this returns once
// the request is durable, and a refusal comes as a system message, "refused".
// Members, and the one who was removed, hear of a change by "member-added" or
// "member-removed". A repeat under the same idempotency key changes nothing.
//
// Errors: BadInput without a group or a member, or for a member that is a group;
// NotFound for a group or member who cannot exist; Forbidden; TooLarge beyond
// MaxMembers.
func (c *Core) SetMember(ctx context.Context, by Caller, r *v1.SetMemberRequest) (_ *v1.SetMemberResponse, err error) {
	defer c.m.count("SetMember", &err)
	if r.Member == 0 {
		return nil, region.Errorf(region.BadInput, "want a member").WithHint("give the UIN")
	}
	group, err := c.aGroup(ctx, by, r.Group)
	if err != nil {
		return nil, err
	}
	if !r.Remove {
		member, err := c.reachable(ctx, region.UIN(r.Member))
		if err != nil {
			return nil, err
		}
		if member.group {
			return nil, region.Errorf(region.BadInput, "member %d is a group", r.Member).WithHint("add its members instead")
		}
	}
	resp := new(v1.SetMemberResponse)
	change := &v1.GroupChange{Actor: uint64(by.UIN), Member: r.Member, Remove: r.Remove, UnixMilli: c.o.Clock().UnixMilli()}
	return resp, c.askGroup(ctx, by.UIN, group, "SetMember", r.IdempotencyKey, methodGroupChange, r, resp, change, func(m *members) error {
		if m.asks(by.UIN, region.UIN(r.Member), r.Remove) {
			return nil
		}
		return m.permit(by.UIN, region.UIN(r.Member), r.Remove)
	})
}

// UpdateGroup changes what a group says of itself, and who may join: its owner
// and admins may. What the request does not set stays. Members hear by a system
// message, "group-updated", and find the rest by Resolve. For a group of another
// region it answers as SetMember does.
//
// Errors: BadInput for a request that sets nothing, a name that is not 1 to
// MaxNickname characters, an announcement over MaxAnnouncement characters or an
// unknown policy; NotFound; Forbidden.
func (c *Core) UpdateGroup(ctx context.Context, by Caller, r *v1.UpdateGroupRequest) (_ *v1.UpdateGroupResponse, err error) {
	defer c.m.count("UpdateGroup", &err)
	update := &v1.GroupUpdate{Actor: uint64(by.UIN), Name: r.Name, Announcement: r.Announcement, Join: r.Join, UnixMilli: c.o.Clock().UnixMilli()}
	if err := checkUpdate(update); err != nil {
		return nil, err
	}
	group, err := c.aGroup(ctx, by, r.Group)
	if err != nil {
		return nil, err
	}
	resp := new(v1.UpdateGroupResponse)
	return resp, c.askGroup(ctx, by.UIN, group, "UpdateGroup", r.IdempotencyKey, methodGroupUpdate, r, resp, update, func(m *members) error {
		return m.permitUpdate(by.UIN)
	})
}

// SetRole makes a member of a group an admin or a plain member, or the owner,
// whereupon the caller is an admin. Only the owner may. Members hear by a system
// message, "role-changed". For a group of another region it answers as SetMember
// does.
//
// Errors: BadInput for an unknown role; NotFound for one who is not a member;
// Forbidden; TooLarge beyond MaxAdmins.
func (c *Core) SetRole(ctx context.Context, by Caller, r *v1.SetRoleRequest) (_ *v1.SetRoleResponse, err error) {
	defer c.m.count("SetRole", &err)
	if _, known := v1.GroupRole_name[int32(r.Role)]; !known || r.Member == 0 {
		return nil, region.Errorf(region.BadInput, "want a member and a role").WithHint("the role is member, admin or owner")
	}
	group, err := c.aGroup(ctx, by, r.Group)
	if err != nil {
		return nil, err
	}
	resp := new(v1.SetRoleResponse)
	change := &v1.GroupRoleChange{Actor: uint64(by.UIN), Member: r.Member, Role: r.Role, UnixMilli: c.o.Clock().UnixMilli()}
	return resp, c.askGroup(ctx, by.UIN, group, "SetRole", r.IdempotencyKey, methodGroupRole, r, resp, change, func(m *members) error {
		return m.permitRole(by.UIN, region.UIN(r.Member), r.Role)
	})
}

func checkUpdate(u *v1.GroupUpdate) error {
	if u.Name == nil && u.Announcement == nil && u.Join == nil {
		return region.Errorf(region.BadInput, "nothing to change").WithHint("set a name, an announcement or a join policy")
	}
	if u.Name != nil {
		if err := checkName("name", *u.Name); err != nil {
			return err
		}
	}
	if _, known := v1.JoinPolicy_name[int32(u.GetJoin())]; !known {
		return region.Errorf(region.BadInput, "join policy %d is unknown", u.GetJoin()).WithHint("want members, open, admins or approval")
	}
	return checkParagraph("announcement", u.GetAnnouncement(), MaxAnnouncement)
}

// aGroup finds a group that a caller names.
func (c *Core) aGroup(ctx context.Context, by Caller, uin uint64) (recipient, error) {
	if err := needUser(by); err != nil {
		return recipient{}, err
	}
	if uin == 0 {
		return recipient{}, region.Errorf(region.BadInput, "want a group").WithHint("give its UIN")
	}
	group, err := c.reachable(ctx, region.UIN(uin))
	if err != nil || group.group {
		return group, err
	}
	if a, _, err := c.accountOf(ctx, group.uin); err != nil || a != nil {
		return group, orError(err, region.Errorf(region.NotFound, "UIN %d is not a group", uin).WithHint("check the number"))
	}
	return group, nil // of another region, and not here yet
}

func orError(err error, other *region.Error) error {
	if err != nil {
		return err
	}
	return other
}

// askGroup sends a command to a group, once per key, and executes it at once
// when the group is this region's. allowed asks the rules, so that the caller
// hears of a refusal at once; of another region's group only that region can.
func (c *Core) askGroup(ctx context.Context, by region.UIN, group recipient, name, key string, m method, req, resp, act proto.Message, allowed func(*members) error) error {
	payload, err := marshal(act)
	if err != nil {
		return err
	}
	label := "homing." + name
	if m == methodGroupChange {
		label = "homing.change" // what the first version called it
	}
	command := journal.Command{ID: digest(label, keyUIN(by), []byte(key)), To: group.home, Target: group.uin, Method: uint16(m), Payload: payload}
	err = c.once(ctx, by, name, key, req, resp, func(t *txn) error {
		if err := c.judge(ctx, group.uin, allowed); err != nil {
			return err
		}
		t.batch.Commands = append(t.batch.Commands, command)
		return nil
	})
	if err != nil {
		return err
	}
	return c.eagerly(ctx, by, &command)
}

// judge asks the rules of a group that this region acts for.
func (c *Core) judge(ctx context.Context, group region.UIN, allowed func(*members) error) error {
	if _, err := c.acts(group); err != nil {
		return nil
	}
	a, _, err := c.accountOf(ctx, group)
	if err != nil {
		return err
	}
	m, err := c.membersOf(ctx, group, a)
	if err != nil {
		return err
	}
	return allowed(m)
}

// countGroup counts a group that this transaction's owner makes.
func (t *txn) countGroup() error {
	var made v1.MadeRow
	if _, err := t.load(tableMade, keySingle, &made); err != nil {
		return err
	}
	if made.Groups >= MaxGroups {
		return region.Errorf(region.TooLarge, "you made %d groups", made.Groups).WithHint("at most %d", MaxGroups)
	}
	made.Groups++
	return t.save(tableMade, keySingle, &made)
}
