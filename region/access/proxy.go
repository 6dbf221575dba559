package access

import (
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// proxied reads the PROXY header in front of a connection. From the listed
// proxies it is believed when it is there; from anybody else a connection that
// begins with one is cut off, because it claims an address it has no right to.
func (s *Server) proxied(l net.Listener) net.Listener {
	return &proxyproto.Listener{
		Listener:          l,
		ReadHeaderTimeout: s.o.Handshake,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if a, ok := addrOf(o.Upstream); ok && s.trusted(a) {
				return proxyproto.USE, nil
			}
			return proxyproto.REJECT, nil
		},
	}
}

func addrOf(a net.Addr) (netip.Addr, bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	ap, err := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap(), err == nil
}
