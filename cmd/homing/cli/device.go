package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/profile"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func newDeviceCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "device", Short: "The devices of a user, each with a key and a sync of its own"}
	cmd.AddCommand(newDeviceList(e), newDeviceAdd(e), newDeviceRevoke(e))
	return cmd
}

func newDeviceList(e *env) *cobra.Command {
	return e.forUser(&cobra.Command{Use: "list", Short: "The devices, revoked ones included", Args: cobra.NoArgs},
		func(ctx context.Context, s *session, _ []string) error {
			devices, err := s.Devices(ctx)
			if err != nil {
				return err
			}
			for _, d := range devices {
				fmt.Fprintf(e.out, "%x  %-16s  added %s%s\n", d.DeviceKeyId, harmless(d.Platform), when(d.AddedUnixMilli), deviceNotes(d))
			}
			return nil
		})
}

func deviceNotes(d *v1.Device) string {
	notes := ""
	if d.Current {
		notes += ", this one"
	}
	if d.Revoked {
		notes += ", revoked " + when(d.RevokedUnixMilli)
	}
	return notes
}

func when(milli int64) string { return time.UnixMilli(milli).Format(time.DateTime) }

func newDeviceAdd(e *env) *cobra.Command {
	var name string
	cmd := e.forUser(&cobra.Command{
		Use: "add", Short: "Add a device: a profile of its own, for which this one vouches", Args: cobra.NoArgs,
		Example: "  homing device add --profile Alice-laptop --as Alice",
	}, func(ctx context.Context, s *session, _ []string) error {
		p, err := profile.New(s.at.Dir, name)
		if err != nil {
			return err
		}
		public, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return err
		}
		if err := s.AddDevice(ctx, public, platform); err != nil {
			return err
		}
		p.Nickname, p.UIN, p.Region, p.Handle, p.DeviceSeed = s.profile.Nickname, s.profile.UIN, s.profile.Region, s.profile.Handle, key.Seed()
		if err := p.Save(); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "another device of UIN %d; use --as %s\n", p.UIN, name)
		return nil
	})
	cmd.Flags().StringVar(&name, "profile", "", "name of the new device's profile")
	_ = cmd.MarkFlagRequired("profile")
	return cmd
}

func newDeviceRevoke(e *env) *cobra.Command {
	var id [8]byte
	cmd := e.forUser(&cobra.Command{
		Use: "revoke KEY-ID", Short: "End a device for ever: its ticket, its connections, its key", Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, s *session, _ []string) error {
		if err := s.RevokeDevice(ctx, id); err != nil {
			return err
		}
		fmt.Fprintln(e.out, "revoked")
		return nil
	})
	cmd.PreRunE = func(_ *cobra.Command, args []string) error {
		b, err := hex.DecodeString(args[0])
		if err != nil || len(b) != len(id) {
			return fmt.Errorf("%q is no key ID: want 16 hex digits, as `homing device list` shows", args[0])
		}
		copy(id[:], b)
		return nil
	}
	return cmd
}
