package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/region"
)

func newPresenceCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "presence UIN...", Short: "Show which users are connected, on which devices, and where",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q := url.Values{}
			for _, a := range args {
				u, err := region.ParseUIN(a)
				if err != nil {
					return err
				}
				q.Add("uin", u.String())
			}
			found, err := e.presence(c.Context(), q)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(e.out)
				enc.SetIndent("", "  ")
				return enc.Encode(found)
			}
			t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "UIN\tREGION\tPROCESS\tFRONT\tPLATFORM\tVERSION\tDEVICE\tSINCE")
			for _, a := range args {
				online := false
				for _, p := range found {
					if p.UIN.String() == a {
						online = true
						fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", a, p.Region, p.Process, p.Front, p.Platform, p.ClientVersion, p.Device, p.Since.Format(time.RFC3339))
					}
				}
				if !online {
					fmt.Fprintf(t, "%s\toffline\n", a)
				}
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// presence asks every region; one that does not answer is an error only when
// none does.
func (e *env) presence(ctx context.Context, q url.Values) ([]observe.Presence, error) {
	at, err := e.find()
	if err != nil {
		return nil, err
	}
	all := []observe.Presence{}
	answered := false
	var last error
	for _, id := range slices.Sorted(maps.Keys(at.Regions)) {
		b, err := get(ctx, "http://"+at.Regions[id].Admin+"/presence?"+q.Encode())
		if err != nil {
			last = fmt.Errorf("region %s: %w", id, err)
			continue
		}
		var some []observe.Presence
		if err := json.Unmarshal(b, &some); err != nil {
			return nil, fmt.Errorf("region %s: its answer cannot be read: %w", id, err)
		}
		all, answered = append(all, some...), true
	}
	if !answered {
		return nil, last
	}
	if last != nil {
		fmt.Fprintln(e.err, "homing:", oneLine(last))
	}
	return all, nil
}
