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

// move is the story of users who get another home: under traffic, while the old
// home dies, and while it is handed back.
type move struct {
	*handover
	erin  *user
	stuck bool // sabotage: ca stays cut off
}

func (m *move) close() {
	if m.erin != nil && m.erin.client != nil {
		_ = m.erin.client.Close()
	}
	m.handover.close()
}

func (m *move) arrive(ctx context.Context) (string, error) {
	m.logins = "hk" // sh will be gone for a while
	seen, err := m.register(ctx)
	if err != nil {
		return "", err
	}
	m.erin = &user{name: "Erin", home: "sh"}
	if m.erin.id, err = client.Register(ctx, nil, m.at.Regions["sh"].Short, "Erin", "cli"); err != nil {
		return "", err
	}
	if err := m.connect(ctx, m.erin); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, Erin %d in sh", seen, m.erin.id.UIN), nil
}

func (m *move) begin(ctx context.Context, u *user, to region.ID) (string, error) {
	p, err := m.operator.PlanMove(ctx, u.id.UIN, to)
	if err != nil {
		return "", err
	}
	moved, err := m.operator.Move(ctx, p)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s lives in %s: %d rows, %d bytes; writes were refused for %.2f s", u.name, to, moved.Rows, moved.Bytes, moved.Fenced), nil
}

// lives waits until every region has a user's new home.
func (m *move) lives(ctx context.Context, u *user, home region.ID, moves uint64) error {
	return eventually(ctx, func(context.Context) error {
		for name := range m.at.Regions {
			p, _ := m.demo.Node(name).Keeper().View().Placement(u.id.UIN)
			if p.Home != home || p.Epoch.Moves != moves {
				return fmt.Errorf("to %s, %s lives in %s after %d moves; want %s after %d", name, u.name, p.Home, p.Epoch.Moves, home, moves)
			}
		}
		return nil
	})
}

func (m *move) moveAlice(ctx context.Context) (string, error) {
	seen, err := m.begin(ctx, m.alice, "hk")
	if err != nil {
		return "", err
	}
	if err := m.lives(ctx, m.alice, "hk", 1); err != nil {
		return "", err
	}
	_, err = m.servedBy(ctx, "hk", m.alice)
	return seen, err
}

// nothingLeft: what Alice's old home had of hers alone is gone, and copies of both
// homes are equal.
func (m *move) nothingLeft(ctx context.Context) (string, error) {
	seen, err := m.nothingLost(ctx)
	if err != nil {
		return "", err
	}
	err = eventually(ctx, func(ctx context.Context) error {
		for _, home := range []region.ID{"sh", "hk"} {
			a, b := m.demo.Node("sh").Store(), m.demo.Node("hk").Store()
			if _, err := equal(a, b, home, home == "sh"); err != nil {
				return fmt.Errorf("home %s: %w", home, err)
			}
		}
		return nil
	})
	return seen + "; homes sh and hk have equal digests in sh and hk", err
}

// held has a move get stuck on the way: its target is cut off. Until that is back
// the user is served for reading only.
func (m *move) held(ctx context.Context, u *user, from string) (string, error) {
	if err := m.demo.Node("ca").CutOff(); err != nil {
		return "", err
	}
	soon, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	p, err := m.operator.PlanMove(soon, u.id.UIN, "ca")
	if err != nil {
		return "", err
	}
	if region.KindOf(p.Refusal()) != region.Unavailable {
		return "", fmt.Errorf("a move to a region that does not answer is not refused: %v", p.Refusal())
	}
	p.Answer = true // as if ca had died a moment later
	if _, err := m.operator.Move(soon, p); err == nil {
		return "", errors.New("the move is done though its target is cut off")
	}
	quick, done := context.WithTimeout(ctx, 500*time.Millisecond)
	defer done()
	if _, err := u.client.SendText(quick, u.id.UIN, "note"); err == nil {
		return "", fmt.Errorf("%s acknowledges %s's writes in mid-move", from, u.name)
	}
	if err := u.client.SyncPages(ctx, nil, func(*v1.SyncResponse) error { return nil }); err != nil {
		return "", fmt.Errorf("%s cannot read in mid-move: %w", u.name, err)
	}
	return fmt.Sprintf("ca is cut off; %s's move stops on the way: writes are refused, reading goes on", u.name), nil
}

func (m *move) heldDave(ctx context.Context) (string, error) {
	m.acked = append(m.acked, m.traffic.end()...)
	m.traffic = nil
	if err := everywhereOnce(ctx, m.acked); err != nil {
		return "", err
	}
	return m.held(ctx, m.dave, "sh")
}

// death: sh dies with Dave on his way; its backup acts.
func (m *move) death(ctx context.Context) (string, error) {
	if err := m.demo.Stop(ctx, "sh"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return "", err
	}
	return m.change(ctx, acting.Failover, "")
}

// carriedOn: ca is back, and whoever acts for sh finishes a move.
func (m *move) carriedOn(ctx context.Context, u *user) (string, error) {
	if !m.stuck {
		if err := m.demo.Node("ca").Rejoin(); err != nil {
			return "", err
		}
	}
	began := time.Now()
	err := eventually(ctx, func(context.Context) error {
		p, _ := m.demo.Node("ca").Keeper().View().Placement(u.id.UIN)
		if p.Home != "ca" || p.Epoch.Moves != 1 {
			return fmt.Errorf("%s lives in %s after %d moves, want ca after one", u.name, p.Home, p.Epoch.Moves)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	took := time.Since(began)
	if _, err := m.servedBy(ctx, "ca", u); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s lives in ca, %s after ca was back", u.name, took.Round(time.Millisecond)), nil
}

func (m *move) comeBack(ctx context.Context) (string, error) {
	if err := m.demo.Restart(ctx, "sh"); err != nil {
		return "", err
	}
	at, err := m.closed(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sh is back: all ranges closed, %d batches applied, %d conflicts", at.Merged.Applied, at.Merged.Conflicts), m.lives(ctx, m.dave, "ca", 1)
}

// failbackHeld: sh gets its home back with Erin on her way.
func (m *move) failbackHeld(ctx context.Context) (string, error) {
	seen, err := m.held(ctx, m.erin, "hk")
	if err != nil {
		return "", err
	}
	back, err := m.failback(ctx)
	return seen + "; " + back, err
}

func (m *move) flowAll(ctx context.Context) (string, error) {
	m.traffic = startTraffic(flow{m.alice, m.bob}, flow{m.bob, m.alice}, flow{m.carol, m.dave}, flow{m.dave, m.erin}, flow{m.erin, m.alice})
	return "everybody writes to those who moved", m.traffic.flowing(ctx, 60)
}

func (m *move) steps() []Step {
	const quick, slow = 15 * time.Second, 30 * time.Second
	return []Step{
		{"register", quick, m.arrive},
		{"traffic", quick, m.flow},
		{"move", slow, m.moveAlice},
		{"refused", quick, m.quick(maxMoved)},
		{"inboxes", slow, m.nothingLeft},
		{"traffic-away", quick, m.flow},
		{"held", slow, m.heldDave},
		{"death", quick, m.death},
		{"carried-on", slow, func(ctx context.Context) (string, error) { return m.carriedOn(ctx, m.dave) }},
		{"return", slow, m.comeBack},
		{"failback-held", slow, m.failbackHeld},
		{"finished", slow, func(ctx context.Context) (string, error) { return m.carriedOn(ctx, m.erin) }},
		{"traffic-moved", quick, m.flowAll},
		{"inboxes-moved", slow, m.nothingLeft},
	}
}
