// Package tap writes the query log of a name server as dnstap (dnstap.info): the
// very messages, in Frame Streams, to a file or to a collector's Unix socket.
//
// # Guarantees
//
//   - A frame is one AUTH_RESPONSE with the query, the response, who asked, over
//     what and when. What was not DNS (HTTPDNS) is not written.
//   - A file is one whole stream, which ends when the log is closed or opened anew
//     and is readable up to there. One that is already there is moved aside, never
//     written over.
//   - A collector that is away costs frames, not time: until it is back Log returns
//     an error at once, but for one try per second.
package tap

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/dns/authority"
)

// Socket begins a target that is a Unix socket: "unix:/run/collector.sock".
const Socket = "unix:"

const (
	timeout  = 2 * time.Second // for connecting, the handshake, and each write
	tryEvery = time.Second     // to reach a collector that is away
)

// errAway is what costs a frame while nobody tries to reach the collector.
var errAway = errors.New("the collector of dnstap is away")

// Options configure a [Log].
type Options struct {
	// Target is a file, or a socket behind [Socket].
	Target string
	// Identity and Version say which server it was; empty ones are left out.
	Identity, Version string
}

// Log implements authority.QueryLog.
type Log struct {
	o Options

	mu    sync.Mutex
	to    io.WriteCloser // nil while there is no stream
	w     *framestream.Writer
	tried time.Time
	now   func() time.Time
}

// Open begins the file, which fails when it cannot be made. A collector need not
// be there yet.
func Open(o Options) (*Log, error) {
	l := &Log{o: o, now: time.Now}
	if err := l.begin(); err != nil && !l.socket() {
		return nil, err
	}
	return l, nil
}

func (l *Log) socket() bool { return strings.HasPrefix(l.o.Target, Socket) }

// begin begins a stream. Hold mu, but in Open.
func (l *Log) begin() error {
	l.tried = l.now()
	path, socket := strings.CutPrefix(l.o.Target, Socket)
	options := &framestream.WriterOptions{ContentTypes: [][]byte{dnstap.FSContentType}, Timeout: timeout, Bidirectional: socket}
	if socket {
		conn, err := net.DialTimeout("unix", path, timeout)
		if err != nil {
			return err
		}
		return l.stream(conn, options)
	}
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		if err := os.Rename(path, fmt.Sprintf("%s.%s", path, info.ModTime().UTC().Format("20060102T150405.000"))); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return l.stream(f, options)
}

func (l *Log) stream(to io.WriteCloser, options *framestream.WriterOptions) error {
	w, err := framestream.NewWriter(to, options)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		_ = to.Close()
		return err
	}
	l.to, l.w = to, w
	return nil
}

// end ends the stream. Hold mu.
func (l *Log) end() error {
	if l.to == nil {
		return nil
	}
	err := errors.Join(l.w.Close(), l.to.Close())
	l.to, l.w = nil, nil
	return err
}

// fail gives a stream up that cannot be written; a part of a frame may be in it.
func (l *Log) fail(err error) error {
	if err != nil && l.to != nil {
		_ = l.to.Close()
		l.to, l.w = nil, nil
	}
	return err
}

// Log implements authority.QueryLog.
func (l *Log) Log(line authority.LogLine, query, answer []byte) error {
	if len(query) == 0 {
		return nil
	}
	frame, err := proto.Marshal(l.frame(line, query, answer))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		if l.now().Sub(l.tried) < tryEvery {
			return errAway
		}
		if err := l.begin(); err != nil {
			return err
		}
	}
	_, err = l.w.WriteFrame(frame)
	return l.fail(err)
}

// Flush implements authority.QueryLog.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		return nil
	}
	return l.fail(l.w.Flush())
}

// Reopen ends the file and begins another one, after somebody has moved the
// first away. Of a socket it knows nothing to do.
func (l *Log) Reopen() error {
	if l.socket() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.end(), l.begin())
}

// Close ends the stream.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end()
}

// protocols are dnstap's numbers; those of its later versions are not in the library.
var protocols = map[string]dnstap.SocketProtocol{
	"udp": dnstap.SocketProtocol_UDP, "tcp": dnstap.SocketProtocol_TCP, "dot": dnstap.SocketProtocol_DOT, "doh": dnstap.SocketProtocol_DOH, "doq": 7,
}

func (l *Log) frame(line authority.LogLine, query, answer []byte) *dnstap.Dnstap {
	m := &dnstap.Message{
		Type: dnstap.Message_AUTH_RESPONSE.Enum(), QueryMessage: query,
		QueryTimeSec: proto.Uint64(uint64(line.At.Unix())), QueryTimeNsec: proto.Uint32(uint32(line.At.Nanosecond())),
	}
	if len(answer) > 0 {
		m.ResponseMessage, m.ResponseTimeSec, m.ResponseTimeNsec = answer, m.QueryTimeSec, m.QueryTimeNsec
	} else {
		m.Type = dnstap.Message_AUTH_QUERY.Enum() // it was dropped
	}
	if p, ok := protocols[line.Via]; ok {
		m.SocketProtocol = p.Enum()
	}
	if peer := line.Peer; peer.IsValid() {
		m.QueryAddress = peer.AsSlice()
		m.SocketFamily = family(peer).Enum()
	}
	out := &dnstap.Dnstap{Type: dnstap.Dnstap_MESSAGE.Enum(), Message: m}
	if l.o.Identity != "" {
		out.Identity = []byte(l.o.Identity)
	}
	if l.o.Version != "" {
		out.Version = []byte(l.o.Version)
	}
	return out
}

func family(a netip.Addr) dnstap.SocketFamily {
	if a.Is4() {
		return dnstap.SocketFamily_INET
	}
	return dnstap.SocketFamily_INET6
}
