package wire

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func TestErrorsCrossTheWire(t *testing.T) {
	secret := errors.New("password is hunter2")
	for k := region.Internal; k <= region.Unsupported; k++ {
		in := &Error{Err: region.Errorf(k, "what").WithHint("do").WithCause(secret), RetryAfter: 300 * time.Millisecond}
		if k == region.WrongRegion {
			in.Redirect = &v1.Redirect{Home: "sh", Acting: "hk", Endpoints: []string{"127.0.0.1:1", "127.0.0.1:2"}}
		}
		connectErr := ToConnect(in, 5)
		if strings.Contains(connectErr.Error(), "hunter2") || strings.Contains(ToProto(in, 5).String(), "hunter2") {
			t.Fatalf("%v leaks its cause", k)
		}
		for path, out := range map[string]error{"frame": FromProto(ToProto(in, 5)), "connect": FromConnect(connectErr)} {
			var e *Error
			if !errors.As(out, &e) || e.Err.Kind != k || e.Err.Message != "what" || e.Err.Hint != "do" || e.WorldVersion != 5 || e.RetryAfter != in.RetryAfter {
				t.Errorf("%v by %s became %#v", k, path, out)
			}
			if got := RedirectOf(out).GetEndpoints(); len(got) != len(in.Redirect.GetEndpoints()) {
				t.Errorf("%v by %s: redirect to %v", k, path, got)
			}
		}
		if k == region.WrongRegion {
			var c *connect.Error
			errors.As(connectErr, &c)
			if h := c.Meta().Get(RedirectHeader); h != "127.0.0.1:1,127.0.0.1:2" {
				t.Errorf("redirect header %q", h)
			}
		}
	}
}

func TestForeignErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		kind region.Kind
	}{
		{errors.New("disk /secret/path broke"), region.Internal},
		{context.DeadlineExceeded, region.Unavailable},
		{context.Canceled, region.Unavailable},
	} {
		p := ToProto(tt.err, 1)
		if region.Kind(p.Code) != tt.kind || strings.Contains(p.String(), "secret") {
			t.Errorf("%v became %v", tt.err, p)
		}
	}
	if ToProto(nil, 1) != nil || FromProto(nil) != nil || ToConnect(nil, 1) != nil || FromConnect(nil) != nil {
		t.Error("no error became one")
	}
	// A proxy's answer has no detail.
	if k := region.KindOf(FromConnect(connect.NewError(connect.CodeUnavailable, errors.New("502")))); k != region.Unavailable {
		t.Errorf("a proxy's unavailable became %v", k)
	}
	// A kind of a later version, retryable.
	if k := region.KindOf(FromProto(&v1.Error{Code: 99, Retryable: true})); k != region.Unavailable {
		t.Errorf("an unknown retryable kind became %v", k)
	}
}

func TestShortProof(t *testing.T) {
	pub, key, _ := ed25519.GenerateKey(nil)
	now := time.UnixMilli(1700000000000)
	body := []byte(`{"to":"1"}`)
	h := FormatProof(key, "/homing.v1.IM/Send", now, 7, body)
	if err := CheckProof(h, pub, "/homing.v1.IM/Send", now.Add(ProofWindow), 7, body); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"late":    CheckProof(h, pub, "/homing.v1.IM/Send", now.Add(ProofWindow+time.Millisecond), 7, body),
		"early":   CheckProof(h, pub, "/homing.v1.IM/Send", now.Add(-ProofWindow-time.Millisecond), 7, body),
		"method":  CheckProof(h, pub, "/homing.v1.IM/Sync", now, 7, body),
		"user":    CheckProof(h, pub, "/homing.v1.IM/Send", now, 8, body),
		"body":    CheckProof(h, pub, "/homing.v1.IM/Send", now, 7, []byte(`{"to":"2"}`)),
		"missing": CheckProof("", pub, "/homing.v1.IM/Send", now, 7, body),
		"garbage": CheckProof("1.!", pub, "/homing.v1.IM/Send", now, 7, body),
		"no key":  CheckProof(h, nil, "/homing.v1.IM/Send", now, 7, body),
	} {
		if region.KindOf(err) != region.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEpoch(t *testing.T) {
	e := region.Epoch{Moves: 1, Term: region.Term{Counter: 2, Raised: region.ShortHash{1, 2, 3}}}
	if got, err := EpochFromProto(EpochToProto(e)); err != nil || got != e {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := EpochFromProto(nil); err != nil || got != (region.Epoch{}) {
		t.Errorf("nil: %v, %v", got, err)
	}
	if _, err := EpochFromProto(&v1.Epoch{Raised: []byte{1}}); region.KindOf(err) != region.BadInput {
		t.Errorf("a short hash: %v", err)
	}
}
