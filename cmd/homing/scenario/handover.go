package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/homing-im/homing/cmd/homing/acting"
	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/cmd/homing/demo"
	"github.com/homing-im/homing/cmd/homing/endpoints"
	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/succession"
	"github.com/homing-im/homing/region/worldfile"
)

// user is one of a story's people.
type user struct {
	name   string
	home   region.ID
	id     client.Identity
	client *client.Client
}

// handover is what the stories of changing regions share: people in three
// regions, traffic, and an operator.
type handover struct {
	demo     *demo.Demo
	at       *endpoints.Endpoints
	operator *acting.Operator

	logins                  region.ID // where people renew tickets; "" is their home
	alice, bob, carol, dave *user
	traffic                 *traffic
	acked                   []delivery // of traffic that has ended
	outcome                 *acting.Outcome

	tail    []delivery             // acknowledged by sh alone
	account account                // of what sh left behind
	lost    func(*demo.Demo) error // what a sabotage does before sh returns; may be nil
}

func newHandover(d *demo.Demo) *handover {
	at := d.Endpoints()
	return &handover{demo: d, at: at,
		operator: &acting.Operator{Dir: worldfile.Directory{Dir: filepath.Join(at.Dir, "world")}, Client: &http.Client{Timeout: 2 * time.Second}, Out: io.Discard},
		alice:    &user{name: "Alice", home: "sh"}, bob: &user{name: "Bob", home: "hk"}, carol: &user{name: "Carol", home: "ca"}, dave: &user{name: "Dave", home: "sh"}}
}

func (h *handover) people() []*user { return []*user{h.alice, h.bob, h.carol, h.dave} }

func (h *handover) close() {
	if h.traffic != nil {
		h.traffic.end()
	}
	for _, u := range h.people() {
		if u.client != nil {
			_ = u.client.Close()
		}
	}
}

func (h *handover) register(ctx context.Context) (string, error) {
	var seen []string
	for _, u := range h.people() {
		var err error
		if u.id, err = client.Register(ctx, http.DefaultClient, h.at.Regions[string(u.home)].Short, u.name, "cli"); err != nil {
			return "", fmt.Errorf("%s in %s: %w", u.name, u.home, err)
		}
		if err := h.connect(ctx, u); err != nil {
			return "", err
		}
		seen = append(seen, fmt.Sprintf("%s %d in %s", u.name, u.id.UIN, u.home))
	}
	return strings.Join(seen, ", "), nil
}

// connect makes a user a new client, as after switching the phone on.
func (h *handover) connect(ctx context.Context, u *user) error {
	pool, err := pki.Pool(h.at.CACert)
	if err != nil {
		return err
	}
	if u.client, err = client.New(client.Options{Zone: h.at.Zone, RootCAs: pool, Identity: u.id, ClientVersion: 80003, Platform: "cli",
		HTTPDNS: h.at.HTTPDNS, DNS: h.at.DNS, Short: h.at.Regions[string(cmp.Or(h.logins, u.home))].Short}); err != nil {
		return err
	}
	if err := u.client.Connect(ctx); err != nil {
		return fmt.Errorf("%s: %w", u.name, err)
	}
	return nil
}

func (h *handover) flow(ctx context.Context) (string, error) {
	h.traffic = startTraffic(flow{h.alice, h.bob}, flow{h.bob, h.alice}, flow{h.carol, h.alice}, flow{h.alice, h.dave})
	if err := h.traffic.flowing(ctx, 40); err != nil {
		return "", err
	}
	return "Alice, Bob and Carol write to each other and to Dave, a hundred times a second each", nil
}

// change has the operator carry a change out.
func (h *handover) change(ctx context.Context, kind acting.Kind, newBackup region.ID) (string, error) {
	p, err := h.operator.Plan(ctx, acting.Wish{Kind: kind, Home: "sh", NewBackup: newBackup})
	if err != nil {
		return "", err
	}
	if h.outcome, err = h.operator.Execute(ctx, p, acting.Accepted{}); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s serves all %d partitions of sh after %.2f s (signed %.2f, delivered %.2f); %d open ranges", p.To, h.outcome.Home.Partitions,
		h.outcome.Serving, h.outcome.Signed, h.outcome.Pushed, len(h.outcome.Home.Open)), nil
}

func (h *handover) planned(ctx context.Context) (string, error) {
	p, err := h.operator.Plan(ctx, acting.Wish{Kind: acting.Switchover, Home: "sh"})
	if err != nil {
		return "", err
	}
	if err := p.Refusal(acting.Accepted{}); err != nil {
		return "", err
	}
	if p.To != "hk" || !p.HasCopy {
		return "", fmt.Errorf("the plan is %+v, want one to hk, which has a copy", p)
	}
	return fmt.Sprintf("from %s to %s: %d users online, %s lacks %d records, %.1f s", p.From, p.To, p.Online, p.To, p.Records, p.Seconds), nil
}

func (h *handover) switchover(ctx context.Context) (string, error) {
	return h.lossless(ctx, acting.Switchover)
}

func (h *handover) failback(ctx context.Context) (string, error) {
	return h.lossless(ctx, acting.Failback)
}

// lossless is a planned change, after which nothing is open.
func (h *handover) lossless(ctx context.Context, kind acting.Kind) (string, error) {
	seen, err := h.change(ctx, kind, "")
	if err == nil && !h.outcome.Home.Complete() {
		err = fmt.Errorf("the report has %d open ranges after a planned change", len(h.outcome.Home.Open))
	}
	return seen, err
}

// servedBy waits until people of sh are served by a region.
func (h *handover) servedBy(ctx context.Context, in region.ID, who ...*user) (string, error) {
	began := time.Now()
	for _, u := range who {
		err := eventually(ctx, func(context.Context) error {
			if at, _, ok := u.client.Where(); !ok || at != in {
				return fmt.Errorf("%s is served by %q, want %s", u.name, at, in)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d clients of sh are served by %s after another %s", len(who), in, time.Since(began).Round(time.Millisecond)), nil
}

func (h *handover) rehomed(ctx context.Context) (string, error) {
	return h.servedBy(ctx, "hk", h.alice, h.dave)
}

func (h *handover) home(ctx context.Context) (string, error) {
	return h.servedBy(ctx, "sh", h.alice, h.dave)
}

// goesOn checks that traffic flows, and how long the slowest send took.
func (h *handover) goesOn(ctx context.Context) (string, error) {
	if err := h.traffic.flowing(ctx, 40); err != nil {
		return "", err
	}
	n, gap, who := h.traffic.count()
	return fmt.Sprintf("%d messages acknowledged so far; the slowest took %s, %s's", n, gap.Round(time.Millisecond), who), nil
}

// How long writes may be refused in a planned change, of a home and of one user: a
// move has to wait for the backups of two homes, one after the other.
const (
	maxRefused = 2 * time.Second
	maxMoved   = 3 * time.Second
)

// quick checks that traffic flows, and that no send took longer than that.
func (h *handover) quick(most time.Duration) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		seen, err := h.goesOn(ctx)
		if err != nil {
			return "", err
		}
		if _, gap, who := h.traffic.count(); gap > most {
			return "", fmt.Errorf("%s waited %s for a send, want under %s", who, gap, most)
		}
		return seen, nil
	}
}

func (h *handover) nothingLost(ctx context.Context) (string, error) {
	h.acked = append(h.acked, h.traffic.end()...)
	h.traffic = nil
	if err := everywhereOnce(ctx, h.acked); err != nil {
		return "", err
	}
	return fmt.Sprintf("each of %d acknowledged messages is once in both inboxes, and inboxes are dense", len(h.acked)), nil
}

// equalCopies: both regions have the same rows of sh.
func (h *handover) equalCopies(ctx context.Context) (string, error) {
	compared := 0
	err := eventually(ctx, func(context.Context) (err error) {
		compared, err = equal(h.demo.Node("sh").Store(), h.demo.Node("hk").Store(), "sh", true)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("sh and hk: %w", err)
	}
	return fmt.Sprintf("%d partitions of home sh have equal digests in sh and hk", compared), nil
}

// switchoverSteps is the story of a planned change and the way back.
func (h *handover) switchoverSteps() []Step {
	const quick, slow = 10 * time.Second, 20 * time.Second
	return []Step{
		{"register", quick, h.register},
		{"traffic", quick, h.flow},
		{"plan", quick, h.planned},
		{"switchover", quick, h.switchover},
		{"rehomed", slow, h.rehomed},
		{"refused", quick, h.quick(maxRefused)},
		{"copies-away", slow, func(ctx context.Context) (string, error) {
			seen, err := h.nothingLost(ctx)
			if err != nil {
				return "", err
			}
			equal, err := h.equalCopies(ctx)
			return seen + "; " + equal, err
		}},
		{"traffic-away", quick, h.flow},
		{"failback", quick, h.failback},
		{"home", slow, h.home},
		{"refused-back", quick, h.quick(maxRefused)},
		{"inboxes", slow, h.nothingLost},
		{"copies", slow, h.equalCopies},
		{"fence", quick, h.fencedByHand},
	}
}

// cut stops the copying out of sh, as if its lines to the other regions had been
// cut, while people still reach it: what it acknowledges now, nobody else has.
func (h *handover) cut(ctx context.Context) (string, error) {
	h.acked = append(h.acked, h.traffic.end()...)
	h.traffic = nil
	if err := everywhereOnce(ctx, h.acked); err != nil {
		return "", err
	}
	for _, id := range []string{"hk", "ca"} {
		h.demo.Node(id).Replicator().Replay().Pause()
	}
	for i := range 5 {
		for _, to := range []*user{h.bob, h.dave} {
			r, err := h.alice.client.Send(ctx, &v1.SendRequest{To: uint64(to.id.UIN), ClientMessageId: client.NewKey(),
				Body: &v1.Body{Kind: &v1.Body_Text{Text: fmt.Sprintf("last words %d", i)}}})
			if err != nil {
				return "", err
			}
			h.tail = append(h.tail, delivery{r.Id, h.alice, to})
		}
	}
	return fmt.Sprintf("copying out of sh stops; sh acknowledges %d more messages of Alice", len(h.tail)), nil
}

// die ends sh, and switches the phones of its people off: what they sent last
// is in sh alone.
func (h *handover) die(ctx context.Context) (string, error) {
	for _, u := range []*user{h.alice, h.dave} {
		_ = u.client.Close()
		u.client = nil
	}
	if err := h.demo.Stop(ctx, "sh"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", err
	}
	for _, id := range []string{"hk", "ca"} {
		h.demo.Node(id).Replicator().Replay().Resume()
	}
	return "sh is gone, with its queue", nil
}

// serveWithin is how soon the backup has to serve after the command.
const serveWithin = 5.0

func (h *handover) failover(ctx context.Context) (string, error) {
	if err := h.refusedSwitchover(ctx); err != nil {
		return "", err
	}
	if err := h.refusedStranger(ctx); err != nil {
		return "", err
	}
	seen, err := h.change(ctx, acting.Failover, "ca")
	switch {
	case err != nil:
		return "", err
	case h.outcome.Serving > serveWithin:
		return "", fmt.Errorf("hk serves after %.1f s, want %.0f", h.outcome.Serving, serveWithin)
	case len(h.outcome.Home.Open) != h.outcome.Home.Partitions:
		return "", fmt.Errorf("%d open ranges of %d partitions: the report hides something", len(h.outcome.Home.Open), h.outcome.Home.Partitions)
	}
	return seen, nil
}

// secondCopy: the new backup has every row, and status says so.
func (h *handover) secondCopy(ctx context.Context) (string, error) {
	began := time.Now()
	var loss *console.Loss
	err := eventually(ctx, func(ctx context.Context) error {
		loss = nil
		for _, r := range h.demo.State(ctx).Regions {
			if r.ID == "sh" {
				loss = r.Loss
			}
		}
		if loss == nil || loss.Backup != "ca" || loss.Single {
			return fmt.Errorf("the second copy of sh is %+v, want one in ca that is caught up", loss)
		}
		_, err := equal(h.demo.Node("hk").Store(), h.demo.Node("ca").Store(), "sh", true)
		return err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ca has a whole copy of home sh %s later, and status is green", time.Since(began).Round(time.Millisecond)), nil
}

// refusedSwitchover: a region that is gone cannot end its term, so a planned
// change is refused.
func (h *handover) refusedSwitchover(ctx context.Context) error {
	p, err := h.operator.Plan(ctx, acting.Wish{Kind: acting.Switchover, Home: "sh"})
	if err == nil {
		err = p.Refusal(acting.Accepted{})
	}
	if region.KindOf(err) != region.Unavailable {
		return fmt.Errorf("a switchover from a dead region is not refused: %v", err)
	}
	return nil
}

// awayAgain: people of sh switch their phones on, and are served by the backup.
func (h *handover) awayAgain(ctx context.Context) (string, error) {
	for _, u := range []*user{h.alice, h.dave} {
		if err := h.connect(ctx, u); err != nil {
			return "", err
		}
	}
	seen, err := h.servedBy(ctx, "hk", h.alice, h.dave)
	if err != nil {
		return "", err
	}
	missing := 0
	for _, d := range h.tail {
		n, err := count(ctx, h.alice.client, d.id)
		if err != nil {
			return "", err
		}
		if n == 0 {
			missing++
		}
	}
	if missing == 0 { // what was under way when the lines were cut arrived
		return "", errors.New("none of her last messages is missing: nothing was cut")
	}
	return fmt.Sprintf("%s; %d of her last %d messages are missing, in the ranges that the report has open", seen, missing, len(h.tail)), nil
}

// comeBack starts sh again: it is fenced, and its tail is merged.
func (h *handover) comeBack(ctx context.Context) (string, error) {
	if h.lost != nil {
		if err := h.lost(h.demo); err != nil {
			return "", err
		}
	}
	if err := h.waitAgain(ctx); err != nil {
		return "", err
	}
	if err := h.demo.Restart(ctx, "sh"); err != nil {
		return "", err
	}
	began := time.Now()
	at, err := h.closed(ctx)
	if err != nil {
		return "", err
	}
	if at.Merged.Applied == 0 || at.Merged.Conflicts != 0 {
		return "", fmt.Errorf("of the tail %d batches were applied, %d in conflict: want some, and none", at.Merged.Applied, at.Merged.Conflicts)
	}
	return fmt.Sprintf("all ranges closed in %s: %d batches of the tail applied, %d known", time.Since(began).Round(time.Millisecond), at.Merged.Applied, at.Merged.Known), nil
}

// closed waits until the report of sh at hk has no open range left.
func (h *handover) closed(ctx context.Context) (at succession.HomeReport, err error) {
	hk, _ := h.demo.View().World.Region("hk")
	return at, eventually(ctx, func(ctx context.Context) error {
		rep, err := h.operator.Report(ctx, hk)
		if err != nil {
			return err
		}
		for _, r := range rep.Homes {
			if r.Home == "sh" {
				at = r
			}
		}
		if !at.Complete() {
			return fmt.Errorf("%d ranges are still open", len(at.Open))
		}
		return nil
	})
}

func (h *handover) merged(ctx context.Context) (string, error) {
	if err := everywhereOnce(ctx, h.tail); err != nil {
		return "", err
	}
	return fmt.Sprintf("each of the %d last messages is once in both inboxes", len(h.tail)), nil
}

// disasterSteps is the story of a region that dies with acknowledged messages
// nobody else has, and comes back.
func (h *handover) disasterSteps() []Step {
	const quick, slow = 10 * time.Second, 20 * time.Second
	return []Step{
		{"register", quick, h.register},
		{"traffic", quick, h.flow},
		{"cut", slow, h.cut},
		{"death", quick, h.die},
		{"failover", quick, h.failover},
		{"account", slow, h.accounted},
		{"second-copy", slow, h.secondCopy},
		{"retire", quick, h.retire},
		{"phones-on", slow, h.awayAgain},
		{"away", quick, h.flow},
		{"return", slow, h.comeBack},
		{"settled", quick, h.settled},
		{"merged", slow, h.merged},
		{"inboxes", slow, h.nothingLost},
		{"copies", slow, h.equalCopies},
		{"failback", quick, h.failback},
		{"home", slow, h.home},
		{"traffic-home", quick, h.flow},
		{"inboxes-home", slow, h.nothingLost},
		{"copies-home", slow, h.equalCopies},
	}
}
