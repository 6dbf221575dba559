package cli

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
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
	var dir, zone, member string
	var ips []net.IP
	cmd := &cobra.Command{
		Use: "tls", Short: "Make a CA and certificates for a world that has no PKI of its own", Args: cobra.NoArgs,
		Long: `Makes DIR/ca.pem, DIR/ca.key, DIR/server.pem and DIR/server.key, or renews the
server certificate when it is about to expire. The certificate is for the
service names of the zone: long, short and web. Keep ca.key off the nodes.

With --member it is the certificate of one node, DIR/KIND-NAME.pem, which is for
NAME.KIND.ZONE too: beyond loopback nodes talk to each other only by such ones.
With --member operator it is what the operator's commands show to those nodes;
they look for it in the folder tls of the operator's directory, and want the
nodes' certificates to be for the addresses that they call: give those with --ip.`,
		Example: "  homing tls --dir tls --zone im.test\n" +
			"  homing tls --dir tls --zone im.test --member \"region sh\" --ip 192.0.2.7\n" +
			"  homing tls --dir tls --zone im.test --member operator",
		RunE: func(*cobra.Command, []string) error {
			if dir == "" || zone == "" {
				return fmt.Errorf("say --dir and --zone")
			}
			names := []string{string(region.Long) + "." + zone, string(region.Short) + "." + zone, string(region.Web) + "." + zone}
			file := "server"
			switch id, err := peer.ParseIdentity(strings.Replace(member, " ", "/", 1)); {
			case member == "":
			case member == pki.OperatorName:
				file, names = pki.OperatorName, []string{peer.CertificateName(peer.Identity{Kind: peer.KindOperator}, zone)}
			case err != nil || id.Kind == peer.KindOperator:
				return fmt.Errorf("--member %q: want operator, or a kind and a name as in a node's file, such as \"region sh\"", member)
			default:
				file, names = id.Kind+"-"+id.Name, append(names, peer.CertificateName(id, zone))
			}
			f, err := pki.EnsureNamed(dir, file, names, ips)
			if err != nil {
				return err
			}
			fmt.Fprintf(e.out, "%s\n%s\n%s\n", f.CA, f.Cert, f.Key)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "where the files go")
	cmd.Flags().StringVar(&zone, "zone", "", "the world's DNS zone, such as im.test")
	cmd.Flags().StringVar(&member, "member", "", "whose certificate it is: \"region sh\", \"pop pop-1\", ..., or operator")
	cmd.Flags().IPSliceVar(&ips, "ip", nil, "addresses the certificate is for as well")
	return cmd
}
