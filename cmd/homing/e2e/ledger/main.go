// Command ledger is the outside witness of the kill tests: a process of its own
// that sends messages between users of all regions, writes down each one that
// was acknowledged, and later looks whether every one of them is in its inbox
// exactly once.
//
//	ledger send   CONFIG     until SIGTERM; appends to the files of CONFIG
//	ledger verify CONFIG     exits 0, or 1 with what is missing or doubled
//	ledger look   CONFIG     verify without patience: the missing as JSON, a line each
package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/client"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// Config says where the world is and where the ledger's files are.
type Config struct {
	Zone    string            `json:"zone"`
	HTTPDNS string            `json:"httpdns"`
	DNS     string            `json:"dns"`
	CACert  string            `json:"ca_cert"`
	Short   map[string]string `json:"short"`  // region -> base URL
	Users   int               `json:"users"`  // per region
	Pause   int               `json:"pause"`  // milliseconds between two messages of a user
	People  string            `json:"people"` // file: the users, made by the first send
	Ledger  string            `json:"ledger"` // file: what was acknowledged, a line each
}

type person struct {
	UIN    region.UIN `json:"uin"`
	Region string     `json:"region"`
	Seed   []byte     `json:"seed"`
	Ticket string     `json:"ticket"`
}

// entry is one acknowledged message.
type entry struct {
	ID   string     `json:"id"`
	From region.UIN `json:"from"`
	To   region.UIN `json:"to"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: ledger send|verify|look CONFIG")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c Config
	b, err := os.ReadFile(os.Args[2])
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err == nil {
		switch os.Args[1] {
		case "send":
			err = c.send(ctx)
		case "verify":
			err = c.verify(ctx)
		case "look":
			err = c.look(ctx)
		default:
			err = fmt.Errorf("unknown verb %q", os.Args[1])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func (c *Config) client(p person) (*client.Client, error) {
	pem, err := os.ReadFile(c.CACert)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return client.New(client.Options{
		Zone: c.Zone, HTTPDNS: c.HTTPDNS, DNS: c.DNS, Short: c.Short[p.Region], RootCAs: pool,
		Identity:      client.Identity{UIN: p.UIN, Key: ed25519.NewKeyFromSeed(p.Seed), Ticket: p.Ticket, Region: region.ID(p.Region)},
		ClientVersion: 80003, Platform: "ledger", BackoffMax: 2 * time.Second,
	})
}

func (c *Config) people(ctx context.Context) ([]person, error) {
	var all []person
	if b, err := os.ReadFile(c.People); err == nil {
		return all, json.Unmarshal(b, &all)
	}
	for name, url := range c.Short {
		for i := range c.Users {
			id, err := client.Register(ctx, http.DefaultClient, url, fmt.Sprintf("%s-%d", name, i), "ledger")
			if err != nil {
				return nil, err
			}
			all = append(all, person{UIN: id.UIN, Region: name, Seed: id.Key.Seed(), Ticket: id.Ticket})
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return all, os.WriteFile(c.People, b, 0o600)
}

// send sends until ctx ends. A message whose acknowledgement never came is not
// in the ledger; it may or may not arrive.
func (c *Config) send(ctx context.Context) error {
	all, err := c.people(ctx)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(c.Ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var acked atomic.Int64
	var wg sync.WaitGroup
	for _, p := range all {
		cl, err := c.client(p)
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer func() { _ = cl.Close() }()
			if err := cl.Connect(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "ledger:", p.UIN, err)
				os.Exit(1)
			}
			for ctx.Err() == nil {
				to := all[rand.IntN(len(all))].UIN
				if to == p.UIN {
					continue
				}
				r, err := cl.Send(ctx, &v1.SendRequest{To: uint64(to), Body: &v1.Body{Kind: &v1.Body_Text{Text: "for the ledger"}}})
				if err != nil {
					if ctx.Err() == nil && !region.KindOf(err).Retryable() {
						fmt.Fprintln(os.Stderr, "ledger:", p.UIN, "to", to, err)
						os.Exit(1)
					}
					continue
				}
				line, _ := json.Marshal(entry{ID: hex.EncodeToString(r.Id), From: p.UIN, To: to})
				mu.Lock()
				_, err = out.Write(append(line, '\n'))
				mu.Unlock()
				if err != nil {
					fmt.Fprintln(os.Stderr, "ledger:", err)
					os.Exit(1)
				}
				acked.Add(1)
				select {
				case <-time.After(time.Duration(c.Pause) * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Wait()
	fmt.Printf("acknowledged %d\n", acked.Load())
	return errors.Join(out.Sync(), out.Close())
}

// absence is a message that is not in an inbox where it belongs.
type absence struct {
	entry
	Inbox region.UIN `json:"inbox"`
}

// compare holds every user's inbox against the acknowledged messages.
func (c *Config) compare(ctx context.Context, entries []entry) (missing []absence, doubled []string, err error) {
	people, err := c.people(ctx)
	if err != nil {
		return nil, nil, err
	}
	inboxes := map[region.UIN]map[string]int{}
	for _, p := range people {
		if inboxes[p.UIN], err = c.inbox(ctx, p); err != nil {
			return nil, nil, fmt.Errorf("inbox of %d: %w", p.UIN, err)
		}
	}
	for _, e := range entries {
		for _, at := range []region.UIN{e.From, e.To} {
			switch n := inboxes[at][e.ID]; {
			case n == 0:
				missing = append(missing, absence{e, at})
			case n > 1:
				doubled = append(doubled, fmt.Sprintf("%s from %d to %d is %d times in the inbox of %d", e.ID, e.From, e.To, n, at))
			}
		}
	}
	return missing, doubled, nil
}

// look prints what is missing now.
func (c *Config) look(ctx context.Context) error {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	missing, doubled, err := c.compare(ctx, entries)
	if err == nil && len(doubled) > 0 {
		err = errors.New(doubled[0])
	}
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, m := range missing {
		if err := out.Encode(m); err != nil {
			return err
		}
	}
	return nil
}

// verify waits until every acknowledged message is where it belongs, for as
// long as the number of missing ones keeps falling, and then looks at all of
// them once more.
func (c *Config) verify(ctx context.Context) error {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	var missing []absence
	var doubled []string
	patience := time.Now().Add(30 * time.Second)
	for least := -1; ; {
		if missing, doubled, err = c.compare(ctx, entries); err != nil {
			return err
		}
		if len(missing) == 0 || len(doubled) > 0 {
			break
		}
		if least < 0 || len(missing) < least {
			least, patience = len(missing), time.Now().Add(30*time.Second)
		}
		if time.Now().After(patience) {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, m := range missing {
		fmt.Printf("%s from %d to %d is not in the inbox of %d\n", m.ID, m.From, m.To, m.Inbox)
	}
	for _, s := range doubled {
		fmt.Println(s)
	}
	if len(missing)+len(doubled) > 0 {
		return fmt.Errorf("of %d acknowledged messages %d are missing, %d doubled", len(entries), len(missing), len(doubled))
	}
	fmt.Printf("all %d acknowledged messages are in both inboxes exactly once\n", len(entries))
	return nil
}

func (c *Config) entries() ([]entry, error) {
	f, err := os.Open(c.Ledger)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []entry
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var e entry
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return nil, errors.New("nothing was acknowledged: there is nothing to verify")
	}
	return all, nil
}

// inbox counts each message of a user's whole inbox, whose numbers have to be
// dense.
func (c *Config) inbox(ctx context.Context, p person) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cl, err := c.client(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cl.Close() }()
	if err := cl.Connect(ctx); err != nil {
		return nil, err
	}
	got, last := map[string]int{}, uint64(0)
	err = cl.SyncPages(ctx, nil, func(page *v1.SyncResponse) error {
		for _, m := range page.Messages {
			if m.Sequence != last+1 {
				return fmt.Errorf("number %d follows %d", m.Sequence, last)
			}
			last = m.Sequence
			got[hex.EncodeToString(m.Id)]++
		}
		return nil
	})
	return got, err
}
