package access

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// codec is how a front writes frames and reads bodies.
type codec interface {
	encode(m wire.Method, f wire.Flags, sequence uint64, body proto.Message) ([]byte, error)
	decode(f wire.Frame, body proto.Message) error
}

type state int

const (
	expectHello state = iota
	expectReauth
	ready
)

// session is one client's connection above its front: the handshake, then
// requests, then the end. One goroutine feeds it frames by handle; requests run
// in goroutines of their own, which finish waits for.
//
// Invariants:
//
//  1. Nothing but Hello and Reauth is accepted before the device key is proven.
//  2. Sends of a connection are executed in the order they came.
//  3. At most MaxInFlight requests are worked on; the feeder waits beyond.
type session struct {
	s       *Server
	front   string
	service region.Service
	codec   codec
	out     *outbox
	ctx     context.Context // ends when the connection does
	cancel  context.CancelFunc
	kill    func()      // closes the connection at once; may be nil
	pop     string      // ID of the POP that relays, as its PROXY header says
	leaving atomic.Bool // told to go; frames are no longer read

	// Of the feeding goroutine.
	state    state
	bad      int
	lastSend chan struct{} // closed when the last Send is done
	inFlight chan struct{}
	work     sync.WaitGroup
	holds    bool // the newest request waits in job for the feeder to run it
	job      func()

	// Fixed once ready.
	caller       core.Caller
	connectionID [16]byte  // ID; the client's
	hello        *v1.Hello // nil once the device key is proven
	epoch        region.Epoch
	id           uint64        // set by Presence
	since        time.Time     // set by Presence
	beat         time.Duration // between heartbeats

	mu     sync.Mutex
	device core.Device
	nonce  []byte // outstanding; nil when none
	expiry *time.Timer
}

func (s *Server) newSession(front string, service region.Service, c codec, caller core.Caller) *session {
	n := &session{s: s, front: front, service: service, codec: c, out: newOutbox(s.o.MaxQueue), caller: caller}
	// Not of the server's: a hundred thousand children of one context cost memory
	// and a lock, and the server's end ends every connection anyway.
	n.ctx, n.cancel = context.WithCancel(context.Background())
	s.m.accepted.WithLabelValues(front).Inc()
	return n
}

// errLeaving ends the feeding of a session that was told to go.
var errLeaving = errors.New("access: the session is over")

// handle takes one frame from the client. The frame's body is not kept. An
// error ends the session; it was already sent to the client.
func (n *session) handle(f wire.Frame) error {
	if n.leaving.Load() {
		return errLeaving
	}
	if f.Flags != 0 {
		return n.fatal("bad-frame", region.Errorf(region.BadInput, "%s from a client carries flags %#04x; a request has none", f.Method, uint16(f.Flags)))
	}
	var err error
	switch n.state {
	case expectHello:
		err = n.onHello(f)
	case expectReauth:
		err = n.onProof(f)
	default:
		return n.onRequest(f)
	}
	if err != nil {
		n.respondError(f, err)
		n.shutdown()
	}
	return err
}

func (n *session) onHello(f wire.Frame) error {
	if f.Method != wire.Hello {
		return n.s.reject("no-hello", region.Errorf(region.BadInput, "%s before Hello", f.Method).WithHint("begin with Hello"))
	}
	h := new(v1.Hello)
	if err := n.codec.decode(f, h); err != nil {
		return n.s.reject("bad-hello", err)
	}
	switch {
	case h.WireVersion != wire.Version:
		return n.s.reject("wire-version", region.Errorf(region.Unsupported, "wire version %d; this region speaks %d", h.WireVersion, wire.Version).WithHint("update the app"))
	case h.Uin == 0 || len(h.DeviceKeyId) != 8 || len(h.ConnectionId) != 16 || len(h.Platform) > 32:
		return n.s.reject("bad-hello", region.Errorf(region.BadInput, "Hello needs a UIN, 8 bytes of device key ID, 16 of connection ID, and a platform of at most 32"))
	}
	n.hello, n.connectionID = h, [16]byte(h.ConnectionId)
	n.caller.UIN = region.UIN(h.Uin)
	n.caller.DeviceKeyID = [8]byte(h.DeviceKeyId)
	n.caller.ClientVersion = h.ClientVersion
	n.caller.Platform = h.Platform
	n.s.hint(h.WorldVersion)

	p, err := n.s.admit(n.service, n.caller, h.WorldVersion)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(n.s.ctx, n.s.o.Request)
	defer cancel()
	d, err := n.s.authenticate(ctx, h.Ticket, n.caller.UIN, h.DeviceKeyId)
	if err != nil {
		return err
	}
	n.device, n.epoch = d, p.Epoch
	n.nonce = newNonce()
	n.state = expectReauth
	n.respond(f, wire.Hello, &v1.HelloReply{
		WireVersion: wire.Version, Nonce: n.nonce, Region: string(n.s.o.Region),
		Epoch: wire.EpochToProto(p.Epoch), WorldVersion: n.s.version(), Pop: n.pop,
	})
	return nil
}

func (n *session) onProof(f wire.Frame) error {
	if f.Method != wire.Reauth {
		return n.s.reject("no-proof", region.Errorf(region.BadInput, "%s before the proof of the device key", f.Method).WithHint("answer HelloReply with Reauth"))
	}
	r := new(v1.Reauth)
	if err := n.codec.decode(f, r); err != nil {
		return n.s.reject("bad-proof", err)
	}
	if err := n.check(r, n.nonce); err != nil {
		return err
	}
	n.nonce = nil
	n.beat = n.s.o.heartbeatOf(n.caller.Address)
	n.state = ready
	n.inFlight = make(chan struct{}, n.s.o.MaxInFlight)
	if displaced := n.s.o.Presence.add(n); displaced != nil {
		n.s.m.cutOff.WithLabelValues("displaced").Inc()
		displaced.shutdown()
	}
	// The world may have changed since Hello, before Presence could tell the
	// watcher of this session.
	if _, err := n.s.admit(n.service, n.caller, 0); err != nil {
		return err
	}
	// So may the device's standing: it is revoked before Presence is told.
	ctx, cancel := context.WithTimeout(n.s.ctx, n.s.o.Request)
	defer cancel()
	if _, err := n.s.authenticate(ctx, n.hello.Ticket, n.caller.UIN, n.hello.DeviceKeyId); err != nil {
		return err
	}
	n.hello = nil
	n.mu.Lock()
	n.armExpiry()
	n.mu.Unlock()
	n.respond(f, wire.Reauth, n.reauthReply())
	return nil
}

// check verifies a proof of the device key.
func (n *session) check(r *v1.Reauth, nonce []byte) error {
	if nonce == nil {
		return n.s.reject("bad-proof", region.Errorf(region.Unauthenticated, "no proof was asked for").WithHint("wait for Reauth from the server"))
	}
	err := wire.CheckReauth(r, nonce, n.device.PublicKey, string(n.s.o.Region), n.epoch, n.connectionID[:], n.caller.UIN)
	if err != nil {
		return n.s.reject("bad-proof", err)
	}
	return nil
}

func (n *session) reauthReply() *v1.ReauthReply {
	return &v1.ReauthReply{HeartbeatSeconds: n.heartbeatSeconds(), TicketExpiresUnix: n.device.Expires.Unix()}
}

func (n *session) heartbeatSeconds() uint32 { return uint32(n.beat / time.Second) }

// idle is how long a proven client may be silent.
func (n *session) idle() time.Duration { return n.beat * 5 / 2 }

// onRequest is handle for a proven client.
func (n *session) onRequest(f wire.Frame) error {
	switch f.Method {
	case wire.Heartbeat:
		h := new(v1.Heartbeat)
		if err := n.codec.decode(f, h); err != nil {
			return n.refuse(f, err)
		}
		n.s.hint(h.WorldVersion)
		n.respond(f, f.Method, &v1.HeartbeatReply{WorldVersion: n.s.version(), HeartbeatSeconds: n.heartbeatSeconds()})
		return nil
	case wire.Reauth:
		r := new(v1.Reauth)
		if err := n.codec.decode(f, r); err != nil {
			return n.refuse(f, err)
		}
		if err := n.renew(r); err != nil {
			return n.refuse(f, err)
		}
		n.mu.Lock()
		reply := n.reauthReply()
		n.mu.Unlock()
		n.respond(f, f.Method, reply)
		return nil
	}
	h, ok := n.s.handlers[f.Method]
	if !ok {
		return n.refuse(f, region.Errorf(region.Unsupported, "a client cannot ask for %s", f.Method).WithHint("update the app, or the region"))
	}
	do, err := h(func(m proto.Message) error { return n.codec.decode(f, m) })
	if err != nil {
		return n.refuse(f, err)
	}
	select {
	case n.inFlight <- struct{}{}:
	default:
		n.pass() // what waits for this feeder may be what has to end first
		select {
		case n.inFlight <- struct{}{}:
		case <-n.ctx.Done():
			return n.ctx.Err()
		}
	}
	var after, done chan struct{}
	if f.Method == wire.Send {
		after, done = n.lastSend, make(chan struct{})
		n.lastSend = done
	}
	f.Body = nil // the feeder's
	n.work.Add(1)
	if r, ok := do.request.(*v1.SendRequest); ok && n.s.sender != nil {
		n.dispatch(func() {
			if after != nil {
				<-after
			}
			n.send(f, r)
			close(done)
		})
		return nil
	}
	n.dispatch(func() {
		defer n.work.Done()
		defer func() { <-n.inFlight }()
		if done != nil {
			defer close(done)
		}
		if after != nil {
			<-after
		}
		resp, err := n.s.serve(n.ctx, n.front, n.service, f.Method, n.caller, do)
		if err != nil {
			n.respondError(f, err)
			return
		}
		n.respond(f, f.Method, resp)
	})
	return nil
}

// dispatch runs a request: in a worker, or, where the feeder holds the newest,
// when the feeder has nothing else to do.
func (n *session) dispatch(job func()) {
	if !n.holds {
		n.s.workers.do(job)
		return
	}
	n.pass()
	n.job = job
}

// pass gives the request that waits for the feeder to a worker.
func (n *session) pass() {
	if job := n.job; job != nil {
		n.job = nil
		n.s.workers.do(job)
	}
}

// serve makes one call of the core, for every front.
func (s *Server) serve(ctx context.Context, front string, service region.Service, m wire.Method, c core.Caller, do call) (resp proto.Message, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Request)
	defer cancel()
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			resp, err = nil, s.panicked(m, r)
		}
		s.result(front, m, c, err, start)
	}()
	if s.o.Remote != nil {
		resp, err = s.o.Remote.Do(ctx, m, c, do.request)
	} else {
		resp, err = do.local(ctx, s.o.Logic, c)
	}
	if err != nil {
		return nil, s.enrich(service, c, err)
	}
	if r, ok := resp.(*v1.SendResponse); ok && !r.Repeated {
		s.m.messages.Inc()
	}
	return resp, nil
}

// panicked logs a panic and returns what the client is told.
func (s *Server) panicked(m wire.Method, why any) error {
	s.o.Logger.Error("a request panicked", "method", m.String(), "panic", fmt.Sprint(why), "stack", string(debug.Stack()))
	return region.Errorf(region.Internal, "internal error").WithHint("ask the operator")
}

// result counts a request, and logs what failed here.
func (s *Server) result(front string, m wire.Method, c core.Caller, err error, start time.Time) {
	result := resultOK
	if err != nil {
		result = region.Kind(wire.ToProto(err, 0).Code).String()
		if result == region.Internal.String() {
			s.o.Logger.Error("a request failed", "method", m.String(), "uin", c.UIN, "error", err)
		}
	}
	s.m.served(front, m, result, time.Since(start))
}

// send is serve and respond for a Send that is answered later. It returns when
// the next one may follow.
func (n *session) send(f wire.Frame, r *v1.SendRequest) {
	start, answered := time.Now(), false
	ctx, cancel := context.WithTimeout(n.ctx, n.s.o.Request)
	answer := func(resp *v1.SendResponse, err error) {
		answered = true
		cancel() // not before: the message may wait for the disk for ever
		n.answer(f, resp, err, start)
	}
	defer func() {
		if r := recover(); r != nil && !answered {
			answer(nil, n.s.panicked(f.Method, r))
		}
	}()
	n.s.sender.SendThen(ctx, n.caller, r, answer)
}

// answer ends a Send. It does not block.
func (n *session) answer(f wire.Frame, resp *v1.SendResponse, err error, start time.Time) {
	n.s.result(n.front, f.Method, n.caller, err, start)
	var b []byte
	if err == nil {
		if !resp.Repeated {
			n.s.m.messages.Inc()
		}
		b, err = n.codec.encode(f.Method, wire.FlagResponse, f.Sequence, resp)
	}
	if err != nil {
		b = n.encodeError(f, n.s.enrich(n.service, n.caller, err))
	}
	done := func() {
		<-n.inFlight
		n.work.Done()
	}
	if b == nil {
		done()
		return
	}
	if ok, full := n.out.offer(b); ok || !full {
		done()
		return
	}
	n.s.workers.do(func() { // a client that reads slowly
		n.out.put(b)
		done()
	})
}

// renew takes a client's answer to the server's Reauth.
func (n *session) renew(r *v1.Reauth) error {
	n.mu.Lock()
	nonce := n.nonce
	n.mu.Unlock()
	if err := n.check(r, nonce); err != nil {
		return err
	}
	d := n.device
	if r.Ticket != "" {
		ctx, cancel := context.WithTimeout(n.ctx, n.s.o.Request)
		defer cancel()
		var err error
		if d, err = n.s.authenticate(ctx, r.Ticket, n.caller.UIN, n.caller.DeviceKeyID[:]); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.device, n.nonce = d, nil
	n.armExpiry()
	return nil
}

// armExpiry plans the demand for a new ticket, and the end when none comes.
func (n *session) armExpiry() {
	if n.expiry != nil {
		n.expiry.Stop()
	}
	if n.leaving.Load() {
		return
	}
	left := time.Until(n.device.Expires)
	lead := min(n.s.o.ReauthLead, left/2)
	n.expiry = time.AfterFunc(left-lead, func() {
		nonce := newNonce()
		n.mu.Lock()
		if n.leaving.Load() {
			n.mu.Unlock()
			return
		}
		n.nonce = nonce
		n.expiry = time.AfterFunc(time.Until(n.device.Expires), func() {
			_ = n.fatal("expired", region.Errorf(region.Unauthenticated, "the ticket expired").WithHint("log in with the device key"))
		})
		n.mu.Unlock()
		n.push(wire.Reauth, &v1.Reauth{Nonce: nonce})
	})
}

// refuse answers a bad request; too many of them end the session.
func (n *session) refuse(f wire.Frame, err error) error {
	n.s.m.rejected.WithLabelValues("bad-request").Inc()
	n.respondError(f, err)
	if n.bad++; n.bad < maxBadFrames {
		return nil
	}
	return n.fatal("bad-frames", region.Errorf(region.BadInput, "%d bad requests on one connection", n.bad))
}

func (n *session) respond(f wire.Frame, m wire.Method, body proto.Message) {
	b, err := n.codec.encode(m, wire.FlagResponse, f.Sequence, body)
	if err != nil {
		n.respondError(f, err)
		return
	}
	n.out.put(b)
}

// respondError answers with an error; on the long connection a redirect of
// Hello is a frame of its own kind.
func (n *session) respondError(f wire.Frame, err error) {
	if b := n.encodeError(f, err); b != nil {
		n.out.put(b)
	}
}

// encodeError is nil when the error cannot be encoded.
func (n *session) encodeError(f wire.Frame, err error) []byte {
	p := wire.ToProto(err, n.s.version())
	if p.Redirect != nil {
		n.s.m.redirects.WithLabelValues(n.front).Inc()
	}
	var b []byte
	if f.Method == wire.Hello && p.Redirect != nil {
		b, err = n.codec.encode(wire.Redirect, wire.FlagResponse, f.Sequence, p.Redirect)
	} else {
		b, err = n.codec.encode(f.Method, wire.ErrorFlags(p), f.Sequence, p)
	}
	if err != nil {
		return nil
	}
	return b
}

// push sends a frame nobody asked for. It never blocks; a client whose queue is
// full is cut off.
func (n *session) push(m wire.Method, body proto.Message) bool {
	b, err := n.codec.encode(m, wire.FlagPush, 0, body)
	if err != nil {
		return false
	}
	ok, full := n.out.offer(b)
	if full {
		n.s.m.cutOff.WithLabelValues("slow").Inc()
		n.abort()
	}
	return ok
}

// fatal tells the client why its connection ends, and ends it.
func (n *session) fatal(reason string, err error) error {
	n.s.m.cutOff.WithLabelValues(reason).Inc()
	p := wire.ToProto(err, n.s.version())
	f := wire.FlagPush | wire.FlagError
	if p.Retryable {
		f |= wire.FlagRetryable
	}
	if b, err := n.codec.encode(wire.GoAway, f, 0, p); err == nil {
		n.out.offer(b)
	}
	n.shutdown()
	return err
}

// redirect sends a proven client to another region, and lets it go.
func (n *session) redirect(r *v1.Redirect) {
	n.s.m.redirects.WithLabelValues(n.front).Inc()
	n.push(wire.Redirect, r)
	n.shutdown()
}

// shutdown lets what is queued leave, and then the connection ends.
func (n *session) shutdown() {
	n.leaving.Store(true)
	n.out.close()
}

// abort ends the connection at once.
func (n *session) abort() {
	n.leaving.Store(true)
	n.out.abort()
	n.cancel()
	if n.kill != nil {
		n.kill()
	}
}

// finish is called by the front when no more frames come. It waits for the
// session's requests.
func (n *session) finish() {
	n.leaving.Store(true)
	if n.state == ready {
		n.s.o.Presence.remove(n)
	}
	n.cancel()
	n.out.abort()
	n.mu.Lock()
	if n.expiry != nil {
		n.expiry.Stop()
	}
	n.mu.Unlock()
	n.work.Wait()
}

func newNonce() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return b
}

func asError(err error) *region.Error {
	var e *region.Error
	if errors.As(err, &e) {
		return e
	}
	return region.Errorf(region.Internal, "internal error").WithCause(err)
}
