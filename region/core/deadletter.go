package core

import (
	"context"
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// maxLetter is how much of a command's payload a dead letter keeps, in bytes.
// Commands of this version are far smaller.
const maxLetter = 128 << 10

func letterKey(f origin) []byte {
	b := append([]byte(f.region), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(f.partition))
	return binary.BigEndian.AppendUint64(b, f.sequence)
}

func letterOf(f origin, c *journal.Command, reason string, now int64) *v1.DeadLetterRow {
	return &v1.DeadLetterRow{Origin: string(f.region), Partition: uint32(f.partition), Sequence: f.sequence, Owner: uint64(f.owner),
		Target: uint64(c.Target), Method: uint32(c.Method), Id: c.ID[:], Payload: c.Payload[:min(len(c.Payload), maxLetter)],
		Reason: reason, UnixMilli: now}
}

// letter keeps a command with its target's records.
func (t *txn) letter(f origin, c *journal.Command, reason string) error {
	if _, err := t.get(tableDeadLetter, letterKey(f)); err != nil {
		return err
	}
	t.c.log.Warn("command kept as a dead letter", "origin", f.region, "partition", f.partition, "sequence", f.sequence,
		"method", method(c.Method).String(), "reason", reason)
	return t.save(tableDeadLetter, letterKey(f), letterOf(f, c, reason, t.now))
}

// bury keeps a command that nothing can be done with: with its target's records
// when this region acts for the target, else with nobody's.
func (c *Core) bury(ctx context.Context, f origin, cmd *journal.Command, reason string) error {
	if _, err := c.acts(cmd.Target); cmd.Target != 0 && err == nil {
		err := c.mutate(ctx, cmd.Target, func(t *txn) error { return t.letter(f, cmd, reason) })
		if err == nil {
			c.m.commands.WithLabelValues(method(cmd.Method).String(), dead).Inc()
		}
		return err
	}
	b, err := proto.Marshal(letterOf(f, cmd, reason, c.o.Clock().UnixMilli()))
	if err != nil {
		return region.Errorf(region.Internal, "cannot encode a dead letter").WithCause(err)
	}
	if err := c.commitLocal(ctx, store.Write{Table: tableLostLetter, Row: letterKey(f), Value: b}); err != nil {
		return err
	}
	c.m.commands.WithLabelValues(method(cmd.Method).String(), dead).Inc()
	c.log.Warn("command kept as a dead letter of nobody", "origin", f.region, "partition", f.partition, "sequence", f.sequence,
		"method", method(cmd.Method).String(), "reason", reason)
	return nil
}

// undelivered tells the sender of a message that it reached nobody. It is a
// message from the target, whose client message ID is "undelivered/" and that
// of the message; system messages are not answered, so this ends.
func (t *txn) undelivered(o *operation) error {
	if o.message.Body.GetSystem() != nil {
		return nil
	}
	return t.tell(region.UIN(o.message.Sender), "undelivered/"+o.message.ClientMessageId,
		&v1.System{Event: "undelivered", Actor: o.message.Sender})
}

// tell sends a system message from this transaction's owner to a user.
func (t *txn) tell(to region.UIN, clientMessageID string, s *v1.System) error {
	v, err := t.c.view()
	if err != nil {
		return err
	}
	p, ok := v.Placement(to)
	if !ok {
		return nil // nobody to tell
	}
	m := t.systemMessage(to, clientMessageID, s)
	payload, err := marshal(&v1.Append{Message: m})
	if err != nil {
		return err
	}
	t.command(journal.CommandID(m.Id), p.Home, to, methodAppend, payload)
	return nil
}

func (t *txn) systemMessage(to region.UIN, clientMessageID string, s *v1.System) *v1.Message {
	id := MessageID(t.owner, clientMessageID)
	return &v1.Message{Id: id[:], Sender: uint64(t.owner), To: uint64(to), ClientMessageId: clientMessageID,
		SentUnixMilli: t.now, Body: &v1.Body{Kind: &v1.Body_System{System: s}}}
}
