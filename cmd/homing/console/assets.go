package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

//go:generate go run ./generate .

//go:embed web
var web embed.FS

// asset is one file of the page. Browsers ask again each time and get a short
// "not modified": the page is never older than the binary.
type asset struct {
	route, kind, tag string
	body             []byte
}

// assets reads the page from the binary. The land's outline goes into the page
// where it is wanted, so that it is one file for the browser and can be
// regenerated without touching the page.
func assets() []asset {
	page := bytes.Replace(read("page.html"), []byte("@LAND@"), bytes.TrimSpace(read("land.path")), 1)
	out := []asset{
		{route: "/{$}", kind: "text/html; charset=utf-8", body: page},
		{route: "/console.css", kind: "text/css; charset=utf-8"},
		{route: "/console.js", kind: "text/javascript; charset=utf-8"},
		{route: "/map.js", kind: "text/javascript; charset=utf-8"},
		{route: "/icon.svg", kind: "image/svg+xml"},
	}
	for i := range out {
		a := &out[i]
		if a.body == nil {
			a.body = read(path.Base(a.route))
		}
		sum := sha256.Sum256(a.body)
		a.tag = `"` + hex.EncodeToString(sum[:8]) + `"`
	}
	return out
}

// read panics only when the binary was built without its own files, which the
// compiler's embed rules out.
func read(name string) []byte {
	b, err := web.ReadFile("web/" + name)
	if err != nil {
		panic(err)
	}
	return b
}

func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}
