package scenario

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	"github.com/homing-im/homing/region/core"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// cutoff is the story of a region that is cut off but alive: it serves on, hears
// of its successor from a client, and what both wrote is brought together.
type cutoff struct {
	*handover
	silent bool // sabotage: the line is never mended

	inside  map[*user]*client.Client // connected to sh itself, whatever DNS says
	tablet  *user                    // Alice's second device, which travels
	group   region.UIN
	taken   string // client message ID of what Dave takes back
	takenID []byte
	both    []delivery // acknowledged by hk while sh served, too
}

func (c *cutoff) close() {
	for _, k := range c.inside {
		_ = k.Close()
	}
	if c.tablet != nil && c.tablet.client != nil {
		_ = c.tablet.client.Close()
	}
	c.handover.close()
}

// at returns a client of a device that knows one region only.
func (c *cutoff) at(ctx context.Context, id client.Identity, in string) (*client.Client, error) {
	pool, err := pki.Pool(c.handover.at.CACert)
	if err != nil {
		return nil, err
	}
	r := c.handover.at.Regions[in]
	a, err := netip.ParseAddrPort(r.Long)
	if err != nil {
		return nil, err
	}
	k, err := client.New(client.Options{Zone: c.handover.at.Zone, RootCAs: pool, Identity: id, ClientVersion: 80003, Platform: "cli",
		Fallback: []netip.AddrPort{a}, Short: r.Short})
	if err != nil {
		return nil, err
	}
	if err := k.Connect(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// meet makes what the two sides will change: a group, a second device, a
// message.
func (c *cutoff) meet(ctx context.Context) (string, error) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", err
	}
	if err := c.alice.client.AddDevice(ctx, pub, "tablet"); err != nil {
		return "", fmt.Errorf("adding the tablet: %w", err)
	}
	id := c.alice.id
	id.Key, id.Ticket = key, ""
	c.tablet = &user{name: "Alice's tablet", home: "sh", id: id}
	if c.group, err = c.alice.client.CreateGroup(ctx, "crew", c.dave.id.UIN, c.carol.id.UIN); err != nil {
		return "", err
	}
	if err := eventually(ctx, func(ctx context.Context) error { return c.member(ctx, c.carol.id.UIN, true) }); err != nil {
		return "", err
	}
	c.taken = client.NewKey()
	r, err := c.dave.client.Send(ctx, &v1.SendRequest{To: uint64(c.alice.id.UIN), ClientMessageId: c.taken, Body: &v1.Body{Kind: &v1.Body_Text{Text: "not meant so"}}})
	if err != nil {
		return "", err
	}
	c.takenID = r.Id
	if err := everywhereOnce(ctx, []delivery{{r.Id, c.dave, c.alice}}); err != nil {
		return "", err
	}
	return fmt.Sprintf("group %d of Alice, Dave and Carol; Alice has a tablet; Dave wrote what he will regret", c.group), nil
}

// member checks whether somebody is a member of the group, as Alice sees it.
func (c *cutoff) member(ctx context.Context, u region.UIN, want bool) error {
	a, err := c.alice.client.LookupUIN(ctx, c.group)
	if err != nil {
		return err
	}
	if slices.Contains(a.Members, uint64(u)) != want {
		return fmt.Errorf("%d is a member of the group: %t, want %t", u, !want, want)
	}
	return nil
}

// cutOff takes sh's lines to everybody but clients.
func (c *cutoff) cutOff(ctx context.Context) (string, error) {
	c.acked = append(c.acked, c.traffic.end()...)
	c.traffic = nil
	if err := everywhereOnce(ctx, c.acked); err != nil {
		return "", err
	}
	if _, err := c.equalCopies(ctx); err != nil {
		return "", err
	}
	c.inside = map[*user]*client.Client{}
	for _, u := range []*user{c.alice, c.dave} {
		k, err := c.at(ctx, u.id, "sh")
		if err != nil {
			return "", fmt.Errorf("%s in sh: %w", u.name, err)
		}
		c.inside[u] = k
		_ = u.client.Close()
		u.client = nil
	}
	if err := c.demo.Node("sh").CutOff(); err != nil {
		return "", err
	}
	return "sh is cut off from regions, voters and operator; Alice and Dave reach it still", nil
}

// handlePatience is how long Alice waits for a handle that cannot be had.
const handlePatience = 500 * time.Millisecond

// goesAlone: a region that is cut off serves its own users, all but new handles.
func (c *cutoff) goesAlone(ctx context.Context) (string, error) {
	if err := c.say(ctx, "alone", &c.tail, 5); err != nil {
		return "", err
	}
	soon, cancel := context.WithTimeout(ctx, handlePatience)
	defer cancel()
	if _, err := c.inside[c.alice].ClaimHandle(soon, "alone"); err == nil {
		return "", errors.New("a handle was given out by a region that cannot ask for it")
	}
	return fmt.Sprintf("sh acknowledges %d messages of Alice, and refuses a new handle", len(c.tail)), nil
}

// say has Alice write inside sh.
func (c *cutoff) say(ctx context.Context, text string, to *[]delivery, n int) error {
	for i := range n {
		for _, u := range []*user{c.bob, c.dave} {
			r, err := c.inside[c.alice].Send(ctx, &v1.SendRequest{To: uint64(u.id.UIN), ClientMessageId: client.NewKey(),
				Body: &v1.Body{Kind: &v1.Body_Text{Text: fmt.Sprintf("%s %d", text, i)}}})
			if err != nil {
				return err
			}
			*to = append(*to, delivery{r.Id, c.alice, u})
		}
	}
	return nil
}

func (c *cutoff) failover(ctx context.Context) (string, error) {
	p, err := c.operator.Plan(ctx, acting.Wish{Kind: acting.Failover, Home: "sh"})
	if err != nil {
		return "", err
	}
	if p.FromAnswers {
		return "", errors.New("sh answers the operator: it is not cut off")
	}
	seen, err := c.change(ctx, acting.Failover, "")
	if err == nil && len(c.outcome.Home.Open) != c.outcome.Home.Partitions {
		err = fmt.Errorf("%d open ranges of %d partitions: the report hides something", len(c.outcome.Home.Open), c.outcome.Home.Partitions)
	}
	return seen, err
}

// bothServe: until sh hears of it, people are served by both, and change the
// same things.
func (c *cutoff) bothServe(ctx context.Context) (string, error) {
	var err error
	if c.tablet.client, err = c.at(ctx, c.tablet.id, "hk"); err != nil {
		return "", fmt.Errorf("the tablet in hk: %w", err)
	}
	dave := *c.dave
	if dave.client, err = c.at(ctx, c.dave.id, "hk"); err != nil {
		return "", fmt.Errorf("connecting Dave to hk: %w", err)
	}
	defer func() { _ = dave.client.Close() }()
	alice, here := c.inside[c.alice], c.inside[c.dave]
	bob, carol := c.bob.id.UIN, c.carol.id.UIN
	for _, do := range []struct {
		what string
		err  func() error
	}{
		{"in hk the tablet names Bob", func() error {
			return c.tablet.client.SetContact(ctx, &v1.Contact{Uin: uint64(bob), Remark: "Bobby"})
		}},
		{"in sh Alice blocks Bob", func() error { return alice.BlockUser(ctx, bob, true) }},
		{"in hk the tablet makes Carol an admin", func() error { return c.tablet.client.SetRole(ctx, c.group, carol, v1.GroupRole_GROUP_ROLE_ADMIN) }},
		{"in sh Alice puts Carol out", func() error { return alice.SetMember(ctx, c.group, carol, true) }},
		{"in sh Alice revokes the tablet", func() error { return alice.RevokeDevice(ctx, wire.KeyID(c.tablet.id.PublicKey())) }},
		{"in sh Dave takes a message back", func() error { return here.Recall(ctx, c.taken) }},
		{"in hk Dave blocks Carol", func() error { return dave.client.BlockUser(ctx, carol, true) }},
		{"in sh Dave names Carol", func() error { return here.SetContact(ctx, &v1.Contact{Uin: uint64(carol), Remark: "Caro"}) }},
	} {
		if err := do.err(); err != nil {
			return "", fmt.Errorf("%s: %w", do.what, err)
		}
	}
	for i := range 5 {
		r, err := dave.client.Send(ctx, &v1.SendRequest{To: uint64(bob), ClientMessageId: client.NewKey(), Body: &v1.Body{Kind: &v1.Body_Text{Text: fmt.Sprintf("from hk %d", i)}}})
		if err != nil {
			return "", err
		}
		c.both = append(c.both, delivery{r.Id, c.dave, c.bob})
	}
	if err := c.say(ctx, "still", &c.tail, 5); err != nil {
		return "", err
	}
	if v := c.demo.Node("sh").Keeper().View(); v.World.Version >= c.outcome.World {
		return "", errors.New("sh knows the new world already: it was not cut off")
	}
	return "sh serves Alice and Dave, hk her tablet and him; four things are changed in both", nil
}

// fences: the line is mended, and the next request of a client that was in hk
// names the version of hk's world: sh fetches it, verifies it, and fences.
func (c *cutoff) fences(ctx context.Context) (string, error) {
	if !c.silent {
		if err := c.demo.Node("sh").Rejoin(); err != nil {
			return "", err
		}
	}
	began := time.Now()
	at := c.demo.Node("sh")
	err := eventually(ctx, func(ctx context.Context) error {
		_ = knock(ctx, c.handover.at.Regions["sh"].Short, c.dave.id, c.outcome.World) // refused or led away: what counts is that sh hears of it
		if v := at.Keeper().View(); v.World.Version < c.outcome.World {
			return fmt.Errorf("sh still follows world %d, and serves", v.World.Version)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	knew := time.Since(began)
	// Not one write more is acknowledged there: Alice is led to hk.
	before := c.demo.Node("sh").Store().Head(region.PartitionOf(c.alice.id.UIN, c.demo.View().World.Partitions)).Next
	if err := c.say(ctx, "after", &c.both, 1); err != nil {
		return "", err
	}
	if in, _, ok := c.inside[c.alice].Where(); !ok || in != "hk" {
		return "", fmt.Errorf("a message after the fence was taken by %q", in)
	}
	batches, err := c.demo.Node("sh").Store().Journal(ctx, region.PartitionOf(c.alice.id.UIN, c.demo.View().World.Partitions), "full", before, 1<<20)
	if err != nil {
		return "", err
	}
	for _, b := range batches {
		if b.Owner == c.alice.id.UIN {
			return "", fmt.Errorf("sh wrote record %d of Alice after it held world %d", b.First(), c.outcome.World)
		}
	}
	return fmt.Sprintf("sh followed world %d after %s; Alice's next message was taken by hk, and sh's journal has none of hers", c.outcome.World, knew.Round(time.Millisecond)), nil
}

// mergedConflicts waits for the tail, and checks what was found in it.
func (c *cutoff) mergedConflicts(ctx context.Context) (string, error) {
	for _, u := range []*user{c.alice, c.dave} {
		_ = c.inside[u].Close()
		delete(c.inside, u)
		if err := c.connect(ctx, u); err != nil {
			return "", err
		}
	}
	if _, err := c.servedBy(ctx, "hk", c.alice, c.dave); err != nil {
		return "", err
	}
	at, err := c.closed(ctx)
	if err != nil {
		return "", err
	}
	if at.Merged.Applied == 0 || at.Merged.Conflicts < 2 {
		return "", fmt.Errorf("of the tail %d batches were applied, %d in conflict: want some, and at least Alice's and Dave's contact", at.Merged.Applied, at.Merged.Conflicts)
	}
	if err := everywhereOnce(ctx, append(c.tail, c.both...)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d batches of the tail applied, %d known, %d in conflict; each of %d messages of both sides is once in both inboxes",
		at.Merged.Applied, at.Merged.Known, at.Merged.Conflicts, len(c.tail)+len(c.both)), nil
}

// contactOf returns what somebody keeps about another user.
func contactOf(ctx context.Context, u *user, about region.UIN) (*v1.Contact, error) {
	var found *v1.Contact
	err := u.client.SyncPages(ctx, nil, func(p *v1.SyncResponse) error {
		for _, k := range p.Contacts {
			if region.UIN(k.Uin) == about {
				found = k
			}
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%s keeps nothing about %d", u.name, about)
	}
	return found, err
}

// hold: what either side forbade holds while the conflicts are open.
func (c *cutoff) hold(ctx context.Context) (string, error) {
	bob, err := contactOf(ctx, c.alice, c.bob.id.UIN)
	if err != nil {
		return "", err
	}
	if !bob.Blocked || bob.Remark != "Bobby" {
		return "", fmt.Errorf("what Alice keeps of Bob is %v, want sh's block and hk's remark", bob)
	}
	carol, err := contactOf(ctx, c.dave, c.carol.id.UIN)
	if err != nil {
		return "", err
	}
	if !carol.Blocked || carol.Remark != "" {
		return "", fmt.Errorf("what Dave keeps of Carol is %v, want hk's block without sh's remark", carol)
	}
	if err := c.member(ctx, c.carol.id.UIN, false); err != nil {
		return "", err
	}
	if k, err := c.at(ctx, c.tablet.id, "hk"); err == nil {
		_ = k.Close()
		return "", errors.New("the tablet that was revoked in sh is let in by hk")
	}
	recalled := false
	err = c.alice.client.SyncPages(ctx, nil, func(p *v1.SyncResponse) error {
		for _, m := range p.Messages {
			recalled = recalled || string(m.Id) == string(c.takenID) && m.Recalled
		}
		return nil
	})
	if err == nil && !recalled {
		err = errors.New("what Dave took back in sh is to be read by Alice in hk")
	}
	if err != nil {
		return "", err
	}
	r, err := c.bob.client.SendText(ctx, c.alice.id.UIN, "are you there?")
	if err != nil {
		return "", err
	}
	if err := c.pass(ctx); err != nil {
		return "", err
	}
	if n, err := count(ctx, c.alice.client, r.Id); err != nil || n != 0 {
		return "", fmt.Errorf("a message of Bob, who is blocked, is %d times in Alice's inbox, want not at all: %w", n, err)
	}
	return "block, removal, revoked device and recall of sh hold in hk, hk's own too", nil
}

// pass waits until a message of Bob's to Dave has arrived, and so everything of
// his before it.
func (c *cutoff) pass(ctx context.Context) error {
	r, err := c.bob.client.SendText(ctx, c.dave.id.UIN, "anybody?")
	if err != nil {
		return err
	}
	return everywhereOnce(ctx, []delivery{{r.Id, c.bob, c.dave}})
}

// resolve has the operator decide: the tail about Alice's Bob, hk about the rest.
func (c *cutoff) resolve(ctx context.Context) (string, error) {
	list, silent, err := c.operator.Conflicts(ctx, false)
	if err != nil {
		return "", err
	}
	if len(silent) > 0 {
		return "", fmt.Errorf("%v do not answer", silent)
	}
	tails := 0
	for _, k := range list {
		shown, err := c.operator.Conflict(ctx, k.ID.String())
		if err != nil {
			return "", err
		}
		how := core.KeepHere
		if k.ID.Owner == c.alice.id.UIN {
			how = core.TakeTail
			tails++
		}
		if len(shown.Rows) == 0 && k.ID.Owner != c.group { // Carol is out on both sides
			return "", fmt.Errorf("conflict %s shows no row", k.ID)
		}
		if err := c.operator.Resolve(ctx, k.ID.String(), how); err != nil {
			return "", err
		}
	}
	if left, _, err := c.operator.Conflicts(ctx, false); err != nil || len(left) > 0 || tails == 0 {
		return "", fmt.Errorf("%d conflicts are left, %d were Alice's: %w", len(left), tails, err)
	}
	bob, err := contactOf(ctx, c.alice, c.bob.id.UIN)
	if err != nil {
		return "", err
	}
	carol, err := contactOf(ctx, c.dave, c.carol.id.UIN)
	if err != nil {
		return "", err
	}
	if !bob.Blocked || bob.Remark != "" || !carol.Blocked {
		return "", fmt.Errorf("what Alice keeps of Bob is %v, Dave of Carol %v: want sh's Bob, hk's Carol", bob, carol)
	}
	return fmt.Sprintf("%d conflicts resolved, %d with the tail's rows, and the list is empty", len(list), tails), nil
}

// flowHome is traffic without Bob's to Alice, who blocks him.
func (c *cutoff) flowHome(ctx context.Context) (string, error) {
	c.traffic = startTraffic(flow{c.alice, c.bob}, flow{c.carol, c.alice}, flow{c.alice, c.dave})
	return "Alice and Carol write", c.traffic.flowing(ctx, 40)
}

func (c *cutoff) steps() []Step {
	const quick, slow = 10 * time.Second, 20 * time.Second
	return []Step{
		{"register", quick, c.register},
		{"meet", quick, c.meet},
		{"traffic", quick, c.flow},
		{"cut", slow, c.cutOff},
		{"alone", quick, c.goesAlone},
		{"failover", quick, c.failover},
		{"both", quick, c.bothServe},
		{"fence", quick, c.fences},
		{"tail", slow, c.mergedConflicts},
		{"hold", quick, c.hold},
		{"resolve", quick, c.resolve},
		{"copies", slow, c.equalCopies},
		{"failback", quick, c.failback},
		{"home", slow, c.home},
		{"traffic-home", quick, c.flowHome},
		{"inboxes-home", slow, c.nothingLost},
		{"copies-home", slow, c.equalCopies},
	}
}
