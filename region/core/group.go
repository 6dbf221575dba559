package core

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// CreateGroup makes a group that lives in the region that serves the caller:
// its UIN is of that region. The group is durable as a command when this
// returns, and usually there already.
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

// SetMember adds or removes a member of a group. Any member may add; a member
// may leave, and the creator may remove. The group's region decides: for a
// group of another region this returns once the request is durable, and a
// refusal comes as a system message, "refused".
func (c *Core) SetMember(ctx context.Context, by Caller, r *v1.SetMemberRequest) (_ *v1.SetMemberResponse, err error) {
	defer c.m.count("SetMember", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	if r.Group == 0 || r.Member == 0 {
		return nil, region.Errorf(region.BadInput, "want a group and a member").WithHint("give both UINs")
	}
	group, err := c.reachable(ctx, region.UIN(r.Group))
	if err != nil {
		return nil, err
	}
	here, _, err := c.accountOf(ctx, group.uin)
	if err != nil {
		return nil, err
	}
	if here != nil && !here.Group {
		return nil, region.Errorf(region.NotFound, "UIN %d is not a group", r.Group).WithHint("check the number")
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
	payload, err := marshal(&v1.GroupChange{Actor: uint64(by.UIN), Member: r.Member, Remove: r.Remove, UnixMilli: c.o.Clock().UnixMilli()})
	if err != nil {
		return nil, err
	}
	command := journal.Command{ID: digest("homing.change", keyUIN(by.UIN), []byte(r.IdempotencyKey)), To: group.home, Target: group.uin,
		Method: uint16(methodGroupChange), Payload: payload}
	resp := new(v1.SetMemberResponse)
	err = c.once(ctx, by.UIN, "SetMember", r.IdempotencyKey, r, resp, func(t *txn) error {
		if err := c.allowed(ctx, group.uin, by.UIN, r); err != nil {
			return err
		}
		t.batch.Commands = append(t.batch.Commands, command)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, c.eagerly(ctx, by.UIN, &command)
}

// allowed asks the rules of a group this region acts for, so that the caller
// hears of a refusal at once. For others it allows, and their region decides.
func (c *Core) allowed(ctx context.Context, group, actor region.UIN, r *v1.SetMemberRequest) error {
	if _, err := c.acts(group); err != nil {
		return nil
	}
	a, _, err := c.accountOf(ctx, group)
	if err != nil {
		return err
	}
	m, err := c.members(ctx, group)
	if err != nil {
		return err
	}
	return m.permit(a, actor, region.UIN(r.Member), r.Remove)
}

// members are those of a group.
type members struct{ list map[region.UIN]bool }

func (c *Core) members(ctx context.Context, group region.UIN) (*members, error) {
	m := &members{list: make(map[region.UIN]bool)}
	err := c.o.Store.Scan(ctx, group, tableMember, store.Range{Limit: MaxMembers + 1}, func(r *store.Row) bool {
		if u, ok := numberOf(r.Row); ok {
			m.list[region.UIN(u)] = true
		}
		return true
	})
	return m, err
}

func (c *Core) membersOf(ctx context.Context, group region.UIN) ([]uint64, error) {
	m, err := c.members(ctx, group)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, u := range sorted(m.list) {
		out = append(out, uint64(u))
	}
	return out, nil
}

// permit are the rules of membership.
func (m *members) permit(group *v1.AccountRow, actor, member region.UIN, remove bool) error {
	switch {
	case !m.list[actor]:
		return region.Errorf(region.Forbidden, "you are not a member of the group").WithHint("ask a member to add you")
	case remove && actor != member && uint64(actor) != group.GetCreator():
		return region.Errorf(region.Forbidden, "only the group's creator removes others").WithHint("ask the creator")
	case !remove && !m.list[member] && len(m.list) >= MaxMembers:
		return region.Errorf(region.TooLarge, "the group is full").WithHint("at most %d members", MaxMembers)
	}
	return nil
}

// theMembers returns the group's members as this transaction leaves them.
func (t *txn) theMembers() (*members, error) {
	if t.group == nil {
		m, err := t.c.members(t.ctx, t.owner)
		if err != nil {
			return nil, err
		}
		t.group = m
	}
	return t.group, nil
}

func (t *txn) groupCreate(o *operation) (string, error) {
	a, err := t.theAccount()
	if err != nil || a != nil {
		return repeated, err
	}
	if err := t.saveAccount(&v1.AccountRow{Nickname: o.create.Name, Group: true, Creator: o.create.Creator, CreatedUnixMilli: o.create.CreatedUnixMilli}); err != nil {
		return "", err
	}
	t.group = &members{list: make(map[region.UIN]bool)}
	for _, m := range o.create.Members {
		if err := t.save(tableMember, keyNumber(m), &v1.MemberRow{AddedUnixMilli: o.create.CreatedUnixMilli, AddedBy: o.create.Creator}); err != nil {
			return "", err
		}
		t.group.list[region.UIN(m)] = true
	}
	return applied, t.announce(o, &v1.System{Event: "group-created", Actor: o.create.Creator, Members: o.create.Members})
}

func (t *txn) groupChange(o *operation) (string, error) {
	var done v1.OnceRow
	if found, err := t.load(tableOnce, o.command.ID[:], &done); err != nil || found {
		return repeated, err
	}
	a, err := t.theAccount()
	if err != nil {
		return "", err
	}
	if a == nil || !a.Group {
		if err := t.tell(region.UIN(o.change.Actor), "refused/"+hex.EncodeToString(o.command.ID[:]),
			&v1.System{Event: "refused", Actor: o.change.Actor, Members: []uint64{o.change.Member}}); err != nil {
			return "", err
		}
		return dead, t.letter(o.from, o.command, "its target is not a group")
	}
	m, err := t.theMembers()
	if err != nil {
		return "", err
	}
	if err := t.remember(o.command.ID[:], &v1.OnceRow{UnixMilli: t.now}); err != nil {
		return "", err
	}
	member := region.UIN(o.change.Member)
	if m.permit(a, region.UIN(o.change.Actor), member, o.change.Remove) != nil {
		return refused, t.tell(region.UIN(o.change.Actor), "refused/"+hex.EncodeToString(o.command.ID[:]),
			&v1.System{Event: "refused", Actor: o.change.Actor, Members: []uint64{o.change.Member}})
	}
	if m.list[member] == !o.change.Remove {
		return applied, nil // nothing to change
	}
	if _, err := t.get(tableMember, keyUIN(member)); err != nil { // the version to write at
		return "", err
	}
	event := &v1.System{Event: "member-added", Actor: o.change.Actor, Members: []uint64{o.change.Member}}
	if o.change.Remove {
		t.delete(tableMember, keyUIN(member))
		event.Event = "member-removed"
	} else if err := t.save(tableMember, keyUIN(member), &v1.MemberRow{AddedUnixMilli: o.change.UnixMilli, AddedBy: o.change.Actor}); err != nil {
		return "", err
	}
	m.list[member] = true // one who was removed hears of it too
	err = t.announce(o, event)
	if o.change.Remove {
		delete(m.list, member)
	}
	return applied, err
}

// announce sends a system message of the group to its members.
func (t *txn) announce(o *operation, s *v1.System) error {
	m := t.systemMessage(t.owner, hex.EncodeToString(o.command.ID[:]), s)
	return t.deliver([16]byte(m.Id), m)
}

// groupPost sends a member's message on. The index row is what makes it happen
// once; the group itself keeps no copy.
func (t *txn) groupPost(o *operation) (string, error) {
	if found, err := t.repeats(o.id); err != nil || found {
		return repeated, err
	}
	m, err := t.theMembers()
	if err != nil {
		return "", err
	}
	if !m.list[region.UIN(o.message.Sender)] {
		return refused, t.undelivered(o)
	}
	t.put(tableMessage, o.id[:], keySequence(0))
	return applied, t.deliver(o.id, o.message)
}

// deliver makes one command per region that is a member's home, so that one
// copy of the message crosses to each.
func (t *txn) deliver(id [16]byte, m *v1.Message) error {
	v, err := t.c.view()
	if err != nil {
		return err
	}
	g, err := t.theMembers()
	if err != nil {
		return err
	}
	homes := map[region.ID][]uint64{}
	for _, u := range sorted(g.list) {
		if p, ok := v.Placement(u); ok {
			homes[p.Home] = append(homes[p.Home], uint64(u))
		}
	}
	for _, home := range sorted(homes) {
		payload, err := marshal(&v1.GroupDeliver{Group: uint64(t.owner), Message: m, Members: homes[home]})
		if err != nil {
			return err
		}
		t.command(digest("homing.deliver", id[:], []byte(home)), home, 0, methodGroupDeliver, payload)
	}
	return nil
}
