package authority

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
)

// Account may ask HTTPDNS with signed questions.
type Account struct {
	ID string // letters and digits, as it stands in the path or in "id"
	// Secret is shared with the account's clients. In the first form the text itself
	// is hashed (MD5, which is what those clients can); in the second its bytes,
	// where it is hexadecimal, are the key of an HMAC-SHA-256.
	Secret string
}

// maxAhead is how far in the future a question's signature may end, so that one
// that was overheard is not good for ever.
const maxAhead = 24 * time.Hour

// refusal is an error in the providers' form.
type refusal struct {
	status     int
	code       string
	text, hint string
}

func invalid(err error) *refusal {
	out := &refusal{http.StatusBadRequest, "InvalidArgument", err.Error(), ""}
	if e, ok := err.(*region.Error); ok {
		out.text, out.hint = e.Message, e.Hint
	}
	return out
}

func unsigned() error {
	return region.Errorf(region.Forbidden, "this server answers signed questions only").WithHint("ask /ACCOUNT/sign_d, /ACCOUNT/sign_resolve or /v2/d with a signature")
}

func checkAccounts(accounts []Account, signedOnly bool) error {
	for i, a := range accounts {
		switch {
		case a.ID == "" || strings.ContainsFunc(a.ID, func(c rune) bool {
			return c > 'z' || !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
		}):
			return region.Errorf(region.BadInput, "HTTPDNS account %q", a.ID).WithHint("want letters and digits")
		case len(a.Secret) < 16:
			return region.Errorf(region.BadInput, "the secret of HTTPDNS account %s has %d characters", a.ID, len(a.Secret)).WithHint("want 16 at least, such as from: openssl rand -hex 16")
		case slices.ContainsFunc(accounts[:i], func(b Account) bool { return b.ID == a.ID }):
			return region.Errorf(region.BadInput, "HTTPDNS account %s is there twice", a.ID).WithHint("an account has one secret")
		}
	}
	if signedOnly && len(accounts) == 0 {
		return region.Errorf(region.BadInput, "HTTPDNS takes signed questions only, but there are no accounts").WithHint("give it accounts, or take unsigned questions")
	}
	return nil
}

func (s *Server) account(id string) *Account {
	i := slices.IndexFunc(s.o.Accounts, func(a Account) bool { return a.ID == id })
	if i < 0 {
		return nil
	}
	return &s.o.Accounts[i]
}

// admitted checks a question of the first form: t is the time at which the
// signature ends, s the MD5 of "host-secret-t". A server without accounts takes
// any account's unsigned questions.
func (s *Server) admitted(p url.Values, id string, signed bool) *refusal {
	if !signed {
		if s.o.SignedOnly {
			return &refusal{http.StatusForbidden, "UnsignedInterfaceDisabled", "this server answers signed questions only", "ask /" + id + "/sign_d"}
		}
		if len(s.o.Accounts) > 0 && s.account(id) == nil {
			return &refusal{http.StatusForbidden, "InvalidAccount", "no such account", "ask the operator for one"}
		}
		return nil
	}
	if id == "" {
		id = p.Get("id")
	}
	a := s.account(id)
	if a == nil {
		return &refusal{http.StatusForbidden, "InvalidAccount", "no such account", "ask the operator for one"}
	}
	if e := s.inTime(p.Get("t")); e != nil {
		return e
	}
	want := md5.Sum([]byte(p.Get("host") + "-" + a.Secret + "-" + p.Get("t")))
	return sameSignature(p.Get("s"), want[:])
}

// inTime reads the time at which a signature ends.
func (s *Server) inTime(text string) *refusal {
	until, err := strconv.ParseInt(text, 10, 64)
	now := s.now().Unix()
	switch {
	case err != nil:
		return &refusal{http.StatusBadRequest, "MissingArgument", "no time at which the signature ends", "Unix seconds, a few minutes from now"}
	case until < now:
		return &refusal{http.StatusForbidden, "SignatureExpired", "the signature has ended", "set the clock, and sign for some minutes from now"}
	case until > now+int64(maxAhead/time.Second):
		return &refusal{http.StatusForbidden, "InvalidSignature", "the signature is for too long", "sign for at most a day from now"}
	}
	return nil
}

func sameSignature(text string, want []byte) *refusal {
	got, err := hex.DecodeString(text)
	if err != nil || subtle.ConstantTimeCompare(got, want) != 1 {
		return &refusal{http.StatusForbidden, "InvalidSignature", "the signature is wrong", "sign with the account's secret exactly what is asked"}
	}
	return nil
}

// second serves /v2/d, the form whose signature is an HMAC-SHA-256 of all
// parameters but s, sorted, with "&" between "name=value"; exp is when it ends.
// dn has one name or several, q the families, cip the client.
func (s *Server) second(w http.ResponseWriter, r *http.Request) {
	p := r.URL.Query()
	if e := s.admittedSecond(p); e != nil {
		s.failCode(w, e)
		return
	}
	if m := p.Get("m"); m != "" && m != "0" {
		s.failCode(w, &refusal{http.StatusBadRequest, "UnsupportedMode", "encrypted parameters (m=" + strconv.Quote(shorten(m)) + ")", "ask over HTTPS with m=0"})
		return
	}
	names := strings.Split(p.Get("dn"), ",")
	if len(names) > maxNames {
		s.failCode(w, &refusal{http.StatusBadRequest, "TooManyHosts", "too many names in one question", "ask for " + strconv.Itoa(maxNames) + " at most"})
		return
	}
	if !p.Has("query") {
		p.Set("query", "4,6")
		if q := p.Get("q"); q != "" {
			p.Set("query", q)
		}
	}
	type found struct {
		IPs  []netip.Addr `json:"ips"`
		TTL  uint32       `json:"ttl"`
		None string       `json:"no_ip_code,omitempty"`
	}
	type one struct {
		DN    string `json:"dn"`
		V4    *found `json:"v4,omitempty"`
		V6    *found `json:"v6,omitempty"`
		Extra *Reply `json:"homing,omitempty"` // what a client of ours wants to know besides
	}
	var data struct {
		CIP     string `json:"cip"`
		Answers []one  `json:"answers"`
	}
	acting := region.ID("")
	for _, name := range names {
		reply, e := s.lookup(r, p, name, p.Get("cip"))
		if e != nil {
			s.failCode(w, e)
			return
		}
		data.CIP = reply.ClientIP
		give := func(addrs []netip.Addr) *found {
			f := &found{IPs: addrs, TTL: reply.TTL}
			if len(addrs) == 0 {
				f.IPs, f.None = []netip.Addr{}, "RRNotExist"
			}
			return f
		}
		a := one{DN: strings.TrimSpace(name)}
		want, _ := parseFamilies(p.Get("query")) // lookup has read it
		if want.v4 {
			a.V4 = give(reply.IPs)
		}
		if want.v6 {
			a.V6 = give(reply.IPv6)
		}
		if reply.Rule != "" {
			a.Extra = reply
			if acting == "" {
				acting = reply.Acting
			}
		}
		data.Answers = append(data.Answers, a)
	}
	s.writeSigned(w, r, acting, map[string]any{"code": "success", "mode": 0, "data": data})
}

// admittedSecond checks a question of the second form.
func (s *Server) admittedSecond(p url.Values) *refusal {
	sig := p.Get("s")
	a := s.account(p.Get("id"))
	switch {
	case a == nil && len(s.o.Accounts) > 0:
		return &refusal{http.StatusForbidden, "InvalidAccount", "no such account", "ask the operator for one"}
	case sig == "" && s.o.SignedOnly:
		return &refusal{http.StatusForbidden, "UnsignedInterfaceDisabled", "this server answers signed questions only", "add exp and s"}
	case sig == "":
		return nil
	case a == nil:
		return &refusal{http.StatusForbidden, "InvalidAccount", "no such account", "ask the operator for one"}
	}
	if e := s.inTime(p.Get("exp")); e != nil {
		return e
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if name != "s" {
			parts = append(parts, name+"="+p.Get(name))
		}
	}
	key, err := hex.DecodeString(a.Secret)
	if err != nil {
		key = []byte(a.Secret)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(strings.Join(parts, "&"))) // never fails
	return sameSignature(sig, mac.Sum(nil))
}

// failCode refuses in the providers' form.
func (s *Server) failCode(w http.ResponseWriter, e *refusal) {
	s.metrics.badRequests.Inc()
	s.write(w, e.status, struct {
		Code string `json:"code"`
		problem
	}{e.code, problem{e.text, e.hint}})
}
