package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/homing-im/homing/deploy/lab/script"
	"github.com/homing-im/homing/deploy/lab/traffic"
	"github.com/homing-im/homing/deploy/lab/wan"
	"github.com/homing-im/homing/region"
)

// clients are the processes with people, one per site that has any.
type clients struct {
	history *traffic.History
	all     []*crowd
	round   int
}

// crowd is one such process.
type crowd struct {
	at    wan.Site
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan error
}

// clients starts everybody, and waits until all are connected.
func (w *world) clients(ctx context.Context, people []script.People) (*clients, error) {
	c := &clients{history: traffic.NewHistory()}
	by := map[wan.Site][]traffic.People{}
	for _, p := range people {
		by[wan.Site(p.Site)] = append(by[wan.Site(p.Site)], traffic.People{Home: region.ID(p.Home), Count: p.Count, Every: p.Every})
	}
	for at, people := range by {
		one, err := w.crowd(at, people, c.history)
		if err != nil {
			c.close()
			return nil, err
		}
		c.all = append(c.all, one)
	}
	if err := c.until(ctx, time.Minute, traffic.Ready, 0); err != nil {
		c.close()
		return nil, fmt.Errorf("people are not connected: %w", err)
	}
	var uins []string
	for u := range c.history.Users() {
		uins = append(uins, u.String())
	}
	slices.Sort(uins)
	c.say("peers " + strings.Join(uins, " "))
	return c, nil
}

// crowd starts a process of people. Its history is kept in a file as well.
func (w *world) crowd(at wan.Site, people []traffic.People, h *traffic.History) (*crowd, error) {
	s := w.sites[at]
	config := traffic.Config{
		Zone: "im.test", HTTPDNS: fmt.Sprintf("http://%s:7080", dnsOf(s.place)), DNS: fmt.Sprintf("%s:7053", dnsOf(s.place)),
		CACert: filepath.Join(w.dir, "tls", "ca.pem"), Dir: filepath.Join(w.dir, "clients", string(at)), People: people, Short: map[region.ID]string{},
	}
	for _, r := range w.sites {
		if len(r.nodes) == 2 {
			config.Short[region.ID(r.name)] = fmt.Sprintf("http://%s:7200", r.address)
		}
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if err := w.write(string(at)+".json", string(b)); err != nil {
		return nil, err
	}
	record, err := os.Create(filepath.Join(w.dir, string(at)+".history"))
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(w.dir, string(at)+".log"))
	if err != nil {
		_ = record.Close()
		return nil, err
	}
	defer func() { _ = log.Close() }()
	c := &crowd{at: at, cmd: exec.Command("/proc/self/exe", "traffic", filepath.Join(w.dir, string(at)+".json")), ended: make(chan error, 1)}
	c.cmd.Stderr = log
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = s.ns.Start(c.cmd)
	}
	if err != nil {
		_ = record.Close()
		return nil, err
	}
	go func() {
		err := h.Read(io.TeeReader(out, record))
		_, _ = io.Copy(io.Discard, out)
		c.ended <- fmt.Errorf("the people of %s have ended: %w", at, errors.Join(err, c.cmd.Wait(), record.Close()))
	}()
	return c, nil
}

func (c *clients) say(line string) {
	for _, one := range c.all {
		_, _ = fmt.Fprintln(one.in, line) // who has ended is found by until
	}
}

// until waits until every process has told of a kind of event, with a round.
func (c *clients) until(ctx context.Context, within time.Duration, kind traffic.Kind, round int) error {
	return c.more(ctx, within, kind, round, 0)
}

func (c *clients) more(ctx context.Context, within time.Duration, kind traffic.Kind, round, before int) error {
	return wait(ctx, within, func() error {
		for _, one := range c.all {
			select {
			case err := <-one.ended:
				one.ended <- err
				return err
			default:
			}
		}
		n := c.history.Count(func(e traffic.Event) bool { return e.Kind == kind && e.Round == round })
		if n-before < len(c.all) {
			return fmt.Errorf("%d of %d processes of people say %q", n-before, len(c.all), kind)
		}
		return nil
	})
}

// pause stops everybody's sending, and waits for the answers to what is under way.
func (c *clients) pause(ctx context.Context, within time.Duration) error {
	before := c.history.Count(func(e traffic.Event) bool { return e.Kind == traffic.Paused })
	c.say("pause")
	return c.more(ctx, within, traffic.Paused, 0, before)
}

// phones has the people of a site switch theirs off, or log in on new ones, and
// waits.
func (c *clients) phones(ctx context.Context, at wan.Site, what traffic.Kind) error {
	i := slices.IndexFunc(c.all, func(one *crowd) bool { return one.at == at })
	if i < 0 {
		return fmt.Errorf("nobody is at %s", at)
	}
	told := func(e traffic.Event) bool { return e.Kind == what }
	before := c.history.Count(told)
	_, _ = fmt.Fprintln(c.all[i].in, what)
	return wait(ctx, time.Minute, func() error {
		if c.history.Count(told) == before {
			return fmt.Errorf("the phones of %s are not %s", at, what)
		}
		return nil
	})
}

// judge reads every inbox, again until nothing is missing or time is over.
// Excused is as for [traffic.History.Judge].
func (c *clients) judge(ctx context.Context, within time.Duration, excused func(traffic.Event, region.UIN) bool) (v traffic.Verdict, err error) {
	deadline := time.Now().Add(within)
	for {
		c.round++
		c.say(fmt.Sprint("inbox ", c.round))
		if err := c.until(ctx, time.Minute, traffic.Done, c.round); err != nil {
			return v, err
		}
		v = c.history.Judge(c.round, excused)
		if v.Good() || v.Twice > 0 || time.Now().After(deadline) {
			return v, nil
		}
	}
}

// close ends everybody.
func (c *clients) close() {
	for _, one := range c.all {
		_ = one.in.Close()
	}
	for _, one := range c.all {
		select {
		case err := <-one.ended:
			one.ended <- err
		case <-time.After(10 * time.Second):
			_ = one.cmd.Process.Kill()
			<-one.ended
		}
	}
}
