package core

import (
	"cmp"
	"context"
	"slices"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// The roles and policies, under shorter names.
const (
	roleMember = v1.GroupRole_GROUP_ROLE_MEMBER
	roleAdmin  = v1.GroupRole_GROUP_ROLE_ADMIN
	roleOwner  = v1.GroupRole_GROUP_ROLE_OWNER

	joinMembers  = v1.JoinPolicy_JOIN_POLICY_MEMBERS
	joinOpen     = v1.JoinPolicy_JOIN_POLICY_OPEN
	joinAdmins   = v1.JoinPolicy_JOIN_POLICY_ADMINS
	joinApproval = v1.JoinPolicy_JOIN_POLICY_APPROVAL
)

// members are those of a group, and what each may do. The rules below are pure:
// the same ones refuse a caller at once and a command later.
type members struct {
	list  map[region.UIN]*v1.MemberRow
	owner region.UIN // by the account row; one who is no member has no say
	join  v1.JoinPolicy
}

// membersOf reads the members of a group by its account row, which may be nil.
func (c *Core) membersOf(ctx context.Context, group region.UIN, a *v1.AccountRow) (*members, error) {
	m := newMembers(a)
	var bad error
	err := c.o.Store.Scan(ctx, group, tableMember, store.Range{Limit: MaxMembers + 1}, func(r *store.Row) bool {
		row := new(v1.MemberRow)
		if bad = unmarshalRow(r, row); bad != nil {
			return false
		}
		if u, ok := numberOf(r.Row); ok {
			m.list[region.UIN(u)] = row
		}
		return true
	})
	return m, cmp.Or(err, bad)
}

func newMembers(a *v1.AccountRow) *members {
	return &members{list: make(map[region.UIN]*v1.MemberRow), owner: ownerOf(a), join: a.GetJoin()}
}

// ownerOf is the creator until the group is handed over.
func ownerOf(a *v1.AccountRow) region.UIN {
	return region.UIN(cmp.Or(a.GetOwner(), a.GetCreator()))
}

// role returns what somebody may do; false for one who is no member.
func (m *members) role(u region.UIN) (v1.GroupRole, bool) {
	row, ok := m.list[u]
	switch {
	case !ok:
		return roleMember, false
	case u == m.owner:
		return roleOwner, true
	}
	return row.Role, true
}

// leads says whether somebody is the owner or an admin.
func (m *members) leads(u region.UIN) bool {
	role, ok := m.role(u)
	return ok && role >= roleAdmin
}

// leaders are the owner and the admins.
func (m *members) leaders() []region.UIN {
	var out []region.UIN
	for _, u := range sorted(m.list) {
		if m.leads(u) {
			out = append(out, u)
		}
	}
	return out
}

// permit are the rules of membership.
func (m *members) permit(actor, member region.UIN, remove bool) error {
	if remove {
		return m.permitRemove(actor, member)
	}
	_, in := m.role(member)
	role, isMember := m.role(actor)
	switch {
	case in && (isMember || actor == member):
		return nil // nothing to change
	case !isMember && (actor != member || m.join != joinOpen):
		return notAMember()
	case isMember && role < roleAdmin && (m.join == joinAdmins || m.join == joinApproval):
		return region.Errorf(region.Forbidden, "only the group's owner and admins add members").WithHint("ask one of them")
	case len(m.list) >= MaxMembers:
		return region.Errorf(region.TooLarge, "the group is full").WithHint("at most %d members", MaxMembers)
	}
	return nil
}

func (m *members) permitRemove(actor, member region.UIN) error {
	role, ok := m.role(actor)
	other, in := m.role(member)
	switch {
	case !ok:
		return notAMember()
	case !in || actor == member || role > other:
		return nil
	case role == roleMember:
		return region.Errorf(region.Forbidden, "only the group's owner and admins remove others").WithHint("ask one of them")
	}
	return region.Errorf(region.Forbidden, "an admin is removed by the group's owner only").WithHint("ask the owner")
}

// asks says whether adding is a request that the admins decide.
func (m *members) asks(actor, member region.UIN, remove bool) bool {
	_, in := m.role(member)
	return !remove && !in && actor == member && m.join == joinApproval
}

// permitUpdate are the rules of changing what a group says of itself.
func (m *members) permitUpdate(actor region.UIN) error {
	if _, ok := m.role(actor); !ok {
		return notAMember()
	}
	if !m.leads(actor) {
		return region.Errorf(region.Forbidden, "only the group's owner and admins change it").WithHint("ask one of them")
	}
	return nil
}

// permitRole are the rules of giving roles.
func (m *members) permitRole(actor, member region.UIN, role v1.GroupRole) error {
	mine, ok := m.role(actor)
	has, in := m.role(member)
	switch {
	case !ok:
		return notAMember()
	case mine != roleOwner:
		return region.Errorf(region.Forbidden, "only the group's owner gives roles").WithHint("ask the owner")
	case !in:
		return region.Errorf(region.NotFound, "user %d is not a member of the group", member).WithHint("add the user first")
	case actor == member && role != roleOwner:
		return region.Errorf(region.Forbidden, "a group has an owner").WithHint("hand it over to another member instead")
	case role == roleAdmin && has == roleMember && len(m.leaders()) > MaxAdmins:
		return region.Errorf(region.TooLarge, "the group has too many admins").WithHint("at most %d", MaxAdmins)
	}
	return nil
}

// heir is who owns the group when its owner leaves: the admin, or else the
// member, who has been there longest; 0 when nobody is left.
func (m *members) heir() region.UIN {
	var rest []region.UIN
	for _, u := range sorted(m.list) {
		if u != m.owner {
			rest = append(rest, u)
		}
	}
	if len(rest) == 0 {
		return 0
	}
	return slices.MinFunc(rest, func(a, b region.UIN) int {
		return cmp.Or(cmp.Compare(m.list[b].Role, m.list[a].Role), cmp.Compare(m.list[a].AddedUnixMilli, m.list[b].AddedUnixMilli), cmp.Compare(a, b))
	})
}

// describe fills in who the members are.
func (m *members) describe(a *v1.Account) {
	for _, u := range sorted(m.list) {
		a.Members = append(a.Members, uint64(u))
		switch role, _ := m.role(u); role {
		case roleOwner:
			a.Owner = uint64(u)
		case roleAdmin:
			a.Admins = append(a.Admins, uint64(u))
		}
	}
}

func notAMember() error {
	return region.Errorf(region.Forbidden, "you are not a member of the group").WithHint("ask a member to add you")
}
