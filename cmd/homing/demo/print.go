package demo

import (
	"fmt"
	"io"
	"net/netip"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/region/access/webchat"
)

// printTable says what listens where.
func (p *plan) printTable(w io.Writer, dir string) {
	fmt.Fprintf(w, "\nWorld %q runs; its state is in %s\n\n", p.zone, dir)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHO\tWHERE\tLONG\tSHORT\tWEB\tADMIN\tQUEUE")
	for _, m := range p.regions {
		fmt.Fprintf(t, "region %s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.id, m.title, m.long, m.short, m.web, m.admin, m.queue)
	}
	for _, m := range p.pops {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t\n", m.id, m.title, m.long, m.short, m.web, m.admin)
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\ndns-1    %s (UDP, TCP)   DoT, DoQ %s   DoH https://%s/dns-query   HTTPDNS http://%s   admin %s\n",
		p.dns.address, p.dns.dot, p.dns.doh, p.dns.http, p.dns.admin)
	fmt.Fprintf(w, "ids-1    http://%s   admin %s\n", p.ids.address, p.ids.admin)
	fmt.Fprintf(w, "console  http://%s\n", p.console)
	fmt.Fprintf(w, "chat     http://%s%s, and the same on the web listener of every region and POP\n", p.regions[0].web, webchat.Path)
}

// printTour shows a few commands to try, with this demo's real addresses.
func (p *plan) printTour(w io.Writer) {
	first, second := p.regions[0].id, p.regions[min(1, len(p.regions)-1)].id
	fmt.Fprintf(w, `
Try, in another terminal:
  dig %[1]s long.%[2]s +subnet=223.5.5.0/24
  dig %[1]s u-1000001.v-80003.long.%[2]s
  curl 'http://%[3]s/d?host=long.%[2]s&uin=1000001&ver=80003&ip=223.5.5.5'
  homing user register --region %[4]s --nickname Alice && homing id claim alice --as Alice
  homing user register --region %[5]s --nickname Bob && homing id claim bob --as Bob
  homing send --as Alice --to @bob "hello from %[6]s"
  homing sync --as Bob
  homing chat --as Alice --ip 8.8.8.8
  homing explain --uin 1000001 --ip 223.5.5.5 --version 80003
  homing status

`, digArgs(p.dns.address), p.zone, p.dns.http, first, second, p.regions[0].title)
}

func digArgs(a netip.AddrPort) string { return fmt.Sprintf("@%s -p %d", a.Addr(), a.Port()) }

// statusLine is the one-line live status.
func statusLine(s *console.State) string {
	users, rate := uint64(0), 0.0
	for _, r := range s.Regions {
		users += r.Users
		rate += r.MessagesPerSecond
	}
	type pair struct{ from, to string }
	lags := map[pair]uint64{}
	unknown := map[pair]bool{}
	for _, p := range s.Pairs {
		k := pair{p.From, p.To}
		lags[k] += p.Records
		unknown[k] = unknown[k] || p.State == console.PairUnknown
	}
	keys := make([]pair, 0, len(lags))
	for k := range lags {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		return keys[i].from < keys[j].from || keys[i].from == keys[j].from && keys[i].to < keys[j].to
	})
	var lag []string
	for _, k := range keys {
		n := fmt.Sprint(lags[k])
		if unknown[k] {
			n = "?"
		}
		lag = append(lag, fmt.Sprintf("%s>%s %s", k.from, k.to, n))
	}
	line := fmt.Sprintf("%s  world %d  %d online  %.0f msg/s  lag %s", s.Time.Format(time.TimeOnly), s.World.Version, users, rate, strings.Join(lag, " "))
	if len(s.Alarms) > 0 {
		line += fmt.Sprintf("  %d alarms: %s %s", len(s.Alarms), s.Alarms[0].Subject, s.Alarms[0].Text)
	}
	return line
}
