package authority

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/homing-im/homing/region"
)

func TestHTTPDNS(t *testing.T) {
	h := start(t)
	var d Reply
	params := url.Values{"host": {"long.demo.test"}, "uin": {"1000001"}, "ver": {"80003"}, "ip": {"223.5.5.5"}}
	if status := h.get(t, "/d", params, &d); status != http.StatusOK {
		t.Fatal(status)
	}
	if d.Host != "long.demo.test" || d.Home != "sh" || d.Acting != "sh" || d.TTL != 20 || d.Scope != "223.5.5.0/24" || d.Rule != "built-in" || d.World != 7 ||
		len(d.IPs) != 3 || d.Endpoints[0].String() != "127.2.0.1:7001" || d.POPs[0] != "pop-1" {
		t.Errorf("%+v", d)
	}
	// Labels and parameters say the same thing.
	var labels Reply
	h.get(t, "/d", url.Values{"host": {"U-1000001.V-80003.Long.Demo.Test."}, "ip": {"223.5.5.5"}}, &labels)
	labels.Host = d.Host
	if len(labels.Endpoints) != 3 || labels.Home != d.Home || labels.Scope != d.Scope {
		t.Errorf("%+v", labels)
	}
	// The peer's own address is the default.
	var own Explanation
	h.get(t, "/explain", url.Values{"uin": {"2000001"}}, &own)
	if own.Client.Prefix.String() != "127.0.0.1/32" || own.Client.Service != region.Long || own.Answer.Home != "hk" || own.Answer.Trace == nil {
		t.Errorf("%+v", own)
	}
	resp, err := http.Get("http://" + h.HTTPAddrs()[0].String() + "/explain?format=text&ip=223.5.5.5&service=short")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasPrefix(string(text), "home ") || !strings.Contains(string(text), "AS37963") || !strings.Contains(string(text), ":7002") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestResolve(t *testing.T) {
	h := start(t)
	var r resolved
	h.get(t, "/resolve", url.Values{"name": {"long.demo.test"}, "edns_client_subnet": {"223.5.5.0/24"}}, &r)
	if r.Status != 0 || len(r.Answer) != 3 || r.Answer[0].Data != "127.2.0.1" || r.Answer[0].TTL != 20 || r.Answer[0].Type != 1 || r.Subnet != "223.5.5.0/24/24" || !r.RD {
		t.Errorf("%+v", r)
	}
	r = resolved{}
	h.get(t, "/resolve", url.Values{"name": {"long.demo.test"}, "uin": {"1000001"}, "ver": {"90003"}}, &r) // rule beta
	if len(r.Answer) != 1 || r.Answer[0].Data != "127.2.0.3" || r.Answer[0].TTL != 5 {
		t.Errorf("%+v", r)
	}
	r = resolved{}
	h.get(t, "/resolve", url.Values{"name": {"nobody.demo.test"}, "type": {"28"}}, &r)
	if r.Status != 3 || len(r.Authority) != 1 || r.Authority[0].Type != 6 {
		t.Errorf("%+v", r)
	}
}

func TestBadParameters(t *testing.T) {
	h := start(t)
	for _, c := range []struct{ path, query, hint string }{
		{"/d", "", "such as long.demo.test"},
		{"/d", "host=example.com", "in zone demo.test"},
		{"/d", "host=pop-1.pop.demo.test", "long, short or web"},
		{"/d", "host=long.demo.test&uin=alice", "decimal number"},
		{"/d", "host=long.demo.test&uin=0", "decimal number"},
		{"/d", "host=long.demo.test&uin=18446744073709551616", "decimal number"},
		{"/d", "host=long.demo.test&ver=4294967296", "decimal number"},
		{"/d", "host=u-1.long.demo.test&uin=2", "what the host name says, 1"},
		{"/d", "host=long.demo.test&ip=300.1.1.1", "223.5.5.5"},
		{"/d", "host=long.demo.test&ip=10.0.0.0/33", "223.5.5.5"},
		{"/d", "host=long.demo.test&ip=%zz", "escape"},
		{"/d", "host=" + strings.Repeat("a", 8000), "long, short or web"},
		{"/explain", "service=mail", "long, short or web"},
		{"/explain", "format=xml", "json or text"},
		{"/resolve", "", "domain name"},
		{"/resolve", "name=a..b", "domain name"},
		{"/resolve", "name=long.demo.test&type=ZZ", "record type"},
		{"/resolve", "name=long.demo.test&uin=x", "decimal number"},
		{"/resolve", "name=long.demo.test&edns_client_subnet=x", "network"},
	} {
		var p problem
		query, _ := url.ParseQuery(c.query)
		if strings.Contains(c.query, "%zz") {
			query = nil
			resp, err := http.Get("http://" + h.HTTPAddrs()[0].String() + c.path + "?" + c.query)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %d", c.query, resp.StatusCode)
			}
			continue
		}
		if status := h.get(t, c.path, query, &p); status != http.StatusBadRequest || p.Error == "" || !strings.Contains(p.Hint, c.hint) || len(p.Error) > 300 {
			t.Errorf("%s?%.80s: %d %+v", c.path, c.query, status, p)
		}
	}
}
