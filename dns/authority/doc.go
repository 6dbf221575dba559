// Package authority is the name server: it answers for the world's zone over
// UDP, TCP, TLS, QUIC, HTTP and HTTPS with what dns/steer decides.
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
//   - What is answered from memory, over UDP or HTTPDNS, has the very bytes that
//     the library would answer; a new world, health or geo database empties the memory.
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
// the order of preference and whose ports are real; SVCB records say the same with
// the addresses in them (RFC 9460), and short and web, which are HTTP, have HTTPS
// records. Numbers are decimal without
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
// # The way of a packet
//
// Each UDP address has a socket per processor, and each socket a worker, which
// takes and sends many packets per system call. A [plan] is all that an answer
// depends on: world, health, geo databases. It sorts UINs and versions into
// classes that no rule tells apart, so that a worker can keep the answer of a
// class for the network that the answer's scope covers, and give it to the next
// client without allocating; signed ones likewise, of names without a UIN, for an
// hour. What is rare (other types, wrong packets, DO and a UIN in a
// signed zone) takes the way through the library, as does all that comes by
// another transport, but for GET /d in its common form: the JSON of a class is kept
// behind the host and the client, which are all that its clients differ in.
//
// # Cookies and rates
//
// A client that sends a cookie (RFC 7873) gets a server cookie (RFC 9018); a
// question for a cookie alone is answered. UDP answers to a network without a good
// cookie are limited, by [RateLimit]: so many per second, and to no more bytes than it
// asks with, so that forged questions do not make the server a weapon at any rate. What
// is longer is cut to the head and the question, marked truncated; a network that then
// comes by TCP is believed for some ten thousand answers. Who has sent a client cookie
// is told BADCOOKIE instead, where that is no longer either. At higher rates most are
// dropped. CHAOS questions are refused. Refusals say why
// (RFC 8914), and NSID (RFC 5001) says which node answers if it is to.
//
// # DNSSEC
//
// With keys the zone is signed at the time of the question, if that has the DO
// bit: ECDSA P-256, and one NSEC right behind the name for what does not exist
// (RFC 9824: such a name is answered NOERROR, with NXNAME in the bitmap). A
// signed answer has no additional records. CDS and CDNSKEY ask the parent for
// every published key. A name too long to have one right behind it is
// answered SERVFAIL with DO.
//
// Keys are rolled while the zone is served: see [KeyRing].
//
// # What is asked
//
// [Server.Top] knows who asks most, for whom and for what, in bounded memory and
// at any rate: of a busy second's questions it counts a sample. The query log has
// every so many'th question, with the rule that answered it, as a line of JSON or by
// another [QueryLog]; it never holds an answer up, and counts the lines that it dropped.
//
// # Beside the present server
//
// With [Options.Shadow] clients get what the present server answers, asked in
// their name by client subnet, while this one compares what it would have said:
// [Server.Differences] and a metric tell. Where the present server is silent the
// answer is SERVFAIL. Answers over UDP are the present server's in length, too: [RateLimit]
// does not apply.
//
// # Zone files and transfers
//
// Zones from master files ([static]) are answered next to the world's. A file of
// the world's own zone adds names that the world does not have, and types at the
// zone's name (MX, TXT, CAA); an alias in it may lead to a steered name. Only
// the world's zone is signed, what the file adds included.
//
// Who signs the request with a transfer key (TSIG, RFC 8945) gets whole zones
// over TCP or TLS (AXFR, RFC 5936), or what has changed since the serial it has
// (IXFR, RFC 1995, also over UDP where it fits a packet), and
// secondaries are told of new serials (NOTIFY, RFC 1996). The changes of the last 64
// versions are kept in memory, up to 4 MiB and no more than the zone itself has; who is further behind
// gets the whole zone, as after a restart. The world's serial is
// its version; steered names are transferred as for a client of whom nothing is
// known while everything works, also where the question has UIN and version: nodes
// with the same world have the same zone. A signed zone is transferred
// with its keys, signatures and a whole chain of NSEC records, and has another
// serial every hour, with signatures made anew: then the changes are the zone.
//
// # DNS over TLS, HTTPS and QUIC
//
// DoT (RFC 7858), DoH (RFC 8484, at /dns-query; uin, ver and platform as further
// parameters) and DoQ (RFC 9250, without
// 0-RTT) answer as TCP does, padded to 468 bytes when the query is padded
// (RFC 8467). HTTPDNS is served on the
// HTTPS listeners as well, and /dns-query on the HTTP ones, for proxies that end
// TLS; the client is then the proxy, unless the question states a subnet.
//
// # HTTPDNS
//
//	GET /d?host=long.demo.test&uin=&ver=&ip=&platform=
//	GET /resolve?name=&type=A&edns_client_subnet=&uin=&ver=&platform=
//	GET /resolve?host=a,b&uin=&ver=&ip=&query=
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
// answer holds for; client_ip is who was answered for, hints say the endpoints as
// SVCB records do, and a question with query (4, 6 or 4,6) has ips and ipsv6 apart.
// The third form of the list answers {"dns": [...]} for up to five hosts, or for
// one host and up to five addresses.
//
// A question with a nonce is answered with a signature (region/answer) by a key
// that the acting region granted to this node, so that clients verify it.
//
// # HTTPDNS as others speak it
//
//	GET /<account>/d?host=&query=&ip=           /<account>/sign_d?host=&t=&s=
//	GET /<account>/resolve?host=a,b&ip=         /<account>/sign_resolve?host=&t=&s=
//	GET /<account>/ss                           the HTTPDNS nodes
//	GET /v2/d?id=&dn=a,b&q=4,6&m=0&cip=&exp=&s= signed with HMAC-SHA-256
//	GET /d?dn=&ip=&ttl=1                        plain text
//
// Existing client libraries work when they are pointed here. Any name of any zone
// is answered; uin, ver and platform may be given as they are or with "sdns-" in
// front. With accounts, others' questions are refused, and with SignedOnly all
// that are not signed; see [Account]. Errors carry the providers' codes.
package authority
