// Package ids gives out what has to be unique worldwide: account IDs (handles)
// and ranges of UINs. It is the one service all regions ask.
//
// It guarantees:
//
//  1. A handle has at most one owner worldwide, through crashes and restarts:
//     [Store.Claim] is linearizable and durable before it is answered.
//  2. No UIN is allotted twice: ranges are disjoint, lie inside a segment of the
//     world, and the same key gives the same range for ever.
//  3. An owner has at most one primary handle. Claiming another one moves it; the
//     earlier handles stay reserved to their owner for ever and keep resolving,
//     with the primary one named beside them.
//  4. Only a region may ask, only for owners it acts for, and only for ranges in
//     segments whose home it acts for ([NewHandler]).
//
// Handles are never released, so whoever has once seen a handle resolve may keep
// the answer: [Client] does, within bounds.
//
// # Protocol
//
// JSON over HTTP POST, signed as region/peer describes. Every request may carry
// the header Homing-World with the version of the caller's world.
//
//	POST /ids/v1/claim    {"handle":"alice","owner":1000001}  -> {"handle":"alice","owner":1000001,"primary":"alice"}
//	POST /ids/v1/resolve  {"handle":"alice"}                  -> {"handle":"alice","owner":1000001,"primary":"alice"}
//	POST /ids/v1/allot    {"key":"k1","n":100,"home":"sh"}    -> {"first":1000001,"last":1000100}
//
// In allot, home may be left out: it is then the caller's own. Errors have the
// HTTP status of their kind and the body
//
//	{"code":6,"name":"conflict","message":"...","hint":"...","retryable":false}
//
// where code is a region.Kind. Every call may be repeated when its outcome is
// not known.
package ids
