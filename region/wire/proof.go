package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// The first bytes of each proof, so that a signature for one purpose is never
// one for another.
const (
	loginContext      = "homing.login.v1\x00"
	connectionContext = "homing.connection.v1\x00"
	requestContext    = "homing.request.v1\x00"
	deviceContext     = "homing.device.v1\x00"
)

// Headers of the short connection.
const (
	AuthorizationScheme = "Homing"          // Authorization: Homing <ticket>
	ProofHeader         = "Homing-Proof"    // <unix milliseconds>.<base64 of the signature>
	RedirectHeader      = "Homing-Redirect" // host:port,host:port with an answer of wrong-region
	WorldHeader         = "Homing-World"    // world version, in requests a hint, in answers the region's
	UINHeader           = "Homing-Uin"      // decimal; by it a POP routes a request without looking further
)

// ProofWindow is how far the clock of a client may be off, either way. It
// bounds how long a recorded short request can be replayed.
const ProofWindow = 5 * time.Minute

// KeyID names a device key: the first 8 bytes of its SHA-256.
func KeyID(public ed25519.PublicKey) [8]byte {
	h := sha256.Sum256(public)
	return [8]byte(h[:8])
}

// LoginProof returns the bytes to sign for Login.
func LoginProof(regionID string, uin region.UIN, nonce []byte) []byte {
	b := []byte(loginContext)
	b = appendBytes(b, []byte(regionID))
	b = binary.BigEndian.AppendUint64(b, uint64(uin))
	return appendBytes(b, nonce)
}

// ConnectionProof returns the bytes to sign for Reauth.
func ConnectionProof(regionID string, e region.Epoch, connectionID, nonce []byte, uin region.UIN) []byte {
	b := []byte(connectionContext)
	b = appendBytes(b, []byte(regionID))
	b = binary.BigEndian.AppendUint64(b, e.Moves)
	b = binary.BigEndian.AppendUint64(b, e.Term.Counter)
	b = append(b, e.Term.Raised[:]...)
	b = appendBytes(b, connectionID)
	b = appendBytes(b, nonce)
	return binary.BigEndian.AppendUint64(b, uint64(uin))
}

// RequestProof returns the bytes to sign for one short request. Method is the
// procedure, such as "/homing.v1.IM/Send"; body is the HTTP body as sent.
func RequestProof(method string, unixMilli int64, uin region.UIN, body []byte) []byte {
	b := []byte(requestContext)
	b = appendBytes(b, []byte(method))
	b = binary.BigEndian.AppendUint64(b, uint64(unixMilli))
	b = binary.BigEndian.AppendUint64(b, uint64(uin))
	sum := sha256.Sum256(body)
	return append(b, sum[:]...)
}

// DeviceAct is what a device proof is for.
type DeviceAct string

// The acts.
const (
	DeviceAdd    DeviceAct = "add"    // the subject is the new device's public key
	DeviceRevoke DeviceAct = "revoke" // the subject is the device's key ID
	DeviceErase  DeviceAct = "erase"  // the subject is EraseSubject
)

// EraseSubject is the subject of a proof for erasing the account: one byte, 1
// when what the user sent goes too, else 0.
func EraseSubject(sent bool) []byte {
	if sent {
		return []byte{1}
	}
	return []byte{0}
}

// DeviceProof returns the bytes that a device signs to vouch for a change of
// its user's devices, so that whoever relays the connection cannot make one. It
// holds for ever, which is harmless: a revoked device never comes back.
func DeviceProof(act DeviceAct, uin region.UIN, subject []byte) []byte {
	b := []byte(deviceContext)
	b = appendBytes(b, []byte(act))
	b = binary.BigEndian.AppendUint64(b, uint64(uin))
	return appendBytes(b, subject)
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
	return append(dst, b...)
}

// FormatProof signs a short request and returns the value of [ProofHeader].
func FormatProof(key ed25519.PrivateKey, method string, now time.Time, uin region.UIN, body []byte) string {
	ms := now.UnixMilli()
	sig := ed25519.Sign(key, RequestProof(method, ms, uin, body))
	return strconv.FormatInt(ms, 10) + "." + base64.StdEncoding.EncodeToString(sig)
}

// CheckProof verifies the value of [ProofHeader]. Errors: region.Unauthenticated.
func CheckProof(header string, key ed25519.PublicKey, method string, now time.Time, uin region.UIN, body []byte) error {
	if header == "" {
		return region.Errorf(region.Unauthenticated, "no %s header", ProofHeader).WithHint("sign the request with the device key")
	}
	millis, sig64, _ := strings.Cut(header, ".")
	ms, err := strconv.ParseInt(millis, 10, 64)
	sig, err64 := base64.StdEncoding.DecodeString(sig64)
	if err != nil || err64 != nil || len(sig) != ed25519.SignatureSize {
		return region.Errorf(region.Unauthenticated, "%s is not <unix milliseconds>.<base64 signature>", ProofHeader)
	}
	if off := now.Sub(time.UnixMilli(ms)); off > ProofWindow || off < -ProofWindow {
		return region.Errorf(region.Unauthenticated, "the proof's time is more than %s off", ProofWindow).WithHint("set the device's clock")
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, RequestProof(method, ms, uin, body), sig) {
		return region.Errorf(region.Unauthenticated, "the proof is not by the ticket's device key").WithHint("sign with the key the device registered")
	}
	return nil
}

// CheckReauth verifies a client's Reauth against the nonce it was sent. Errors:
// region.Unauthenticated.
func CheckReauth(r *v1.Reauth, nonce []byte, key ed25519.PublicKey, regionID string, e region.Epoch, connectionID []byte, uin region.UIN) error {
	if subtle.ConstantTimeCompare(r.Nonce, nonce) != 1 {
		return region.Errorf(region.Unauthenticated, "the proof is for another nonce").WithHint("sign the nonce of the newest HelloReply or Reauth")
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, ConnectionProof(regionID, e, connectionID, nonce, uin), r.Signature) {
		return region.Errorf(region.Unauthenticated, "the proof is not by the ticket's device key").WithHint("sign with the key the device registered")
	}
	return nil
}
