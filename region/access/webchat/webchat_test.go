package webchat

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(t *testing.T, tls bool, method, path string, header http.Header) *http.Response {
	t.Helper()
	h := Handler(func() []string { return []string{"127.2.0.1:7103"} }, tls)
	q := httptest.NewRequest(method, path, nil)
	for k, v := range header {
		q.Header[k] = v
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w.Result()
}

func TestPage(t *testing.T) {
	for path, kind := range map[string]string{
		"/chat/": "text/html; charset=utf-8", "/chat/chat.html": "text/html; charset=utf-8", "/chat/chat.css": "text/css; charset=utf-8",
		"/chat/chat.js": "text/javascript; charset=utf-8", "/chat/icon.svg": "image/svg+xml",
	} {
		r := ask(t, false, http.MethodGet, path, nil)
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != kind || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %s %v", path, r.Status, r.Header)
		}
		again := ask(t, false, http.MethodGet, path, http.Header{"If-None-Match": {r.Header.Get("ETag")}})
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: %s", path, again.Status)
		}
	}
	for _, path := range []string{"/chat/nothing", "/chat/../webchat.go", "/chat/web/chat.js"} {
		if r := ask(t, false, http.MethodGet, path, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	if r := ask(t, false, http.MethodPost, Path, nil); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
		t.Errorf("POST: %s", r.Status)
	}
}

func TestPolicy(t *testing.T) {
	plain := ask(t, false, http.MethodGet, Path, nil).Header.Get("Content-Security-Policy")
	if !strings.Contains(plain, "default-src 'none'; script-src 'self';") || !strings.Contains(plain, "connect-src 'self' ws://127.2.0.1:7103 http://127.2.0.1:7103;") {
		t.Error(plain)
	}
	secure := ask(t, true, http.MethodGet, Path, nil).Header.Get("Content-Security-Policy")
	if !strings.Contains(secure, "wss://127.2.0.1:7103 https://127.2.0.1:7103;") || strings.Contains(secure, "http://") || strings.Contains(plain+secure, "unsafe") {
		t.Error(secure)
	}
}

// Nothing in the page could make markup of what somebody wrote, or load from
// elsewhere.
func TestNothingFromElsewhere(t *testing.T) {
	bad := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|(?:src|href)="https?:|import .*"https?:|style="|onclick=`)
	list, err := fs.ReadDir(web, "web")
	if err != nil || len(list) < 8 {
		t.Fatal(list, err)
	}
	for _, e := range list {
		b, err := web.ReadFile("web/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if m := bad.Find(b); m != nil {
			t.Errorf("%s has %s", e.Name(), m)
		}
	}
}
