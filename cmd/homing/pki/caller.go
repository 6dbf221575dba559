package pki

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// OperatorName is what the operator's certificate is called in the folder of
// certificates, and FolderName that folder in the operator's directory.
const (
	OperatorName = "operator"
	FolderName   = "tls"
)

// Caller returns a transport for the commands of an operator whose directory is
// DIR. Beyond loopback it shows DIR/tls/operator.pem, by the CA in DIR/tls/ca.pem,
// and a node's certificate has to be for the address that is called. The files are
// read when they are needed; when one is missing the call says so.
func Caller(dir func() (string, error)) *http.Transport {
	return &http.Transport{
		MaxIdleConnsPerHost: 2,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			root, err := dir()
			if err != nil {
				return nil, err
			}
			at := filepath.Join(root, FolderName)
			cert, err := tls.LoadX509KeyPair(filepath.Join(at, OperatorName+".pem"), filepath.Join(at, OperatorName+".key"))
			if err != nil {
				return nil, region.Errorf(region.Unauthenticated, "%s is not loopback, and takes an operator's certificate", addr).
					WithHint("homing tls --dir %s --zone ZONE --member operator", at).WithCause(err)
			}
			pool, err := Pool(filepath.Join(at, "ca.pem"))
			if err != nil {
				return nil, err
			}
			dial := peer.DialTLS(peer.ClientTLS(cert, pool), func() *region.View { return nil })
			return dial(ctx, network, addr)
		},
	}
}
