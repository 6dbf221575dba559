package cli

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
)

// worldDir finds the operator's directory of the running demo.
func (e *env) worldDir() (string, error) {
	at, err := e.find()
	if err != nil {
		return "", err
	}
	return filepath.Dir(filepath.Dir(at.OperatorKey)), nil // DIR/keys/operator.pem
}

func newTLSCommand(e *env) *cobra.Command {
	var dir, zone string
	var ips []net.IP
	cmd := &cobra.Command{
		Use: "tls", Short: "Make a CA and a server certificate for a world that has no PKI of its own", Args: cobra.NoArgs,
		Long: `Makes DIR/ca.pem, DIR/ca.key, DIR/server.pem and DIR/server.key, or renews the
server certificate when it is about to expire. The certificate is for the
service names of the zone: long, short and web. Keep ca.key off the nodes.`,
		Example: "  homing tls --dir tls --zone im.test",
		RunE: func(*cobra.Command, []string) error {
			if dir == "" || zone == "" {
				return fmt.Errorf("say --dir and --zone")
			}
			names := []string{string(region.Long) + "." + zone, string(region.Short) + "." + zone, string(region.Web) + "." + zone}
			f, err := pki.Ensure(dir, names, ips)
			if err != nil {
				return err
			}
			fmt.Fprintf(e.out, "%s\n%s\n%s\n", f.CA, f.Cert, f.Key)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "where the files go")
	cmd.Flags().StringVar(&zone, "zone", "", "the world's DNS zone, such as im.test")
	cmd.Flags().IPSliceVar(&ips, "ip", nil, "addresses the certificate is for as well")
	return cmd
}
