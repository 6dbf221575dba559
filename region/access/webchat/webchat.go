// Package webchat is a small chat page over the web listener: one user of one
// browser, whose device key (Ed25519) the browser makes and keeps where scripts
// cannot read it. It speaks JSON over WebSocket, or over long polling where
// WebSockets do not pass (or with ?transport=poll), and is an example of a client
// in another language: it connects, follows redirects, renews its ticket, syncs
// and keeps what it has sent as region/wire describes.
//
// The package guarantees that the page runs no script but its own files and
// connects to nobody but the web listeners it is told of: a Content-Security-
// Policy says so to the browser. There is no build step, and nothing is loaded
// from elsewhere.
package webchat

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed web
var web embed.FS

// Path is where the page is served.
const Path = "/chat/"

// Handler serves the page at [Path]. peers returns the host:port of the web
// listeners that a redirect may lead to, besides the page's own; it must not
// block. tls says whether they speak TLS.
func Handler(peers func() []string, tls bool) http.Handler {
	files := read()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy(peers(), tls))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the page is only read: GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		name, ok := strings.CutPrefix(r.URL.Path, Path)
		if name == "" {
			name = "chat.html"
		}
		f, there := files[name]
		if !ok || !there {
			http.Error(w, "the chat page is at "+Path, http.StatusNotFound)
			return
		}
		// Browsers ask again each time and get a short "not modified": the page is
		// never older than the binary.
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.tag)
		h.Set("Content-Type", f.kind)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	})
}

// policy lets the page use its own files and talk to the web listeners.
func policy(peers []string, tls bool) string {
	schemes := []string{"ws://", "http://"}
	if tls {
		schemes = []string{"wss://", "https://"}
	}
	connect := "connect-src 'self'"
	for _, p := range peers {
		for _, s := range schemes {
			connect += " " + s + p
		}
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

type file struct {
	kind, tag string
	body      []byte
}

// read panics only when the binary was built without its own files, which the
// compiler's embed rules out.
func read() map[string]file {
	files := map[string]file{}
	list, err := fs.ReadDir(web, "web")
	for _, e := range list {
		var b []byte
		if b, err = web.ReadFile("web/" + e.Name()); err != nil {
			break
		}
		sum := sha256.Sum256(b)
		kind := mime.TypeByExtension(path.Ext(e.Name()))
		if path.Ext(e.Name()) == ".js" {
			kind = "text/javascript; charset=utf-8" // whatever the system's table says
		}
		files[e.Name()] = file{kind: kind, tag: `"` + hex.EncodeToString(sum[:8]) + `"`, body: b}
	}
	if err != nil {
		panic(err)
	}
	return files
}
