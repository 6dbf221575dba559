// Package steer holds the one function that says where a client shall connect:
// [Steer]. DNS, HTTPDNS, POPs and redirects all call it, so they agree by
// construction, and its trace says why.
//
// # Guarantees
//
// They are numbered here and cited by the tests that hold them.
//
//  1. Pure: the same view, health and client give the same answer, anywhere.
//     There is no clock, no randomness and no I/O; ties are broken by ID.
//  2. The operator's rules are tried in order; the first that matches and has a
//     usable member in its pool answers. The built-in rule is the last.
//  3. Nothing unhealthy is chosen, unless health leaves nobody of a rule's pool,
//     or of the built-in rule's, and its all-down policy says who then. The answer
//     says by which policy it was given; the built-in rule's is called [AllDown].
//  4. A draining POP gets no new client, whatever the policy.
//  5. Scope: every address that shares the first Scope bits with the client's
//     gets the same answer with the same scope, all else being equal (home,
//     acting region, endpoints and their order, TTL, rule). It covers every rule
//     that was consulted, those that did not match included. So caches that obey
//     RFC 7871 never hand an answer to the wrong client, and the scopes of one
//     name never overlap.
//  6. Choices stick: among equal members a client gets the same one for as long
//     as that can take it, from every node; raising a share or a weight moves
//     only clients towards what was raised, and losing a member moves only its
//     own. UINs are told apart by [Share] with [StickySalt], which is ten
//     thousand classes; networks as IPv4 /24 and IPv6 /56.
//
// # Pools
//
// A pool's members are brought into order, and the healthy ones answer, at most
// the world's number of them:
//
//  1. Who does not offer the service or drains is taken out, and who drains by a
//     share, for that share of the clients.
//  2. Tiers go one after the other. Inside a tier the order is as written;
//     nearest on the map; measured: the round trip through the member to the
//     acting region, as the map has it up to the member and as the nodes' network
//     coordinates have it from there; or weighted.
//  3. Equal members share the clients by weight, if the rule says anything about
//     weight, band or sticky: by order weighted all of a tier are equal, by the
//     others those that are at most a band farther than the nearest of them. Each
//     client draws as many tickets for a member as that has weight, and the best
//     ticket wins.
//  4. Members whose load is above the spill limit go behind all others for a
//     part of the clients, which grows from none at the limit to all at capacity.
//
// When health leaves nobody the rule's policy decides: next goes on with the next
// rule; last-known-good takes those who went down last, within ten seconds (next,
// if none ever was up); everything takes all as if they were healthy; nothing
// answers without endpoints. The built-in rule has the policy of the world's
// steering; its last-known-good is everything where none ever was up.
//
// # How long a failover takes
//
// A world takes effect in answers as soon as a node has it, which is well below a
// second after the push; what lives on is answers that resolvers and clients keep.
// So the time until the last client asks anew is the TTL: that of the rule that
// answered, else the world's steering.ttl (30 in a world file that says nothing,
// 10 in the demo). `homing region failover --dry-run` prints the longest. A
// client behind a POP need not ask at all: the POP follows the world. A dead POP is led around after its health checks fail
// (2.5 s at most), plus the TTL for those who do not try the answer's next address.
//
// # Trying a change
//
// [Simulate] answers clients in two worlds and says what differs; [Faults] finds
// what cannot be meant. Both look at worlds nobody has to have signed.
//
// # The built-in rule
//
// All healthy POPs that do not drain, nearest to the client first (a POP relays
// to any region), then the listeners of the acting region, then those of the
// acting region's backups in their order. A client in an unknown place is
// assumed to be at the acting region.
//
// # Clients without a home
//
// A client that states no UIN, or one that belongs to no region, is a newcomer:
// its home is the nearest region whose acting region is healthy, in the world's
// order when its place is unknown. Match conditions about the UIN, its home or
// its acting region never hold for a client that has none.
package steer
