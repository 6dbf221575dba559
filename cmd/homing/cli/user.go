package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/cmd/homing/profile"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

const (
	// clientVersion is what the command line tells of itself, so that steering
	// rules on versions apply to it as to an app.
	clientVersion = 80003
	platform      = "cli"

	// callTimeout bounds a command: resolving, connecting and one call, with
	// time for a region that is just restarting.
	callTimeout = 15 * time.Second
)

// session is a user's connection for the length of a command.
type session struct {
	*client.Client
	at      *endpoints.Endpoints
	profile *profile.Profile
}

// connect loads the profile and makes a client for it, which connects on its
// first call.
func (e *env) connect(as, ip string) (*session, error) {
	at, err := e.find()
	if err != nil {
		return nil, err
	}
	p, err := profile.Load(at.Dir, as)
	if err != nil {
		return nil, err
	}
	pool, err := pki.Pool(at.CACert)
	if err != nil {
		return nil, err
	}
	answers, err := at.AnswerKeys()
	if err != nil {
		return nil, err
	}
	o := client.Options{
		Zone: at.Zone, HTTPDNS: at.HTTPDNS, DNS: at.DNS, RootCAs: pool, AnswerKeys: answers,
		ClientVersion: clientVersion, Platform: platform, Dir: p.Dir(),
		Identity: client.Identity{UIN: p.UIN, Key: p.DeviceKey(), Ticket: p.Ticket, Expires: time.Unix(p.TicketExpires, 0), Region: region.ID(p.Region)},
		OnIdentity: func(id client.Identity) {
			p.Ticket, p.TicketExpires = id.Ticket, id.Expires.Unix()
			if err := p.Save(); err != nil {
				fmt.Fprintln(e.err, "homing: the renewed ticket could not be kept:", oneLine(err))
			}
		},
	}
	if r, ok := at.Regions[p.Region]; ok {
		o.Short = r.Short
		if a, err := netip.ParseAddrPort(r.Long); err == nil {
			o.Fallback = []netip.AddrPort{a}
		}
	}
	if ip != "" {
		if o.PretendIP, err = netip.ParseAddr(ip); err != nil {
			return nil, fmt.Errorf("--ip %q is not an address: want one such as 8.8.8.8", ip)
		}
	}
	c, err := client.New(o)
	if err != nil {
		return nil, err
	}
	return &session{Client: c, at: at, profile: p}, nil
}

// target finds whom a message is for: "@handle" or a UIN.
func target(to string) (uin region.UIN, handle string, err error) {
	if h, ok := strings.CutPrefix(to, "@"); ok && h != "" {
		return 0, h, nil
	}
	if uin, err = region.ParseUIN(to); err != nil {
		return 0, "", fmt.Errorf("%q: want @handle or a UIN", to)
	}
	return uin, "", nil
}

// acting is what the commands that change who acts need of the program.
func (e *env) acting() acting.Env { return acting.Env{In: e.in, Out: e.out, Dir: e.worldDir} }

func newUserCommand(e *env) *cobra.Command {
	var in, nickname, as string
	register := &cobra.Command{
		Use: "register", Short: "Make a user: a UIN, a device key and a ticket, kept in a profile", Args: cobra.NoArgs,
		Example: "  homing user register --region sh --nickname Alice",
		RunE: func(c *cobra.Command, _ []string) error {
			at, err := e.find()
			if err != nil {
				return err
			}
			r, ok := at.Regions[in]
			if !ok {
				return fmt.Errorf("--region %q: there is %s", in, strings.Join(keys(at.Regions), ", "))
			}
			if nickname == "" {
				return fmt.Errorf("say the user's --nickname")
			}
			if as == "" {
				as = nickname
			}
			p, err := profile.New(at.Dir, as)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
			defer cancel()
			id, err := client.Register(ctx, http.DefaultClient, r.Short, nickname, platform)
			if err != nil {
				return err
			}
			p.Nickname, p.UIN, p.Region = nickname, id.UIN, string(id.Region)
			p.DeviceSeed, p.Ticket, p.TicketExpires = id.Key.Seed(), id.Ticket, id.Expires.Unix()
			if err := p.Save(); err != nil {
				return err
			}
			fmt.Fprintf(e.out, "%s is UIN %d, at home in %s; use --as %s\n", nickname, id.UIN, id.Region, as)
			return nil
		},
	}
	register.Flags().StringVar(&in, "region", "", "the region to be at home in")
	register.Flags().StringVar(&nickname, "nickname", "", "the name others see")
	register.Flags().StringVar(&as, "as", "", "name of the profile (default: the nickname)")
	cmd := &cobra.Command{Use: "user", Short: "Users of the messaging service"}
	cmd.AddCommand(acting.NewMoveCommand(e.acting()), register)
	return cmd
}

func newIDCommand(e *env) *cobra.Command {
	var as string
	claim := &cobra.Command{
		Use: "claim HANDLE", Short: "Take a worldwide unique account ID", Args: cobra.ExactArgs(1),
		Example: "  homing id claim alice --as Alice",
		RunE: func(c *cobra.Command, args []string) error {
			return e.with(c.Context(), as, "", func(ctx context.Context, s *session) error {
				r, err := s.ClaimHandle(ctx, strings.TrimPrefix(args[0], "@"))
				if err != nil {
					return err
				}
				s.profile.Handle = r.Handle
				fmt.Fprintf(e.out, "@%s is %s, UIN %d\n", r.Handle, s.profile.Nickname, s.profile.UIN)
				return s.profile.Save()
			})
		},
	}
	claim.Flags().StringVar(&as, "as", "", "whose (a profile)")
	cmd := &cobra.Command{Use: "id", Short: "Account IDs, unique worldwide"}
	cmd.AddCommand(claim)
	return cmd
}

// with runs f with a connected user, within callTimeout.
func (e *env) with(ctx context.Context, as, ip string, f func(context.Context, *session) error) error {
	s, err := e.connect(as, ip)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.Connect(ctx); err != nil {
		return err
	}
	return f(ctx, s)
}

func newSendCommand(e *env) *cobra.Command {
	var as, to, ip, id string
	cmd := &cobra.Command{
		Use: "send TEXT", Short: "Send a message to a user or group", Args: cobra.ExactArgs(1),
		Example: `  homing send --as Alice --to @bob "hello from Shanghai"`,
		RunE: func(c *cobra.Command, args []string) error {
			uin, handle, err := target(to)
			if err != nil {
				return fmt.Errorf("--to %w", err)
			}
			return e.with(c.Context(), as, ip, func(ctx context.Context, s *session) error {
				began := time.Now()
				if id == "" {
					id = client.NewKey()
				}
				r, err := s.Send(ctx, &v1.SendRequest{To: uint64(uin), ToHandle: handle, ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: args[0]}}})
				if region.KindOf(err) == region.Unavailable {
					// A person who is told that it failed would not expect it to leave later.
					s.Forget(id)
					return fmt.Errorf("%w; whether it was stored is not known: repeat it with --message-id %s", err, id)
				}
				if err != nil {
					return err
				}
				in, pop, _ := s.Where()
				again := ""
				if r.Repeated {
					again = ", by an earlier try"
				}
				fmt.Fprintf(e.out, "stored in %s through %s as %s in %s%s\n", in, orDirect(pop), hex.EncodeToString(r.Id), time.Since(began).Round(100*time.Microsecond), again)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&as, "as", "", "who sends (a profile)")
	f.StringVar(&to, "to", "", "@handle or UIN")
	f.StringVar(&ip, "ip", "", "pretend to be at this address")
	f.StringVar(&id, "message-id", "", "client message ID: a repeat under the same ID is stored once (default: a new one)")
	return cmd
}

func newSyncCommand(e *env) *cobra.Command {
	var as, ip string
	var all bool
	cmd := &cobra.Command{
		Use: "sync", Short: "Fetch and print what changed since the last sync", Args: cobra.NoArgs,
		Example: "  homing sync --as Bob",
		RunE: func(c *cobra.Command, _ []string) error {
			return e.with(c.Context(), as, ip, func(ctx context.Context, s *session) error {
				from := s.profile.Snapshot
				if all {
					from = nil
				}
				changes, err := s.Sync(ctx, from)
				if err != nil {
					return err
				}
				if a := changes.Account; a != nil {
					fmt.Fprintf(e.out, "you are %s, UIN %d%s, at home in %s\n", a.Nickname, a.Uin, atHandle(a.Handle), a.Home)
				}
				for _, ct := range changes.Contacts {
					fmt.Fprintf(e.out, "contact %d %s\n", ct.Uin, ct.Remark)
				}
				n := names{s: s.Client, known: map[uint64]string{}}
				for _, m := range changes.Messages {
					fmt.Fprintln(e.out, n.line(ctx, m))
				}
				if len(changes.Messages) == 0 {
					fmt.Fprintln(e.out, "no new messages")
				}
				s.profile.Snapshot = changes.Snapshot
				return s.profile.Save()
			})
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "who (a profile)")
	cmd.Flags().StringVar(&ip, "ip", "", "pretend to be at this address")
	cmd.Flags().BoolVar(&all, "all", false, "from the beginning, not from the last sync")
	return cmd
}

// names turns UINs into what people call them, asking once for each.
type names struct {
	s     *client.Client
	known map[uint64]string
}

func (n *names) of(ctx context.Context, uin uint64) string {
	if s, ok := n.known[uin]; ok {
		return s
	}
	s := fmt.Sprint(uin)
	if a, err := n.s.LookupUIN(ctx, region.UIN(uin)); err == nil && a.GetNickname() != "" {
		s = a.Nickname
		if a.Handle != "" {
			s = "@" + a.Handle
		}
	}
	n.known[uin] = s
	return s
}

func (n *names) line(ctx context.Context, m *v1.Message) string {
	at := time.UnixMilli(m.SentUnixMilli).Format(time.TimeOnly)
	return fmt.Sprintf("%4d  %s  %s to %s: %s", m.Sequence, at, n.of(ctx, m.Sender), n.of(ctx, m.To), text(m.Body))
}

// text renders a body for a terminal.
func text(b *v1.Body) string {
	switch k := b.GetKind().(type) {
	case *v1.Body_Text:
		return harmless(k.Text)
	case *v1.Body_Media:
		return harmless(fmt.Sprintf("[%s %s, %d bytes: %s]", k.Media.MimeType, k.Media.Name, k.Media.Bytes, k.Media.Url))
	case *v1.Body_Custom:
		return harmless(fmt.Sprintf("[%s, %d bytes]", k.Custom.Type, len(k.Custom.Payload)))
	case *v1.Body_System:
		return fmt.Sprintf("[%s by %d: %v]", k.System.Event, k.System.Actor, k.System.Members)
	default:
		return "[a kind of message this version does not know]"
	}
}

// harmless keeps what a sender wrote from moving the cursor or changing colours.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

func orDirect(pop string) string {
	if pop == "" {
		return "no POP"
	}
	return pop
}

func atHandle(h string) string {
	if h == "" {
		return ""
	}
	return ", @" + h
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
