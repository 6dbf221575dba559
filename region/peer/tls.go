package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/homing-im/homing/region"
)

// CertificateName is the DNS name that a node's certificate has to be for, such
// as sh.region.im.test. An operator's is operator.im.test, whoever it is: what an
// operator may do is decided by the key that signs.
func CertificateName(id Identity, zone string) string {
	if id.Kind == KindOperator {
		return KindOperator + "." + zone
	}
	return id.Name + "." + id.Kind + "." + zone
}

// ServerTLS is the configuration of an admin listener that others reach over a
// network: nobody is served who does not show a certificate of the operator's CA.
// Whose it is, [Verifier.Require] checks.
func ServerTLS(cert tls.Certificate, ca *x509.CertPool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: ca, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
	}
}

// ClientTLS is the configuration of calls to such listeners.
func ClientTLS(cert tls.Certificate, ca *x509.CertPool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: ca,
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
	}
}

// errNoCertificate is the answer to a call that nobody could trust.
var errNoCertificate = errors.New("the address is not loopback, so it takes TLS, and this side has no certificate: set tls.ca, tls.cert and tls.key")

// DialTLS returns what an [http.Transport] dials HTTPS with. Who listens at a
// node's admin address has to show that node's own certificate: another node's
// is refused, although the same CA made it. Of an address that the world does
// not have, the certificate has to be for the host. With a nil configuration
// every call fails.
func DialTLS(config *tls.Config, view func() *region.View) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if config == nil {
			return nil, errNoCertificate
		}
		c := config.Clone()
		if v := view(); v != nil {
			if id, ok := memberAt(v.World, addr); ok {
				c.ServerName = CertificateName(id, v.World.Zone)
			}
		}
		if c.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			c.ServerName = host
		}
		return (&tls.Dialer{Config: c}).DialContext(ctx, network, addr)
	}
}

// memberAt returns whose admin listener an address is.
func memberAt(w *region.World, addr string) (Identity, bool) {
	for id, admin := range members(w) {
		if admin == addr {
			return id, true
		}
	}
	return Identity{}, false
}

// shows reports why the certificate of a connection is not the node's, or nil. A
// connection without TLS shows none.
func shows(r *http.Request, id Identity, zone string) error {
	if r.TLS == nil || id.Kind == KindOperator {
		return nil
	}
	name := CertificateName(id, zone)
	if len(r.TLS.PeerCertificates) == 0 {
		return region.Errorf(region.Unauthenticated, "%s shows no certificate", id).WithHint("set tls.cert in its node's file to one for %s", name)
	}
	if leaf := r.TLS.PeerCertificates[0]; leaf.VerifyHostname(name) != nil {
		return region.Errorf(region.Unauthenticated, "%s shows a certificate for %.200s", id, strings.Join(leaf.DNSNames, ", ")).
			WithHint("it has to be for %s", name)
	}
	return nil
}
