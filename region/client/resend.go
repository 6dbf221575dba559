package client

import (
	"context"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// Send sends a message and blocks until a region has stored it; an empty
// ClientMessageId is set in req, so that the caller can keep it.
//
// The message is kept (Options.Dir) until its region's backup holds it as well,
// and is sent again under the same ID when another epoch begins before: however
// often it is sent, it is stored once. When ctx ends first the error is
// region.Unavailable and the message is still kept: it leaves as soon as there
// is a connection, of this client or of a later one on the same directory,
// unless it is taken back with [Client.Forget]. Any other error is the region's
// refusal, and then the message is forgotten.
func (c *Client) Send(ctx context.Context, req *v1.SendRequest) (*v1.SendResponse, error) {
	req.ClientMessageId = orNew(req.ClientMessageId)
	if err := c.outbox.keep(req); err != nil {
		return nil, err
	}
	return c.send(ctx, req)
}

// send is one try of a message in the outbox.
func (c *Client) send(ctx context.Context, req *v1.SendRequest) (*v1.SendResponse, error) {
	resp := new(v1.SendResponse)
	epoch, err := c.call(ctx, wire.Send, req, resp)
	if err != nil {
		c.outbox.done(req.ClientMessageId, epoch, nil, refused(err))
		return nil, err
	}
	c.outbox.done(req.ClientMessageId, epoch, resp, false)
	return resp, nil
}

// refused says whether a message would meet the same error again. A device that
// is not let in says nothing about its messages.
func refused(err error) bool {
	k := region.KindOf(err)
	return !k.Retryable() && k != region.Unauthenticated
}

// Kept is a message that is not known to be safe: see [Client.Send].
type Kept struct {
	Request *v1.SendRequest
	Stored  bool // a region has acknowledged it; its backup may not have it yet
}

// Outbox returns the messages that are kept, in the order they were sent.
func (c *Client) Outbox() []Kept {
	var list []Kept
	for _, k := range c.outbox.all() {
		list = append(list, Kept{Request: k.req, Stored: k.acked})
	}
	return list
}

// Forget takes a message out of the outbox: it is not sent again. What a region
// has stored stays; see [Client.Recall].
func (c *Client) Forget(clientMessageID string) { c.outbox.forget(clientMessageID) }

// tend looks after the outbox while a connection lasts: what another epoch
// acknowledged, and what nobody did, is sent again in order; and the region is
// asked how much its backup holds when no Sync of the app's has told.
func (c *Client) tend(ctx context.Context, cn *conn) {
	t := time.NewTimer(c.o.Settle)
	defer t.Stop()
	idle, left := true, cn.left
	for {
		at, epoch := cn.place()
		for _, req := range c.outbox.due(epoch) {
			if err := c.outbox.keep(req); err != nil {
				continue // forgotten and used again meanwhile
			}
			r, err := c.send(ctx, req)
			switch {
			case err == nil:
				c.emit(Event{Kind: Resent, MessageID: req.ClientMessageId, Region: at, Repeated: r.Repeated})
			case ctx.Err() != nil:
				return
			case refused(err):
				c.emit(Event{Kind: Refused, MessageID: req.ClientMessageId, Err: err})
			}
		}
		if left {
			c.settle(ctx)
			left = false
		}
		settle := t.C
		switch empty := c.outbox.empty(); {
		case empty:
			idle, settle = true, nil
		case idle:
			idle = false
			t.Reset(c.o.Settle)
		}
		select {
		case <-c.outbox.wake:
		case <-settle:
			c.settle(ctx)
			t.Reset(c.o.Settle)
		case <-ctx.Done():
			return
		}
	}
}

// settle asks how much the backup holds, with a Sync that brings at most one
// change and whose snapshot is thrown away.
func (c *Client) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c.mu.Lock()
	snapshot := c.snapshot
	c.mu.Unlock()
	r := new(v1.SyncResponse)
	epoch, err := c.call(ctx, wire.Sync, &v1.SyncRequest{Snapshot: snapshot, MaxBytes: 1}, r)
	if err != nil {
		if ctx.Err() == nil {
			c.o.Logger.Warn("it is not known what the backup holds", "error", err)
		}
		return
	}
	c.outbox.held(epoch, r.Held)
}
