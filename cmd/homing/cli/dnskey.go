package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/dns/authority"
)

func newKeyCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Make and roll the keys that sign the zone (DNSSEC)",
		Long: `Keeps the keys of a zone in a folder, which the nodes name in dns.zoneKeys:

  init     makes the first key; give the parent the DS record that it prints
  start    publishes a new key beside the old one, and asks the parent for its DS
  switch   lets the new key sign, once caches have it and the parent its DS
  finish   takes the old key away, once nobody can have signatures of it

Copy the folder to all DNS nodes after each step and send them SIGHUP. A step that
comes too early is refused, because the zone would fail for some of its clients.`,
	}
	dir, resolver, force := "", "", false
	step := func(use, short string, run func(ctx context.Context, r *authority.KeyRing, ds []uint16) error, asks bool) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			r, err := loadKeys(dir)
			if err != nil {
				return err
			}
			var ds []uint16
			if asks && !force {
				at, err := resolverOf(resolver)
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
				defer cancel()
				if ds, err = authority.ParentDS(ctx, at, r.Zone); err != nil {
					return err
				}
			}
			if err := run(c.Context(), r, ds); err != nil {
				return err
			}
			return printKeys(e, r)
		}}
		if asks {
			c.Flags().StringVar(&resolver, "resolver", "", "host:port that is asked for the parent's DS records (default: the first of /etc/resolv.conf)")
			c.Flags().BoolVar(&force, "force", false, "do not wait, nor ask: clients that keep what was before fail to validate")
		}
		return c
	}
	now := time.Now
	zone := ""
	initialize := &cobra.Command{Use: "init --zone NAME", Short: "Make a folder with a first key", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		if zone == "" {
			return errors.New("say which zone it is for: --zone demo.test")
		}
		if dir == "" {
			return errors.New("say which folder: --dir keys")
		}
		r, err := authority.NewKeyRing(dir, zone, now())
		if err != nil {
			return err
		}
		return printKeys(e, r)
	}}
	initialize.Flags().StringVar(&zone, "zone", "", "the zone")
	cmd.AddCommand(initialize,
		step("list", "Show the keys and what comes next", func(context.Context, *authority.KeyRing, []uint16) error { return nil }, false),
		step("start", "Publish a new key", func(_ context.Context, r *authority.KeyRing, _ []uint16) error { return r.Start(now()) }, false),
		step("switch", "Let the new key sign", func(_ context.Context, r *authority.KeyRing, ds []uint16) error { return r.Switch(now(), ds, force) }, true),
		step("finish", "Take the old key away", func(_ context.Context, r *authority.KeyRing, ds []uint16) error { return r.Finish(now(), ds, force) }, true))
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "folder of the keys")
	return cmd
}

func loadKeys(dir string) (*authority.KeyRing, error) {
	if dir == "" {
		return nil, errors.New("say which folder: --dir keys")
	}
	return authority.LoadKeyRing(dir)
}

// resolverOf is the host:port that was named, or the machine's first resolver.
func resolverOf(named string) (string, error) {
	if named != "" {
		if _, _, err := net.SplitHostPort(named); err != nil {
			return "", fmt.Errorf("--resolver %q: want host:port", named)
		}
		return named, nil
	}
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return "", fmt.Errorf("this machine names no resolver; say one: --resolver 9.9.9.9:53: %w", err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if at, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "nameserver "); ok {
			return net.JoinHostPort(strings.TrimSpace(at), "53"), nil
		}
	}
	return "", errors.New("this machine names no resolver; say one: --resolver 9.9.9.9:53")
}

func printKeys(e *env, r *authority.KeyRing) error {
	next := "homing dns key start, when it is time for another key"
	for _, k := range r.Keys {
		fmt.Fprintf(e.out, "%5d  %-6s since %s\n", k.Tag, k.State, k.Since.Format(time.RFC3339))
		switch k.State {
		case authority.KeyNew:
			next = "copy the folder to all DNS nodes, send them SIGHUP, give the parent the DS records; then homing dns key switch"
		case authority.KeyOld:
			next = fmt.Sprintf("copy the folder to all DNS nodes, send them SIGHUP, wait %s; then homing dns key finish", authority.KeyLinger)
		}
	}
	ds, err := r.DS()
	if err != nil {
		return err
	}
	for _, record := range ds {
		fmt.Fprintf(e.out, "for the parent: %s\n", record)
	}
	fmt.Fprintf(e.out, "next: %s\n", next)
	return nil
}
