package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

const chatHelp = `@bob hello      send to a handle (or to a UIN: 2000001 hello)
hello           send to whom you wrote last
/group NAME UIN...  make a group
/contact UIN    ask somebody to be a contact (/accept UIN, /refuse UIN answer, /block UIN, /unblock UIN)
/recall         take back what you sent last
/who            show where you are connected
/quit           leave`

func newChatCommand(e *env) *cobra.Command {
	var as, ip string
	cmd := &cobra.Command{
		Use: "chat", Short: "Chat in the terminal, over the long connection, through DNS and POP",
		Long: "Chat in the terminal. Lines are:\n" + chatHelp, Args: cobra.NoArgs,
		Example: "  homing chat --as Alice --ip 8.8.8.8",
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := e.connect(as, ip)
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
			err = s.Connect(ctx)
			cancel()
			if err != nil {
				return err
			}
			ch := &chat{env: e, s: s, names: names{s: s.Client, known: map[uint64]string{}}, last: s.profile.Snapshot}
			return ch.run(c.Context())
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "who chats (a profile)")
	cmd.Flags().StringVar(&ip, "ip", "", "pretend to be at this address")
	return cmd
}

// chat is one sitting. Two goroutines share it: run prints what happens to the
// connection as it happens; work sends and syncs, in the order of what was
// typed, and may wait for a region.
type chat struct {
	*env
	s *session

	// Of work.
	names  names
	last   []byte // snapshot
	uin    region.UIN
	handle string // of whom we wrote to last
	sent   string // client message ID of what we wrote last
}

// farewell bounds what is still done after the last word.
const farewell = 5 * time.Second

func (c *chat) run(ctx context.Context) error {
	screen, err := openScreen(c.in, c.out)
	if err != nil {
		return err
	}
	defer screen.close()
	c.out = screen
	fmt.Fprintln(c.out, chatHelp)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan string, 256) // typed ahead of a slow region
	news := make(chan struct{}, 1)  // of capacity 1: there is something to sync
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		c.work(ctx, lines, news)
	}()
	err = c.watch(ctx, screen.lines, lines, news)
	close(lines)
	late := time.AfterFunc(farewell, cancel)
	defer late.Stop()
	<-worked
	if n := len(c.s.Outbox()); n > 0 && err == nil {
		c.unsent()
	}
	return err
}

// watch passes on what is typed and what happens until the user leaves.
func (c *chat) watch(ctx context.Context, typed <-chan string, lines chan<- string, news chan struct{}) error {
	tell := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	tell()
	for {
		select {
		case line, ok := <-typed:
			if !ok || line == "/quit" {
				return nil
			}
			select {
			case lines <- strings.TrimSpace(line):
			default:
				fmt.Fprintln(c.out, "-- too much waits to be sent; this line is dropped")
			}
		case <-c.s.Notices():
			tell()
		case ev := <-c.s.Events():
			c.event(ev)
			if ev.Kind == client.Failed {
				return ev.Err
			}
			if ev.Kind == client.Connected || ev.Kind == client.Rehomed {
				tell()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// work sends and syncs until lines is closed; then it syncs a last time, for
// what arrived with the last word.
func (c *chat) work(ctx context.Context, lines <-chan string, news <-chan struct{}) {
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				c.sync(ctx)
				return
			}
			c.say(ctx, line)
		case <-news:
			c.sync(ctx)
		}
	}
}

// unsent says what is kept for the next time.
func (c *chat) unsent() {
	n := 0
	for _, k := range c.s.Outbox() {
		if !k.Stored {
			n++
		}
	}
	if n > 0 {
		fmt.Fprintf(c.out, "-- %d not sent yet; kept, and sent by the next command of this user\n", n)
	}
}

func (c *chat) event(ev client.Event) {
	switch ev.Kind {
	case client.Connected:
		fmt.Fprintf(c.out, "-- connected to %s through %s in %s\n", ev.Region, orDirect(ev.POP), ev.Took.Round(100*time.Microsecond))
	case client.Redirected:
		fmt.Fprintf(c.out, "-- redirected to %s\n", ev.Region)
	case client.Rehomed:
		fmt.Fprintf(c.out, "-- now served by %s\n", ev.Region)
	case client.Resent:
		if !ev.Repeated {
			fmt.Fprintln(c.out, "-- sent what was kept")
		}
	case client.Refused:
		fmt.Fprintln(c.out, "-- refused what was kept:", oneLine(ev.Err))
	case client.Disconnected:
		fmt.Fprintf(c.out, "-- disconnected: %s; connecting again\n", oneLine(ev.Err))
	}
}

// sync prints what is new. A failure is shown and made up for by the next one.
func (c *chat) sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	changes, err := c.s.Sync(ctx, c.last)
	if err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // leaving
	}
	if err != nil {
		fmt.Fprintln(c.out, "-- sync:", oneLine(err))
		return
	}
	for _, m := range changes.Messages {
		if region.UIN(m.Sender) != c.s.profile.UIN || m.Body.GetSystem() != nil {
			fmt.Fprintln(c.out, c.names.line(ctx, m))
		}
	}
	c.last, c.s.profile.Snapshot = changes.Snapshot, changes.Snapshot
	if err := c.s.profile.Save(); err != nil {
		fmt.Fprintln(c.out, "-- the snapshot could not be kept:", oneLine(err))
	}
}

func (c *chat) say(ctx context.Context, line string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "":
		return
	case word == "/who":
		in, pop, ok := c.s.Where()
		if !ok {
			fmt.Fprintln(c.out, "-- not connected")
			return
		}
		fmt.Fprintf(c.out, "-- %s, UIN %d, in %s through %s\n", c.s.profile.Nickname, c.s.profile.UIN, in, orDirect(pop))
		return
	case word == "/group":
		c.group(ctx, strings.Fields(rest))
		return
	case word == "/recall":
		if err := c.s.Recall(ctx, c.sent); err != nil {
			fmt.Fprintln(c.out, "-- not recalled:", oneLine(err))
		}
		return
	case word == "/contact" || word == "/accept" || word == "/refuse" || word == "/block" || word == "/unblock":
		c.contact(ctx, word, rest)
		return
	case strings.HasPrefix(word, "/"):
		fmt.Fprintln(c.out, chatHelp)
		return
	}
	if uin, handle, err := target(word); err == nil && rest != "" {
		c.uin, c.handle, line = uin, handle, rest
	}
	if c.uin == 0 && c.handle == "" {
		fmt.Fprintln(c.out, "-- to whom? begin with @handle or a UIN")
		return
	}
	c.sent = client.NewKey()
	r, err := c.s.Send(ctx, &v1.SendRequest{To: uint64(c.uin), ToHandle: c.handle, ClientMessageId: c.sent, Body: &v1.Body{Kind: &v1.Body_Text{Text: line}}})
	switch {
	case region.KindOf(err) == region.Unavailable:
		fmt.Fprintln(c.out, "-- not sent yet, but kept:", oneLine(err))
		return
	case err != nil:
		fmt.Fprintln(c.out, "-- not sent:", oneLine(err))
		return
	}
	fmt.Fprintf(c.out, "%4d  stored\n", r.Sequence)
}

func (c *chat) group(ctx context.Context, args []string) {
	if len(args) < 2 {
		fmt.Fprintln(c.out, "-- /group NAME UIN...")
		return
	}
	var members []region.UIN
	for _, a := range args[1:] {
		u, err := region.ParseUIN(a)
		if err != nil {
			fmt.Fprintln(c.out, "--", oneLine(err))
			return
		}
		members = append(members, u)
	}
	g, err := c.s.CreateGroup(ctx, args[0], members...)
	if err != nil {
		fmt.Fprintln(c.out, "-- no group:", oneLine(err))
		return
	}
	c.uin, c.handle = g, ""
	fmt.Fprintf(c.out, "-- group %s is UIN %d; what you type now goes to it\n", args[0], g)
}

func (c *chat) contact(ctx context.Context, word, who string) {
	u, err := region.ParseUIN(strings.TrimSpace(who))
	if err == nil {
		switch word {
		case "/contact":
			_, err = c.s.RequestContact(ctx, u, "")
		case "/accept", "/refuse":
			err = c.s.AnswerContact(ctx, u, word == "/accept")
		default:
			err = c.s.BlockUser(ctx, u, word == "/block")
		}
	}
	if err != nil {
		fmt.Fprintln(c.out, "--", oneLine(err))
		return
	}
	fmt.Fprintln(c.out, "-- done")
}
