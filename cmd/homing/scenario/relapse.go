package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// relapse is the story of a home that is lost twice: sh dies, and hk, which acts
// for it, dies before what sh acknowledged last is merged. Both had messages that
// nobody else has.
type relapse struct {
	*handover
	second []delivery // acknowledged by hk alone
}

// flowAway is traffic of those who are left.
func (r *relapse) flowAway(ctx context.Context) (string, error) {
	r.traffic = startTraffic(flow{r.alice, r.dave}, flow{r.dave, r.alice}, flow{r.carol, r.alice})
	return "Alice, Dave and Carol write to each other", r.traffic.flowing(ctx, 40)
}

// dieAgain ends hk, after it acknowledged what it did not tell anybody.
func (r *relapse) dieAgain(ctx context.Context) (string, error) {
	r.acked = append(r.acked, r.traffic.end()...)
	r.traffic = nil
	if err := everywhereOnce(ctx, r.acked); err != nil {
		return "", err
	}
	ca := r.demo.Node("ca").Replicator().Replay()
	ca.Pause()
	for i := range 10 {
		m, err := r.alice.client.Send(ctx, &v1.SendRequest{To: uint64(r.dave.id.UIN), ClientMessageId: client.NewKey(),
			Body: &v1.Body{Kind: &v1.Body_Text{Text: fmt.Sprintf("and once more %d", i)}}})
		if err != nil {
			return "", err
		}
		r.second = append(r.second, delivery{m.Id, r.alice, r.dave})
	}
	for _, u := range []*user{r.alice, r.bob, r.dave} {
		_ = u.client.Close()
		u.client = nil
	}
	if err := r.demo.Stop(ctx, "hk"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", err
	}
	ca.Resume()
	return fmt.Sprintf("hk acknowledges %d more messages of Alice, and is gone", len(r.second)), nil
}

// failoverAgain: ca is to act; that sh's last words are not merged has to be
// accepted.
func (r *relapse) failoverAgain(ctx context.Context) (string, error) {
	p, err := r.operator.Plan(ctx, acting.Wish{Kind: acting.Failover, Home: "sh"})
	if err != nil {
		return "", err
	}
	if p.From != "hk" || p.To != "ca" || p.FromAnswers || !p.HasCopy || p.Open != r.outcome.Home.Partitions || p.OpenOf != "sh" {
		return "", fmt.Errorf("the plan is %+v, want one from hk to ca, which has a copy, with sh's ranges open", p)
	}
	if err := p.Refusal(acting.Accepted{}); region.KindOf(err) != region.Conflict {
		return "", fmt.Errorf("a home whose tail is not merged changes hands: %v", err)
	}
	if r.outcome, err = r.operator.Execute(ctx, p, acting.Accepted{Loss: true}); err != nil {
		return "", err
	}
	if r.outcome.Serving > serveWithin {
		return "", fmt.Errorf("ca serves after %.1f s, want %.0f", r.outcome.Serving, serveWithin)
	}
	r.logins = "ca"
	for _, u := range []*user{r.alice, r.dave} {
		if err := r.connect(ctx, u); err != nil {
			return "", err
		}
	}
	seen, err := r.servedBy(ctx, "ca", r.alice, r.dave)
	return fmt.Sprintf("refused while %d ranges of sh are open; accepted, ca serves after %.2f s; %s", p.Open, r.outcome.Serving, seen), err
}

// back starts both again, the successor first: what each had alone is merged by ca.
func (r *relapse) back(ctx context.Context) (string, error) {
	began := time.Now()
	for _, id := range []string{"hk", "sh"} {
		if err := r.demo.Restart(ctx, id); err != nil {
			return "", err
		}
	}
	if err := r.connect(ctx, r.bob); err != nil {
		return "", err
	}
	if err := everywhereOnce(ctx, append(r.tail, r.second...)); err != nil {
		return "", err
	}
	return fmt.Sprintf("each of the %d messages that sh had alone, and the %d of hk, is once in both inboxes, %s after the return",
		len(r.tail), len(r.second), time.Since(began).Round(time.Millisecond)), nil
}

// equalAt: a region's copy of home sh is the one that acts.
func (r *relapse) equalAt(ctx context.Context, acting, copy string) (string, error) {
	var n int
	err := eventually(ctx, func(context.Context) (err error) {
		n, err = equal(r.demo.Node(acting).Store(), r.demo.Node(copy).Store(), "sh", true)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s and %s: %w", acting, copy, err)
	}
	return fmt.Sprintf("%d partitions of home sh have equal digests in %s and %s", n, acting, copy), nil
}

func (r *relapse) steps() []Step {
	const quick, slow = 10 * time.Second, 20 * time.Second
	return []Step{
		{"register", quick, r.register},
		{"traffic", quick, r.flow},
		{"cut", slow, r.cut},
		{"death", quick, r.die},
		{"failover", quick, r.failover},
		{"second-copy", slow, r.secondCopy},
		{"phones-on", slow, r.awayAgain},
		{"away", quick, r.flowAway},
		{"death-again", slow, r.dieAgain},
		{"failover-again", slow, r.failoverAgain},
		{"away-again", quick, r.flowAway},
		{"return", slow, r.back},
		{"inboxes", slow, r.nothingLost},
		{"copies", slow, func(ctx context.Context) (string, error) { return r.equalAt(ctx, "ca", "sh") }},
		{"failback", quick, r.failback},
		{"home", slow, r.home},
		{"traffic-home", quick, r.flow},
		{"inboxes-home", slow, r.nothingLost},
		{"copies-home", slow, r.equalCopies},
	}
}
