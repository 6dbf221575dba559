package wire

import (
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/homing-im/homing/region"
)

// CheckListener refuses an address that a front door must not listen at: not
// IP:port, or plain text (no TLS) on anything but loopback. An empty address is
// not served, and fine.
func CheckListener(s region.Service, address string, t *tls.Config) error {
	if address == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s listener %q: want IP:port", s, address)
	}
	if t == nil && !a.Addr().IsLoopback() {
		return fmt.Errorf("%s listener %s has no TLS; plain text is served on loopback only", s, address)
	}
	return nil
}
