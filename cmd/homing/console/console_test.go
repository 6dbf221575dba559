package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homing-im/homing/cmd/homing/console"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get answers a request without a network.
func get(c http.Handler, method, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:8080"
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w
}

func TestOnlyLooking(t *testing.T) {
	f := newFeed()
	c := console.New(console.Options{State: f.State, Hosts: []string{"console.example"}})
	defer c.Close()
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	for _, k := range []struct {
		name, method, path string
		change             func(*http.Request)
		code               int
	}{
		{"page", "GET", "/", nil, 200},
		{"head", "HEAD", "/", nil, 200},
		{"state", "GET", "/api/state", nil, 200},
		{"style", "GET", "/console.css", nil, 200},
		{"script", "GET", "/console.js", nil, 200},
		{"map", "GET", "/map.js", nil, 200},
		{"icon", "GET", "/icon.svg", nil, 200},
		{"unknown path", "GET", "/admin", nil, 404},
		{"source of the page", "GET", "/page.html", nil, 404},
		{"post", "POST", "/api/state", nil, 405},
		{"delete", "DELETE", "/", nil, 405},
		{"localhost", "GET", "/", host("localhost:8080"), 200},
		{"an IPv6 address", "GET", "/", host("[::1]:8080"), 200},
		{"a name it was told of", "GET", "/", host("Console.Example"), 200},
		{"a re-bound name", "GET", "/api/state", host("evil.example:8080"), 421},
		{"no name", "GET", "/api/state", host(""), 421},
	} {
		t.Run(k.name, func(t *testing.T) {
			change := []func(*http.Request){}
			if k.change != nil {
				change = append(change, k.change)
			}
			w := get(c, k.method, k.path, change...)
			if w.Code != k.code {
				t.Errorf("status %d, want %d: %s", w.Code, k.code, w.Body)
			}
			policy := w.Header().Get("Content-Security-Policy")
			if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("policy %q", policy)
			}
			if k.code == 405 && w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow %q", w.Header().Get("Allow"))
			}
		})
	}
}

// The page must work where there is no other network, and under its own policy.
func TestPageIsSelfContained(t *testing.T) {
	c := console.New(console.Options{State: newFeed().State})
	defer c.Close()
	for _, path := range []string{"/", "/console.css", "/console.js", "/map.js"} {
		body := get(c, "GET", path).Body.String()
		for _, bad := range []string{"https://", "//cdn", "innerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=\"", " onclick", "<style", "@LAND@"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s contains %q", path, bad)
			}
		}
		if rest := strings.ReplaceAll(body, "http://www.w3.org/2000/svg", ""); strings.Contains(rest, "http://") {
			t.Errorf("%s loads something from elsewhere", path)
		}
	}
	first := get(c, "GET", "/console.js")
	again := get(c, "GET", "/console.js", func(r *http.Request) { r.Header.Set("If-None-Match", first.Header().Get("ETag")) })
	if again.Code != http.StatusNotModified {
		t.Errorf("unchanged script: status %d, want 304", again.Code)
	}
}

func TestStateIsShared(t *testing.T) {
	f := newFeed()
	c := console.New(console.Options{State: f.State})
	defer c.Close()
	for range 50 {
		if w := get(c, "GET", "/api/state"); w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("status %d, header %v", w.Code, w.Header())
		}
	}
	if f.calls > 2 { // two, should the loop cross an interval on a slow machine
		t.Errorf("State was called %d times for 50 requests at once", f.calls)
	}
}

// An empty state has empty lists, not null: a page shows it as a quiet world.
func TestEmptyState(t *testing.T) {
	c := console.New(console.Options{State: func(context.Context) console.State { return console.State{Regions: []console.Region{{ID: "sh"}}} }})
	defer c.Close()
	body := get(c, "GET", "/api/state").Body.String()
	if strings.Contains(body, "null") {
		t.Errorf("null in %s", body)
	}
	var s console.State
	if err := json.Unmarshal([]byte(body), &s); err != nil || len(s.Regions) != 1 {
		t.Errorf("%v, %+v", err, s)
	}
}

func TestStateThatCannotBeSent(t *testing.T) {
	f := newFeed()
	f.change(func(s *console.State) { s.Regions[0].MessagesPerSecond = math.NaN() })
	c := console.New(console.Options{State: f.State})
	defer c.Close()
	if w := get(c, "GET", "/api/state"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", w.Code)
	}
}

// stream opens /events and returns its events.
func stream(t *testing.T, url string) (*http.Response, *bufio.Reader) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewReader(resp.Body)
}

func event(t *testing.T, in *bufio.Reader) console.State {
	t.Helper()
	var lines [3]string
	for i := range lines {
		l, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		lines[i] = strings.TrimSuffix(l, "\n")
	}
	data, ok := strings.CutPrefix(lines[1], "data: ")
	if lines[0] != "event: state" || !ok || lines[2] != "" {
		t.Fatalf("not an event: %q", lines)
	}
	var s console.State
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEventsFollowAndEnd(t *testing.T) {
	f := newFeed()
	c := console.New(console.Options{State: f.State})
	s := httptest.NewServer(c)
	defer s.Close()
	defer http.DefaultClient.CloseIdleConnections()
	resp, in := stream(t, s.URL)
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("Content-Type %q", ct)
	}
	first := event(t, in)
	f.change(func(s *console.State) { s.World.Version = 99 })
	second := event(t, in)
	if first.World.Version != 7 || second.World.Version != 99 {
		t.Errorf("versions %d, %d; want 7, 99", first.World.Version, second.World.Version)
	}
	if d := second.Time.Sub(first.Time); d < console.Interval/2 || d > 10*console.Interval {
		t.Errorf("states %v apart, want about %v", d, console.Interval)
	}

	c.Close()
	c.Close() // twice is no error
	if _, err := in.ReadString('\n'); err == nil {
		t.Error("the stream goes on after Close")
	}
	if w := get(c, "GET", "/events"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a stream after Close: status %d, want 503", w.Code)
	}
}

// A node that hangs must not pile up requests, nor keep anybody for good.
func TestHangingState(t *testing.T) {
	hang, entered := make(chan struct{}), make(chan struct{}, 1)
	c := console.New(console.Options{State: func(ctx context.Context) console.State {
		entered <- struct{}{}
		<-hang
		return console.State{}
	}})
	done := make(chan struct{})
	go func() { get(c, "GET", "/api/state"); close(done) }()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	w := get(c, "GET", "/api/state", func(r *http.Request) { *r = *r.WithContext(ctx) })
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", w.Code)
	}
	close(hang)
	<-done
	c.Close()
}

func TestTooManyPages(t *testing.T) {
	f := newFeed()
	c := console.New(console.Options{State: f.State})
	s := httptest.NewServer(c)
	defer s.Close()
	defer c.Close()
	defer http.DefaultClient.CloseIdleConnections()
	for range 64 {
		if resp, _ := stream(t, s.URL); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if resp, _ := stream(t, s.URL); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, want 503 with Retry-After", resp.StatusCode)
	}
}
