package core

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
)

// method numbers a command. The numbers are in journals and queues: append only.
type method uint16

const (
	// methodAppend: v1.Append. Put a message into the target's inbox. Its ID is
	// the message ID. When the target is a group after all, which its sender's
	// region may not have known, it is a methodGroupPost.
	methodAppend method = 1
	// methodGroupPost: v1.GroupPost. Send a message of a member on to all
	// members. Its ID is the message ID.
	methodGroupPost method = 2
	// methodGroupDeliver: v1.GroupDeliver, without a target. Put a group's
	// message into the inboxes of the members listed, who live in one region.
	methodGroupDeliver method = 3
	// methodGroupCreate: v1.GroupCreate. Make the target a group.
	methodGroupCreate method = 4
	// methodGroupChange: v1.GroupChange. Add or remove a member of the target.
	methodGroupChange method = 5
	// methodContact: v1.ContactAct. Tell the target what another user decided
	// about being contacts.
	methodContact method = 6
	// methodRecall: v1.Recall. Take back a message that was sent to the target.
	methodRecall method = 7
	// methodGroupRecall: v1.Recall, without a target. Take back a group's message
	// from the inboxes of the members listed, who live in one region.
	methodGroupRecall method = 8
	// methodGroupUpdate: v1.GroupUpdate. Change what the target says of itself.
	methodGroupUpdate method = 9
	// methodGroupRole: v1.GroupRoleChange. Give a member of the target another role.
	methodGroupRole method = 10
	// methodErase: v1.Erase, of an owner to itself. Wipe the rows of the account,
	// which is marked as erased.
	methodErase method = 11
)

var methodNames = map[method]string{methodAppend: "append", methodGroupPost: "group-post",
	methodGroupDeliver: "group-deliver", methodGroupCreate: "group-create", methodGroupChange: "group-change",
	methodContact: "contact", methodRecall: "recall", methodGroupRecall: "group-recall",
	methodGroupUpdate: "group-update", methodGroupRole: "group-role", methodErase: "erase"}

// String is the metrics' label: one word for all unknown numbers.
func (m method) String() string {
	if s, ok := methodNames[m]; ok {
		return s
	}
	return "unknown"
}

// origin says which record a command was read from, and who caused it.
type origin struct {
	region    region.ID
	partition region.Partition
	sequence  uint64
	owner     region.UIN
	unixMilli int64
}

// operation is the part of a command that changes one owner's records.
// Exactly one of message, create, change, update, role, contact, recall and erase is set.
type operation struct {
	from    origin
	command *journal.Command

	message *v1.Message
	id      [16]byte // of message
	stored  []byte   // message as an inbox keeps it
	create  *v1.GroupCreate
	change  *v1.GroupChange
	update  *v1.GroupUpdate
	role    *v1.GroupRoleChange
	contact *v1.ContactAct
	recall  *v1.Recall
	erase   *v1.Erase

	wiped, next wipe // of erase: done for good, and with the transaction under way
}

func (o *operation) method() method { return method(o.command.Method) }

// act returns who asks a group for something, and about which member; 0 is none.
func (o *operation) act() (actor, member region.UIN) {
	switch {
	case o.change != nil:
		return region.UIN(o.change.Actor), region.UIN(o.change.Member)
	case o.role != nil:
		return region.UIN(o.role.Actor), region.UIN(o.role.Member)
	}
	return region.UIN(o.update.GetActor()), 0
}

// maxClientID is the longest client message ID in a command, in bytes: longer
// than a user's, for those that regions make.
const maxClientID = 2 * MaxKey

// parse takes a command apart into what it does to whom. An error is for good:
// the command will not be better the next time.
//
// Whoever caused a command is the owner of the batch it came in, so one owner's
// region cannot speak for another's: that is what every check of owner holds.
func parse(from origin, c *journal.Command) (map[region.UIN]*operation, []region.UIN, error) {
	one := func(o *operation) (map[region.UIN]*operation, []region.UIN, error) {
		if c.Target == 0 {
			return nil, nil, fmt.Errorf("it has no target")
		}
		return map[region.UIN]*operation{c.Target: o}, []region.UIN{c.Target}, nil
	}
	o := &operation{from: from, command: c}
	switch method(c.Method) {
	case methodAppend, methodGroupPost:
		var p v1.Append // GroupPost has the same shape
		if err := proto.Unmarshal(c.Payload, &p); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if err := o.carries(p.Message); err != nil {
			return nil, nil, err
		}
		if region.UIN(p.Message.Sender) != from.owner {
			return nil, nil, fmt.Errorf("owner %d sends in the name of %d", from.owner, p.Message.Sender)
		}
		if region.UIN(p.Message.To) != c.Target {
			return nil, nil, fmt.Errorf("a message to %d for the inbox of %d", p.Message.To, c.Target)
		}
		return one(o)
	case methodGroupDeliver:
		var p v1.GroupDeliver
		if err := proto.Unmarshal(c.Payload, &p); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if err := o.carries(p.Message); err != nil {
			return nil, nil, err
		}
		if region.UIN(p.Group) != from.owner || p.Message.To != p.Group {
			return nil, nil, fmt.Errorf("owner %d delivers a message to %d in the name of group %d", from.owner, p.Message.To, p.Group)
		}
		return each(o, p.Members)
	case methodGroupCreate:
		o.create = new(v1.GroupCreate)
		if err := proto.Unmarshal(c.Payload, o.create); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if region.UIN(o.create.Creator) != from.owner {
			return nil, nil, fmt.Errorf("owner %d makes a group in the name of %d", from.owner, o.create.Creator)
		}
		if len(o.create.Members) > MaxMembers {
			return nil, nil, fmt.Errorf("it lists %d members", len(o.create.Members))
		}
		return one(o)
	case methodGroupChange:
		o.change = new(v1.GroupChange)
		if err := proto.Unmarshal(c.Payload, o.change); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if region.UIN(o.change.Actor) != from.owner || o.change.Member == 0 {
			return nil, nil, fmt.Errorf("owner %d changes member %d in the name of %d", from.owner, o.change.Member, o.change.Actor)
		}
		return one(o)
	case methodGroupUpdate:
		o.update = new(v1.GroupUpdate)
		if err := proto.Unmarshal(c.Payload, o.update); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if region.UIN(o.update.Actor) != from.owner {
			return nil, nil, fmt.Errorf("owner %d changes a group in the name of %d", from.owner, o.update.Actor)
		}
		if err := checkUpdate(o.update); err != nil {
			return nil, nil, err
		}
		return one(o)
	case methodGroupRole:
		o.role = new(v1.GroupRoleChange)
		if err := proto.Unmarshal(c.Payload, o.role); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if region.UIN(o.role.Actor) != from.owner || o.role.Member == 0 || v1.GroupRole_name[int32(o.role.Role)] == "" {
			return nil, nil, fmt.Errorf("owner %d makes member %d a %v in the name of %d", from.owner, o.role.Member, o.role.Role, o.role.Actor)
		}
		return one(o)
	case methodContact:
		o.contact = new(v1.ContactAct)
		if err := proto.Unmarshal(c.Payload, o.contact); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if region.UIN(o.contact.Actor) != from.owner || c.Target == from.owner {
			return nil, nil, fmt.Errorf("owner %d asks user %d in the name of %d", from.owner, c.Target, o.contact.Actor)
		}
		if err := checkText("text", o.contact.Text, MaxRequest); err != nil {
			return nil, nil, err
		}
		return one(o)
	case methodRecall, methodGroupRecall:
		o.recall = new(v1.Recall)
		if err := proto.Unmarshal(c.Payload, o.recall); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		r := o.recall
		if r.Sender == 0 || len(r.ClientMessageId) > MaxKey {
			return nil, nil, fmt.Errorf("it names no message of a user's")
		}
		o.id = MessageID(region.UIN(r.Sender), r.ClientMessageId)
		if method(c.Method) == methodGroupRecall {
			if region.UIN(r.To) != from.owner {
				return nil, nil, fmt.Errorf("owner %d takes back a message to %d", from.owner, r.To)
			}
			return each(o, r.Members)
		}
		if region.UIN(r.Sender) != from.owner || region.UIN(r.To) != c.Target {
			return nil, nil, fmt.Errorf("owner %d takes back a message of %d to %d from %d", from.owner, r.Sender, r.To, c.Target)
		}
		return one(o)
	case methodErase:
		o.erase = new(v1.Erase)
		if err := proto.Unmarshal(c.Payload, o.erase); err != nil {
			return nil, nil, fmt.Errorf("payload: %w", err)
		}
		if c.Target != from.owner {
			return nil, nil, fmt.Errorf("owner %d erases %d", from.owner, c.Target)
		}
		return one(o)
	default:
		return nil, nil, fmt.Errorf("method %d is unknown", c.Method)
	}
}

// each is an operation on every one of a group's members in a region.
func each(o *operation, members []uint64) (map[region.UIN]*operation, []region.UIN, error) {
	if len(members) == 0 || len(members) > MaxMembers+1 {
		return nil, nil, fmt.Errorf("it lists %d members", len(members))
	}
	ops := make(map[region.UIN]*operation, len(members))
	var order []region.UIN
	for _, m := range members {
		u := region.UIN(m)
		if u == 0 || ops[u] != nil {
			return nil, nil, fmt.Errorf("member %d is listed twice or is nobody", m)
		}
		ops[u], order = o, append(order, u)
	}
	return ops, order, nil
}

// carries checks a message that came in a command.
func (o *operation) carries(m *v1.Message) error {
	switch {
	case m == nil || m.Body == nil || m.Body.Kind == nil && !unknownKind(m.Body):
		return fmt.Errorf("it carries no message")
	case m.Sender == 0 || m.To == 0:
		return fmt.Errorf("its message has no sender or no target")
	case m.ClientMessageId == "" || len(m.ClientMessageId) > maxClientID:
		return fmt.Errorf("its client message ID has %d bytes", len(m.ClientMessageId))
	case proto.Size(m.Body) > maxBody || len(m.Body.GetSystem().GetMembers()) > MaxMembers+1 || len(m.Body.GetSystem().GetEvent()) > MaxKey:
		return fmt.Errorf("its message is too large")
	}
	id := MessageID(region.UIN(m.Sender), m.ClientMessageId)
	if string(m.Id) != string(id[:]) {
		return fmt.Errorf("its message has another's ID")
	}
	m.Sequence = 0
	stored, err := marshal(m)
	if err != nil {
		return err
	}
	o.message, o.id, o.stored = m, id, stored
	return nil
}
