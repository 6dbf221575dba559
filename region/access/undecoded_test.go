package access_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// connectError is an answer that is no success, as a client of any language
// reads it.
type connectError struct {
	Code, Message string
	Details       []struct{ Type, Value string }
}

// What Connect cannot decode is refused with an Error like everything else.
func TestUndecodable(t *testing.T) {
	r := newRig(t, nil)
	defer http.DefaultClient.CloseIdleConnections()
	for name, c := range map[string]struct {
		method, kind, encoding, body string
		status                       int
		want                         region.Kind
		text                         string
	}{
		"no JSON":             {"POST", "application/json", "", `{"nickname":`, 400, region.BadInput, "takes: unexpected EOF"},
		"a wrong type":        {"POST", "application/json", "", `{"nickname":7}`, 400, region.BadInput, "nickname"},
		"no protobuf":         {"POST", "application/proto", "", "\xff\xff\xff", 400, region.BadInput, ""},
		"no gzip":             {"POST", "application/json", "gzip", `{}`, 400, region.BadInput, ""},
		"another compression": {"POST", "application/json", "lzma", `{}`, 501, region.Unsupported, "lzma"},
		"a form":              {"POST", "application/x-www-form-urlencoded", "", `nickname=A`, 415, region.Unsupported, "x-www-form"},
		"GET":                 {"GET", "", "", "", 405, region.Unsupported, "GET"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, r.url()+"/homing.v1.IM/Register", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c.kind)
		if c.encoding != "" {
			req.Header.Set("Content-Encoding", c.encoding)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var a connectError
		err = json.NewDecoder(resp.Body).Decode(&a)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || len(a.Details) != 1 || a.Details[0].Type != "homing.v1.Error" {
			t.Errorf("%s: %s %+v, %v", name, resp.Status, a, err)
			continue
		}
		if !strings.Contains(a.Message, c.text) || resp.Header.Get(wire.WorldHeader) != "5" {
			t.Errorf("%s: %q", name, a.Message)
		}
		if c.status == http.StatusMethodNotAllowed && resp.Header.Get("Allow") == "" {
			t.Errorf("%s: no Allow header", name)
		}
	}
	// The Go client reads it as any other error; gRPC carries it, too.
	im := v1.NewIMClient(&http.Client{Transport: corrupting{http.DefaultTransport}}, r.url())
	_, err := im.Register(t.Context(), connect.NewRequest(&v1.RegisterRequest{Nickname: "A"}))
	var e *wire.Error
	if !errors.As(wire.FromConnect(err), &e) || e.Err.Kind != region.BadInput || e.Err.Hint == "" || e.WorldVersion != 5 {
		t.Errorf("by Connect: %v", err)
	}
	tr := h2c()
	defer tr.CloseIdleConnections()
	im = v1.NewIMClient(&http.Client{Transport: corrupting{tr}}, r.url(), connect.WithGRPC())
	_, err = im.Register(t.Context(), connect.NewRequest(&v1.RegisterRequest{Nickname: "A"}))
	if !errors.As(wire.FromConnect(err), &e) || e.Err.Kind != region.BadInput || e.Err.Hint == "" {
		t.Errorf("by gRPC: %v", err)
	}
	if n := r.count("homing_access_rejected_total", "undecodable"); n != 9 {
		t.Errorf("%v counted", n)
	}
}

// corrupting spoils the last bytes of every body.
type corrupting struct{ http.RoundTripper }

func (c corrupting) RoundTrip(q *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	prefix := 0
	if strings.HasPrefix(q.Header.Get("Content-Type"), "application/grpc") {
		prefix = 5
		if binary.BigEndian.Uint32(b[1:5]) != uint32(len(b)-prefix) {
			return nil, errors.New("not one message")
		}
	}
	for i := prefix; i < len(b); i++ {
		b[i] = 0xff
	}
	q = q.Clone(q.Context())
	q.Body = io.NopCloser(bytes.NewReader(b))
	return c.RoundTripper.RoundTrip(q)
}
