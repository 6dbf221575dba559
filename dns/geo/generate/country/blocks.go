package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// list is one of the two lists of ranges. Addresses are numbers here: of IPv4
// whole, of IPv6 the upper 64 bits.
type list struct {
	name  string
	shift uint // bits of such a number within a block
	parse func(string) (uint64, error)
	bytes func(uint64) []byte // the inverse, with zeros for what is not in the number
}

// A block is the smallest network that the database tells apart, /24 and /48:
// resolvers do not name their clients' networks more exactly than /24 and /56
// (RFC 7871 section 11.1), and half of the lists is about less than a block.
var (
	ipv4 = list{"geoip", 8, decimal, func(n uint64) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }}
	ipv6 = list{"geoip6", 16, upper, func(n uint64) []byte { return append(binary.BigEndian.AppendUint64(nil, n), make([]byte, 8)...) }}
)

// span is consecutive blocks of one country, both ends included.
type span struct {
	from, to uint64
	country  string
}

// first is the first address of a block.
func (l list) first(block uint64) net.IP { return l.bytes(block << l.shift) }

// last is the last address of a block.
func (l list) last(block uint64) net.IP {
	ip := l.bytes(block<<l.shift | (1<<l.shift - 1))
	if len(ip) == net.IPv6len {
		for i := range ip[8:] {
			ip[8+i] = 0xff
		}
	}
	return ip
}

// blocks reads lines "first,last,country", in order and disjoint, and gives each
// block to the country that has most of it.
func (l list) blocks(text []byte) ([]span, error) {
	var runs []span
	shares := map[uint64]map[string]uint64{} // of blocks that are not one country's: addresses by country
	share := func(block uint64, country string, n uint64) {
		if shares[block] == nil {
			shares[block] = map[string]uint64{}
		}
		shares[block][country] += n
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ",")
		if len(f) != 3 {
			return nil, fmt.Errorf("%s line %d: %q is not first,last,country", l.name, n, line)
		}
		from, err1 := l.parse(f[0])
		to, err2 := l.parse(f[1])
		if err1 != nil || err2 != nil || to < from {
			return nil, fmt.Errorf("%s line %d: %q does not begin with a range of addresses", l.name, n, line)
		}
		size := uint64(1) << l.shift
		for from <= to {
			block := from >> l.shift
			end := (block+1)<<l.shift - 1
			if from%size != 0 || to < end { // a part of a block
				share(block, f[2], min(to, end)-from+1)
				from = end + 1
				continue
			}
			last := (to+1)>>l.shift - 1
			runs = append(runs, span{block, last, f[2]})
			from = (last + 1) << l.shift
		}
	}
	for block, countries := range shares {
		most := ""
		for c, n := range countries {
			if m := countries[most]; n > m || n == m && c < most {
				most = c
			}
		}
		runs = append(runs, span{block, block, most})
	}
	slices.SortFunc(runs, func(a, b span) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	return runs, lines.Err()
}

// decimal is an IPv4 address written as one number.
func decimal(s string) (uint64, error) { return strconv.ParseUint(s, 10, 32) }

// upper is the upper half of an IPv6 address.
func upper(s string) (uint64, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() {
		return 0, fmt.Errorf("%q is no IPv6 address", s)
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), nil
}
