package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// forUser adds --as and returns what runs a command as that user.
func (e *env) forUser(cmd *cobra.Command, run func(context.Context, *session, []string) error) *cobra.Command {
	var as string
	cmd.Flags().StringVar(&as, "as", "", "who (a profile)")
	cmd.RunE = func(c *cobra.Command, args []string) error {
		return e.with(c.Context(), as, "", func(ctx context.Context, s *session) error { return run(ctx, s, args) })
	}
	return cmd
}

// parseUINs reads the arguments of a command, before anything is connected to.
func parseUINs(args []string) ([]region.UIN, error) {
	var out []region.UIN
	for _, a := range args {
		u, err := region.ParseUIN(a)
		if err != nil {
			return nil, fmt.Errorf("%q is no UIN: want a number such as 1000001", a)
		}
		out = append(out, u)
	}
	return out, nil
}

// forUINs is forUser for a command whose first n arguments, or all when n is
// negative, are UINs.
func (e *env) forUINs(cmd *cobra.Command, n int, run func(ctx context.Context, s *session, uins []region.UIN, rest []string) error) *cobra.Command {
	var uins []region.UIN
	count := func(args []string) int {
		if n < 0 {
			return len(args)
		}
		return min(n, len(args))
	}
	cmd = e.forUser(cmd, func(ctx context.Context, s *session, args []string) error {
		return run(ctx, s, uins, args[count(args):])
	})
	cmd.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		uins, err = parseUINs(args[:count(args)])
		return err
	}
	return cmd
}

var joinPolicies = map[string]v1.JoinPolicy{
	"members": v1.JoinPolicy_JOIN_POLICY_MEMBERS, "open": v1.JoinPolicy_JOIN_POLICY_OPEN,
	"admins": v1.JoinPolicy_JOIN_POLICY_ADMINS, "approval": v1.JoinPolicy_JOIN_POLICY_APPROVAL,
}

var groupRoles = map[string]v1.GroupRole{
	"member": v1.GroupRole_GROUP_ROLE_MEMBER, "admin": v1.GroupRole_GROUP_ROLE_ADMIN, "owner": v1.GroupRole_GROUP_ROLE_OWNER,
}

func newGroupCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "group", Short: "Groups: make, show and change them, and who is in them",
		Long: `A group lives in the region of whoever made it. It has one owner, admins and
members. What is asked of a group of another region is decided there: a refusal
arrives as a message, "refused".`,
	}
	cmd.AddCommand(newGroupCreate(e), newGroupShow(e), newGroupSet(e), newGroupRole(e),
		newGroupMember(e, "add GROUP UIN...", "Add members, as the group's policy allows", false),
		newGroupMember(e, "remove GROUP UIN...", "Remove members; the owner anybody, admins plain members", true),
		newGroupSelf(e, "join GROUP", "Join an open group, or ask to join one that takes members by approval", false),
		newGroupSelf(e, "leave GROUP", "Leave a group; an owner is succeeded by an admin, or else a member", true))
	return cmd
}

func newGroupCreate(e *env) *cobra.Command {
	var name string
	cmd := e.forUINs(&cobra.Command{
		Use: "create UIN...", Short: "Make a group of yourself and others, 500 at most",
		Example: "  homing group create 2000001 3000001 --name friends --as Alice",
	}, -1, func(ctx context.Context, s *session, members []region.UIN, _ []string) error {
		g, err := s.CreateGroup(ctx, name, members...)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "group %s is UIN %d\n", harmless(name), g)
		return nil
	})
	cmd.Flags().StringVar(&name, "name", "", "what it is called, at most 64 characters")
	_ = cmd.MarkFlagRequired("name")
	return cmd
}

func newGroupShow(e *env) *cobra.Command {
	return e.forUINs(&cobra.Command{
		Use: "show GROUP", Short: "Who is in a group, what it says, and who may join", Args: cobra.ExactArgs(1),
	}, 1, func(ctx context.Context, s *session, uins []region.UIN, _ []string) error {
		a, err := s.LookupUIN(ctx, uins[0])
		if err != nil {
			return err
		}
		if !a.Group {
			return fmt.Errorf("UIN %d is not a group", uins[0])
		}
		fmt.Fprintf(e.out, "%s, UIN %d, at home in %s; %d members; added by: %s\n", harmless(a.Nickname), a.Uin, a.Home, len(a.Members), nameOf(joinPolicies, a.Join))
		if a.Announcement != "" {
			fmt.Fprintln(e.out, "announcement:", harmless(a.Announcement))
		}
		n := names{s: s.Client, known: map[uint64]string{}}
		for _, m := range a.Members {
			role := "member"
			switch {
			case m == a.Owner:
				role = "owner"
			case slices.Contains(a.Admins, m):
				role = "admin"
			}
			fmt.Fprintf(e.out, "%-8s %-10d %s\n", role, m, n.of(ctx, m))
		}
		return nil
	})
}

func newGroupSet(e *env) *cobra.Command {
	var name, announcement, join string
	cmd := e.forUINs(&cobra.Command{
		Use: "set GROUP", Short: "Rename a group, write its announcement, or decide who may join", Args: cobra.ExactArgs(1),
		Example: "  homing group set 1000009 --name \"Book club\" --join approval --as Alice",
	}, 1, nil)
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "what it is called")
	f.StringVar(&announcement, "announcement", "", "what members should know, at most 1024 characters; empty removes it")
	f.StringVar(&join, "join", "", "members: any member adds others; open: and anybody joins; admins: owner and admins add; approval: and anybody may ask them")
	var group []region.UIN
	cmd.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		if _, ok := joinPolicies[join]; f.Changed("join") && !ok {
			return fmt.Errorf("--join %q: want %s", join, strings.Join(keys(joinPolicies), ", "))
		}
		if !f.Changed("name") && !f.Changed("announcement") && !f.Changed("join") {
			return fmt.Errorf("nothing to change: say --name, --announcement or --join")
		}
		group, err = parseUINs(args)
		return err
	}
	cmd.RunE = func(c *cobra.Command, _ []string) error {
		return e.with(c.Context(), c.Flag("as").Value.String(), "", func(ctx context.Context, s *session) error {
			r := &v1.UpdateGroupRequest{Group: uint64(group[0])}
			if f.Changed("name") {
				r.Name = &name
			}
			if f.Changed("announcement") {
				r.Announcement = &announcement
			}
			if f.Changed("join") {
				r.Join = joinPolicies[join].Enum()
			}
			return e.asked(s.UpdateGroup(ctx, r))
		})
	}
	return cmd
}

func newGroupRole(e *env) *cobra.Command {
	var role string
	cmd := e.forUINs(&cobra.Command{
		Use: "role GROUP UIN", Short: "Make a member an admin or a plain member, or hand the group over; for the owner", Args: cobra.ExactArgs(2),
		Example: "  homing group role 1000009 2000001 --role admin --as Alice",
	}, 2, func(ctx context.Context, s *session, uins []region.UIN, _ []string) error {
		return e.asked(s.SetRole(ctx, uins[0], uins[1], groupRoles[role]))
	})
	cmd.Flags().StringVar(&role, "role", "", "member, admin or owner")
	before := cmd.PreRunE
	cmd.PreRunE = func(c *cobra.Command, args []string) error {
		if _, ok := groupRoles[role]; !ok {
			return fmt.Errorf("--role %q: want %s", role, strings.Join(keys(groupRoles), ", "))
		}
		return before(c, args)
	}
	return cmd
}

func newGroupMember(e *env, use, short string, remove bool) *cobra.Command {
	return e.forUINs(&cobra.Command{Use: use, Short: short, Args: cobra.MinimumNArgs(2)}, -1,
		func(ctx context.Context, s *session, uins []region.UIN, _ []string) error {
			for _, u := range uins[1:] {
				if err := s.SetMember(ctx, uins[0], u, remove); err != nil {
					return fmt.Errorf("UIN %d: %w", u, err)
				}
			}
			return e.asked(nil)
		})
}

func newGroupSelf(e *env, use, short string, remove bool) *cobra.Command {
	return e.forUINs(&cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1)}, 1,
		func(ctx context.Context, s *session, uins []region.UIN, _ []string) error {
			return e.asked(s.SetMember(ctx, uins[0], s.profile.UIN, remove))
		})
}

// asked says what is known once a group was asked: its region decides.
func (e *env) asked(err error) error {
	if err == nil {
		fmt.Fprintln(e.out, "asked; members hear of it by a message (homing sync)")
	}
	return err
}

func nameOf[V comparable](m map[string]V, v V) string {
	for _, name := range keys(m) {
		if m[name] == v {
			return name
		}
	}
	return fmt.Sprint(v)
}
