package access

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// undecoded holds back what Connect answers by itself, to a request that it
// never brought to the logic: a body that is no message, a content type or
// compression nobody knows. Those answers have no homing.v1.Error, which is what
// clients branch on; refuse makes one of them.
type undecoded struct {
	http.ResponseWriter
	reached *bool // the logic was asked: what is written passes

	before http.Header // as it was before Connect
	status int
	body   bytes.Buffer
}

const maxUndecoded = 4 << 10 // bytes of an answer that are looked at

func holdBack(w http.ResponseWriter, reached *bool) *undecoded {
	return &undecoded{ResponseWriter: w, reached: reached, before: w.Header().Clone()}
}

func (u *undecoded) WriteHeader(status int) {
	if *u.reached {
		u.ResponseWriter.WriteHeader(status)
		return
	}
	u.status = status
}

func (u *undecoded) Write(b []byte) (int, error) {
	if *u.reached {
		return u.ResponseWriter.Write(b)
	}
	if room := maxUndecoded - u.body.Len(); room > 0 {
		u.body.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// Flush lets Connect flush what passes.
func (u *undecoded) Flush() {
	if *u.reached {
		_ = http.NewResponseController(u.ResponseWriter).Flush()
	}
}

// Unwrap lets http.ResponseController reach what is below.
func (u *undecoded) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// refuse writes an Error in place of what was held back.
func (u *undecoded) refuse(r *http.Request, version uint64) {
	h := u.Header()
	said := h.Clone()
	clear(h)
	maps.Copy(h, u.before)
	var out http.ResponseWriter = u.ResponseWriter
	var err *region.Error
	switch u.status {
	case http.StatusUnsupportedMediaType, http.StatusMethodNotAllowed:
		for _, name := range []string{"Allow", "Accept-Post"} {
			if v := said.Values(name); len(v) > 0 {
				h[name] = v
			}
		}
		out = wire.WithStatus(out, u.status)
		err = region.Errorf(region.Unsupported, "%s with content type %q is not answered here", r.Method, r.Header.Get("Content-Type")).
			WithHint("POST application/json or application/proto")
	default:
		err = u.undecodable(said)
	}
	wire.Refuse(out, r, err, version)
}

// undecodable is what Connect said, as an error of ours.
func (u *undecoded) undecodable(said http.Header) *region.Error {
	var a struct{ Code, Message string }
	if json.Unmarshal(u.body.Bytes(), &a) != nil {
		a.Message = said.Get("Grpc-Message") // gRPC says it in a header or trailer
	}
	kind, text := region.BadInput, "the body is not what this method takes"
	if a.Code == connect.CodeUnimplemented.String() {
		kind, text = region.Unsupported, "the body cannot be read"
	}
	why := strings.ToValidUTF8(a.Message, "")
	if i := strings.LastIndex(why, "proto:"); i >= 0 {
		why = strings.TrimSpace(why[i+len("proto:"):]) // what precedes it is Go's
	}
	if why != "" {
		text += ": " + why[:min(len(why), 300)]
	}
	return region.Errorf(kind, "%s", strings.ToValidUTF8(text, "")).WithHint("see homing.v1.IM in im.proto")
}
