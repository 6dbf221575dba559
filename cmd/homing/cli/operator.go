package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/node"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/worldfile"
)

// operator asks a region's admin listener for what needs the operator's key.
type operator struct {
	admin  string // URL without a trailing slash
	client *http.Client
}

// operator finds the region and the key; keyPath is empty for the running demo's.
func (e *env) operator(in, keyPath string) (*operator, error) {
	at, err := e.find()
	if err != nil {
		return nil, err
	}
	r, ok := at.Regions[in]
	if !ok {
		return nil, fmt.Errorf("--region %q: there is %s", in, strings.Join(keys(at.Regions), ", "))
	}
	if keyPath == "" {
		keyPath = at.OperatorKey
	}
	key, err := worldfile.ReadKey(keyPath)
	if err != nil {
		return nil, err
	}
	caller := pki.Caller(func() (string, error) { return filepath.Dir(filepath.Dir(keyPath)), nil }) // DIR/keys/operator.pem
	return &operator{admin: r.Admin, client: &http.Client{Timeout: callTimeout, Transport: peer.NewTransport(peer.Operator(key), key, caller)}}, nil
}

// ask sends a request as JSON and decodes the answer into a, unless that is nil.
func (o *operator) ask(ctx context.Context, path string, q, a any) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.admin+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := o.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", strings.TrimSpace(string(b)))
	}
	if a == nil {
		return nil
	}
	return json.Unmarshal(b, a)
}

func newQueueCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "What regions ask of each other, and what could not be done"}
	dead := &cobra.Command{
		Use: "dead", Short: "Dead letters: commands that could not be executed",
		Long: `A command that can never be executed as it is - for an account that is not there,
of a kind this version does not know, malformed - is kept and holds up nobody;
what it would have done is missing until it is replayed. Each command here is
signed with the operator's key.`,
	}
	var in, key string
	dead.PersistentFlags().StringVar(&in, "region", "", "the region that keeps them")
	dead.PersistentFlags().StringVar(&key, "key", "", "the operator's private key (default: the running demo's)")
	list := &cobra.Command{
		Use: "list", Short: "All dead letters of a region", Args: cobra.NoArgs,
		Example: "  homing queue dead list --region sh",
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := e.operator(in, key)
			if err != nil {
				return err
			}
			return o.list(c.Context(), e.out)
		},
	}
	one := func(use, short string, run func(context.Context, *operator, node.LetterRequest) error) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				o, err := e.operator(in, key)
				if err != nil {
					return err
				}
				return run(c.Context(), o, node.LetterRequest{ID: args[0]})
			}}
	}
	dead.AddCommand(list,
		one("show", "One dead letter, with what it holds", func(ctx context.Context, o *operator, r node.LetterRequest) error {
			var l node.Letter
			if err := o.ask(ctx, "/operate/letters/show", r, &l); err != nil {
				return err
			}
			fmt.Fprintf(e.out, "%s\n%s from %d, put aside %s\n%s\n%d bytes: %q\n", l.ID, l.Method, l.From, l.At.Format(time.RFC3339), harmless(l.Reason), len(l.Payload), l.Payload)
			return nil
		}),
		one("replay", "Execute it now; it is gone when that succeeds", func(ctx context.Context, o *operator, r node.LetterRequest) error {
			if err := o.ask(ctx, "/operate/letters/replay", r, nil); err != nil {
				return err
			}
			fmt.Fprintln(e.out, "executed")
			return nil
		}),
		one("discard", "Forget it for ever", func(ctx context.Context, o *operator, r node.LetterRequest) error {
			if err := o.ask(ctx, "/operate/letters/discard", r, nil); err != nil {
				return err
			}
			fmt.Fprintln(e.out, "discarded")
			return nil
		}))
	cmd.AddCommand(dead)
	return cmd
}

// list prints all letters, page by page.
func (o *operator) list(ctx context.Context, out io.Writer) error {
	const page = 100
	r := node.LettersRequest{Limit: page}
	for n := 0; ; {
		var letters []node.Letter
		if err := o.ask(ctx, "/operate/letters", r, &letters); err != nil {
			return err
		}
		for _, l := range letters {
			fmt.Fprintf(out, "%-28s %s  %s from %d: %s\n", l.ID, l.At.Format(time.RFC3339), l.Method, l.From, harmless(l.Reason))
			r.After = l.ID
		}
		if n += len(letters); len(letters) < page {
			if n == 0 {
				fmt.Fprintln(out, "no dead letters")
			}
			return nil
		}
	}
}
