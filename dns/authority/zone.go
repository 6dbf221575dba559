package authority

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/homing-im/homing/region"
)

// kind says what a name is.
type kind int

const (
	outside kind = iota // not in the zone
	missing             // in the zone, but there is no such name
	empty               // an empty non-terminal: it exists because names below it do
	apex
	steered // service, with or without UIN and version
	host    // POP, region or name server: fixed addresses
	listed  // in the zone's file
)

// target is what a name stands for.
type target struct {
	kind    kind
	service region.Service
	uin     region.UIN
	version uint32
	addrs   []netip.Addr // of a host
	types   []uint16     // that the zone's file has, for denials
}

// find says what a name, as lower-case labels, stands for in a world.
func find(w *region.World, labels []string) target {
	rest, ok := below(labels, w.Zone)
	if !ok {
		return target{kind: outside}
	}
	if len(rest) == 0 {
		return target{kind: apex}
	}
	last := rest[len(rest)-1]
	rest = rest[:len(rest)-1]
	switch {
	case slices.Contains(w.Services(), region.Service(last)):
		return findSteered(region.Service(last), rest)
	case last == "pop" && len(w.POPs) > 0:
		return findHost(rest, func(id string) (region.Endpoints, bool) {
			p, ok := w.POP(region.POPID(id))
			if !ok {
				return region.Endpoints{}, false
			}
			return p.Serves, true
		})
	case last == "region" && len(w.Regions) > 0:
		return findHost(rest, func(id string) (region.Endpoints, bool) {
			r, ok := w.Region(region.ID(id))
			if !ok {
				return region.Endpoints{}, false
			}
			return r.Serves, true
		})
	case strings.HasPrefix(last, "ns") && len(rest) == 0:
		if n, ok := number(last[len("ns"):], 32); ok && n <= uint64(len(w.DNS)) {
			return target{kind: host, addrs: nodeAddrs(w.DNS[n-1])}
		}
	}
	return target{kind: missing}
}

// below strips the zone's labels off the end of a name's.
func below(labels []string, zone string) ([]string, bool) {
	n := len(labels)
	for zone != "" {
		dot := strings.LastIndexByte(zone, '.')
		if n == 0 || !strings.EqualFold(labels[n-1], zone[dot+1:]) {
			return nil, false
		}
		n--
		zone = zone[:max(dot, 0)]
	}
	return labels[:n], true
}

func findSteered(s region.Service, rest []string) target {
	t := target{kind: steered, service: s}
	if n := len(rest); n > 0 {
		if v, ok := numbered(rest[n-1], "v-", 32); ok {
			t.version, rest = uint32(v), rest[:n-1]
		}
	}
	if n := len(rest); n > 0 {
		if u, ok := numbered(rest[n-1], "u-", 64); ok {
			t.uin, rest = region.UIN(u), rest[:n-1]
		}
	}
	if len(rest) > 0 {
		return target{kind: missing}
	}
	return t
}

func findHost(rest []string, endpoints func(id string) (region.Endpoints, bool)) target {
	if len(rest) == 0 {
		return target{kind: empty}
	}
	if len(rest) == 1 {
		if e, ok := endpoints(rest[0]); ok {
			return target{kind: host, addrs: hostAddrs(e)}
		}
	}
	return target{kind: missing}
}

// hostAddrs are the different addresses of the listeners.
func hostAddrs(e region.Endpoints) []netip.Addr {
	var out []netip.Addr
	add := func(a netip.AddrPort) {
		if a.IsValid() && !slices.Contains(out, a.Addr()) {
			out = append(out, a.Addr())
		}
	}
	for _, a := range []netip.AddrPort{e.Long, e.Short, e.Web} {
		add(a)
	}
	for _, l := range e.Named {
		add(l.Address)
		add(l.Other)
	}
	return out
}

// nodeAddrs is the address of a DNS node; none when it is given by name.
func nodeAddrs(n region.Node) []netip.Addr {
	if a, err := netip.ParseAddrPort(n.Address); err == nil {
		return []netip.Addr{a.Addr().Unmap()}
	}
	return nil
}

func numbered(label, prefix string, bits int) (uint64, bool) {
	digits, ok := strings.CutPrefix(label, prefix)
	if !ok {
		return 0, false
	}
	return number(digits, bits)
}

// number reads a decimal number from 1 that is written in the only way.
func number(s string, bits int) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, bits)
	return n, err == nil && n > 0 && s[0] != '0'
}
