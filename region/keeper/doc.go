// Package keeper holds the newest world of one node.
//
// Guarantee: [Keeper.View] only ever shows a world that was verified against
// the key pinned at install and took effect, and what it showed it has on disk.
// A hint, a claim, a forged or a stale world changes nothing.
//
// # Over HTTP, on the node's admin listener
//
//	GET  /world             the newest envelope, JSON; ETag is the world's hash
//	POST /world             offers an envelope; 200 when it is now known, else why not
//	POST /world/accept      asks a voter to accept a signed world; answers its
//	                        acceptance, which is on disk before it is answered
//	GET  /world/chain       the envelopes after version ?after=N, oldest first; all of
//	                        them when ?hash= names a newest world this node lacks
//	GET  /world/standing    what the voter holds and accepted, signed together with ?nonce=
//	GET  /overlay           batches after ?after=N, see [Batch]; for nodes of the world only
//	POST /overlay           offers one batch; for nodes of the world only
//
// Worlds and acceptances need no authentication of who carries them: they
// prove themselves.
//
// # On disk
//
// DIR/worlds/VERSION-HASH.json is an envelope, one file per world ever taken
// up, losers of forks included; at start they are applied again. DIR/ballot.json
// is what the voter accepted. DIR/overlay.log is described at [Batch]. Files are
// written beside their place, synced, renamed, and the directory is synced.
package keeper
