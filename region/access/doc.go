// Package access is the front doors of a region: the long connection (the
// frames of region/wire over TLS), the short one (homing.v1.IM by Connect, gRPC
// and gRPC-Web) and the web one (JSON over WebSocket or long polling). All three
// carry the same bodies into the same [Logic].
//
// It guarantees that
//
//   - nobody is served without a ticket and a proof of the device key it is bound
//     to, but for Register, Challenge and Login;
//   - a client of another region is never served and never proxied: it is told
//     where to go, unless this region is behind what the client has heard of, and
//     then it is told to try again;
//   - when the world changes, every client whose owner another region acts for
//     now is sent there;
//   - Sends of one connection reach the logic in the order they were sent;
//   - a silent long connection has no goroutine and no buffer: about 5 KB, 14 KB
//     with TLS (DESIGN.md says where they go, and how it was measured);
//   - a notice never waits for a client, and a client that does not read, sends
//     garbage, or sends nothing costs a bounded amount of memory and time, and
//     nobody else anything;
//   - Close tells clients to go, lets them, and returns when every goroutine has
//     ended.
//
// What is refused is counted by reason in homing_access_rejected_total (before
// anything was served) and homing_access_cut_off_total (connections ended).
//
// # Behind a POP
//
// Before TLS a connection may begin with a PROXY header (v1 or v2) from one of
// Options.Proxies. It gives the client's address; TLV 0xE0 of v2 gives the POP's
// ID, which the client reads in HelloReply.pop. On short and web the last element
// of X-Forwarded-For, from the same addresses, does as well.
//
// # Web
//
// A frame is a JSON envelope:
//
//	{"method": "Send", "sequence": 3, "body": {...}}                     a request
//	{"method": "Send", "sequence": 3, "response": true, "body": {...}}   its answer
//	{"method": "Send", "sequence": 3, "response": true, "error": {...}}  or its error, a homing.v1.Error
//	{"method": "Notice", "push": true, "body": {...}}                    unasked, from the server
//
// Methods are named as in region/wire: Hello, Reauth, Heartbeat, and those of
// homing.v1.IM. Bodies are proto3 JSON: bytes in base64, 64-bit numbers as
// strings. The handshake is the long connection's: Hello, its answer with the
// nonce, Reauth with the signature, its answer with the heartbeat; the bytes signed
// are those of the connection proof in region/wire. An envelope that cannot be is
// answered with a push of GoAway that has an error, and ends the session.
//
// WebSocket, at /ws: one envelope per text message, at most 1 MiB of body.
//
// Long polling, at /poll: POST
//
//	{"session": "", "wait_milli": 20000, "envelopes": [{...}, ...]}
//
// which is answered with
//
//	{"session": "...", "envelopes": [{...}, ...]}
//
// The first request has no session and brings Hello; the session of its answer
// goes into every further request, and is a secret like a password: it stands for
// the proven device. The envelopes of a request are fed in order; the answer
// comes when the server has something to say, or after wait_milli (at most
// 25,000). A second request may be made while one waits, with wait_milli 0 to
// send at once; of two that wait the older is answered. A session ends 45 s after
// its last request; requests of a session that is over are answered with "over":
// true.
//
// Single calls of homing.v1.IM by Connect are served here as well, for pages that
// need a ticket before they have a session. Pages of this host and of the web
// listeners that the world lists may use all of this, those of other origins need
// to be listed in Options.Origins. A chat page is at /chat/ (package webchat).
package access
