package access

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// listeners returns the host:port of every web listener of the world, regions'
// and POPs': where a redirect may lead a page.
func (s *Server) webListeners() []string {
	v := s.o.World.View()
	if v == nil {
		return nil
	}
	var list []string
	add := func(e region.Endpoints) {
		if a, ok := e.Of(region.Web); ok {
			list = append(list, a.String())
		}
	}
	for _, r := range v.World.Regions {
		add(r.Serves)
	}
	for _, p := range v.World.POPs {
		add(p.Serves)
	}
	return list
}

// originAllowed says whether a page may use the web listener: one of this very
// host, of another web listener of the world (whose pages are led here by
// redirects), or of Options.Origins. Requests without an Origin are not from a
// page. No answer depends on a cookie, so a foreign page could do nothing that
// its owner could not do without a browser; this only keeps it from borrowing
// visitors' addresses.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	host := strings.ToLower(u.Host)
	if host == strings.ToLower(r.Host) {
		return true
	}
	for _, l := range s.webListeners() {
		if host == l {
			return true
		}
	}
	if v := s.o.World.View(); v != nil && u.Hostname() == string(region.Web)+"."+v.World.Zone {
		return true
	}
	for _, pattern := range s.o.Origins {
		if ok, err := path.Match(strings.ToLower(pattern), host); err == nil && ok {
			return true
		}
	}
	return false
}

// cross is next for pages of allowed origins: it answers preflights, and lets
// them read what they need (CORS, WHATWG Fetch section 3.2).
func (s *Server) cross(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.originAllowed(r) {
			s.m.rejected.WithLabelValues("origin").Inc()
			http.Error(w, "this origin is not allowed", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", wire.RedirectHeader+", "+wire.WorldHeader)
		}
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "POST")
			h.Set("Access-Control-Allow-Headers", strings.Join([]string{"Content-Type", "Authorization",
				wire.UINHeader, wire.ProofHeader, wire.WorldHeader, VersionHeader, PlatformHeader}, ", "))
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
