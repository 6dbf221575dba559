package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/dnsimport"
	"github.com/homing-im/homing/dns/authority"
	"github.com/homing-im/homing/region/worldfile"
)

func newImportCommand(e *env) *cobra.Command {
	out, zone := "", ""
	cmd := &cobra.Command{
		Use: "import", Short: "Make a stand-alone DNS server's files from those of another",
		Long: `Reads what another geo DNS server is configured with and writes names.yaml (names,
places and rules) and ZONE.zone (all that is not steered) into a folder. What has
no counterpart is refused, with file, line and reason. Run what was written beside
the present server (dns.shadow) before it takes its place.`,
	}
	finish := func(f *dnsimport.Files, err error) error {
		if err != nil {
			return err
		}
		names := filepath.Join(out, "names.yaml")
		if _, err := worldfile.CompileAlone(names, []byte(f.Names), 1); err != nil {
			return fmt.Errorf("what was made is refused (nothing is written): %w", err)
		}
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		rest := filepath.Join(out, f.Zone+".zone")
		for path, text := range map[string]string{names: f.Names, rest: f.Rest} {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return err
			}
		}
		for _, note := range f.Notes {
			fmt.Fprintf(e.out, "note: %s\n", note)
		}
		fmt.Fprintf(e.out, "written: %s, %s\nname them in the server's file: alone: {steering: %s}, dns: {zones: [%s]}\n", names, rest, names, rest)
		return nil
	}
	gdnsd := &cobra.Command{
		Use: "gdnsd CONFIG ZONEFILE --out DIR", Short: "From gdnsd: the geoip plugin's maps and resources, and a zone file", Args: cobra.ExactArgs(2),
		Example: "  homing dns import gdnsd /etc/gdnsd/config /etc/gdnsd/zones/example.com --out imported",
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return errors.New("say where to: --out DIR")
			}
			config, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			records, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			if zone == "" {
				zone = filepath.Base(args[1])
			}
			return finish(dnsimport.GDNSD(args[0], string(config), args[1], string(records), strings.ToLower(strings.TrimSuffix(zone, "."))))
		},
	}
	pdns := &cobra.Command{
		Use: "pdns-geo FILE --out DIR", Short: "From PowerDNS: a zone of the geoip backend", Args: cobra.ExactArgs(1),
		Example: "  homing dns import pdns-geo /etc/powerdns/geo.yaml --zone geo.example.com --out imported",
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return errors.New("say where to: --out DIR")
			}
			src, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			return finish(dnsimport.PDNS(args[0], string(src), zone))
		},
	}
	cmd.PersistentFlags().StringVar(&out, "out", "", "folder that gets the files")
	cmd.PersistentFlags().StringVar(&zone, "zone", "", "the zone (default: the file's name, or the only one in it)")
	cmd.AddCommand(gdnsd, pdns)
	return cmd
}

func newShadowCommand(e *env) *cobra.Command {
	admin, asJSON := "", false
	cmd := &cobra.Command{
		Use: "shadow --admin HOST:PORT", Short: "Show where a DNS node would have answered otherwise than the present server", Args: cobra.NoArgs,
		Long: `Lists the last questions that the present server (dns.shadow in the node's file)
answered otherwise than this one would have. Counts of all are in the metric
homing_dns_shadow_total.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if admin == "" {
				return errors.New("say which node: --admin 127.0.0.1:5390, its admin listener")
			}
			b, err := get(c.Context(), "http://"+admin+"/dns/shadow")
			if err != nil {
				return err
			}
			var found []authority.Difference
			if err := json.Unmarshal(b, &found); err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(e.out)
				enc.SetIndent("", "  ")
				return enc.Encode(found)
			}
			for _, d := range found {
				client := d.Client
				if client == "" {
					client = d.Peer.String()
				}
				fmt.Fprintf(e.out, "%-7s %s %s for %s\n  theirs  %s\n  ours    %s  rule %s\n", d.What, d.Name, d.Type, client, saidText(d.Theirs), saidText(d.Ours), d.Rule)
			}
			fmt.Fprintf(e.out, "%d questions answered differently, of the last that were\n", len(found))
			return nil
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "", "host:port of the node's admin listener")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func saidText(s authority.Said) string {
	return fmt.Sprintf("%s [%s] TTL %d scope %d", s.Rcode, strings.Join(s.Records, ", "), s.TTL, s.Scope)
}
