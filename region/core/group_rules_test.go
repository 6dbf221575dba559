package core

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// The people of a test group: 1 owns it, 2 and 3 are admins, 4 and 5 members; 9
// is a stranger.
func testMembers(join v1.JoinPolicy) *members {
	m := newMembers(&v1.AccountRow{Group: true, Creator: 1, Join: join})
	for u, role := range map[region.UIN]v1.GroupRole{1: roleMember, 2: roleAdmin, 3: roleAdmin, 4: roleMember, 5: roleMember} {
		m.list[u] = &v1.MemberRow{Role: role, AddedUnixMilli: int64(u)}
	}
	return m
}

func TestMembershipRules(t *testing.T) {
	full := func(m *members) *members {
		for i := len(m.list); i < MaxMembers; i++ {
			m.list[region.UIN(1000+i)] = &v1.MemberRow{}
		}
		return m
	}
	for _, c := range []struct {
		name          string
		m             *members
		actor, member region.UIN
		remove        bool
		want          region.Kind
	}{
		{"a member adds", testMembers(joinMembers), 4, 9, false, 0},
		{"a member adds one who is in", testMembers(joinMembers), 4, 5, false, 0},
		{"a stranger adds", testMembers(joinMembers), 9, 8, false, region.Forbidden},
		{"a stranger joins", testMembers(joinMembers), 9, 9, false, region.Forbidden},
		{"a stranger joins an open group", testMembers(joinOpen), 9, 9, false, 0},
		{"a stranger adds another to an open group", testMembers(joinOpen), 9, 8, false, region.Forbidden},
		{"a member adds to an open group", testMembers(joinOpen), 4, 9, false, 0},
		{"a member adds where admins do", testMembers(joinAdmins), 4, 9, false, region.Forbidden},
		{"an admin adds", testMembers(joinAdmins), 2, 9, false, 0},
		{"the owner adds", testMembers(joinAdmins), 1, 9, false, 0},
		{"a stranger joins where admins add", testMembers(joinAdmins), 9, 9, false, region.Forbidden},
		{"a member adds where approval is needed", testMembers(joinApproval), 4, 9, false, region.Forbidden},
		{"a member joins again", testMembers(joinApproval), 4, 4, false, 0},
		{"a member leaves", testMembers(joinMembers), 4, 4, true, 0},
		{"the owner leaves", testMembers(joinMembers), 1, 1, true, 0},
		{"a member removes", testMembers(joinMembers), 4, 5, true, region.Forbidden},
		{"an admin removes a member", testMembers(joinMembers), 2, 5, true, 0},
		{"an admin removes an admin", testMembers(joinMembers), 2, 3, true, region.Forbidden},
		{"an admin removes the owner", testMembers(joinMembers), 2, 1, true, region.Forbidden},
		{"the owner removes an admin", testMembers(joinMembers), 1, 3, true, 0},
		{"a stranger removes", testMembers(joinMembers), 9, 5, true, region.Forbidden},
		{"one too many", full(testMembers(joinOpen)), 1, 9, false, region.TooLarge},
		{"one too many joins", full(testMembers(joinOpen)), 9, 9, false, region.TooLarge},
		{"again into a full group", full(testMembers(joinOpen)), 1, 4, false, 0},
	} {
		if err := c.m.permit(c.actor, c.member, c.remove); region.KindOf(err) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if m := testMembers(joinApproval); !m.asks(9, 9, false) || m.asks(4, 9, false) || m.asks(4, 4, false) || m.asks(9, 9, true) {
		t.Error("who asks to be a member")
	}
}

func TestRoleRules(t *testing.T) {
	crowded := testMembers(joinMembers)
	for i := range region.UIN(MaxAdmins - 2) {
		crowded.list[1000+i] = &v1.MemberRow{Role: roleAdmin}
	}
	for _, c := range []struct {
		name          string
		m             *members
		actor, member region.UIN
		role          v1.GroupRole
		want          region.Kind
	}{
		{"the owner makes an admin", testMembers(0), 1, 4, roleAdmin, 0},
		{"the owner unmakes an admin", testMembers(0), 1, 2, roleMember, 0},
		{"the owner hands it over", testMembers(0), 1, 4, roleOwner, 0},
		{"the owner keeps it", testMembers(0), 1, 1, roleOwner, 0},
		{"the owner steps down", testMembers(0), 1, 1, roleAdmin, region.Forbidden},
		{"an admin makes an admin", testMembers(0), 2, 4, roleAdmin, region.Forbidden},
		{"a member takes it", testMembers(0), 4, 4, roleOwner, region.Forbidden},
		{"a stranger", testMembers(0), 9, 4, roleAdmin, region.Forbidden},
		{"to a stranger", testMembers(0), 1, 9, roleAdmin, region.NotFound},
		{"one admin too many", crowded, 1, 4, roleAdmin, region.TooLarge},
		{"an admin again", crowded, 1, 2, roleAdmin, 0},
	} {
		if err := c.m.permitRole(c.actor, c.member, c.role); region.KindOf(err) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	m := testMembers(0)
	for u, want := range map[region.UIN]region.Kind{1: 0, 2: 0, 4: region.Forbidden, 9: region.Forbidden} {
		if err := m.permitUpdate(u); region.KindOf(err) != want {
			t.Errorf("%d changes the group: %v", u, err)
		}
	}
}

// Whoever leaves, a group with members has exactly one owner who is one of them,
// and it passes to an admin as long as there is one.
func TestGroupIsNeverHeadless(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := testMembers(0)
		for len(m.list) > 0 {
			gone := rapid.SampledFrom(sorted(m.list)).Draw(r, "who leaves")
			if err := m.permit(gone, gone, true); err != nil {
				r.Fatal(err)
			}
			delete(m.list, gone)
			if gone == m.owner {
				m.owner = m.heir()
			}
			owners, admins := 0, 0
			for u, row := range m.list {
				if role, _ := m.role(u); role == roleOwner {
					owners++
				}
				if u != m.owner && row.Role == roleAdmin {
					admins++
				}
			}
			if len(m.list) > 0 && owners != 1 {
				r.Fatalf("%d owners", owners)
			}
			if gone == 1 && admins > 0 && m.owner != 2 && m.owner != 3 {
				r.Fatalf("%d owns it, and there were admins", m.owner)
			}
		}
	})
}
