package wire

import (
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/homing-im/homing/region"
)

// Listeners are the addresses of a front door, IP:port; an empty one is not served.
type Listeners struct {
	Long, Short, Web string
	TLS              *tls.Config // of Long; nil for plain text
	WebTLS           *tls.Config // of Short and Web
}

// Check refuses an address that a front door must not listen at: not IP:port, or
// plain text on anything but loopback.
func (l Listeners) Check() error {
	for _, c := range []struct {
		service region.Service
		address string
		tls     *tls.Config
	}{{region.Long, l.Long, l.TLS}, {region.Short, l.Short, l.WebTLS}, {region.Web, l.Web, l.WebTLS}} {
		if c.address == "" {
			continue
		}
		a, err := netip.ParseAddrPort(c.address)
		if err != nil {
			return fmt.Errorf("%s listener %q: want IP:port", c.service, c.address)
		}
		if c.tls == nil && !a.Addr().IsLoopback() {
			return fmt.Errorf("%s listener %s has no TLS; plain text is served on loopback only", c.service, c.address)
		}
	}
	return nil
}
