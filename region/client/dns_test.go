package client_test

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/homing-im/homing/region/client"
)

// dnsServer answers one name: with SRV and A records, or A records only.
func dnsServer(t *testing.T, srv bool, end netip.AddrPort) (addr string, asked func() []string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var names []string
	done := make(chan struct{})
	t.Cleanup(func() { _ = pc.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			mu.Lock()
			names = append(names, q.Name.String())
			mu.Unlock()
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
			head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
			switch {
			case q.Type == dnsmessage.TypeSRV && srv:
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.SRVResource{Port: end.Port(), Target: dnsmessage.MustNewName("pop-1.demo.test.")}})
			case q.Type == dnsmessage.TypeA:
				reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: end.Addr().As4()}})
			}
			b, err := reply.Pack()
			if err != nil {
				continue
			}
			_, _ = pc.WriteTo(b, from)
		}
	}()
	return pc.LocalAddr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), names...)
	}
}

// Without HTTPDNS the same is found by DNS, which is told the UIN and the
// version in the name.
func TestDNS(t *testing.T) {
	for _, tt := range []struct {
		name string
		srv  bool
	}{{"SRV", true}, {"A and the known port", false}} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			server, asked := dnsServer(t, tt.srv, r.sh.long())
			c := r.client(1_000_001, func(o *client.Options) {
				o.HTTPDNS, o.DNS = "http://127.0.0.1:1", server
				o.Port = r.sh.long().Port()
				if tt.srv {
					o.Port = 1
				}
			})
			r.connected(c)
			if e := last(await(t, c, client.Connected)); e.Source != "dns" {
				t.Errorf("event %+v", e)
			}
			if names := strings.Join(asked(), " "); !strings.Contains(names, "u-1000001.v-80003.long.demo.test.") {
				t.Errorf("asked for %s", names)
			}
		})
	}
}
