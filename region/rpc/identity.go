package rpc

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// handshakeTimeout bounds what a stranger's connection costs.
const handshakeTimeout = 5 * time.Second

const (
	proofContext  = "homing.rpc.v1\x00"
	exporterLabel = "EXPORTER-homing-rpc"
	nonceSize     = 32
	maxName       = 64 // bytes of a process's name
)

// Identity is what a process proves to another one of its region.
type Identity struct {
	Region region.ID
	Name   string             // of the process, such as "sh-logic-1"; at most 64 bytes
	Key    ed25519.PrivateKey // of the region

	// Public returns the region's key as the newest world has it; nil trusts
	// Key's own public half.
	Public func() ed25519.PublicKey
}

func (i *Identity) validate() error {
	switch {
	case i.Region.Valid() != nil:
		return region.Errorf(region.BadInput, "rpc: region").WithCause(i.Region.Valid())
	case i.Name == "" || len(i.Name) > maxName:
		return region.Errorf(region.BadInput, "rpc: the process's name %.80q: want 1 to %d bytes", i.Name, maxName)
	case len(i.Key) != ed25519.PrivateKeySize:
		return region.Errorf(region.BadInput, "rpc: the region's private key has %d bytes", len(i.Key))
	}
	return nil
}

func (i *Identity) public() ed25519.PublicKey {
	if i.Public != nil {
		return i.Public()
	}
	return i.Key.Public().(ed25519.PublicKey)
}

// covered returns the bytes of a proof; see the package comment.
func covered(role string, r region.ID, dialer, listener string, dialNonce, listenNonce, channel []byte) []byte {
	b := []byte(proofContext)
	for _, f := range [][]byte{[]byte(role), []byte(r), []byte(dialer), []byte(listener), dialNonce, listenNonce, channel} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// channelOf binds a proof to the TLS connection it is given on, so that nobody
// between the two ends can pass it on.
func channelOf(c net.Conn) ([]byte, error) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	state := t.ConnectionState()
	return state.ExportKeyingMaterial(exporterLabel, nil, 32)
}

func newNonce() []byte {
	b := make([]byte, nonceSize)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return b
}

func write(c net.Conn, k kind, m proto.Message) error {
	f := frame{kind: k}
	if m != nil {
		b, err := proto.Marshal(m)
		if err != nil {
			return err
		}
		f.body = b
	}
	_, err := c.Write(appendFrame(nil, f))
	return err
}

func expect(r *bufio.Reader, k kind, m proto.Message) error {
	f, err := readFrame(r, maxHello)
	if err != nil {
		return err
	}
	if f.kind != k {
		return region.Errorf(region.BadInput, "the other end sends kind %d, want %d", f.kind, k).WithHint("does the address lead to a process of this region?")
	}
	if m == nil {
		return nil
	}
	if err := proto.Unmarshal(f.body, m); err != nil {
		return region.Errorf(region.BadInput, "the other end's handshake cannot be read").WithCause(err)
	}
	return nil
}

func unproven(who string) error {
	return region.Errorf(region.Unauthenticated, "%s does not hold the region's key", who).
		WithHint("every process of a region has the same key file, the one the newest world names")
}

// dialed is the handshake of the one that dials; it returns the other's name.
func (i *Identity) dialed(c net.Conn, r *bufio.Reader) (string, error) {
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout))
	channel, err := channelOf(c)
	if err != nil {
		return "", err
	}
	hello := &v1.RPCHello{Version: Version, Region: string(i.Region), Name: i.Name, Nonce: newNonce()}
	if err := write(c, kindHello, hello); err != nil {
		return "", err
	}
	theirs := new(v1.RPCProof)
	if err := expect(r, kindProof, theirs); err != nil {
		return "", err
	}
	if len(theirs.Nonce) != nonceSize || len(theirs.Name) > maxName || bytes.Equal(theirs.Nonce, hello.Nonce) {
		return "", region.Errorf(region.BadInput, "the other end's proof is malformed")
	}
	if !ed25519.Verify(i.public(), covered("listen", i.Region, i.Name, theirs.Name, hello.Nonce, theirs.Nonce, channel), theirs.Signature) {
		return "", unproven("the process at " + c.RemoteAddr().String())
	}
	mine := &v1.RPCProof{Name: i.Name, Signature: ed25519.Sign(i.Key, covered("dial", i.Region, i.Name, theirs.Name, hello.Nonce, theirs.Nonce, channel))}
	if err := write(c, kindProof, mine); err != nil {
		return "", err
	}
	if err := expect(r, kindReady, nil); err != nil {
		return "", err
	}
	return theirs.Name, c.SetDeadline(time.Time{})
}

// accepted is the handshake of the one that listens; it returns the other's
// name.
func (i *Identity) accepted(c net.Conn, r *bufio.Reader) (string, error) {
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout))
	channel, err := channelOf(c)
	if err != nil {
		return "", err
	}
	hello := new(v1.RPCHello)
	if err := expect(r, kindHello, hello); err != nil {
		return "", err
	}
	switch {
	case hello.Version != Version:
		return "", region.Errorf(region.Unsupported, "%.64q speaks version %d, want %d", hello.Name, hello.Version, Version)
	case hello.Region != string(i.Region):
		return "", region.Errorf(region.BadInput, "%.64q is of region %.32q, this process of %s", hello.Name, hello.Region, i.Region)
	case hello.Name == "" || len(hello.Name) > maxName || len(hello.Nonce) != nonceSize:
		return "", region.Errorf(region.BadInput, "a malformed hello")
	}
	mine := &v1.RPCProof{Name: i.Name, Nonce: newNonce()}
	mine.Signature = ed25519.Sign(i.Key, covered("listen", i.Region, hello.Name, i.Name, hello.Nonce, mine.Nonce, channel))
	if err := write(c, kindProof, mine); err != nil {
		return "", err
	}
	theirs := new(v1.RPCProof)
	if err := expect(r, kindProof, theirs); err != nil {
		return "", err
	}
	if !ed25519.Verify(i.public(), covered("dial", i.Region, hello.Name, i.Name, hello.Nonce, mine.Nonce, channel), theirs.Signature) {
		return "", unproven("the process that calls itself " + hello.Name)
	}
	if err := write(c, kindReady, nil); err != nil {
		return "", err
	}
	return hello.Name, c.SetDeadline(time.Time{})
}
