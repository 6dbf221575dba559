package traffic

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
)

// Config says where a process's people are, and how they find the service.
type Config struct {
	Zone    string               `json:"zone"`
	HTTPDNS string               `json:"httpdns"`
	DNS     string               `json:"dns"`
	CACert  string               `json:"caCert"`
	Short   map[region.ID]string `json:"short"` // base URL by region
	Dir     string               `json:"dir"`   // of what the SDK keeps
	People  []People             `json:"people"`
}

// People are some users of a home who do the same.
type People struct {
	Home  region.ID     `json:"home"`
	Count int           `json:"count"`
	Every time.Duration `json:"everyNanos"` // between two messages of a user
}

// group is the people of a process.
type group struct {
	config Config
	roots  *x509.CertPool

	mu  sync.Mutex // of out
	out *json.Encoder

	users []*user
	peers []region.UIN
}

// Run is a process of clients: it registers and connects them, and does what in
// says until that ends. It returns early when registering fails.
func Run(ctx context.Context, c Config, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &group{config: c, out: json.NewEncoder(out), roots: x509.NewCertPool()}
	pem, err := os.ReadFile(c.CACert)
	if err != nil {
		return err
	}
	g.roots.AppendCertsFromPEM(pem)
	defer func() {
		for _, u := range g.users {
			u.off()
		}
	}()
	if err := g.join(ctx); err != nil {
		return err
	}
	g.tell(Event{Kind: Ready})
	pause := func() {}
	for sc := bufio.NewScanner(in); sc.Scan(); {
		verb, rest, _ := strings.Cut(sc.Text(), " ")
		switch verb {
		case "peers":
			if g.peers, err = uins(rest); err != nil {
				return err
			}
		case "go":
			pause()
			pause = g.send(ctx)
		case "pause":
			pause()
			pause = func() {}
			g.tell(Event{Kind: Paused})
		case "off":
			pause()
			pause = func() {}
			for _, u := range g.users {
				u.off()
			}
			g.tell(Event{Kind: Off})
		case "new":
			for _, u := range g.users {
				if err := u.on(ctx); err != nil {
					return err
				}
			}
			g.tell(Event{Kind: New})
		case "inbox":
			round, err := strconv.Atoi(rest)
			if err != nil {
				return fmt.Errorf("inbox %q: %w", rest, err)
			}
			g.inboxes(ctx, round)
		default:
			return fmt.Errorf("told %q, which is no command", sc.Text())
		}
	}
	cancel()
	pause()
	return nil
}

func uins(list string) ([]region.UIN, error) {
	var out []region.UIN
	for word := range strings.FieldsSeq(list) {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, region.UIN(n))
	}
	return out, nil
}

func (g *group) tell(e Event) {
	e.At = time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.out.Encode(e) // who reads it has gone, and this process goes with them
}

// join registers everybody and waits until they are connected.
func (g *group) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, p := range g.config.People {
		for range p.Count {
			id, err := client.Register(ctx, http.DefaultClient, g.config.Short[p.Home], fmt.Sprintf("%s-%d", p.Home, len(g.users)), "lab")
			if err != nil {
				return fmt.Errorf("registering in %s: %w", p.Home, err)
			}
			u := &user{group: g, people: p, uin: id.UIN, id: id}
			g.users = append(g.users, u)
			if err := u.on(ctx); err != nil {
				return err
			}
			g.tell(Event{Kind: Joined, User: id.UIN, Home: p.Home})
		}
	}
	return nil
}

// send has everybody send until the function it returns is called, which waits
// for the answers to what is under way.
func (g *group) send(ctx context.Context) (pause func()) {
	stop := make(chan struct{})
	var sending sync.WaitGroup
	for _, u := range g.users {
		sending.Go(func() { u.send(ctx, stop) })
	}
	return func() {
		close(stop)
		sending.Wait()
	}
}

// inboxes tells what is in everybody's.
func (g *group) inboxes(ctx context.Context, round int) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for _, u := range g.users {
		all.Go(func() {
			u.pull(ctx)
			u.inbox(ctx, round)
		})
	}
	all.Wait()
	g.tell(Event{Kind: Done, Round: round})
}
