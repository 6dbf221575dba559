package authority

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// DNS over HTTPS (RFC 8484): GET with the message in a parameter, POST with it
// as the body. The answer is that to the same packet by any other transport,
// unless parameters say more of the client.

const dohType = "application/dns-message"

// doh serves /dns-query.
func (s *Server) doh(w http.ResponseWriter, r *http.Request) {
	packet, status := dohMessage(r)
	told, err := toldBy(r.URL.Query())
	if err != nil {
		s.fail(w, err)
		return
	}
	if status != http.StatusOK {
		s.metrics.badRequests.Inc()
		http.Error(w, http.StatusText(status), status)
		return
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	peer, err := netip.ParseAddr(host)
	if err != nil {
		http.Error(w, "no peer", http.StatusInternalServerError)
		return
	}
	out := s.respondTold(packet, peer, overDoH, told)
	if out == nil {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", dohType)
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	w.Header().Set("Cache-Control", "max-age="+strconv.FormatUint(uint64(freshness(out)), 10))
	if _, err := w.Write(out); err != nil {
		s.log.Debug("DoH client left", "err", err)
	}
}

// dohMessage reads the packet out of the request, or says with which status it
// is refused.
func dohMessage(r *http.Request) ([]byte, int) {
	if r.Method == http.MethodPost {
		if r.Header.Get("Content-Type") != dohType {
			return nil, http.StatusUnsupportedMediaType
		}
		packet, err := io.ReadAll(io.LimitReader(r.Body, maxMessage+1))
		switch {
		case err != nil:
			return nil, http.StatusBadRequest
		case len(packet) > maxMessage:
			return nil, http.StatusRequestEntityTooLarge
		}
		return packet, http.StatusOK
	}
	text := r.URL.Query().Get("dns") // the header's limit is the message's
	packet, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || text == "" {
		return nil, http.StatusBadRequest
	}
	return packet, http.StatusOK
}

// freshness is how long HTTP caches may keep an answer: the smallest TTL in it,
// and for a negative one what its SOA says (RFC 8484 section 5.1).
func freshness(packet []byte) uint32 {
	var m dns.Msg
	if m.Unpack(packet) != nil || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError) {
		return 0
	}
	least := uint32(0)
	for i, rr := range append(m.Answer, m.Ns...) {
		ttl := rr.Header().Ttl
		if soa, ok := rr.(*dns.SOA); ok && len(m.Answer) == 0 {
			ttl = min(ttl, soa.Minttl)
		}
		if i == 0 || ttl < least {
			least = ttl
		}
	}
	return least
}
