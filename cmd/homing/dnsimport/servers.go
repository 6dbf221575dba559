package dnsimport

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/homing-im/homing/dns/authority/static"
)

// serversOf are the zone's name servers, which a server of Homing calls ns1 and on.
func serversOf(z *static.Zone, zone string) (out []server, notes []string) {
	hosts, addrs := z.Servers()
	for i, host := range hosts {
		label := fmt.Sprintf("ns%d", i+1)
		address := strings.TrimSuffix(host, ".") + ":53"
		if a := addrs[host]; a.IsValid() {
			address = netip.AddrPortFrom(a, 53).String()
		} else {
			notes = append(notes, fmt.Sprintf("the address of name server %s is not in the zone: write it into dns", host))
		}
		if host != label+"."+zone+"." {
			notes = append(notes, fmt.Sprintf("name server %s is called %s.%s. now: tell the parent zone", host, label, zone))
		}
		out = append(out, server{label, address})
	}
	return out, notes
}
