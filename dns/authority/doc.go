// Package authority is the name server: it answers for the world's zone over
// UDP, TCP and HTTP with what dns/steer decides.
//
// # Guarantees
//
//   - Every transport gives the same client the same answer: all of them ask
//     steer with the same view, health and facts. /explain says why.
//   - A packet is checked byte by byte before anything else sees it. What is
//     malformed is counted, and answered as the RFCs say or dropped; a response
//     is never answered.
//   - The cost of a packet is bounded, and so are connections and their idle
//     time. Packets are handled by a fixed number of goroutines.
//   - An answer over UDP has at most 1232 bytes (or less, if the client says
//     so); what does not fit is marked truncated.
//   - Until the node has a world the answer is SERVFAIL, never a guess.
//
// # Names
//
// Below the zone, in any case of letters, which the answer preserves:
//
//	<service>                       long, short or web: steered by address
//	v-<version>.<service>           and by client version
//	u-<uin>.<service>               and by UIN
//	u-<uin>.v-<version>.<service>   and by both
//	<pop-id>.pop, <region>.region   the addresses of one POP or region
//	ns1, ns2, ...                   the DNS nodes of the world, in its order
//
// Steered names have A and AAAA records, and SRV records whose priorities keep
// the order of preference and whose ports are real. Numbers are decimal without
// leading zeros, so that a client has one name and resolvers cache it once.
//
// # Client subnet (RFC 7871)
//
// The client is the network in the option, else the resolver itself. The
// answer's scope is what steering consulted. Negative answers have scope 0
// (section 7.4), as has everything that is not steered. Source length 0 is
// answered with scope 0. An option with another number of octets than its
// length needs, set bits beyond it, a scope in the query, or an unknown family
// is a format error.
//
// # HTTPDNS
//
//	GET /d?host=long.demo.test&uin=&ver=&ip=&platform=
//	GET /resolve?name=&type=A&edns_client_subnet=
//	GET /explain?uin=&ver=&ip=&service=&platform=&format=
//
// The first is for client SDKs, the second has the JSON of public DNS-over-HTTPS
// resolvers, the third returns the trace as JSON and text (format=text: text
// alone). All parameters but host and name may be left out; ip, an address or
// network, defaults to the peer's address. A bad parameter is answered with 400
// and {"error", "hint"}. The answer of the first:
//
//	{"host": "long.demo.test", "endpoints": ["192.0.2.1:7100", "[2001:db8::1]:7100"],
//	 "ips": ["192.0.2.1", "2001:db8::1"], "pops": ["pop-1", "pop-3"], "home": "hk", "acting": "hk",
//	 "ttl": 30, "scope": "223.5.5.0/24", "rule": "built-in", "world": 7}
//
// endpoints and ips are in order of preference; pops has the endpoints that are
// POPs; home and acting are the user's, or without a UIN those of the region chosen
// for the address; ttl is in seconds; scope is the network of clients that the
// answer holds for.
package authority
