package access

import (
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"

	"github.com/homing-im/homing/region"
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

// popTLV is the type of the PROXY v2 TLV in which a POP says its ID; the
// specification leaves 0xE0 to 0xEF to applications (section 2.2.8).
const popTLV = proxyproto.PP2Type(0xE0)

// popOf returns the ID of the POP that relays the connection; empty when none
// does, or what it says is no POP ID.
func popOf(c net.Conn) string {
	pc, ok := c.(*proxyproto.Conn)
	if !ok || pc.ProxyHeader() == nil {
		return ""
	}
	tlvs, err := pc.ProxyHeader().TLVs()
	if err != nil {
		return ""
	}
	for _, t := range tlvs {
		if id := region.POPID(t.Value); t.Type == popTLV && id.Valid() == nil {
			return string(id)
		}
	}
	return ""
}
