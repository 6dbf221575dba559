package core

import (
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// theMembers returns the group's members as this transaction leaves them.
func (t *txn) theMembers() (*members, error) {
	if t.group == nil {
		a, err := t.theAccount()
		if err != nil {
			return nil, err
		}
		if t.group, err = t.c.membersOf(t.ctx, t.owner, a); err != nil {
			return nil, err
		}
	}
	return t.group, nil
}

func (t *txn) groupCreate(o *operation) (string, error) {
	a, err := t.theAccount()
	if err != nil || a != nil {
		return repeated, err
	}
	a = &v1.AccountRow{Nickname: o.create.Name, Group: true, Creator: o.create.Creator, CreatedUnixMilli: o.create.CreatedUnixMilli}
	if err := t.saveAccount(a); err != nil {
		return "", err
	}
	t.group = newMembers(a)
	for _, m := range o.create.Members {
		row := &v1.MemberRow{AddedUnixMilli: o.create.CreatedUnixMilli, AddedBy: o.create.Creator}
		if err := t.save(tableMember, keyNumber(m), row); err != nil {
			return "", err
		}
		t.group.list[region.UIN(m)] = row
	}
	return applied, t.announce(o, &v1.System{Event: "group-created", Actor: o.create.Creator, Members: o.create.Members})
}

// groupAct is what a user asks of a group: the change of a member, of a role, or
// of what the group says of itself. Its once row is what makes it happen once.
func (t *txn) groupAct(o *operation) (string, error) {
	var done v1.OnceRow
	if found, err := t.load(tableOnce, o.command.ID[:], &done); err != nil || found {
		return repeated, err
	}
	a, err := t.theAccount()
	if err != nil {
		return "", err
	}
	if a == nil || !a.Group {
		if err := t.refuseAct(o); err != nil {
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
	switch {
	case o.change != nil:
		return t.groupChange(o, m)
	case o.update != nil:
		return t.groupUpdate(o, m)
	}
	return t.groupRole(o, m)
}

// refuseAct tells the actor that the group's rules forbid it.
func (t *txn) refuseAct(o *operation) error {
	actor, member := o.act()
	s := &v1.System{Event: "refused", Actor: uint64(actor)}
	if member != 0 {
		s.Members = []uint64{uint64(member)}
	}
	return t.tell(actor, "refused/"+hex.EncodeToString(o.command.ID[:]), s)
}

func (t *txn) groupChange(o *operation, m *members) (string, error) {
	actor, member := o.act()
	if m.asks(actor, member, o.change.Remove) {
		return applied, t.askToJoin(m, member)
	}
	if m.permit(actor, member, o.change.Remove) != nil {
		return refused, t.refuseAct(o)
	}
	if _, in := m.role(member); in == !o.change.Remove {
		return applied, nil // nothing to change
	}
	if _, err := t.get(tableMember, keyUIN(member)); err != nil { // the version to write at
		return "", err
	}
	event := &v1.System{Event: "member-added", Actor: uint64(actor), Members: []uint64{uint64(member)}}
	if !o.change.Remove {
		row := &v1.MemberRow{AddedUnixMilli: o.change.UnixMilli, AddedBy: uint64(actor)}
		if err := t.save(tableMember, keyUIN(member), row); err != nil {
			return "", err
		}
		m.list[member] = row
		return applied, t.announce(o, event)
	}
	event.Event = "member-removed"
	t.delete(tableMember, keyUIN(member))
	if err := t.announce(o, event); err != nil { // one who was removed hears of it too
		return "", err
	}
	delete(m.list, member)
	if member != m.owner {
		return applied, nil
	}
	return applied, t.inherit(o, m)
}

// inherit hands a group over whose owner has left.
func (t *txn) inherit(o *operation, m *members) error {
	heir := m.heir()
	if heir == 0 {
		return nil // the last one closes the door
	}
	if err := t.handOver(m, heir); err != nil {
		return err
	}
	news := &v1.System{Event: "role-changed", Actor: uint64(heir), Members: []uint64{uint64(heir)}, Role: roleOwner}
	return t.announceAs(hex.EncodeToString(o.command.ID[:])+"/heir", news)
}

// handOver makes a member the owner.
func (t *txn) handOver(m *members, to region.UIN) error {
	if err := t.setRole(m, to, roleMember); err != nil { // the account row says that it is the owner
		return err
	}
	a, err := t.theAccount()
	if err != nil {
		return err
	}
	a = proto.Clone(a).(*v1.AccountRow)
	a.Owner, m.owner = uint64(to), to
	return t.saveAccount(a)
}

// setRole writes a member's row if that changes it.
func (t *txn) setRole(m *members, member region.UIN, role v1.GroupRole) error {
	if m.list[member].Role == role {
		return nil
	}
	if _, err := t.get(tableMember, keyUIN(member)); err != nil { // the version to write at
		return err
	}
	row := proto.Clone(m.list[member]).(*v1.MemberRow)
	row.Role = role
	m.list[member] = row
	return t.save(tableMember, keyUIN(member), row)
}

// askToJoin tells the owner and the admins who would be a member, once a day.
func (t *txn) askToJoin(m *members, who region.UIN) error {
	const day = 24 * 60 * 60 * 1000
	news := t.systemMessage(t.owner, fmt.Sprintf("join-request/%d/%d", who, t.now/day), &v1.System{Event: "join-request", Actor: uint64(who)})
	id := [16]byte(news.Id)
	if _, found, err := t.known(id); err != nil || found {
		return err
	}
	if err := t.drop(id); err != nil {
		return err
	}
	return t.deliver(id, news, m.leaders())
}

func (t *txn) groupUpdate(o *operation, m *members) (string, error) {
	actor, _ := o.act()
	if m.permitUpdate(actor) != nil {
		return refused, t.refuseAct(o)
	}
	a, err := t.theAccount()
	if err != nil {
		return "", err
	}
	next := proto.Clone(a).(*v1.AccountRow)
	if o.update.Name != nil {
		next.Nickname = *o.update.Name
	}
	if o.update.Announcement != nil {
		next.Announcement = *o.update.Announcement
	}
	if o.update.Join != nil {
		next.Join, m.join = *o.update.Join, *o.update.Join
	}
	if proto.Equal(a, next) {
		return applied, nil
	}
	if err := t.saveAccount(next); err != nil {
		return "", err
	}
	return applied, t.announce(o, &v1.System{Event: "group-updated", Actor: uint64(actor)})
}

func (t *txn) groupRole(o *operation, m *members) (string, error) {
	actor, member := o.act()
	role := o.role.Role
	if m.permitRole(actor, member, role) != nil {
		return refused, t.refuseAct(o)
	}
	if has, _ := m.role(member); has == role {
		return applied, nil
	}
	if role == roleOwner {
		if err := t.setRole(m, actor, roleAdmin); err != nil {
			return "", err
		}
		if err := t.handOver(m, member); err != nil {
			return "", err
		}
	} else if err := t.setRole(m, member, role); err != nil {
		return "", err
	}
	return applied, t.announce(o, &v1.System{Event: "role-changed", Actor: uint64(actor), Members: []uint64{uint64(member)}, Role: role})
}

// announce sends a system message of the group to its members.
func (t *txn) announce(o *operation, s *v1.System) error {
	return t.announceAs(hex.EncodeToString(o.command.ID[:]), s)
}

func (t *txn) announceAs(clientMessageID string, s *v1.System) error {
	g, err := t.theMembers()
	if err != nil {
		return err
	}
	m := t.systemMessage(t.owner, clientMessageID, s)
	return t.deliver([16]byte(m.Id), m, sorted(g.list))
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
	if _, ok := m.role(region.UIN(o.message.Sender)); !ok {
		return refused, t.undelivered(o)
	}
	t.put(tableMessage, o.id[:], keySequence(0))
	return applied, t.deliver(o.id, o.message, sorted(m.list))
}

// deliver makes one command per region that is the home of some of the users,
// so that one copy of the message crosses to each.
func (t *txn) deliver(id [16]byte, m *v1.Message, to []region.UIN) error {
	v, err := t.c.view()
	if err != nil {
		return err
	}
	homes := map[region.ID][]uint64{}
	for _, u := range to {
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
