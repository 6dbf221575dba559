// Package presence knows which users of a region are connected, on which
// devices, and to which access process; and brings notices there.
//
// Presence nodes hold UINs by segment: [SegmentSize] numbers in a row belong to
// one primary and one backup node, chosen by rendezvous hashing of the nodes'
// names. Access processes announce their connections to the primary, or to the
// backup while the primary cannot be reached; the two tell each other what they
// heard first-hand, each through a queue. Logic asks, and sends its notices, in
// the same order.
//
// It guarantees that
//
//   - what a node knows is a set that only grows more certain ([Table]): a
//     connection is there, then it is gone, and an access process's newer start
//     ends all of an older one. So it does not matter in which order, how often or
//     by which way a node hears of something, and two nodes that have heard the
//     same are equal;
//   - a node that lost its memory is told everything again, by the other node of
//     each segment and by every access process: it loses nobody who is still
//     connected;
//   - connections of an access process that is not heard of any more, by either
//     node, are forgotten after [TTL];
//   - announcing and notifying never block. A notice that cannot be brought is
//     counted and dropped: it is a hint, and the client's next sync has what it was
//     about.
//
// Presence is memory only: no store, no journal, nothing to fail over.
package presence
