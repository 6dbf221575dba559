package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/region"
)

func newTopCommand(e *env) *cobra.Command {
	n, asJSON := 10, false
	cmd := &cobra.Command{
		Use: "top", Short: "Show who asks the DNS nodes most, and for what", Args: cobra.NoArgs,
		Long: `Adds up what the DNS nodes counted in the last five to ten minutes: the addresses
that packets came from, the networks that were asked for (IPv4 /24, IPv6 /56), and
the names. A count is too high by what stands behind it, at most.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if n < 1 || n > 1000 {
				return fmt.Errorf("--n %d: want 1 to 1000", n)
			}
			var s simulate
			known, err := s.current(c.Context(), e)
			if err != nil {
				return err
			}
			top, err := topOf(c, known.World)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(e.out)
				enc.SetIndent("", "  ")
				return enc.Encode(top)
			}
			fmt.Fprintf(e.out, "about %d questions since %s\n", top.Questions, top.Since.Local().Format(time.TimeOnly))
			for _, part := range []struct {
				title string
				of    []authority.Talker
			}{{"from", top.Peers}, {"for", top.Clients}, {"names", top.Names}} {
				fmt.Fprintf(e.out, "%s\n", part.title)
				for _, t := range part.of[:min(n, len(part.of))] {
					less := ""
					if t.Error > 0 {
						less = fmt.Sprintf("  (up to %d less)", t.Error)
					}
					fmt.Fprintf(e.out, "%10d  %s%s\n", t.Count, t.What, less)
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&n, "n", n, "how many of each")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// topOf adds up what all DNS nodes tell.
func topOf(c *cobra.Command, w *region.World) (*authority.Top, error) {
	sum, answered := new(authority.Top), false
	var last error
	for _, node := range w.DNS {
		b, err := get(c.Context(), "http://"+node.Admin+"/dns/top?n=1000")
		if err != nil {
			last = err
			continue
		}
		var one authority.Top
		if err := json.Unmarshal(b, &one); err != nil {
			return nil, fmt.Errorf("DNS node %s: %w", node.Name, err)
		}
		if !answered || one.Since.Before(sum.Since) {
			sum.Since = one.Since
		}
		answered = true
		sum.Questions += one.Questions
		sum.Peers, sum.Clients, sum.Names = added(sum.Peers, one.Peers), added(sum.Clients, one.Clients), added(sum.Names, one.Names)
	}
	if !answered {
		return nil, fmt.Errorf("no DNS node tells who asks: %w", last)
	}
	return sum, nil
}

func added(a, b []authority.Talker) []authority.Talker {
	for _, t := range b {
		if i := slices.IndexFunc(a, func(x authority.Talker) bool { return x.What == t.What }); i >= 0 {
			a[i].Count, a[i].Error = a[i].Count+t.Count, a[i].Error+t.Error
		} else {
			a = append(a, t)
		}
	}
	slices.SortFunc(a, func(x, y authority.Talker) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.What, y.What))
	})
	return a
}
