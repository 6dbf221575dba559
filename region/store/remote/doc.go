// Package remote gives several processes of a region one store: the process
// that has the engine serves it, the logic processes read and commit over
// region/rpc.
//
// # Why logic shares a store in this way
//
// A partition is committed by one process at a time, and the embedded engine is
// opened by one process. Logic processes that owned partitions would have to hand
// them over at every restart, and somebody would have to decide who owns what
// now; requests would wait for both. So logic owns nothing: whatever it
// remembers (the newest sequences of inboxes, a lease of UINs, used nonces) is
// either checked by the preconditions of the commit or worth nothing to anybody
// else. Any logic process can serve any owner at any time, and be gone the next
// moment. Consistent hashing of owners makes conflicts between two of them rare;
// it is not what makes them harmless.
//
// What needs the journal stays beside it, in the process that has the store: the
// commands of the journal are executed there, the replicator reads and applies
// there, the fence is raised there.
//
// # Guarantee
//
// A [Rows] is a store.Rows: what it acknowledges is durable at the server, with
// the same errors. An answer lost on the way is region.Unavailable and its
// outcome unknown, as with any store; reads are asked again. While there is
// no connection, calls wait for one until their context ends. A Scan is one
// moment for its first [ScanBytes], and goes on at a later moment behind them.
package remote
