package authority

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/homing-im/homing/dns/steer"
)

// QueryLog keeps questions. One goroutine calls its methods, which may block. An
// error costs the line.
type QueryLog interface {
	// Log takes a question with its messages, which are the log's own; there are
	// none over HTTPDNS, and no answer when none was given. The line may wait for
	// others until Flush.
	Log(line LogLine, query, answer []byte) error
	// Flush is called when no more lines wait.
	Flush() error
}

// LogLine is a question with what became of it, as the query log has it.
type LogLine struct {
	At      time.Time  `json:"at"`
	Via     string     `json:"via"`              // udp, tcp, dot, doh, doq, http
	Peer    netip.Addr `json:"peer"`             // who asked
	Client  string     `json:"client,omitempty"` // the network that the question stated
	Name    string     `json:"name,omitempty"`   // in lower case; empty when it could not be read
	Type    string     `json:"type,omitempty"`
	Rcode   string     `json:"rcode"` // empty when nothing was answered
	Rule    string     `json:"rule,omitempty"`
	Answers int        `json:"answers"`
	Bytes   int        `json:"bytes"` // of the answer
	Every   uint64     `json:"every"` // the line stands for so many questions
}

const (
	// logQueue is the number of lines that wait for the writer; then lines are dropped.
	logQueue = 4096
	// countedAll is the number of questions in a second that a worker counts one by
	// one for the top talkers. Of the others it counts every countedOne'th, as many.
	countedAll = 256
	countedOne = 256
)

// sampler says which questions are looked at closer. It is one worker's.
type sampler struct {
	every  uint64 // one line of the log for so many questions; 0 is no log
	n      uint64
	second uint32
	rest   uint64 // questions of this second
}

// due counts a question. weight is how many the top talkers take it for, 0 for
// none.
func (s *sampler) due(now uint32) (weight uint64, log bool) {
	if s.every > 0 {
		if s.n++; s.n >= s.every {
			s.n, log = 0, true
		}
	}
	if s.second != now {
		s.second, s.rest = now, 0
	}
	s.rest++
	switch {
	case s.rest <= countedAll:
		return 1, log
	case s.rest%countedOne == 0:
		return countedOne, log
	}
	return 0, log
}

// observe takes note of a packet and its answer, which may be nil.
func (s *Server) observe(packet, out []byte, peer netip.Addr, via transport, rule string, weight uint64, log bool) {
	q, _, _, _ := parse(packet)
	client, name := peerNetwork(peer), ""
	if q.subnet != nil && q.subnet.source > 0 && q.subnet.prefix.IsValid() {
		client = peerNetwork(q.subnet.prefix.Addr())
	}
	if q.asked {
		name = dns.CanonicalName(q.name)
	}
	if weight > 0 {
		s.talkers.add(s.now(), peer, client, name, weight)
	}
	if !log {
		return
	}
	line := LogLine{At: s.now(), Via: string(via), Peer: peer.Unmap(), Name: name, Rule: rule, Bytes: len(out), Every: s.o.LogEvery}
	if q.subnet != nil && q.subnet.prefix.IsValid() {
		line.Client = q.subnet.prefix.String()
	}
	if q.asked {
		line.Type = dns.Type(q.qtype).String()
	}
	if len(out) >= headerLen {
		line.Rcode, line.Answers = rcodeName(int(out[3]&0xf)), int(binary.BigEndian.Uint16(out[6:]))
	}
	s.logLine(logged{line, bytes.Clone(packet), bytes.Clone(out)})
}

// observeHTTP takes note of a question over HTTPDNS.
func (s *Server) observeHTTP(ask ask, a steer.Answer) {
	s.slow.mu.Lock()
	weight, log := s.slow.due(s.unix())
	s.slow.mu.Unlock()
	if weight > 0 || log {
		s.observeReply(ask.host, ask.client.Prefix, a.Rule, len(a.Endpoints), weight, log)
	}
}

// observeReply takes note of an answer of HTTPDNS.
func (s *Server) observeReply(host string, client netip.Prefix, rule string, members int, weight uint64, log bool) {
	peer, name := client.Addr(), dns.CanonicalName(host)
	if weight > 0 {
		s.talkers.add(s.now(), peer, peerNetwork(peer), name, weight)
	}
	if log {
		s.logLine(logged{LogLine: LogLine{At: s.now(), Via: string(overHTTP), Peer: peer, Client: client.String(), Name: name,
			Rcode: rcodeName(dns.RcodeSuccess), Rule: rule, Answers: members, Every: s.o.LogEvery}})
	}
}

// logged is a line on its way to the log.
type logged struct {
	LogLine
	query, answer []byte
}

func (s *Server) logLine(line logged) {
	select {
	case s.lines <- line:
	default:
		s.metrics.logDropped.Inc()
	}
}

// writeLog writes lines until the server is closed, then those that wait.
func (s *Server) writeLog() {
	failed := false
	write := func(line logged) {
		err := s.o.QueryLog.Log(line.LogLine, line.query, line.answer)
		if err == nil && len(s.lines) == 0 {
			err = s.o.QueryLog.Flush()
		}
		if err != nil {
			s.metrics.logDropped.Inc()
			if !failed {
				s.log.Error("the query log cannot be written; its lines are dropped", "err", err)
			}
		}
		failed = err != nil
	}
	for {
		select {
		case line := <-s.lines:
			write(line)
		case <-s.stop:
			for {
				select {
				case line := <-s.lines:
					write(line)
				default:
					return
				}
			}
		}
	}
}

// jsonLog has a line of JSON for each question.
type jsonLog struct {
	to  io.Writer
	w   *bufio.Writer
	enc *json.Encoder
}

// NewJSONLog returns a query log that writes each [LogLine] as JSON.
func NewJSONLog(to io.Writer) QueryLog {
	w := bufio.NewWriterSize(to, 64<<10)
	return &jsonLog{to: to, w: w, enc: json.NewEncoder(w)}
}

func (l *jsonLog) Log(line LogLine, _, _ []byte) error { return l.retry(l.enc.Encode(line)) }
func (l *jsonLog) Flush() error                        { return l.retry(l.w.Flush()) }

// retry forgets an error of the writer: a disk that was full may have room again.
func (l *jsonLog) retry(err error) error {
	if err != nil {
		l.w.Reset(l.to)
	}
	return err
}
