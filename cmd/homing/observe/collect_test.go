package observe

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/console"
	"github.com/homing-im/homing/region"
)

// member is a node's admin listener that says what the test tells it to.
type member struct {
	mu     sync.Mutex
	status NodeStatus
	broken bool
	http   *httptest.Server
}

func serve(t *testing.T, st NodeStatus) *member {
	t.Helper()
	m := &member{status: st}
	m.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.broken || r.URL.Path != "/status" {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(m.status)
	}))
	t.Cleanup(m.http.Close)
	return m
}

func (m *member) admin() string { return strings.TrimPrefix(m.http.URL, "http://") }

func (m *member) set(f func(*member)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func alarm(s console.State, subject string) string {
	for _, a := range s.Alarms {
		if a.Subject == subject {
			return string(a.Severity) + ": " + a.Text
		}
	}
	return ""
}

func TestCollector(t *testing.T) {
	sh := serve(t, NodeStatus{World: 1, Ready: true, Region: &RegionStatus{Users: 3, Connections: 4, Admitting: true, Messages: 100}})
	hk := serve(t, NodeStatus{World: 1, Ready: true, Region: &RegionStatus{Admitting: true, Lags: []Lag{{Origin: "sh", Stream: "full", Records: 5, Seconds: 0.4, State: string(console.PairLive)}}}})
	pop := serve(t, NodeStatus{Ready: true, POP: &POPStatus{Connections: 7, RTTMillis: map[string]float64{"sh": 12.5}}})
	dns := serve(t, NodeStatus{Ready: true, DNS: &DNSStatus{Questions: 10, POPs: map[string]bool{"pop-1": true}}})
	w := &region.World{Name: "test", Zone: "test.example", Version: 1,
		Regions: []region.Region{
			{ID: "sh", Admin: sh.admin(), Backups: []region.ID{"hk"}, Acting: region.Acting{Region: "sh", Counter: 1}, Place: region.Place{Latitude: 31, Longitude: 121}},
			{ID: "hk", Admin: hk.admin(), Acting: region.Acting{Region: "hk", Counter: 1}, Place: region.Place{Latitude: 22, Longitude: 114}}},
		POPs: []region.POP{{ID: "pop-1", Admin: pop.admin(), Place: region.Place{Latitude: 30, Longitude: 120}}},
		DNS:  []region.Node{{Name: "dns-1", Admin: dns.admin()}}}
	v := region.NewView(w, region.Hash{1}, nil)
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	c := New(func() *region.View { return v }, client)

	s := c.State(t.Context())
	if r := s.Regions[0]; !r.Reachable || !r.Ready || r.Users != 3 || r.Connections != 4 || r.Fenced {
		t.Errorf("sh: %+v", r)
	}
	if l := s.Regions[0].Loss; l == nil || l.Backup != "hk" || l.Records != 5 || l.Single {
		t.Errorf("loss of sh: %+v", l)
	}
	if s.Regions[1].Loss != nil {
		t.Errorf("hk has no backup, and its loss is %+v", s.Regions[1].Loss)
	}
	if p := s.POPs[0]; !p.Healthy || p.Near != "sh" || p.Connections != 7 || p.RTTMillis["sh"] != 12.5 {
		t.Errorf("pop-1: %+v", p)
	}
	if len(s.Pairs) != 1 || s.Pairs[0].From != "sh" || s.Pairs[0].To != "hk" || s.Pairs[0].State != console.PairLive {
		t.Errorf("pairs: %+v", s.Pairs)
	}
	if len(s.Alarms) != 0 {
		t.Errorf("alarms on a quiet day: %+v", s.Alarms)
	}

	// 40 messages since the sample before, which is made two seconds old.
	sh.set(func(m *member) { m.status.Region.Messages = 140 })
	c.mu.Lock()
	last := c.last[sh.admin()]
	last.at = last.at.Add(-2 * time.Second)
	c.last[sh.admin()] = last
	c.mu.Unlock()
	if rate := c.State(t.Context()).Regions[0].MessagesPerSecond; rate < 10 || rate > 20 {
		t.Errorf("%v messages per second, want a little under 20", rate)
	}

	// A region that falls silent keeps its last numbers and is an alarm.
	sh.set(func(m *member) { m.broken = true })
	s = c.State(t.Context())
	if r := s.Regions[0]; r.Reachable || r.Ready || r.Users != 3 {
		t.Errorf("silent sh: %+v", r)
	}
	if got := alarm(s, "sh"); got != "critical: the region does not answer" {
		t.Errorf("alarm: %q", got)
	}
	since := s.Alarms[0].Since
	if again := c.State(t.Context()); !again.Alarms[0].Since.Equal(since) {
		t.Error("an alarm that lasts begins anew")
	}

	// Its backup does, too: nobody knows what would be lost.
	hk.set(func(m *member) { m.broken = true })
	s = c.State(t.Context())
	if l := s.Regions[0].Loss; l == nil || !l.Single {
		t.Errorf("loss of sh without hk: %+v", l)
	}
	if len(s.Pairs) != 1 || s.Pairs[0].State != console.PairUnknown {
		t.Errorf("pairs: %+v", s.Pairs)
	}
	sh.set(func(m *member) {
		m.broken = false
		m.status.Region.Admitting, m.status.Region.Refuses = false, "the disk is full"
	})
	dns.set(func(m *member) {
		m.status.DNS.POPs["pop-1"] = false
		m.status.Degraded = []string{"geo database x cannot be used"}
	})
	s = c.State(t.Context())
	if got := alarm(s, "sh"); got != "critical: the region admits no writes" || s.Alarms[0].Hint != "the disk is full" || s.Regions[0].Ready {
		t.Errorf("alarm: %q, region %+v", s.Alarms[0], s.Regions[0])
	}
	if got := alarm(s, "dns-1"); got != "warning: the node does its work without something: geo database x cannot be used" || !s.DNS[0].Healthy {
		t.Errorf("alarm: %q, node %+v", got, s.DNS[0])
	}
	if got := alarm(s, "pop-1"); !strings.HasPrefix(got, "warning: the POP is not healthy") {
		t.Errorf("alarm: %q", got)
	}
}

func TestNoWorldYet(t *testing.T) {
	s := New(func() *region.View { return nil }, http.DefaultClient).State(t.Context())
	if len(s.Alarms) != 1 || s.Alarms[0].Subject != "world" {
		t.Errorf("%+v", s.Alarms)
	}
}
