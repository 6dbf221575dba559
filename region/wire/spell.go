package wire

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	v1 "github.com/homing-im/homing/region/homingv1"
)

// Messages, and what carries them, are spelled here by hand and not by
// reflection, which was an eighth of the processor time of a message. Whatever is
// out of the ordinary (another kind of body, unknown fields, a text that is not
// UTF-8) is left to package proto.

// AppendProto appends the bytes of m. They are those of proto's deterministic
// marshalling. Errors: proto's.
func AppendProto(dst []byte, m proto.Message) ([]byte, error) {
	if b, ok := spell(dst, m); ok {
		return b, nil
	}
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, m)
}

// MessageSize is proto.Size of a message.
func MessageSize(m *v1.Message) int {
	if n, ok := sizeMessage(m); ok {
		return n
	}
	return proto.Size(m)
}

// spell is AppendProto of an ordinary message; false leaves dst as it was.
func spell(dst []byte, m proto.Message) ([]byte, bool) {
	switch m := m.(type) {
	case *v1.Notice:
		return spellNotice(dst, m)
	case *v1.SendResponse:
		return spellSendResponse(dst, m)
	case *v1.SendRequest:
		return spellSendRequest(dst, m)
	case *v1.Message:
		if n, ok := sizeMessage(m); ok {
			return spellMessage(grow(dst, n), m), true
		}
	}
	return dst, false
}

func spellNotice(dst []byte, m *v1.Notice) ([]byte, bool) {
	if m == nil || !known(m) {
		return dst, false
	}
	if m.Message == nil {
		return appendUint(dst, 1, m.Sequence), true
	}
	n, ok := sizeMessage(m.Message)
	if !ok {
		return dst, false
	}
	dst = appendUint(grow(dst, n+32), 1, m.Sequence)
	return spellMessage(appendLength(dst, 2, n), m.Message), true
}

func spellSendResponse(dst []byte, m *v1.SendResponse) ([]byte, bool) {
	if m == nil || !known(m) || m.Mark != nil && !known(m.Mark) {
		return dst, false
	}
	dst = spellBytes(grow(dst, 80), 1, m.Id)
	dst = appendUint(dst, 2, m.Sequence)
	dst = appendUint(dst, 3, uint64(m.SentUnixMilli))
	dst = appendBool(dst, 4, m.Repeated)
	if k := m.Mark; k != nil {
		dst = appendLength(dst, 5, sizeUint(1, k.Incarnation)+sizeUint(2, k.Sequence))
		dst = appendUint(dst, 1, k.Incarnation)
		dst = appendUint(dst, 2, k.Sequence)
	}
	return dst, true
}

func spellSendRequest(dst []byte, m *v1.SendRequest) ([]byte, bool) {
	if m == nil || !known(m) || !utf8.ValidString(m.ToHandle) || !utf8.ValidString(m.ClientMessageId) {
		return dst, false
	}
	n, ok := sizeBody(m.Body)
	if !ok {
		return dst, false
	}
	dst = appendUint(grow(dst, n+len(m.ToHandle)+len(m.ClientMessageId)+40), 1, m.To)
	dst = appendString(dst, 2, m.ToHandle)
	dst = appendString(dst, 3, m.ClientMessageId)
	return spellBody(dst, 4, m.Body, n), true
}

// sizeMessage is how many bytes spellMessage appends; false when it cannot.
func sizeMessage(m *v1.Message) (int, bool) {
	if m == nil || !known(m) || !utf8.ValidString(m.ClientMessageId) {
		return 0, false
	}
	body, ok := sizeBody(m.Body)
	if !ok {
		return 0, false
	}
	n := sizeText(1, len(m.Id)) + sizeUint(2, m.Sequence) + sizeUint(3, m.Sender) + sizeUint(4, m.To) +
		sizeText(5, len(m.ClientMessageId)) + sizeUint(6, uint64(m.SentUnixMilli))
	if m.Body != nil {
		n += protowire.SizeTag(7) + protowire.SizeBytes(body)
	}
	if m.Recalled {
		n += protowire.SizeTag(8) + 1
	}
	return n, true
}

func spellMessage(dst []byte, m *v1.Message) []byte {
	dst = spellBytes(dst, 1, m.Id)
	dst = appendUint(dst, 2, m.Sequence)
	dst = appendUint(dst, 3, m.Sender)
	dst = appendUint(dst, 4, m.To)
	dst = appendString(dst, 5, m.ClientMessageId)
	dst = appendUint(dst, 6, uint64(m.SentUnixMilli))
	n, _ := sizeBody(m.Body)
	dst = spellBody(dst, 7, m.Body, n)
	return appendBool(dst, 8, m.Recalled)
}

// sizeBody is the size of a body that is a text, or none; false of any other.
func sizeBody(b *v1.Body) (int, bool) {
	if b == nil {
		return 0, true
	}
	t, ok := b.Kind.(*v1.Body_Text)
	if !ok || t == nil || !known(b) || !utf8.ValidString(t.Text) {
		return 0, false
	}
	return protowire.SizeTag(1) + protowire.SizeBytes(len(t.Text)), true
}

func spellBody(dst []byte, field protowire.Number, b *v1.Body, size int) []byte {
	if b == nil {
		return dst
	}
	text := b.Kind.(*v1.Body_Text).Text
	dst = appendLength(dst, field, size)
	return append(appendLength(dst, 1, len(text)), text...)
}

// known says whether every field of a message is one that this program knows.
func known(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) == 0 }

// room is about how many bytes the body of a frame takes, so that it is allocated
// once.
func room(m proto.Message) int {
	switch m := m.(type) {
	case *v1.Notice:
		n, _ := sizeMessage(m.GetMessage())
		return n + 32
	case *v1.SendResponse:
		return 80
	}
	return 48
}

func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	return append(make([]byte, 0, max(len(dst)+n, 2*len(dst))), dst...)
}

func appendLength(dst []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(n))
}

func spellBytes(dst []byte, field protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return append(appendLength(dst, field, len(b)), b...)
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return append(appendLength(dst, field, len(s)), s...)
}

func appendUint(dst []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), n)
}

func appendBool(dst []byte, field protowire.Number, b bool) []byte {
	if !b {
		return dst
	}
	return append(protowire.AppendTag(dst, field, protowire.VarintType), 1)
}

func sizeUint(field protowire.Number, n uint64) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(n)
}

func sizeText(field protowire.Number, n int) int {
	if n == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

// readSend reads a SendRequest with a text, as clients write it; false when it is
// anything else, which may be a good one too.
func readSend(b []byte, into *v1.SendRequest) bool {
	var r struct {
		body v1.Body
		text v1.Body_Text
	}
	var to uint64
	var handle, id []byte
	seen := false
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		if field == 1 && kind == protowire.VarintType {
			if to, n = protowire.ConsumeVarint(b); n < 0 {
				return false
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 || kind != protowire.BytesType {
			return false
		}
		b = b[n:]
		switch {
		case field == 2:
			handle = v
		case field == 3:
			id = v
		case field == 4 && !seen:
			seen = true
			text, ok := readText(v)
			if !ok {
				return false
			}
			r.text.Text = text
		default:
			return false
		}
	}
	if !utf8.Valid(handle) || !utf8.Valid(id) {
		return false
	}
	into.To, into.ToHandle, into.ClientMessageId = to, string(handle), string(id)
	into.Body = nil
	if seen {
		r.body.Kind, into.Body = &r.text, &r.body
	}
	return true
}

// readText reads a body that is one text.
func readText(b []byte) (string, bool) {
	field, kind, n := protowire.ConsumeTag(b)
	if n < 0 || field != 1 || kind != protowire.BytesType {
		return "", false
	}
	text, m := protowire.ConsumeBytes(b[n:])
	if m < 0 || n+m != len(b) || !utf8.Valid(text) {
		return "", false
	}
	return string(text), true
}
