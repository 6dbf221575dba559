package accel

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// seen is what a region's HTTP listener got.
type seen struct {
	Region, Forwarded, POP, Path, Body, Host, Authorization, Proto, SNI string
}

// web starts an HTTP listener of a region that answers with what it saw, echoes
// WebSockets at /ws and hangs at /hang.
func web(t testing.TB, name string, secure bool) netip.AddrPort {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("region %s: %v", name, err)
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if c.Write(r.Context(), kind, append([]byte(name+": "), b...)) != nil {
				return
			}
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s := seen{name, r.Header.Get("X-Forwarded-For"), r.Header.Get(HeaderPOP), r.URL.Path, string(b), r.Host, r.Header.Get("Authorization"), r.Proto, ""}
		if len(b) > 64 {
			s.Body = fmt.Sprint(len(b))
		}
		if r.TLS != nil {
			s.SNI = r.TLS.ServerName
		}
		_ = json.NewEncoder(w).Encode(s)
	})
	srv := httptest.NewUnstartedServer(mux)
	if secure {
		server, _ := certs()
		srv.TLS = server.Clone()
		srv.EnableHTTP2 = true
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// withWeb is a world whose regions serve HTTP, too.
func withWeb(t testing.TB, secure bool, acting map[region.ID]region.ID, places ...*place) *region.World {
	w := world(3, acting, places...)
	for i := range w.Regions {
		r := &w.Regions[i]
		r.Serves.Short, r.Serves.Web = web(t, string(r.ID), secure), web(t, string(r.ID), secure)
	}
	return w
}

func (r *rig) fetch(s region.Service, path string, headers map[string]string, body io.Reader) (int, seen, string) {
	r.t.Helper()
	addr, _ := r.Addr(s)
	scheme := "http"
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	if r.o.WebTLS != nil {
		_, c := certs()
		c = c.Clone()
		c.ServerName = string(s) + ".demo.test"
		scheme, tr.TLSClientConfig, tr.ForceAttemptHTTP2 = "https", c, true
	}
	q, err := http.NewRequest(http.MethodPost, scheme+"://"+addr.String()+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range headers {
		q.Header.Set(k, v)
	}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var got seen
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, &got); err != nil {
			r.t.Fatalf("%s: %v", b, err)
		}
	}
	return resp.StatusCode, got, string(b)
}

func ticketOf(sub string) string {
	b := append(fmt.Appendf(nil, `{"iss":"sh","sub":%q}`, sub), make([]byte, 64)...)
	return wire.AuthorizationScheme + " v4.public." + base64.RawURLEncoding.EncodeToString(b) + ".c2g"
}

func TestRequestsGoToTheActingRegion(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			sh, hk, ca := newPlace(t, "sh", secure, nil), newPlace(t, "hk", secure, nil), newPlace(t, "ca", secure, nil)
			w := withWeb(t, secure, map[region.ID]region.ID{"ca": "hk"}, sh, hk, ca)
			r := newRig(t, secure, w, func(o *Options) {
				if secure {
					o.WebTLS, o.RegionWebTLS = certs()
				}
			})
			for _, c := range []struct {
				name, path string
				headers    map[string]string
				want       string
			}{
				{"by header", "/x", map[string]string{HeaderUIN: "2000001"}, "hk"},
				{"by query", "/x?uin=2000001", nil, "hk"},
				{"by ticket", "/x", map[string]string{"Authorization": ticketOf("1000001")}, "sh"},
				{"header before ticket", "/x", map[string]string{HeaderUIN: "2000001", "Authorization": ticketOf("1000001")}, "hk"},
				{"the acting region, not the home", "/x", map[string]string{HeaderUIN: "3000001"}, "hk"},
			} {
				for _, s := range []region.Service{region.Short, region.Web} {
					headers := map[string]string{"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", HeaderPOP: "forged"}
					for k, v := range c.headers {
						headers[k] = v
					}
					status, got, body := r.fetch(s, c.path, headers, strings.NewReader("hello"))
					if status != 200 || got.Region != c.want || got.Forwarded != "127.0.0.1" || got.POP != "pop-1" || got.Path != "/x" || got.Body != "hello" {
						t.Errorf("%s, %s: %d %s; want region %s", c.name, s, status, body, c.want)
					}
					if got.Authorization != headers["Authorization"] {
						t.Errorf("%s, %s: the ticket was changed", c.name, s)
					}
					if addr, _ := r.Addr(s); got.Host != addr.String() {
						t.Errorf("%s, %s: host is %q", c.name, s, got.Host)
					}
					if secure && (got.SNI != string(s)+".demo.test" || (s == region.Short) != (got.Proto == "HTTP/2.0")) {
						t.Errorf("%s, %s: server name %q, %s", c.name, s, got.SNI, got.Proto)
					}
				}
			}
		})
	}
}

// TestRequestsOfNobodyGoNearby: without a UIN the nearest region serves, judged by
// the probes, and by the map for those the probes cannot reach.
func TestRequestsOfNobodyGoNearby(t *testing.T) {
	sh, hk, ca := newPlace(t, "sh", false, nil), newPlace(t, "hk", false, nil), newPlace(t, "ca", false, nil)
	w := withWeb(t, false, nil, sh, hk, ca)
	r := newRig(t, false, w, func(o *Options) { o.Probe = time.Hour })
	eventually(t, "all are probed", func() bool { return len(r.Status().Regions) == 3 })
	set := func(id region.ID, rtt time.Duration, err error) {
		r.probes.mu.Lock()
		defer r.probes.mu.Unlock()
		r.probes.of[id] = probe{rtt: rtt, err: err}
	}
	down := context.DeadlineExceeded
	for _, c := range []struct {
		name       string
		sh, hk, ca time.Duration // 0 is down
		acting     map[region.ID]region.ID
		want       string
	}{
		{"the shortest way", 30, 20, 40, nil, "hk"},
		{"the shortest way that is up", 30, 0, 40, nil, "sh"},
		{"none reached: by the map", 0, 0, 0, nil, "sh"},
		{"a region that does not serve its own home takes no new users", 30, 20, 40, map[region.ID]region.ID{"hk": "sh"}, "sh"},
	} {
		w2 := *w
		w2.Regions = append([]region.Region(nil), w.Regions...)
		for i := range w2.Regions {
			if a := c.acting[w2.Regions[i].ID]; a != "" {
				w2.Regions[i].Acting.Region = a
			}
		}
		r.stage.mu.Lock()
		r.stage.view = region.NewView(&w2, region.Hash{}, nil) // without waking the probes
		r.stage.mu.Unlock()
		for id, d := range map[region.ID]time.Duration{"sh": c.sh, "hk": c.hk, "ca": c.ca} {
			if d == 0 {
				set(id, 0, down)
			} else {
				set(id, d*time.Millisecond, nil)
			}
		}
		if status, got, body := r.fetch(region.Short, "/homing.v1.IM/Register", nil, strings.NewReader("{}")); status != 200 || got.Region != c.want {
			t.Errorf("%s: %d %s, want %s", c.name, status, body, c.want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	sh := newPlace(t, "sh", false, nil)
	w := withWeb(t, false, nil, sh)
	w.Segments = append(w.Segments, region.Segment{First: 9000000, Last: 9999999, Home: "gone"})
	r := newRig(t, false, w, nil)
	home := map[string]string{HeaderUIN: "1000001"}
	for _, c := range []struct {
		name    string
		headers map[string]string
		body    io.Reader
		status  int
		code    string
	}{
		{"unknown UIN", map[string]string{HeaderUIN: "5"}, nil, 404, "not_found"},
		{"no number", map[string]string{HeaderUIN: "alice"}, nil, 400, "invalid_argument"},
		{"a home that is no region", map[string]string{HeaderUIN: "9000001"}, nil, 404, "not_found"},
		{"announced too large", home, strings.NewReader(strings.Repeat("x", MaxRequest+1)), 413, "resource_exhausted"},
		{"turns out too large", home, io.MultiReader(strings.NewReader(strings.Repeat("x", MaxRequest+1))), 413, "resource_exhausted"},
	} {
		status, _, body := r.fetch(region.Short, "/x", c.headers, c.body)
		var e struct {
			Code, Message string
			Details       []struct{ Type, Value string }
		}
		if status != c.status || json.Unmarshal([]byte(body), &e) != nil || e.Code != c.code || e.Message == "" ||
			len(e.Details) != 1 || e.Details[0].Type != "homing.v1.Error" {
			t.Errorf("%s: %d %s; want %d %s", c.name, status, body, c.status, c.code)
		}
	}
	if status, got, _ := r.fetch(region.Short, "/x", home, io.MultiReader(strings.NewReader(strings.Repeat("x", MaxRequest)))); status != 200 || got.Body != fmt.Sprint(MaxRequest) {
		t.Errorf("a body of exactly the limit: %d %+v", status, got)
	}
	if status, got, _ := r.fetch(region.Short, "/x", map[string]string{"Authorization": "Homing v4.public.####"}, nil); status != 200 || got.Region != "sh" {
		t.Errorf("a ticket that cannot be read is the region's to refuse: %d %+v", status, got)
	}
}

func TestRequestToADeadRegion(t *testing.T) {
	sh := newPlace(t, "sh", false, nil)
	w := withWeb(t, false, nil, sh)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.Regions[0].Serves.Short = l.Addr().(*net.TCPAddr).AddrPort()
	_ = l.Close()
	r := newRig(t, false, w, nil)
	status, _, body := r.fetch(region.Short, "/x", map[string]string{HeaderUIN: "1000001"}, nil)
	if status != 503 || !strings.Contains(body, `"unavailable"`) || strings.Contains(body, "refused") {
		t.Errorf("got %d %s", status, body)
	}
	if r.counter("homing_pop_upstream_failures_total", "sh") == 0 {
		t.Error("it was not counted")
	}
}

func TestSlowHTTP(t *testing.T) {
	sh := newPlace(t, "sh", false, nil)
	r := newRig(t, false, withWeb(t, false, nil, sh), func(o *Options) { o.Handshake = 100 * time.Millisecond })
	addr, _ := r.Addr(region.Short)
	for name, start := range map[string]string{
		"header": "POST /x HTTP/1.1\r\nHost: x\r\n",
		"body":   "POST /x HTTP/1.1\r\nHost: x\r\nHoming-Uin: 1000001\r\nContent-Length: 10\r\n\r\nhalf",
	} {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, start); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%s: never cut off", name)
		}
		if strings.Contains(string(b), "200 OK") {
			t.Errorf("%s: %s", name, b)
		}
		_ = c.Close()
	}
}

func TestWebSocket(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			sh, hk := newPlace(t, "sh", secure, nil), newPlace(t, "hk", secure, nil)
			r := newRig(t, secure, withWeb(t, secure, nil, sh, hk), func(o *Options) {
				o.Handshake = 200 * time.Millisecond // must not cut off what is open
				if secure {
					o.WebTLS, o.RegionWebTLS = certs()
				}
			})
			addr, _ := r.Addr(region.Web)
			scheme, tr := "ws", &http.Transport{}
			defer tr.CloseIdleConnections()
			if secure {
				_, c := certs()
				c = c.Clone()
				c.ServerName = "web.demo.test"
				scheme, tr.TLSClientConfig = "wss", c
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, _, err := websocket.Dial(ctx, scheme+"://"+addr.String()+"/ws?uin=2000001", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseNow() }()
			for n := range 20 {
				if err := c.Write(ctx, websocket.MessageText, fmt.Append(nil, n)); err != nil {
					t.Fatal(err)
				}
				if _, b, err := c.Read(ctx); err != nil || string(b) != fmt.Sprintf("hk: %d", n) {
					t.Fatalf("got %q, %v", b, err)
				}
				if n == 0 {
					<-time.After(250 * time.Millisecond) // past every deadline of the opening
				}
			}
			if err := r.Close(); err != nil { // waits for the WebSocket's goroutines
				t.Fatal(err)
			}
			if _, _, err := c.Read(ctx); err == nil {
				t.Error("the WebSocket outlived the POP")
			}
		})
	}
}

// TestCloseEndsRequests: a request that hangs in a region ends with the POP.
func TestCloseEndsRequests(t *testing.T) {
	sh := newPlace(t, "sh", false, nil)
	r := newRig(t, false, withWeb(t, false, nil, sh), nil)
	addr, _ := r.Addr(region.Short)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	done := make(chan error, 1)
	go func() {
		resp, err := (&http.Client{Transport: tr}).Get("http://" + addr.String() + "/hang?uin=1000001")
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	eventually(t, "the request is under way", func() bool { return r.counter("homing_pop_requests_total", "short", "sh") == 1 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}

func FuzzSubject(f *testing.F) {
	f.Add(ticketOf("1000001"))
	f.Add("Homing v4.public.")
	f.Fuzz(func(t *testing.T, s string) {
		if sub := subjectOf(s); sub != "" && !strings.HasPrefix(s, "Homing v4.public.") {
			t.Fatalf("%q, no ticket, has subject %q", s, sub)
		}
	})
}
