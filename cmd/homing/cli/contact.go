package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func newContactCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "contact", Short: "Contacts: ask, answer, name, block"}
	one := func(use, short string, run func(context.Context, *session, region.UIN) (string, error)) *cobra.Command {
		return e.forUINs(&cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1)}, 1,
			func(ctx context.Context, s *session, uins []region.UIN, _ []string) error {
				said, err := run(ctx, s, uins[0])
				if err == nil {
					fmt.Fprintln(e.out, said)
				}
				return err
			})
	}
	var text, remark string
	ask := one("ask UIN", "Ask somebody to be a contact", func(ctx context.Context, s *session, u region.UIN) (string, error) {
		state, err := s.RequestContact(ctx, u, text)
		return stateOf(state), err
	})
	ask.Flags().StringVar(&text, "text", "", "who you are, at most 256 characters")
	add := one("add UIN", "List somebody with a name of your own, whether they agree or not", func(ctx context.Context, s *session, u region.UIN) (string, error) {
		return "listed", s.SetContact(ctx, &v1.Contact{Uin: uint64(u), Remark: remark})
	})
	add.Flags().StringVar(&remark, "remark", "", "what you call them, at most 64 characters")
	cmd.AddCommand(newContactList(e), ask, add,
		one("accept UIN", "Accept somebody's request", func(ctx context.Context, s *session, u region.UIN) (string, error) {
			return "you are contacts", s.AnswerContact(ctx, u, true)
		}),
		one("refuse UIN", "Refuse somebody's request", func(ctx context.Context, s *session, u region.UIN) (string, error) {
			return "refused", s.AnswerContact(ctx, u, false)
		}),
		one("remove UIN", "Take somebody off the list; a block stays", func(ctx context.Context, s *session, u region.UIN) (string, error) {
			return "removed", s.SetContact(ctx, &v1.Contact{Uin: uint64(u), Removed: true})
		}),
		one("block UIN", "Drop what somebody sends to you; they are not told", func(ctx context.Context, s *session, u region.UIN) (string, error) {
			return "blocked", s.BlockUser(ctx, u, true)
		}),
		one("unblock UIN", "End a block", func(ctx context.Context, s *session, u region.UIN) (string, error) {
			return "no longer blocked", s.BlockUser(ctx, u, false)
		}))
	return cmd
}

func newContactList(e *env) *cobra.Command {
	return e.forUser(&cobra.Command{Use: "list", Short: "Who is a contact, asks to be one, or is blocked", Args: cobra.NoArgs},
		func(ctx context.Context, s *session, _ []string) error {
			changes, err := s.Sync(ctx, nil)
			if err != nil {
				return err
			}
			latest := map[uint64]*v1.Contact{}
			var order []uint64
			for _, c := range changes.Contacts {
				if latest[c.Uin] == nil {
					order = append(order, c.Uin)
				}
				latest[c.Uin] = c
			}
			shown := 0
			n := names{s: s.Client, known: map[uint64]string{}}
			for _, u := range order {
				c := latest[u]
				if c.Removed && !c.Blocked && c.State == v1.ContactState_CONTACT_STATE_NONE {
					continue
				}
				shown++
				var notes []string
				if c.Remark != "" {
					notes = append(notes, harmless(c.Remark))
				}
				if c.State != v1.ContactState_CONTACT_STATE_NONE {
					notes = append(notes, stateOf(c.State))
				}
				if c.Blocked {
					notes = append(notes, "blocked")
				}
				fmt.Fprintf(e.out, "%-10d %-20s %s\n", u, n.of(ctx, u), strings.Join(notes, ", "))
			}
			if shown == 0 {
				fmt.Fprintln(e.out, "no contacts")
			}
			return nil
		})
}

func stateOf(s v1.ContactState) string {
	switch s {
	case v1.ContactState_CONTACT_STATE_ASKED:
		return "asked; waits for an answer"
	case v1.ContactState_CONTACT_STATE_ASKING:
		return "asks to be a contact"
	case v1.ContactState_CONTACT_STATE_AGREED:
		return "you are contacts"
	}
	return "not asked"
}
