package authority

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/dns/authority/static"
	"github.com/homing-im/homing/region"
)

const accountSecret = "00112233445566778899aabbccddeeff"

func startProvider(t *testing.T, signedOnly bool) *harness {
	t.Helper()
	zone, err := static.Parse("example.db", "$ORIGIN example.org.\n@ 300 IN SOA ns hostmaster 1 60 60 60 60\n@ IN NS ns\nns IN A 192.0.2.53\nwww 120 IN A 192.0.2.80\nwww 120 IN AAAA 2001:db8::80\n")
	if err != nil {
		t.Fatal(err)
	}
	set, err := static.NewSet(zone)
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, func(o *Options) {
		o.Static = func() *static.Set { return set }
		o.Accounts, o.SignedOnly = []Account{{ID: "100000", Secret: accountSecret}}, signedOnly
		o.ServiceAddrs = func() []string { return []string{"192.0.2.1", "192.0.2.2:8080", "[2001:db8::1]:8080"} }
	})
}

// fetch asks by the target exactly as it stands.
func (h *harness) fetch(t *testing.T, target string, into any) int {
	t.Helper()
	resp, err := http.Get("http://" + h.HTTPAddrs()[0].String() + target)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := into.(*string); ok {
		*text = string(raw)
	} else if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v in %s", target, err, raw)
	}
	return resp.StatusCode
}

func (h *harness) signMD5(host string, until time.Duration) string {
	at := strconv.FormatInt(h.now().Add(until).Unix(), 10)
	sum := md5.Sum([]byte(host + "-" + accountSecret + "-" + at))
	return "&t=" + at + "&s=" + hex.EncodeToString(sum[:])
}

// The requests of alicloud-httpdns-go-sdk, as it builds them, and what it reads
// from the answers: host, ips, ipsv6, ttl, origin_ttl, client_ip, dns, service_ip.
func TestFirstForm(t *testing.T) {
	h := startProvider(t, false)
	type record struct {
		Host      string   `json:"host"`
		IPs       []string `json:"ips"`
		IPv6      []string `json:"ipsv6"`
		TTL       int      `json:"ttl"`
		OriginTTL int      `json:"origin_ttl"`
		ClientIP  string   `json:"client_ip"`
	}
	want := func(target string, r record, ips, ipv6 string, ttl int, client string) {
		t.Helper()
		if strings.Join(r.IPs, " ") != ips || strings.Join(r.IPv6, " ") != ipv6 || r.TTL != ttl || r.OriginTTL != ttl || r.ClientIP != client {
			t.Errorf("%s: %+v", target, r)
		}
	}
	steered := "127.2.0.1 127.2.0.3 127.2.0.2"
	for _, c := range []struct {
		target, ips, ipv6, client string
		ttl                       int
	}{
		{"/100000/d?host=long.demo.test&query=4,6&ip=223.5.5.5", steered, "", "223.5.5.5", 20},
		{"/100000/d?host=long.demo.test&query=4,6&ip=50.92.1.1", "127.2.0.5 127.2.0.2", "2001:db8::6", "50.92.1.1", 20},
		{"/100000/d?host=long.demo.test&query=6&ip=50.92.1.1", "", "2001:db8::6", "50.92.1.1", 20},
		{"/100000/d?host=long.demo.test&ip=50.92.1.1", "127.2.0.5 127.2.0.2", "", "50.92.1.1", 20},
		{"/100000/d?host=www.example.org&query=4,6", "192.0.2.80", "2001:db8::80", "127.0.0.1", 120},
		{"/100000/d?host=ns.example.org&query=6", "", "", "127.0.0.1", 0},
		{"/100000/d?host=v-90003.long.demo.test", "127.2.0.3", "", "127.0.0.1", 5},
		{"/100000/d?host=long.demo.test&sdns-ver=90003", "127.2.0.3", "", "127.0.0.1", 5},
		{"/100000/sign_d?host=long.demo.test&query=4,6&ip=223.5.5.5" + h.signMD5("long.demo.test", time.Minute), steered, "", "223.5.5.5", 20},
		{"/d?host=long.demo.test&query=4&ip=223.5.5.5", steered, "", "223.5.5.5", 20},
	} {
		var r record
		if status := h.fetch(t, c.target, &r); status != http.StatusOK || r.Host == "" {
			t.Errorf("%s: %d %+v", c.target, status, r)
		}
		want(c.target, r, c.ips, c.ipv6, c.ttl, c.client)
	}
	var batch struct {
		DNS []record `json:"dns"`
	}
	for _, target := range []string{
		"/100000/resolve?host=long.demo.test,www.example.org&ip=223.5.5.5",
		"/100000/sign_resolve?host=long.demo.test,www.example.org&ip=223.5.5.5" + h.signMD5("long.demo.test,www.example.org", time.Minute),
		"/resolve?host=long.demo.test,www.example.org&ip=223.5.5.5",
	} {
		if status := h.fetch(t, target, &batch); status != http.StatusOK || len(batch.DNS) != 2 || batch.DNS[1].Host != "www.example.org" {
			t.Fatalf("%s: %d %+v", target, status, batch)
		}
		want(target, batch.DNS[0], steered, "", 20, "223.5.5.5")
		want(target, batch.DNS[1], "192.0.2.80", "", 120, "223.5.5.5")
	}
	if h.fetch(t, "/resolve?host=long.demo.test&ip=223.5.5.5,99.230.0.1", &batch); len(batch.DNS) != 2 || batch.DNS[0].IPs[0] == batch.DNS[1].IPs[0] {
		t.Errorf("%+v", batch)
	}
	var ss struct {
		V4 []string `json:"service_ip"`
		V6 []string `json:"service_ipv6"`
	}
	if h.fetch(t, "/100000/ss", &ss); !slices.Equal(ss.V4, []string{"192.0.2.1", "192.0.2.2:8080"}) || !slices.Equal(ss.V6, []string{"[2001:db8::1]:8080"}) {
		t.Errorf("%+v", ss)
	}
}

// secondURL is a question as alicloud-httpdns-nodejs-sdk builds it: all
// parameters sorted, signed with HMAC-SHA-256, then escaped.
func (h *harness) secondURL(dn, q, secret string, until time.Duration) string {
	p := map[string]string{"id": "100000", "dn": dn, "q": q, "m": "0"}
	if secret != "" {
		p["exp"] = strconv.FormatInt(h.now().Add(until).Unix(), 10)
		var parts []string
		for _, name := range []string{"dn", "exp", "id", "m", "q"} {
			parts = append(parts, name+"="+p[name])
		}
		key, _ := hex.DecodeString(secret)
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(strings.Join(parts, "&")))
		p["s"] = hex.EncodeToString(mac.Sum(nil))
	}
	values := url.Values{}
	for name, value := range p {
		values.Set(name, value)
	}
	return "/v2/d?" + values.Encode()
}

func TestSecondForm(t *testing.T) {
	h := startProvider(t, false)
	type found struct {
		IPs  []string `json:"ips"`
		TTL  int      `json:"ttl"`
		None string   `json:"no_ip_code"`
	}
	for _, secret := range []string{"", accountSecret} {
		var r struct {
			Code string `json:"code"`
			Data struct {
				CIP     string `json:"cip"`
				Answers []struct {
					DN string `json:"dn"`
					V4 *found `json:"v4"`
					V6 *found `json:"v6"`
				} `json:"answers"`
			} `json:"data"`
		}
		status := h.fetch(t, h.secondURL("www.example.org,long.demo.test", "4,6", secret, time.Minute), &r)
		if status != http.StatusOK || r.Code != "success" || len(r.Data.Answers) != 2 || r.Data.CIP != "127.0.0.1" {
			t.Fatalf("%d %+v", status, r)
		}
		www, long := r.Data.Answers[0], r.Data.Answers[1]
		if www.DN != "www.example.org" || www.V4.IPs[0] != "192.0.2.80" || www.V6.IPs[0] != "2001:db8::80" || www.V4.TTL != 120 ||
			long.DN != "long.demo.test" || len(long.V4.IPs) == 0 || long.V6.None != "RRNotExist" {
			t.Errorf("%+v %+v", www, long)
		}
	}
}

// What is not signed, or not well, is refused, with a code and a hint.
func TestProviderRefusals(t *testing.T) {
	h, only := startProvider(t, false), startProvider(t, true)
	good := h.signMD5("long.demo.test", time.Minute)
	forged := good[:len(good)-1] + map[bool]string{true: "1", false: "0"}[good[len(good)-1] == '0']
	for _, c := range []struct {
		h            *harness
		target, code string
		status       int
	}{
		{h, "/100001/d?host=long.demo.test", "InvalidAccount", 403},
		{h, "/100000/d", "MissingArgument", 400},
		{h, "/100000/d?host=a..b", "InvalidHost", 400},
		{h, "/100000/d?host=www.example.com", "InvalidHost", 403},
		{h, "/100000/d?host=long.demo.test,short.demo.test", "TooManyHosts", 400},
		{h, "/100000/d?host=long.demo.test&query=5", "InvalidArgument", 400},
		{h, "/100000/d?host=long.demo.test&ip=300.1.1.1", "InvalidArgument", 400},
		{h, "/100000/d?host=long.demo.test&uin=x", "InvalidArgument", 400},
		{h, "/100000/resolve?host=a,b,c,d,e,f", "TooManyHosts", 400},
		{h, "/100000/resolve?host=a,b&ip=1.1.1.1,2.2.2.2", "TooManyHosts", 400},
		{h, "/100000/sign_d?host=long.demo.test", "MissingArgument", 400},
		{h, "/100000/sign_d?host=short.demo.test" + good, "InvalidSignature", 403},
		{h, "/100000/sign_d?host=long.demo.test" + forged, "InvalidSignature", 403},
		{h, "/100001/sign_d?host=long.demo.test" + good, "InvalidAccount", 403},
		{h, "/sign_d?host=long.demo.test" + good, "InvalidAccount", 403},
		{h, "/100000/sign_d?host=long.demo.test" + h.signMD5("long.demo.test", -time.Second), "SignatureExpired", 403},
		{h, "/100000/sign_d?host=long.demo.test" + h.signMD5("long.demo.test", 48*time.Hour), "InvalidSignature", 403},
		{h, h.secondURL("long.demo.test", "4,6", strings.Repeat("ff", 16), time.Minute), "InvalidSignature", 403},
		{h, h.secondURL("long.demo.test", "4,6", accountSecret, -time.Minute), "SignatureExpired", 403},
		{h, strings.Replace(h.secondURL("long.demo.test", "4,6", accountSecret, time.Minute), "long", "short", 1), "InvalidSignature", 403},
		{h, "/v2/d?id=1&dn=long.demo.test", "InvalidAccount", 403},
		{h, "/v2/d?id=100000&dn=long.demo.test&m=1", "UnsupportedMode", 400},
		{h, "/v2/d?id=100000", "MissingArgument", 400},
		{only, "/100000/d?host=long.demo.test", "UnsignedInterfaceDisabled", 403},
		{only, "/100000/resolve?host=long.demo.test", "UnsignedInterfaceDisabled", 403},
		{only, "/v2/d?id=100000&dn=long.demo.test", "UnsignedInterfaceDisabled", 403},
		{only, "/d?host=long.demo.test", "", 403},
		{only, "/resolve?name=long.demo.test", "", 403},
		{only, "/resolve?host=long.demo.test", "", 403},
		{only, "/d?dn=long.demo.test", "", 403},
	} {
		var p struct{ Code, Error, Hint string }
		if status := c.h.fetch(t, c.target, &p); status != c.status || p.Code != c.code || p.Error == "" || p.Hint == "" {
			t.Errorf("%s: %d %+v", c.target, status, p)
		}
	}
	var r Reply
	if status := only.fetch(t, "/100000/sign_d?host=long.demo.test"+only.signMD5("long.demo.test", time.Minute), &r); status != http.StatusOK || len(r.IPs) == 0 {
		t.Errorf("%d %+v", status, r)
	}
	for _, o := range []Options{{Accounts: []Account{{ID: "a/b", Secret: accountSecret}}}, {Accounts: []Account{{ID: "a", Secret: "short"}}},
		{Accounts: []Account{{"a", accountSecret}, {"a", accountSecret}}}, {SignedOnly: true}} {
		o.View, o.Health, o.Geo = h.view.Load, h.o.Health, h.geo
		if _, err := New(o); region.KindOf(err) != region.BadInput {
			t.Errorf("%+v: %v", o.Accounts, err)
		}
	}
}

// A batch, and hints in the terms of SVCB.
func TestHints(t *testing.T) {
	h := start(t)
	var r Reply
	h.get(t, "/d", url.Values{"host": {"long.demo.test"}, "ip": {"50.92.0.0/16"}}, &r)
	if len(r.Hints) != 3 {
		t.Fatalf("%+v", r)
	}
	for i, hint := range r.Hints {
		got := netip.AddrPortFrom(slices.Concat(hint.IPv4, hint.IPv6)[0], hint.Port)
		if int(hint.Priority) != i+1 || got != r.Endpoints[i] || !strings.HasSuffix(hint.Target, ".demo.test.") {
			t.Errorf("%+v", hint)
		}
	}
}

// A client of DNSPod's form from the Python package index, as pip installs it,
// led here by the environment's proxy: it works unchanged.
func TestClientLibrary(t *testing.T) {
	h := start(t)
	var text string
	if h.fetch(t, "/d?dn=long.demo.test&ip=223.5.5.5&ttl=1", &text); text != "127.2.0.1;127.2.0.3;127.2.0.2,20" {
		t.Errorf("%q", text)
	}
	if status := h.fetch(t, "/d?dn=nobody.example.com", &text); status != http.StatusOK || text != "" {
		t.Errorf("%d %q", status, text)
	}
	dir := os.Getenv("HOMING_PYTHON_HTTPDNS") // with the packages, where there is no network
	if dir == "" {
		dir = t.TempDir()
		out, err := exec.Command("python3", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "0", "--timeout", "10", "--target", dir, "httpdns==0.1.0").CombinedOutput()
		if err != nil {
			t.Skipf("pip cannot install httpdns 0.1.0 here: %v\n%.300s", err, out)
		}
	}
	c := exec.Command("python3", "-c", "import httpdns; print(httpdns.get_ip('long.demo.test'))")
	c.Env = append(os.Environ(), "PYTHONPATH="+dir, fmt.Sprintf("http_proxy=http://%s", h.HTTPAddrs()[0]))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := netip.ParseAddr(strings.TrimSpace(string(out)))
	var r Reply
	h.get(t, "/d", url.Values{"host": {"long.demo.test"}}, &r)
	if err != nil || got != r.IPs[0] {
		t.Errorf("%s, want %v", out, r.IPs)
	}
}
