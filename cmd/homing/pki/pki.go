// Package pki makes the certificate authority and server certificate of a
// world that has none of its own, at its first start.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/homing-im/homing/cmd/homing/endpoints"
)

// Files are the PEM files of a directory: the CA's certificate, and the server
// certificate with its key.
type Files struct{ CA, Cert, Key string }

// Ensure is [EnsureNamed] of the certificate that is called server.
func Ensure(dir string, names []string, ips []net.IP) (Files, error) {
	return EnsureNamed(dir, "server", names, ips)
}

// EnsureNamed returns the files of dir, making them when they are missing or when
// the certificate, DIR/name.pem, has less than a day left. The CA's key stays in
// dir with mode 0600. names are DNS names, ips addresses the certificate is for.
func EnsureNamed(dir, name string, names []string, ips []net.IP) (Files, error) {
	f := Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	caKeyPath := filepath.Join(dir, "ca.key")
	ca, err := tls.LoadX509KeyPair(f.CA, caKeyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if err := make509(f.CA, caKeyPath, nil, &x509.Certificate{
			Subject: pkix.Name{CommonName: "Homing CA"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().AddDate(10, 0, 0),
		}); err != nil {
			return f, err
		}
		ca, err = tls.LoadX509KeyPair(f.CA, caKeyPath)
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w; remove %s to have a new CA made", f.CA, err, dir)
	}
	if have, err := tls.LoadX509KeyPair(f.Cert, f.Key); err == nil && covers(have.Leaf, names, ips) {
		return f, nil
	}
	return f, make509(f.Cert, f.Key, &ca, &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, IPAddresses: ips,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotAfter:    time.Now().AddDate(1, 0, 0),
	})
}

func covers(c *x509.Certificate, names []string, ips []net.IP) bool {
	if c == nil || time.Until(c.NotAfter) < 24*time.Hour {
		return false
	}
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			return false
		}
	}
	for _, ip := range ips {
		if c.VerifyHostname(ip.String()) != nil {
			return false
		}
	}
	return true
}

func make509(certPath, keyPath string, ca *tls.Certificate, tmpl *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	tmpl.NotBefore = time.Now().Add(-time.Hour)
	parent, signer := tmpl, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := endpoints.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	return endpoints.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// Pool reads the CA file.
func Pool(ca string) (*x509.CertPool, error) {
	b, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no PEM certificate", ca)
	}
	return p, nil
}
