package bench

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/cmd/homing/pki"
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// newIMEchoCommand is the bare server of `bench im --echo` as a process of its own:
// it answers each Send and pushes its notice, in the region's frames, and does
// nothing else. What it reaches is what the kernel, Go's net package and the
// generator allow on this machine.
func newIMEchoCommand(out io.Writer) *cobra.Command {
	var cert, key string
	cmd := &cobra.Command{
		Use: "im-echo", Hidden: true, Short: "A server that stores nothing, for bench im --echo", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			fmt.Fprintln(out, l.Addr())
			if cert != "" {
				pair, err := tls.LoadX509KeyPair(cert, key)
				if err != nil {
					return errors.Join(err, l.Close())
				}
				l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}})
			}
			return echoMessages(contextOf(c), l)
		},
	}
	cmd.Flags().StringVar(&cert, "cert", "", "PEM file of the certificate; plain without")
	cmd.Flags().StringVar(&key, "key", "", "PEM file of its key")
	return cmd
}

// startEcho starts the bare server and returns where it listens.
func startEcho(ctx context.Context, o *IMOptions, dir string) (s *site, err error) {
	s = &site{dir: dir, target: target{zone: zone}}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	args := []string{"bench", "im-echo"}
	if o.TLS {
		f, err := pki.Ensure(filepath.Join(dir, "tls"), []string{"long." + zone}, []net.IP{net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return s, err
		}
		if s.roots, err = pki.Pool(f.CA); err != nil {
			return s, err
		}
		args = append(args, "--cert", f.Cert, "--key", f.Key)
	}
	p := &process{name: "echo", cmd: exec.Command(self, args...), done: make(chan struct{})}
	said, err := p.cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	if err := p.cmd.Start(); err != nil {
		return s, err
	}
	s.nodes, s.pid = []*process{p}, p.cmd.Process.Pid
	line, err := bufio.NewReader(said).ReadString('\n')
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	if err == nil {
		s.long, err = netip.ParseAddrPort(line[:len(line)-1])
	}
	if err != nil {
		return s, errors.Join(fmt.Errorf("the bare server did not start: %w", err), s.close())
	}
	return s, nil
}

// strangers are users whom nobody registered.
func strangers(n int) ([]*person, error) {
	people := make([]*person, n)
	for i := range people {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		people[i] = &person{index: i}
		people[i].UIN, people[i].Key = region.UIN(1_000_000+i), key
	}
	return people, nil
}

// echoServer knows who is connected.
type echoServer struct {
	mu    sync.RWMutex
	conns map[uint64]*echoConn
}

// echoConn is a connection whose writer writes all that waits at once, and exists
// while something does.
type echoConn struct {
	net.Conn
	uin      uint64
	sequence uint64

	mu      sync.Mutex
	pending []byte
	spare   []byte
	writing bool
}

func echoMessages(ctx context.Context, l net.Listener) error {
	s := &echoServer{conns: map[uint64]*echoConn{}}
	var all sync.WaitGroup
	defer all.Wait()
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	defer context.AfterFunc(ctx, func() {
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			_ = c.Close()
		}
	})()
	for {
		nc, err := l.Accept()
		if err != nil {
			return nil // closed
		}
		mu.Lock()
		open[nc] = true
		mu.Unlock()
		all.Go(func() {
			_ = s.serve(&echoConn{Conn: nc}, &all) // until the client goes
			mu.Lock()
			delete(open, nc)
			mu.Unlock()
			_ = nc.Close()
		})
	}
}

func (s *echoServer) serve(c *echoConn, all *sync.WaitGroup) error {
	r := wire.NewReader(c)
	for {
		f, err := r.Next()
		if err != nil {
			return err
		}
		var answer proto.Message
		switch f.Method {
		case wire.Hello:
			h := new(v1.Hello)
			if err := wire.Unmarshal(f, h); err != nil {
				return err
			}
			c.uin = h.Uin
			answer = &v1.HelloReply{WireVersion: wire.Version, Nonce: make([]byte, 32), Region: "sh"}
		case wire.Reauth:
			s.mu.Lock()
			s.conns[c.uin] = c
			s.mu.Unlock()
			answer = &v1.ReauthReply{HeartbeatSeconds: 300}
		case wire.Send:
			q := new(v1.SendRequest)
			if err := wire.Unmarshal(f, q); err != nil {
				return err
			}
			c.sequence++
			m := &v1.Message{Id: make([]byte, 16), Sequence: c.sequence, Sender: c.uin, To: q.To, ClientMessageId: q.ClientMessageId, SentUnixMilli: time.Now().UnixMilli(), Body: q.Body}
			s.mu.RLock()
			to := s.conns[q.To]
			s.mu.RUnlock()
			if to != nil {
				if err := to.send(all, wire.Notice, wire.FlagPush, 0, &v1.Notice{Sequence: c.sequence, Message: m}); err != nil {
					return err
				}
			}
			answer = &v1.SendResponse{Id: m.Id, Sequence: c.sequence, SentUnixMilli: m.SentUnixMilli, Mark: &v1.Mark{Incarnation: 1, Sequence: c.sequence}}
		default:
			answer = &v1.SyncResponse{}
		}
		if err := c.send(all, f.Method, wire.FlagResponse, f.Sequence, answer); err != nil {
			return err
		}
	}
}

// send adds a frame to what waits. It does not block.
func (c *echoConn) send(all *sync.WaitGroup, m wire.Method, flags wire.Flags, sequence uint64, body proto.Message) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending, err = wire.AppendMessage(c.pending, m, flags, sequence, body); err != nil {
		return err
	}
	if !c.writing {
		c.writing = true
		all.Go(c.write)
	}
	return nil
}

func (c *echoConn) write() {
	for {
		c.mu.Lock()
		some := c.pending
		c.pending, c.spare = c.spare[:0], nil
		if len(some) == 0 {
			c.writing, c.spare = false, some
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		_, err := c.Write(some)
		c.mu.Lock()
		c.spare = some
		c.mu.Unlock()
		if err != nil {
			return // its reader ends it
		}
	}
}
