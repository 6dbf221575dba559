package core

import (
	"context"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// recipient is where a message goes.
type recipient struct {
	uin   region.UIN
	home  region.ID
	group bool // known to be one; false also while its account has not arrived here
}

// kind is what is remembered of an account that was seen. It may be gone
// meanwhile: whoever executes a command looks again.
type kind struct {
	epoch region.Epoch // of the owner when it was seen
	group bool         // never changes
}

// reachable finds out where the owner lives and whether it can exist.
//
// An account of another region that has not arrived here yet is accepted, since
// its home alone can tell: when it turns out there that nobody has this UIN,
// the message is kept as a dead letter and its sender is told by a system
// message, "undelivered".
func (c *Core) reachable(ctx context.Context, u region.UIN) (recipient, error) {
	v, err := c.view()
	if err != nil {
		return recipient{}, err
	}
	p, ok := v.Placement(u)
	if !ok {
		return recipient{}, region.Errorf(region.NotFound, "UIN %d belongs to no region", u).WithHint("check the number")
	}
	if k, ok := c.kinds.Get(u); ok && k.epoch == p.Epoch {
		return recipient{uin: u, home: p.Home, group: k.group}, nil
	}
	a, _, err := c.accountOf(ctx, u)
	if err != nil {
		return recipient{}, err
	}
	if a.GetErasedUnixMilli() != 0 {
		return recipient{}, region.Errorf(region.NotFound, "account %d is erased", u).WithHint("the number is not given to anybody else")
	}
	if a != nil {
		c.kinds.Add(u, kind{epoch: p.Epoch, group: a.Group})
	} else if p.Home == c.o.Self || p.Acting == c.o.Self {
		return recipient{}, region.Errorf(region.NotFound, "nobody has UIN %d", u).WithHint("check the number")
	}
	return recipient{uin: u, home: p.Home, group: a.GetGroup()}, nil
}

// Send stores a message in the sender's inbox, together with the command that
// brings it to its target, and answers once both are durable. A repeat under
// the same client message ID returns the first outcome.
//
// A body is a text, a media reference, or a kind of the clients' own; one of a
// kind that this region does not know passes untouched.
//
// Errors: NotFound for a target that cannot exist; Forbidden for a group that the
// caller is no member of; Conflict when the client message ID was used for
// another message; BadInput; TooLarge for a body over its kind's limit (MaxText,
// MaxPreview; 24 KiB in all); Overloaded, retryable after the time that the error
// says, above Options.UserRate or Options.DeviceRate, and when too much waits for
// the target's region already; Unavailable when ctx ends before the message is
// durable: whether it was stored is unknown then, and a repeat under the same
// client message ID is safe.
func (c *Core) Send(ctx context.Context, by Caller, r *v1.SendRequest) (*v1.SendResponse, error) {
	type outcome struct {
		resp *v1.SendResponse
		err  error
	}
	done := make(chan outcome, 1)
	c.SendThen(ctx, by, r, func(resp *v1.SendResponse, err error) { done <- outcome{resp, err} })
	o := <-done
	return o.resp, o.err
}

// maxSending bounds the messages under way, from being accepted to being durable.
// Beyond, senders wait their turn. They would only be stored sooner than what was
// sent before them is delivered: the goroutines that make messages durable and
// deliver them are few, and each waits until everybody else who can run has run.
const maxSending = 1024

// SendThen is Send for a caller who does not wait until the message is durable:
// then is told what Send would return, once, and must not block. SendThen returns
// when the message has its place in the sender's inbox, so that the next one comes
// behind it. ctx bounds both, and has to last until then was called: when it ends
// while the disk hangs, then is told so, and the message becomes durable, or not,
// behind it.
func (c *Core) SendThen(ctx context.Context, by Caller, r *v1.SendRequest, then func(*v1.SendResponse, error)) {
	answer := func(resp *v1.SendResponse, t *txn, err error) {
		if err != nil {
			resp = nil
		} else {
			resp.Mark = c.mark(by.UIN, t.receipt)
			if !resp.Repeated {
				c.m.own.Inc()
			}
		}
		c.m.count("Send", &err)
		then(resp, err)
	}
	id, to, err := c.acceptable(ctx, by, r)
	if err != nil {
		answer(nil, nil, err)
		return
	}
	select {
	case c.sending <- struct{}{}:
	case <-ctx.Done():
		answer(nil, nil, region.Errorf(region.Unavailable, "waiting for messages under way to become durable").WithHint("retry").WithCause(ctx.Err()))
		return
	}
	var resp *v1.SendResponse
	// Who could stop it is the one who answers.
	stop := context.AfterFunc(ctx, func() { answer(nil, nil, undecided(ctx.Err())) })
	err = c.flight(ctx, by.UIN, func(t *txn) (err error) {
		if err = c.exists(by.UIN); err == nil {
			resp, err = t.send(id, to, r)
		}
		return err
	}, func(t *txn, err error) {
		<-c.sending // the disk has it: until then it takes a place, whoever waits
		if stop() {
			answer(resp, t, err)
		}
	})
	if err == nil {
		return
	}
	<-c.sending
	if !stop() {
		return
	}
	if _, grounded := err.(errGrounded); grounded {
		var done *txn
		err = c.asUser(ctx, by.UIN, func(t *txn) (err error) {
			done = t
			if _, err = t.theAccount(); err != nil { // remembered, so that the next one flies
				return err
			}
			resp, err = t.send(id, to, r)
			return err
		})
		answer(resp, done, err)
	} else {
		answer(nil, nil, err)
	}
}

// acceptable checks a message before anything is written.
func (c *Core) acceptable(ctx context.Context, by Caller, r *v1.SendRequest) (id [16]byte, to recipient, err error) {
	if err = needUser(by); err != nil {
		return id, to, err
	}
	if err = checkKey("client_message_id", r.ClientMessageId); err != nil {
		return id, to, err
	}
	if err = checkBody(r.Body); err != nil {
		return id, to, err
	}
	if err = c.paceSend(by); err != nil {
		return id, to, err
	}
	u, err := c.target(ctx, r.To, r.ToHandle)
	if err != nil {
		return id, to, err
	}
	if to, err = c.reachable(ctx, u); err != nil {
		return id, to, err
	}
	if err = c.o.Budgeted(to.home); err != nil {
		return id, to, err
	}
	return MessageID(by.UIN, r.ClientMessageId), to, c.maySend(ctx, by.UIN, to)
}

// maySend refuses at once what the group's own region would refuse later. Only
// a group this region acts for is judged here: another one's members may have
// changed without the rows having arrived.
func (c *Core) maySend(ctx context.Context, sender region.UIN, to recipient) error {
	if !to.group {
		return nil
	}
	if _, err := c.acts(to.uin); err != nil {
		return nil
	}
	m, err := c.o.Store.Get(ctx, to.uin, tableMember, keyUIN(sender))
	if err == nil && !m.Exists() {
		return region.Errorf(region.Forbidden, "you are not a member of group %d", to.uin).WithHint("ask a member to add you")
	}
	return err
}

// carrying spells the command that carries a message: a v1.Append, or a
// v1.GroupPost, which has the same shape.
func carrying(message []byte) []byte {
	const field = 1
	b := make([]byte, 0, len(message)+protowire.SizeTag(field)+protowire.SizeVarint(uint64(len(message))))
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), message)
}

func (t *txn) send(id [16]byte, to recipient, r *v1.SendRequest) (*v1.SendResponse, error) {
	found, err := t.repeats(id)
	if err != nil {
		return nil, err
	}
	if found {
		sequence, _, err := t.known(id)
		if err != nil {
			return nil, err
		}
		m, err := t.message(sequence)
		if err != nil {
			return nil, err
		}
		if m == nil { // removed since: what it was cannot be compared any more
			return &v1.SendResponse{Id: id[:], Sequence: sequence, Repeated: true}, nil
		}
		if m.To != uint64(to.uin) || !m.Recalled && !proto.Equal(m.Body, r.Body) {
			return nil, region.Errorf(region.Conflict, "this client message ID was used for another message").WithHint("use a new one for each message")
		}
		return &v1.SendResponse{Id: id[:], Sequence: sequence, SentUnixMilli: m.SentUnixMilli, Repeated: true}, nil
	}
	m := &v1.Message{Id: id[:], Sender: uint64(t.owner), To: uint64(to.uin), ClientMessageId: r.ClientMessageId,
		SentUnixMilli: t.now, Body: r.Body}
	stored, err := marshal(m)
	if err != nil {
		return nil, err
	}
	sequence, err := t.append(id, m, stored)
	if err != nil {
		return nil, err
	}
	if to.uin != t.owner {
		how := methodAppend
		if to.group {
			how = methodGroupPost
		}
		t.command(id, to.home, to.uin, how, carrying(stored))
	}
	return &v1.SendResponse{Id: id[:], Sequence: sequence, SentUnixMilli: m.SentUnixMilli}, nil
}
