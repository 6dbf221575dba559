// Package cli is the command line: it parses, calls, and prints. Every error
// is one line on standard error that says what to do, and exit status 1.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/cmd/homing/backup"
	"github.com/homing-im/homing/cmd/homing/bench"
	"github.com/homing-im/homing/cmd/homing/world"
)

// env is what a command may touch.
type env struct {
	in       io.Reader
	out, err io.Writer

	contextName   string
	endpointsPath string
}

// exitError ends the program with a status without another line: the command
// has said everything itself.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, args []string, in io.Reader, out, stderr io.Writer) int {
	e := &env{in: in, out: out, err: stderr}
	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var code exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		fmt.Fprintln(stderr, "homing: "+oneLine(err))
		return 1
	}
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", "; ")), " ")
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "homing",
		Short: "One messaging service, several autonomous regions",
		Long: `Homing runs one messaging service as several autonomous regions. Every user
has a home region which alone may write their records; clients are steered home,
and changes are copied to the other regions afterwards.

Start with: homing demo`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	f := root.PersistentFlags()
	f.StringVar(&e.contextName, "context", "", "world to talk to (see: homing context list)")
	f.StringVar(&e.endpointsPath, "endpoints", "", "endpoints.json of the world to talk to")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see: %s --help", err, c.CommandPath())
	})
	root.AddCommand(newDemoCommand(e), newRunCommand(e), newSimCommand(e), newStatusCommand(e), newPresenceCommand(e), newExplainCommand(e), newDNSCommand(e), newContextCommand(e),
		newUserCommand(e), newIDCommand(e), newAccountCommand(e), newDeviceCommand(e), newContactCommand(e), newGroupCommand(e),
		newSendCommand(e), newSyncCommand(e), newChatCommand(e), newQueueCommand(e), newReplicateCommand(e),
		world.NewCommand(world.Env{Out: e.out, Dir: e.worldDir}), acting.NewCommand(e.acting()), acting.NewConflictCommand(e.acting()), newTLSCommand(e), bench.NewCommand(e.out), backup.NewCommand(e.out))
	root.SuggestionsMinimumDistance = 2
	root.SetHelpCommand(newHelpCommand(root))
	root.InitDefaultCompletionCmd()
	strict(root)
	return root
}

// unknown is the error of a command that c does not have.
func unknown(c *cobra.Command, name string) error {
	c.SuggestionsMinimumDistance = 2
	if like := c.SuggestionsFor(name); len(like) > 0 {
		return fmt.Errorf("unknown command %q for %q; did you mean %s?", name, c.CommandPath(), strings.Join(like, " or "))
	}
	return fmt.Errorf("unknown command %q for %q", name, c.CommandPath())
}

// newHelpCommand explains a command. The library's own answers a misspelt one
// with the help of everything and exit status 0.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Explain a command", Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			c := root
			for _, name := range args {
				i := slices.IndexFunc(c.Commands(), func(s *cobra.Command) bool { return s.Name() == name || s.HasAlias(name) })
				if i < 0 {
					return fmt.Errorf("%w; see: %s --help", unknown(c, name), c.CommandPath())
				}
				c = c.Commands()[i]
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// strict makes every command refuse arguments it has no use for, and say where
// the right ones stand. Without it a group of commands answers a misspelt one
// with its help and exit status 0.
func strict(c *cobra.Command) {
	for _, sub := range c.Commands() {
		strict(sub)
	}
	args := c.Args
	if c.HasSubCommands() {
		args = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknown(c, args[0])
		}
		if !c.Runnable() {
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	if args == nil {
		return
	}
	c.Args = func(c *cobra.Command, given []string) error {
		if err := args(c, given); err != nil {
			return fmt.Errorf("%w; see: %s --help", err, c.CommandPath())
		}
		return nil
	}
}
