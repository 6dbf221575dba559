package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func newAccountCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "account", Short: "A user's own account: what it says, its settings, its end"}
	cmd.AddCommand(newAccountShow(e), newAccountSet(e), newAccountSetting(e), newAccountErase(e))
	return cmd
}

func newAccountShow(e *env) *cobra.Command {
	return e.forUser(&cobra.Command{Use: "show", Short: "What the account says, and the settings of its devices", Args: cobra.NoArgs},
		func(ctx context.Context, s *session, _ []string) error {
			changes, err := s.Sync(ctx, nil)
			if err != nil {
				return err
			}
			if a := changes.Account; a != nil {
				fmt.Fprintf(e.out, "%s, UIN %d%s, at home in %s\n", harmless(a.Nickname), a.Uin, atHandle(a.Handle), a.Home)
				for _, f := range []struct{ name, value string }{{"about", a.About}, {"avatar", a.Avatar}} {
					if f.value != "" {
						fmt.Fprintf(e.out, "%s: %s\n", f.name, harmless(f.value))
					}
				}
			}
			latest := map[string]*v1.Setting{}
			for _, st := range changes.Settings {
				latest[st.Name] = st
			}
			for _, name := range keys(latest) {
				if st := latest[name]; !st.Removed {
					fmt.Fprintf(e.out, "setting %s = %s\n", harmless(st.Name), harmless(st.Value))
				}
			}
			return nil
		})
}

func newAccountSet(e *env) *cobra.Command {
	var nickname, about, avatar string
	cmd := &cobra.Command{
		Use: "set", Short: "Change what the account says to others", Args: cobra.NoArgs,
		Example: "  homing account set --about \"sings in the choir\" --as Alice",
	}
	f := cmd.Flags()
	f.StringVar(&nickname, "nickname", "", "the name others see, at most 64 characters")
	f.StringVar(&about, "about", "", "a text of at most 256 characters; empty removes it")
	f.StringVar(&avatar, "avatar", "", "URL of a picture; empty removes it")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !f.Changed("nickname") && !f.Changed("about") && !f.Changed("avatar") {
			return fmt.Errorf("nothing to change: say --nickname, --about or --avatar")
		}
		return nil
	}
	return e.forUser(cmd, func(ctx context.Context, s *session, _ []string) error {
		r := &v1.UpdateProfileRequest{Nickname: nickname}
		if f.Changed("about") {
			r.About = &about
		}
		if f.Changed("avatar") {
			r.Avatar = &avatar
		}
		a, err := s.UpdateProfile(ctx, r)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "you are %s\n", harmless(a.Nickname))
		s.profile.Nickname = a.Nickname
		return s.profile.Save()
	})
}

func newAccountSetting(e *env) *cobra.Command {
	return e.forUser(&cobra.Command{
		Use: "setting NAME=VALUE | NAME", Short: "Keep a setting for the user's own devices; without a value it is removed", Args: cobra.ExactArgs(1),
		Example: "  homing account setting theme=dark --as Alice",
	}, func(ctx context.Context, s *session, args []string) error {
		name, value, set := strings.Cut(args[0], "=")
		if err := s.SetSetting(ctx, &v1.Setting{Name: name, Value: value, Removed: !set}); err != nil {
			return err
		}
		fmt.Fprintln(e.out, "kept; other devices hear of it by sync")
		return nil
	})
}

func newAccountErase(e *env) *cobra.Command {
	var as, uin, in, key string
	var sent, yes bool
	cmd := &cobra.Command{
		Use: "erase", Short: "End an account for ever, and wipe its records in every region", Args: cobra.NoArgs,
		Long: `Ends an account for ever: its devices are revoked at once, and its messages,
contacts and settings are removed in its region and, as that is copied, in all.
With --sent, what it wrote to others is emptied in their inboxes too.

With --as the user asks; with --uin and --region the operator does, whose key
signs the request. The number and the account ID are not given to anybody else.
Journals, queues and files forget with a delay: see the package comment of
region/core, "Erasure".`,
		Example: "  homing account erase --as Alice --sent --yes\n  homing account erase --uin 1000001 --region sh --yes",
	}
	f := cmd.Flags()
	f.StringVar(&as, "as", "", "who (a profile)")
	f.StringVar(&uin, "uin", "", "whose, for the operator")
	f.StringVar(&in, "region", "", "the region that acts for that user")
	f.StringVar(&key, "key", "", "the operator's private key (default: the running demo's)")
	f.BoolVar(&sent, "sent", false, "empty what it wrote to others, too")
	f.BoolVar(&yes, "yes", false, "it is meant: this cannot be taken back")
	cmd.RunE = func(c *cobra.Command, _ []string) error {
		if (as == "") == (uin == "") {
			return fmt.Errorf("whose? say either --as, or --uin and --region")
		}
		if !yes {
			return fmt.Errorf("this cannot be taken back: say --yes as well")
		}
		if as != "" {
			return e.with(c.Context(), as, "", func(ctx context.Context, s *session) error {
				if err := s.EraseAccount(ctx, sent); err != nil {
					return err
				}
				fmt.Fprintf(e.out, "UIN %d is erased; the profile %s is of no use any more\n", s.profile.UIN, as)
				return nil
			})
		}
		u, err := region.ParseUIN(uin)
		if err != nil {
			return fmt.Errorf("--uin %q: want a number such as 1000001", uin)
		}
		o, err := e.operator(in, key)
		if err != nil {
			return err
		}
		if err := o.ask(c.Context(), "/operate/erase", node.EraseRequest{UIN: uint64(u), Sent: sent}, nil); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "UIN %d is erased\n", u)
		return nil
	}
	return cmd
}
