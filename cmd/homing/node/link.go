package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/peer"
)

// link is how a node meets the others on admin listeners: by plain HTTP on
// loopback, and by TLS on which both show certificates everywhere else
// (region/peer).
type link struct {
	server *tls.Config // nil when tls is not set: then only loopback will do
	dial   *tls.Config
	view   func() *region.View
}

// transport returns one to call other nodes with.
func (l *link) transport() *http.Transport {
	return &http.Transport{
		DialTLSContext:      peer.DialTLS(l.dial, l.view),
		MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, ResponseHeaderTimeout: 10 * time.Second,
	}
}

// once returns a client that keeps no connections: a kept one would prove only
// that it once worked.
func (l *link) once() *http.Client {
	t := l.transport()
	t.DisableKeepAlives = true
	return &http.Client{Transport: t}
}

// secure makes a listener at an admin address what it has to be there.
func (l *link) secure(at net.Listener, address string) net.Listener {
	if loopback(address) {
		return at
	}
	return tls.NewListener(at, l.server)
}

// check reports why the node cannot serve its admin listener at an address, or
// nil.
func (l *link) check(address string, self peer.Identity, zone string) error {
	if loopback(address) {
		return nil
	}
	if l.server == nil {
		return fmt.Errorf("admin address %s is not loopback: set tls.ca, tls.cert and tls.key (homing tls makes them)", address)
	}
	name := peer.CertificateName(self, zone)
	if leaf := l.server.Certificates[0].Leaf; leaf.VerifyHostname(name) != nil {
		return fmt.Errorf("admin address %s is not loopback, and tls.cert is not for %s: homing tls --dir DIR --zone %s --member %q", address, name, zone, self.Kind+" "+self.Name)
	}
	return nil
}
