package access

import (
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// envelope is a frame of the web front: see "Web" in the package comment.
type envelope struct {
	Method   string          `json:"method"`
	Sequence uint64          `json:"sequence,omitempty"`
	Response bool            `json:"response,omitempty"`
	Push     bool            `json:"push,omitempty"`
	Body     json.RawMessage `json:"body,omitempty"`
	Error    json.RawMessage `json:"error,omitempty"`
}

// jsonCodec is the codec of the web front.
type jsonCodec struct{}

func (jsonCodec) encode(m wire.Method, f wire.Flags, sequence uint64, body proto.Message) ([]byte, error) {
	raw, err := protojson.Marshal(body)
	if err != nil {
		return nil, region.Errorf(region.Internal, "cannot encode %s", m).WithCause(err)
	}
	if len(raw) > wire.MaxBody {
		return nil, region.Errorf(region.TooLarge, "%s of %d bytes is over the limit of %d", m, len(raw), wire.MaxBody)
	}
	e := envelope{Method: m.String(), Sequence: sequence, Response: f&wire.FlagResponse != 0, Push: f&wire.FlagPush != 0}
	if f&wire.FlagError != 0 {
		e.Error = raw
	} else {
		e.Body = raw
	}
	return json.Marshal(e)
}

func (jsonCodec) decode(f wire.Frame, body proto.Message) error {
	if len(f.Body) == 0 {
		return nil
	}
	if err := protojson.Unmarshal(f.Body, body); err != nil {
		return region.Errorf(region.BadInput, "body of %s is not a %s", f.Method, body.ProtoReflect().Descriptor().Name()).WithCause(err)
	}
	return nil
}

// openEnvelope reads what a web client sent. Errors: region.BadInput.
func openEnvelope(b []byte) (wire.Frame, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return wire.Frame{}, region.Errorf(region.BadInput, "not a JSON envelope").WithHint(`send {"method":"...","sequence":1,"body":{}}`).WithCause(err)
	}
	if e.Response || e.Push || e.Error != nil {
		return wire.Frame{}, region.Errorf(region.BadInput, "a client sends requests, not responses, pushes or errors")
	}
	info, ok := wire.LookupName(e.Method)
	if !ok || info.Name != e.Method {
		return wire.Frame{Method: 0, Sequence: e.Sequence}, nil // answered as an unknown method
	}
	return wire.Frame{Method: info.Method, Sequence: e.Sequence, Body: e.Body}, nil
}
