package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/keeper"
	"github.com/homing-im/homing/region/peer"
)

const (
	// movePoll is how often a move looks whether a backup has what it waits for.
	movePoll = 20 * time.Millisecond
	// backupPatience is how long an owner stays fenced for a backup that does not
	// answer; then the move is called off.
	backupPatience = 10 * time.Second
	moveRetryFirst = 100 * time.Millisecond
	moveRetryLast  = 5 * time.Second
	// moveCall bounds one request of a move to another region.
	moveCall = 10 * time.Second
	// pieceLimit bounds a request of a move, in bytes of JSON.
	pieceLimit = 4 << 20
)

// mover carries the moves of owners out that this region has to: those an
// operator asks for, and those that it finds unfinished at the start and when the
// world changes. Each step can be repeated; which is next is read from the
// owner's records, so another region that acts for the home goes on where this
// one stopped.
type mover struct {
	r *regionRole

	mu    sync.Mutex
	under map[moveKey]*underway

	life    context.Context // ends when the node stops
	running sync.WaitGroup
}

// moveKey is one move of an owner.
type moveKey struct {
	owner region.UIN
	moves uint64
}

// underway is a move with a goroutine.
type underway struct {
	flipped chan struct{} // closed when the owner lives in the new home
	ended   chan struct{} // closed when nothing is left to do, or it was called off
	moved   Moved
	err     error // why it was called off; read after ended
}

// Moved is what became of a move.
type Moved struct {
	Moves  uint64  `json:"moves"`
	Rows   int     `json:"rows"`
	Bytes  int     `json:"bytes"`
	Fenced float64 `json:"fencedSeconds"` // how long the owner's writes were refused
}

// MoveRequest asks for an owner to be moved.
type MoveRequest struct {
	UIN uint64    `json:"uin"`
	To  region.ID `json:"to"`
}

// movePiece is a request of one region to another about an owner that arrives.
type movePiece struct {
	Owner region.UIN       `json:"owner"`
	Home  region.ID        `json:"home"`
	Moves uint64           `json:"moves"`
	Rows  []core.MovedRow  `json:"rows,omitempty"`
	Part  region.Partition `json:"partition"`
	Mark  core.Mark        `json:"mark"`
	Epoch region.Epoch     `json:"epoch"` // at which the rows were received
}

var _ core.Abroad = (*mover)(nil)

// startMover serves the moves to this region, and carries on those from it. Moves
// begin only in a process that is alone to write: another one would not see the
// fence.
func (r *regionRole) startMover(alone bool) {
	n := r.node
	m := &mover{r: r, under: map[moveKey]*underway{}}
	v := peer.NewVerifier(peer.Options{View: n.world.View})
	isRegion := func(i peer.Identity) bool { return i.Kind == peer.KindRegion }
	serve := func(path string, allow func(peer.Identity) bool, limit int64, h http.Handler) {
		n.admin.mux.Handle("POST "+path, v.Require(allow, http.MaxBytesHandler(h, limit)))
	}
	serve("/move/rows", isRegion, pieceLimit, operatorCall(func(ctx context.Context, q *movePiece) (region.Epoch, error) {
		return r.core.Receive(ctx, q.Owner, q.Home, q.Moves, q.Rows)
	}))
	serve("/move/arrive", isRegion, operateLimit, operatorCall(func(ctx context.Context, q *movePiece) (core.Arrival, error) {
		return r.core.Arrive(ctx, q.Owner, q.Home, q.Moves, q.Epoch)
	}))
	serve("/move/held", isRegion, operateLimit, operatorCall(func(_ context.Context, q *movePiece) (bool, error) {
		return r.core.HeldUpTo(q.Home, q.Part, q.Mark), nil
	}))
	isOperator := func(i peer.Identity) bool { return i.Kind == peer.KindOperator }
	ask := m.ask
	if !alone {
		ask = func(context.Context, *MoveRequest) (Moved, error) {
			return Moved{}, region.Errorf(region.Unsupported, "in region %s several processes write, and users do not move from there", n.self.Name).WithHint("run the region in one process")
		}
	}
	serve("/operate/move", isOperator, operateLimit, operatorCall(ask))
	serve("/operate/move/plan", isOperator, operateLimit, operatorCall(m.plan))
	ctx, stop := context.WithCancel(context.Background())
	m.life = ctx
	m.running.Go(func() { m.run(ctx) })
	n.onClose("mover", func(context.Context) error { stop(); m.running.Wait(); return nil })
}

// MovePlan says what a move of an owner would take with it.
type MovePlan struct {
	UIN    region.UIN `json:"uin"`
	Home   region.ID  `json:"home"`
	From   region.ID  `json:"from"` // the region that acts for it, which answers
	Moves  uint64     `json:"moves"`
	Rows   int        `json:"rows"`
	Bytes  int        `json:"bytes"`
	Behind int        `json:"behind"` // open ranges of the home: records that may still come
}

func (m *mover) plan(ctx context.Context, q *MoveRequest) (MovePlan, error) {
	v := m.r.node.world.View()
	owner := region.UIN(q.UIN)
	placed, err := v.Admit(region.ID(m.r.node.self.Name), owner)
	if err != nil {
		return MovePlan{}, err
	}
	p := MovePlan{UIN: owner, Home: placed.Home, From: placed.Acting, Moves: placed.Epoch.Moves}
	for _, h := range m.r.succession.Report().Homes {
		if h.Home == placed.Home {
			p.Behind = len(h.Open)
		}
	}
	err = m.r.core.Rows(ctx, owner, func(rows []core.MovedRow) error {
		for _, r := range rows {
			p.Rows++
			p.Bytes += len(r.Row) + len(r.Value)
		}
		return nil
	})
	if err == nil && p.Rows == 0 {
		err = region.Errorf(region.NotFound, "%d has no account", owner).WithHint("check the number")
	}
	return p, err
}

// run carries on what was left unfinished, at the start and after changes of the
// world.
func (m *mover) run(ctx context.Context) {
	for {
		changed := m.r.node.world.Changed()
		retry := time.NewTimer(time.Hour)
		list, err := m.r.core.Moving(ctx)
		if err != nil {
			retry.Reset(moveRetryLast)
			m.r.log.Warn("unfinished moves cannot be found now", "error", err)
		}
		for _, mv := range list {
			m.start(ctx, mv, time.Now())
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-retry.C:
		}
		retry.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// ask begins a move and waits until the owner lives in the new home.
func (m *mover) ask(ctx context.Context, q *MoveRequest) (Moved, error) {
	began := time.Now()
	mv, err := m.r.core.BeginMove(ctx, region.UIN(q.UIN), q.To)
	if err != nil {
		return Moved{}, err
	}
	// Whoever asked may go; the move does not.
	u := m.start(context.WithoutCancel(ctx), mv, began)
	select {
	case <-u.flipped:
		return u.moved, nil
	case <-u.ended:
		return u.moved, u.err
	case <-ctx.Done():
		return Moved{}, region.Errorf(region.Unavailable, "the move of %d is not done yet", q.UIN).WithHint("it goes on by itself; ask again")
	}
}

func (m *mover) start(ctx context.Context, mv core.Move, began time.Time) *underway {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := moveKey{mv.Owner, mv.Moves}
	if u := m.under[key]; u != nil {
		return u
	}
	u := &underway{flipped: make(chan struct{}), ended: make(chan struct{})}
	m.under[key] = u
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(m.life, cancel)
	m.running.Go(func() {
		defer stop()
		defer cancel()
		defer func() {
			m.mu.Lock()
			delete(m.under, key)
			m.mu.Unlock()
			close(u.ended)
		}()
		m.drive(ctx, mv, u, began)
	})
	return u
}

// drive takes a move to its end, or calls it off, or leaves it to the region that
// acts now.
func (m *mover) drive(ctx context.Context, mv core.Move, u *underway, began time.Time) {
	log := m.r.log.With("owner", mv.Owner, "to", mv.To, "moves", mv.Moves)
	pause := moveRetryFirst
	carriage := &core.Carriage{Move: mv}
	for ctx.Err() == nil {
		err := m.step(ctx, carriage, u, began)
		switch {
		case err == nil:
			log.Info("owner has moved", "rows", u.moved.Rows, "fenced", u.moved.Fenced)
			return
		case u.err != nil:
			log.Warn("move called off", "error", err)
			return
		case region.KindOf(err) == region.WrongRegion && !carriage.Gone:
			u.err = err // another region acts for the home by now, and goes on
			return
		}
		log.Info("move held up; trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, moveRetryLast)
		}
	}
	u.err = ctx.Err()
}

// step goes as far as it can. The owner may be served in the new home long before
// it ends.
func (m *mover) step(ctx context.Context, mv *core.Carriage, u *underway, began time.Time) error {
	c := m.r.core
	for {
		gone := mv.Gone
		p, err := c.Carry(ctx, m, mv)
		if mv.Gone && !gone {
			u.moved = Moved{Moves: mv.Moves, Rows: mv.Rows, Bytes: mv.Bytes, Fenced: time.Since(began).Seconds()}
			close(u.flipped) // moved is the asker's from now on
		}
		switch {
		case err != nil || p == core.Ended:
			return err
		case p == core.Moved:
			continue
		case !mv.Sent && time.Since(began) > backupPatience:
			u.err = region.Errorf(region.Unavailable, "the backup does not confirm that it has the fence of %d", mv.Owner).WithHint("see: homing status; then ask again")
			if err := c.CallOff(ctx, mv.Move); err != nil {
				u.err = nil
				return err
			}
			return u.err
		}
		pause := movePoll
		if mv.Gone { // nobody waits for it any more
			pause = time.Second
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Receive implements core.Abroad.
func (m *mover) Receive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, rows []core.MovedRow) (e region.Epoch, err error) {
	err = m.tell(ctx, home, "/move/rows", movePiece{Owner: owner, Home: home, Moves: moves, Rows: rows}, &e)
	return e, err
}

// Arrive implements core.Abroad.
func (m *mover) Arrive(ctx context.Context, owner region.UIN, home region.ID, moves uint64, sent region.Epoch) (a core.Arrival, err error) {
	err = m.tell(ctx, home, "/move/arrive", movePiece{Owner: owner, Home: home, Moves: moves, Epoch: sent}, &a)
	return a, err
}

// HeldUpTo implements core.Abroad.
func (m *mover) HeldUpTo(ctx context.Context, home region.ID, p region.Partition, at core.Mark) (held bool, err error) {
	err = m.tell(ctx, home, "/move/held", movePiece{Home: home, Part: p, Mark: at}, &held)
	return held, err
}

// Flip implements core.Abroad. Regions that are not told follow the feeds.
func (m *mover) Flip(ctx context.Context, mv core.Move) error {
	n := m.r.node
	v := n.world.View()
	b := keeper.NewBatch(region.ID(n.self.Name), v.Hash, []keeper.Entry{{Owner: mv.Owner, Home: mv.To, Moves: uint32(mv.Moves)}}, n.key)
	if err := n.world.OfferOverlay(ctx, b); err != nil {
		return err
	}
	for i := range v.World.Regions {
		r := &v.World.Regions[i]
		if string(r.ID) == n.self.Name {
			continue
		}
		if err := m.post(ctx, r, "/overlay", "application/octet-stream", b.Encode(), nil); err != nil {
			m.r.log.Info("a region is not told of a move, and follows the feed", "region", r.ID, "error", err)
		}
	}
	return nil
}

// tell asks the region that acts for a home.
func (m *mover) tell(ctx context.Context, home region.ID, path string, q, a any) error {
	v := m.r.node.world.View()
	acting, _, _ := v.Acting(home)
	r, ok := v.World.Region(acting)
	if !ok {
		return region.Errorf(region.Unavailable, "nobody acts for %s", home)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return m.post(ctx, r, path, "application/json", body, a)
}

func (m *mover) post(ctx context.Context, r *region.Region, path, kind string, body []byte, a any) error {
	ctx, cancel := context.WithTimeout(ctx, moveCall)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, region.AdminURL(r.Admin)+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	res, err := m.r.node.peers.Do(req)
	if err != nil {
		return region.Errorf(region.Unavailable, "region %s does not answer", r.ID).WithCause(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		// Not with its kind: what it refuses now it may take from the region that
		// acts next, or when it has the world that we have.
		return fmt.Errorf("region %s: %s: %s", r.ID, res.Status, strings.TrimSpace(string(b)))
	}
	if a == nil {
		return nil
	}
	return json.Unmarshal(b, a)
}
