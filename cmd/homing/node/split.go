package node

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/access"
	"github.com/homing-im/homing/region/access/presence"
	"github.com/homing-im/homing/region/access/route"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/peer"
	"github.com/homing-im/homing/region/rpc"
	"github.com/homing-im/homing/region/store/remote"
)

// storeWait is how long a starting logic process waits for the one with the
// store.
const storeWait = time.Minute

// identity is what this process proves to the others of its region.
func (n *Node) identity() rpc.Identity {
	return rpc.Identity{Region: region.ID(n.self.Name), Name: n.cfg.Name, Key: n.key, Public: func() ed25519.PublicKey {
		key, _ := peer.KeyOf(n.world.View().World, n.self)
		return ed25519.PublicKey(key)
	}}
}

// insideTLS is for dialling other processes of the region; nil, for loopback,
// without certificates. They are named after the service they are behind.
func (n *Node) insideTLS() *tls.Config { return n.dialTLS() }

// serveInside listens for the other processes of the region.
func (n *Node) serveInside(what, address string, h rpc.Handler) error {
	s, err := rpc.Listen(rpc.ServerOptions{Identity: n.identity(), Address: address, Handler: h, TLS: n.server, Logger: n.log.With("serves", what)})
	if err != nil {
		return fmt.Errorf("%s listener: %w", what, err)
	}
	n.onClose(what+" listener", s.Close)
	return nil
}

// joinPresence connects to the presence nodes; connections is nil for a process
// without clients.
func (n *Node) joinPresence(connections presence.Connections) (*presence.Client, error) {
	if n.presence != nil {
		return n.presence, nil
	}
	c, err := presence.NewClient(presence.Options{
		Identity: n.identity(), Nodes: n.cfg.Processes.presence(), TLS: n.insideTLS(), Connections: connections, Logger: n.log, Registerer: n.reg,
	})
	if err != nil {
		return nil, err
	}
	n.onClose("presence client", func(context.Context) error { return c.Close() })
	n.presence = c
	return c, nil
}

// startPresence is the role that knows who is connected where.
func (n *Node) startPresence(context.Context, Options) error {
	node, err := presence.NewNode(presence.NodeOptions{
		Identity: n.identity(), Nodes: n.cfg.Processes.presence(), TLS: n.insideTLS(), Logger: n.log, Registerer: n.reg,
	})
	if err != nil {
		return err
	}
	n.onClose("presence", func(context.Context) error { return node.Close() })
	return n.serveInside("presence", address(n.cfg.Processes.Presence, n.cfg.Name), node)
}

// startStore is the role that has the region's store, and with it everything
// that needs the journal.
func (n *Node) startStore(_ context.Context, o Options) error {
	r, me, err := n.newRegionRole()
	if err != nil {
		return err
	}
	if err := r.openStore(); err != nil {
		return err
	}
	notifier, err := n.joinPresence(nil)
	if err != nil {
		return err
	}
	if err := r.startCore(r.store, r.held, notifier, o); err != nil {
		return err
	}
	if err := r.startReplicator(me.ID, me); err != nil {
		return err
	}
	held := func(p region.Partition) (uint64, uint64, bool) {
		m, ok := r.held(region.ID(n.self.Name), p)
		return m.Incarnation, m.Seq, ok
	}
	return n.serveInside("store", n.cfg.Processes.Store, remote.Handler(gated{r.store, r.succession.Admit}, held))
}

// startAccess is the role that has the connections, and nothing else: it hardly
// ever restarts.
func (n *Node) startAccess(ctx context.Context, _ Options) error {
	r, me, err := n.newRegionRole()
	if err != nil {
		return err
	}
	online, err := access.NewPresence(n.reg)
	if err != nil {
		return err
	}
	if r.router, err = route.New(route.Options{
		Identity: n.identity(), Instances: n.cfg.Processes.logic(), Rules: n.cfg.Processes.rules(), TLS: n.insideTLS(), Logger: n.log, Registerer: n.reg,
	}); err != nil {
		return err
	}
	n.onClose("router", func(context.Context) error { return r.router.Close() })
	if _, err := n.joinPresence(presence.Local(online)); err != nil {
		return err
	}
	return r.serveClients(ctx, me, access.Options{Remote: r.router, Presence: online})
}

// startLogic is the role that serves requests, over the store of another process.
func (n *Node) startLogic(ctx context.Context, o Options) error {
	r, _, err := n.newRegionRole()
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	rows, err := remote.Open(wait, rpc.ClientOptions{Identity: n.identity(), Address: n.cfg.Processes.Store, TLS: n.insideTLS(), Logger: n.log})
	if err != nil {
		return fmt.Errorf("the region's store: %w", err)
	}
	n.onClose("store connection", func(context.Context) error { return rows.Close() })
	r.rows = rows
	notifier, err := n.joinPresence(nil)
	if err != nil {
		return err
	}
	held := func(home region.ID, p region.Partition) (core.Mark, bool) {
		i, seq, ok := rows.Held(p) // of this region's own home; of others nothing is known here
		return core.Mark{Incarnation: i, Seq: seq}, ok && home == region.ID(n.self.Name)
	}
	if err := r.startCore(rows, held, notifier, o); err != nil {
		return err
	}
	return n.serveInside("logic", address(n.cfg.Processes.Logic, n.cfg.Name), route.Handler(r.core))
}
