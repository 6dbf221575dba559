package authority

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
)

// DoQ says what TCP says, many questions at once on one connection, and ends
// the connection of who does not keep to RFC 9250.
func TestDoQ(t *testing.T) {
	h, pool := startSecure(t)
	dial := func() *quic.Conn {
		t.Helper()
		c, err := quic.DialAddr(t.Context(), h.DoQAddrs()[0].String(), &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13, NextProtos: []string{"doq"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseWithError(doqNoError, "") })
		return c
	}
	ask := func(c *quic.Conn, framed []byte) ([]byte, error) {
		s, err := c.OpenStreamSync(t.Context())
		if err != nil {
			return nil, err
		}
		if _, err := s.Write(framed); err != nil {
			return nil, err
		}
		if err := s.Close(); err != nil {
			return nil, err
		}
		return io.ReadAll(s)
	}
	question := question("u-1000001.long.demo.test.", dns.TypeA, netip.MustParsePrefix("223.5.5.0/24"))
	question.Id = 0
	packet, err := question.Pack()
	if err != nil {
		t.Fatal(err)
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	want := h.respond(packet, netip.MustParseAddr("127.0.0.1"), overTCP)
	c := dial()
	var asking sync.WaitGroup
	for range 3 * doqStreams {
		asking.Go(func() {
			got, err := ask(c, framed)
			if err != nil || len(got) < 2 || int(binary.BigEndian.Uint16(got)) != len(got)-2 || !bytes.Equal(got[2:], want) {
				t.Errorf("%x, %v; want %x", got, err, want)
			}
		})
	}
	asking.Wait()
	if n := h.count(t, "homing_dns_responses_total{NOERROR,doq}"); n != 3*doqStreams {
		t.Errorf("%v counted", n)
	}

	numbered := bytes.Clone(framed)
	numbered[3] = 1
	for name, bad := range map[string][]byte{
		"an ID": numbered, "a length too long": append([]byte{0xff, 0xff}, packet...), "two questions": append(bytes.Clone(framed), framed...),
		"nothing": nil, "half a header": {0, 3, 0, 0, 0},
	} {
		c := dial()
		_, _ = ask(c, bad)
		<-c.Context().Done()
		var closed *quic.ApplicationError
		if _, err := c.OpenStream(); !errors.As(err, &closed) || closed.ErrorCode != doqProtocolError {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := ask(c, framed); err != nil || !bytes.Equal(got[2:], want) {
		t.Errorf("after others were thrown out: %x, %v", got, err)
	}
}
