package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
)

// getTimeout bounds a question to a running world.
const getTimeout = 5 * time.Second

// get fetches a URL of the world; its error says what the server said.
func get(ctx context.Context, rawURL string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w; is the world running? see: homing context list", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		var said struct{ Error, Hint string }
		if json.Unmarshal(b, &said) == nil && said.Error != "" {
			if said.Hint != "" {
				return nil, fmt.Errorf("%s (%s)", said.Error, said.Hint)
			}
			return nil, fmt.Errorf("%s", said.Error)
		}
		return nil, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	return b, nil
}

func newStatusCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show regions, POPs, lag, who acts for whom, and what would be lost if a region died now",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, err := e.find()
			if err != nil {
				return err
			}
			b, err := get(c.Context(), at.Console+"/api/state")
			if err != nil {
				return err
			}
			if asJSON {
				_, err := e.out.Write(b)
				return err
			}
			var s console.State
			if err := json.Unmarshal(b, &s); err != nil {
				return fmt.Errorf("the console's answer is not a state: %w", err)
			}
			printState(e.out, &s, func(id string) string {
				return acting.Drilled(filepath.Join(at.Dir, "world"), region.ID(id), time.Now())
			})
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole state as JSON")
	return cmd
}

// printState says the state to people; drilled says how long a change of who acts
// for a region took the last time.
func printState(w io.Writer, s *console.State, drilled func(region string) string) {
	fmt.Fprintf(w, "world %s, version %d (%.8s), zone %s\n\n", s.World.Name, s.World.Version, s.World.Hash, s.World.Zone)
	table := func(header string, rows func(row func(format string, args ...any))) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, header)
		rows(func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) })
		_ = t.Flush()
		fmt.Fprintln(w)
	}
	table("REGION\tWHERE\tACTING\tTERM\tADMITS\tUSERS\tCONNECTIONS\tMSG/S\tIF IT DIED NOW", func(row func(string, ...any)) {
		for _, r := range s.Regions {
			row("%s\t%s\t%s\t%d\t%s\t%d\t%d\t%.1f\t%s", r.ID, r.Title, r.Acting, r.Term, yes(r.Ready), r.Users, r.Connections, r.MessagesPerSecond, ifItDied(&r, drilled(r.ID)))
		}
	})
	table("POP\tWHERE\tNEAR\tHEALTHY\tCONNECTIONS\tRTT TO REGIONS", func(row func(string, ...any)) {
		for _, p := range s.POPs {
			var rtt []string
			for _, r := range s.Regions {
				if ms, ok := p.RTTMillis[r.ID]; ok {
					rtt = append(rtt, fmt.Sprintf("%s %.1f ms", r.ID, ms))
				}
			}
			row("%s\t%s\t%s\t%s\t%d\t%s", p.ID, p.Title, p.Near, yes(p.Healthy), p.Connections, strings.Join(rtt, ", "))
		}
	})
	table("LAG\tSTREAM\tRECORDS\tSECONDS\tSTATE", func(row func(string, ...any)) {
		for _, p := range s.Pairs {
			row("%s -> %s\t%s\t%d\t%.1f\t%s", p.From, p.To, p.Stream, p.Records, p.Seconds, p.State)
		}
	})
	for _, n := range s.DNS {
		fmt.Fprintf(w, "%s at %s: %s, %.1f questions/s\n", n.Name, n.Address, up(n.Healthy), n.PerSecond)
	}
	for _, n := range s.IDs {
		fmt.Fprintf(w, "%s at %s: %s\n", n.Name, n.Address, up(n.Healthy))
	}
	for _, a := range s.Alarms {
		fmt.Fprintf(w, "%s: %s: %s (%s)\n", strings.ToUpper(string(a.Severity)), a.Subject, a.Text, a.Hint)
	}
}

func ifItDied(r *console.Region, drilled string) string {
	switch {
	case r.Loss == nil:
		return "no backup"
	case r.Loss.Single:
		return "SINGLE COPY: " + r.Loss.Backup + " is not caught up"
	default:
		text := fmt.Sprintf("RPO %.1f s / %d records, %s", r.Loss.Seconds, r.Loss.Records, r.Loss.Backup)
		if r.Loss.Load > 0 {
			text += fmt.Sprintf(" at %.0f %%", r.Loss.Load)
		}
		return text + ", " + drilled
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

func up(b bool) string {
	if b {
		return "up"
	}
	return "DOWN"
}

// printHops says where a client goes from each endpoint of the answer, and how
// far the last hop is as the POP measures it now.
func (e *env) printHops(ctx context.Context, at *endpoints.Endpoints, explanation []byte) error {
	var x struct {
		Answer steer.Answer `json:"answer"`
	}
	if err := json.Unmarshal(explanation, &x); err != nil {
		return fmt.Errorf("the DNS node's answer is not an explanation: %w", err)
	}
	b, err := get(ctx, at.Console+"/api/state")
	if err != nil {
		return err
	}
	var s console.State
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("the console's answer is not a state: %w", err)
	}
	acting := string(x.Answer.Acting)
	fmt.Fprintln(e.out, "hops:")
	for _, end := range x.Answer.Endpoints {
		if end.POP == "" {
			last := fmt.Sprintf("region %s serves", end.Region)
			if string(end.Region) != acting {
				last = fmt.Sprintf("region %s redirects to %s", end.Region, acting)
			}
			fmt.Fprintf(e.out, "  client -> %s (region %s): %s\n", end.Address, end.Region, last)
			continue
		}
		rtt := "not measured yet"
		for _, p := range s.POPs {
			if ms, ok := p.RTTMillis[acting]; ok && p.ID == string(end.POP) {
				rtt = fmt.Sprintf("%.1f ms", ms)
			}
		}
		fmt.Fprintf(e.out, "  client -> %s (%s) -> %s (region %s, %s): region %s serves\n", end.Address, end.POP, at.Regions[acting].Long, acting, rtt, acting)
	}
	return nil
}

func newExplainCommand(e *env) *cobra.Command {
	var uin, ip, version, service, platform string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain", Short: "Show where a client is steered, and why: every rule and every hop",
		Example: "  homing explain --uin 1000001 --ip 223.5.5.5 --version 80003",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			at, err := e.find()
			if err != nil {
				return err
			}
			q := url.Values{"service": {service}}
			for k, v := range map[string]string{"uin": uin, "ip": ip, "ver": version, "platform": platform} {
				if v != "" {
					q.Set(k, v)
				}
			}
			b, err := get(c.Context(), at.HTTPDNS+"/explain?"+q.Encode())
			if err != nil {
				return err
			}
			if asJSON {
				_, err := e.out.Write(b)
				return err
			}
			var answer struct {
				Text string `json:"text"`
			}
			if err := json.Unmarshal(b, &answer); err != nil || answer.Text == "" {
				return fmt.Errorf("the DNS node's answer is not an explanation: %.200s", b)
			}
			fmt.Fprintln(e.out, strings.TrimRight(answer.Text, "\n"))
			return e.printHops(c.Context(), at, b)
		},
	}
	f := cmd.Flags()
	f.StringVar(&uin, "uin", "", "user's number")
	f.StringVar(&ip, "ip", "", "client's address")
	f.StringVar(&version, "version", "", "client's version, such as 80003")
	f.StringVar(&service, "service", "long", "long, short or web")
	f.StringVar(&platform, "platform", "", "client's platform, such as ios")
	f.BoolVar(&asJSON, "json", false, "print the whole answer as JSON")
	return cmd
}
