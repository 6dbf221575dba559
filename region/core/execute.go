package core

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// Bounds of one transaction of commands, well inside the store's own.
const (
	maxTxnRows  = 256
	maxTxnBytes = 256 << 10
)

// Execute runs the command records of batches, which must come in the order of
// their stream. It returns nil when all their effects are durable. Commands of
// one target run in order, and several of them in one commit; those of
// different targets run at the same time.
//
// It is idempotent: after an error, a crash or a lost answer the same batches
// may be given again, whole, and what took effect is skipped.
//
// A command that cannot be applied for good is kept as a dead letter, counted
// and skipped. Errors are for retrying: Unavailable while this region does not
// act for a target, and whatever the store answers.
func (c *Core) Execute(ctx context.Context, batches []*journal.Batch) error {
	e, err := c.launch(ctx, batches)
	if err != nil {
		return err
	}
	return e.finish(ctx)
}

// execution is batches whose commands are under way.
type execution struct {
	c      *Core
	queues map[region.UIN][]*operation // what is to be done, by target
	wave   *wave
	left   []region.UIN // targets that finish has to go on with
}

// launch begins to execute batches. Those that follow may be launched before this
// one is finished if it is whole.
func (c *Core) launch(ctx context.Context, batches []*journal.Batch) (*execution, error) {
	e := &execution{c: c, queues: map[region.UIN][]*operation{}}
	var order []region.UIN
	var dead []error
	for _, b := range batches {
		for i := range b.Records {
			r := &b.Records[i]
			if r.Kind != journal.KindCommand || r.Command == nil {
				continue
			}
			from := origin{b.Origin, b.Partition, r.Seq, b.Owner, b.UnixMilli}
			ops, targets, err := parse(from, r.Command)
			if err != nil {
				dead = append(dead, c.bury(ctx, from, r.Command, err.Error()))
				continue
			}
			for _, u := range targets {
				if e.queues[u] == nil {
					order = append(order, u)
				}
				e.queues[u] = append(e.queues[u], ops[u])
			}
		}
	}
	if err := errors.Join(dead...); err != nil {
		return nil, err
	}
	e.wave, e.left = c.submit(ctx, order, e.queues)
	return e, nil
}

// whole says whether everything is submitted already and flies, so that nothing
// that follows can overtake it.
func (e *execution) whole() bool { return len(e.left) == 0 && e.wave.flies }

// ended is closed when what was submitted is durable or failed.
func (e *execution) ended() <-chan struct{} { return e.wave.ended }

// finish returns when everything is durable, or nothing more can be done now.
func (e *execution) finish(ctx context.Context) error {
	c := e.c
	left, err := c.collect(ctx, e.wave, e.queues)
	if err != nil {
		return err
	}
	left = append(left, e.left...)
	if len(left) > 0 {
		// Who was busy a moment ago has mostly finished with the same fsync.
		var more []region.UIN
		e.wave, more = c.submit(ctx, left, e.queues)
		if left, err = c.collect(ctx, e.wave, e.queues); err != nil {
			return err
		}
		left = append(left, more...)
	}
	if len(left) == 1 {
		return c.run(ctx, left[0], e.queues[left[0]])
	}
	errs := make([]error, len(left))
	var running sync.WaitGroup
	free := make(chan struct{}, c.o.Parallel)
	for i, u := range left {
		free <- struct{}{}
		running.Add(1)
		go func() {
			defer running.Done()
			errs[i] = c.run(ctx, u, e.queues[u])
			<-free
		}()
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// run executes one target's operations in order.
func (c *Core) run(ctx context.Context, target region.UIN, ops []*operation) error {
	for len(ops) > 0 {
		outcomes, err := c.runSome(ctx, target, ops)
		switch region.KindOf(err) {
		case 0:
		case region.NotFound:
			// In nobody's segment: no region will ever act for it.
			for _, o := range ops {
				if err := c.bury(ctx, o.from, o.command, "its target belongs to no region"); err != nil {
					return err
				}
			}
			return nil
		case region.WrongRegion:
			// Of a home that this region acts for, but whose owner has moved since.
			if v := c.o.View(); v != nil {
				if p, ok := v.Placement(target); ok && p.Epoch.Moves > 0 && p.Home != ops[0].command.To {
					return c.forward(ctx, target, p.Home, ops)
				}
			}
			return region.Errorf(region.Unavailable, "region %s does not act for a command's target any more", c.o.Self).
				WithHint("the command is tried again, and follows the world").WithCause(err)
		default:
			return err
		}
		ops = ops[c.executed(ops, outcomes):]
	}
	return nil
}

// The outcomes of an operation.
const (
	applied  = "applied"
	repeated = "repeated" // took effect before
	refused  = "refused"  // the target's rules forbid it; its cause was told
	dead     = "dead"     // kept as a dead letter
	partial  = "partial"  // some of it took effect; it is executed again at once
	// forwarded: written again for the region that the target has moved to.
	forwarded = "forwarded"
	blocked   = "blocked" // dropped for ever, because the target blocks its sender, who is not told
)

// executed counts operations that took effect, and returns how many are done:
// of the last one a part may be left.
func (c *Core) executed(ops []*operation, outcomes []string) (done int) {
	now := c.o.Clock()
	for i, what := range outcomes {
		c.m.counter(c.m.commands, ops[i].method().String(), what).Inc()
		c.m.delay.Observe(max(0, now.Sub(time.UnixMilli(ops[i].from.unixMilli)).Seconds()))
	}
	done = len(outcomes)
	if last := done - 1; last >= 0 && outcomes[last] == partial {
		ops[last].wiped = ops[last].next
		done = last
	}
	return done
}

// runSome executes as many operations as fit into one commit, at least one, and
// says what became of each.
func (c *Core) runSome(ctx context.Context, target region.UIN, ops []*operation) (outcomes []string, err error) {
	var kinds []string
	err = c.mutate(ctx, target, func(t *txn) (err error) {
		outcomes, kinds, err = t.executeSome(ops)
		return err
	})
	if err == nil {
		c.stored(kinds)
	}
	return outcomes, err
}

// stored counts messages by kind.
func (c *Core) stored(kinds []string) {
	for _, k := range kinds {
		c.m.messages.WithLabelValues(k).Inc()
	}
}

// executeSome adds as many operations as fit, at least one, and returns the
// outcome of each, and the kinds of the messages among them.
func (t *txn) executeSome(ops []*operation) (outcomes, kinds []string, err error) {
	for _, o := range ops {
		if len(outcomes) > 0 && (len(t.batch.Writes)+len(t.batch.Commands) > maxTxnRows || t.bytes > maxTxnBytes) {
			break
		}
		before := len(t.notices)
		what, err := t.execute(o)
		if err != nil {
			return nil, nil, err
		}
		outcomes = append(outcomes, what)
		if what == partial {
			break
		}
		if len(t.notices) > before {
			kinds = append(kinds, kindOf(o))
		}
	}
	return outcomes, kinds, nil
}

func kindOf(o *operation) string {
	switch {
	case o.message.GetBody().GetSystem() != nil:
		return "system"
	case o.method() == methodGroupDeliver:
		return "group"
	default:
		return "user"
	}
}

// execute adds one operation's effect to the transaction.
func (t *txn) execute(o *operation) (outcome string, err error) {
	if o.message != nil && t.isUser() {
		return t.deliverTo(o) // the usual case, without a read
	}
	account, err := t.theAccount()
	if err != nil {
		return "", err
	}
	switch {
	case o.create != nil:
		return t.groupCreate(o)
	case o.erase != nil:
		return t.erase(o)
	case account.GetErasedUnixMilli() != 0:
		return t.toErased(o)
	case o.change != nil, o.update != nil, o.role != nil:
		return t.groupAct(o)
	case o.contact != nil:
		return t.contactAct(o)
	case o.recall != nil:
		return t.recalled(o)
	case account == nil:
		// Its sender's region could not know. Kept too, not only answered: if
		// the account was lost in a failover, the message need not be.
		if err := t.undelivered(o); err != nil {
			return "", err
		}
		return dead, t.letter(o.from, o.command, "its target has no account")
	case account.Group:
		return t.groupPost(o)
	}
	return t.deliverTo(o)
}

// deliverTo puts a message into the inbox of a user.
func (t *txn) deliverTo(o *operation) (outcome string, err error) {
	if found, err := t.repeats(o.id); err != nil || found {
		return repeated, err
	}
	if region.UIN(o.message.To) == t.owner && o.message.Body.GetSystem() == nil { // not a group's
		yes, err := t.blocks(region.UIN(o.message.Sender))
		if err != nil {
			return "", err
		}
		if yes {
			return blocked, t.drop(o.id)
		}
	}
	_, err = t.append(o.id, o.message, o.stored)
	return applied, err
}

// sorted returns a map's keys in order, so that equal causes give equal bytes.
func sorted[K region.ID | region.UIN, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
