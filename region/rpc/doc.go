// Package rpc is how the processes of one region call each other: access calls
// logic, logic calls the store, everybody tells presence.
//
// It guarantees that
//
//   - both ends have proven that they hold the region's key, the one the newest
//     world names, before anything else is read; behind TLS the proof is bound
//     to that very TLS connection;
//   - a call returns its answer, or an error that says whether the other end may
//     have begun with it ([Sent]), and never later than its context ends;
//   - the caller's deadline travels with the call, and its cancellation too;
//   - what one end tells arrives in the order it was told, or the connection is
//     over; telling never blocks;
//   - a server that closes first says so, refuses what comes afterwards in a way
//     that is safe to repeat elsewhere, and finishes what it has begun;
//   - neither end can make the other hold more than the stated limits.
//
// Without TLS it is for loopback: there is no encryption of its own.
//
// # Bytes
//
// All integers are big-endian. A frame is
//
//	offset  size  field
//	0       4     length of the body, bytes; at most 4,194,304
//	4       1     kind
//	5       1     zero
//	6       2     method
//	8       8     sequence of the call; 0 in tell and bye
//	16      4     timeout of a request, milliseconds; 0 is none; else zero
//	20      ...   body
//
// Kinds: 1 hello (RPCHello), 2 proof (RPCProof), 3 ready, 4 request,
// 5 response, 6 error (homing.v1.Error: what the handler answered), 7 refused
// (homing.v1.Error: the handler was not asked), 8 tell, 9 cancel, 10 bye (no
// new requests, please).
//
// The one that dials sends hello; the one that listens answers with proof; the
// one that dials sends its proof; the one that listens sends ready. A proof is
// an ed25519 signature by the region's key over
//
//	"homing.rpc.v1\0"  role ("listen" or "dial")  region  name of the one that dials
//	name of the one that listens  nonce of the one that dials  nonce of the one that listens
//	channel
//
// each but the first preceded by its length in four bytes. channel is empty
// without TLS, else 32 bytes of exported keying material (RFC 5705, RFC 8446
// section 7.5) under the label "EXPORTER-homing-rpc".
//
// Calls are numbered by the one that dials, from 1, growing. Both ends may tell;
// only the one that dials calls.
package rpc
