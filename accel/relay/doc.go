// Package relay moves bytes between two TCP connections, each plain or TLS, and
// costs next to nothing while there are none.
//
// It guarantees:
//
//  1. A direction that waits for data holds no buffer. Buffers come from a pool
//     when data is there and go back before the next wait ([Conn.Next]).
//  2. Bytes are neither changed nor reordered, and a frame put between them by
//     [Frames.Inject] stands between two whole frames of the wire, never inside
//     one.
//  3. One side's half-close reaches the other side as a half-close.
package relay
