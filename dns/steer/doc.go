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
//  3. Nothing unhealthy is chosen, unless health leaves nobody at all and the
//     world's all-down policy says "everything". Then the rule is [AllDown].
//  4. A draining POP gets no new client, whatever the policy.
//  5. Scope: every address that shares the first Scope bits with the client's
//     gets the same answer with the same scope, all else being equal (home,
//     acting region, endpoints and their order, TTL, rule). So caches that obey
//     RFC 7871 never hand an answer to the wrong client, and the scopes of one
//     name never overlap.
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
