package core

import (
	"crypto/sha256"
	"net/url"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// checkBody takes what a user may say. A kind that this region does not know is
// the business of the clients on both ends: its bytes are stored and passed on as
// they came.
func checkBody(b *v1.Body) error {
	switch k := b.GetKind().(type) {
	case *v1.Body_Text:
		switch {
		case k.Text == "":
			return region.Errorf(region.BadInput, "the message is empty").WithHint("give a text")
		case len(k.Text) > MaxText:
			return region.Errorf(region.TooLarge, "the text has %d bytes", len(k.Text)).WithHint("at most %d", MaxText)
		case !utf8.ValidString(k.Text):
			return region.Errorf(region.BadInput, "the text is not UTF-8").WithHint("encode it")
		}
		if len(b.ProtoReflect().GetUnknown()) == 0 {
			return nil // MaxText is below maxBody
		}
		return checkUnknown(b)
	case *v1.Body_Media:
		if err := checkMedia(k.Media); err != nil {
			return err
		}
		return checkUnknown(b)
	case *v1.Body_Custom:
		switch n := len(k.Custom.GetType()); {
		case n < 1 || n > MaxCustomType:
			return region.Errorf(region.BadInput, "the custom type has %d bytes", n).WithHint("give 1 to %d", MaxCustomType)
		case len(k.Custom.Payload) > MaxText:
			return region.Errorf(region.TooLarge, "the payload has %d bytes", len(k.Custom.Payload)).WithHint("at most %d", MaxText)
		}
		return checkUnknown(b)
	case *v1.Body_System:
		return region.Errorf(region.BadInput, "system messages are written by regions").WithHint("send a text")
	}
	if !unknownKind(b) {
		return region.Errorf(region.BadInput, "the message has no body").WithHint("send a text")
	}
	return checkUnknown(b)
}

// unknownKind says whether a body has content, of a kind added after this
// program was made.
func unknownKind(b *v1.Body) bool {
	return b.GetKind() == nil && len(b.ProtoReflect().GetUnknown()) > 0
}

// checkUnknown bounds a body as a whole: what is not known has a size too.
func checkUnknown(b *v1.Body) error {
	if n := proto.Size(b); n > maxBody {
		return region.Errorf(region.TooLarge, "the message has %d bytes", n).WithHint("at most %d", maxBody)
	}
	return nil
}

func checkMedia(m *v1.Media) error {
	if err := checkURL("media URL", m.GetUrl()); err != nil {
		return err
	}
	switch n := len(m.MimeType); {
	case n < 1 || n > MaxMediaType:
		return region.Errorf(region.BadInput, "the media type has %d bytes", n).WithHint("give 1 to %d, such as image/png", MaxMediaType)
	case len(m.Sha256) != 0 && len(m.Sha256) != sha256.Size:
		return region.Errorf(region.BadInput, "the SHA-256 has %d bytes", len(m.Sha256)).WithHint("give %d, or none", sha256.Size)
	case len(m.Preview) > MaxPreview:
		return region.Errorf(region.TooLarge, "the preview has %d bytes", len(m.Preview)).WithHint("at most %d", MaxPreview)
	}
	if err := checkText("media type", m.MimeType, MaxMediaType); err != nil {
		return err
	}
	return checkText("file name", m.Name, MaxFileName)
}

// checkURL takes an absolute URL; regions never fetch it.
func checkURL(what, s string) error {
	if len(s) > MaxURL || !utf8.ValidString(s) {
		return region.Errorf(region.BadInput, "%s has %d bytes", what, len(s)).WithHint("at most %d of UTF-8", MaxURL)
	}
	if u, err := url.Parse(s); err != nil || !u.IsAbs() {
		return region.Errorf(region.BadInput, "%s %.40q is not absolute", what, s).WithHint("give one such as https://media.example.com/1")
	}
	return nil
}
