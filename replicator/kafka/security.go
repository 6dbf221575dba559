package kafka

import (
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// SCRAM is a name and a password that brokers ask for (RFC 5802). The password
// never crosses the wire; without TLS, though, what is copied does.
type SCRAM struct {
	Mechanism string // SCRAM-SHA-512, also when empty, or SCRAM-SHA-256
	User      string
	Password  string
}

// mechanism returns it as the library wants it; nil for nil. Errors: an unknown
// mechanism, or characters that RFC 4013 forbids.
func (s *SCRAM) mechanism() (sasl.Mechanism, error) {
	if s == nil {
		return nil, nil
	}
	algorithm := scram.SHA512
	switch strings.ToUpper(s.Mechanism) {
	case "", scram.SHA512.Name():
	case scram.SHA256.Name():
		algorithm = scram.SHA256
	default:
		return nil, fmt.Errorf("kafka: SASL mechanism %q: want %s or %s", s.Mechanism, scram.SHA512.Name(), scram.SHA256.Name())
	}
	m, err := scram.Mechanism(algorithm, s.User, s.Password)
	if err != nil {
		return nil, fmt.Errorf("kafka: the user or password cannot be used with SCRAM: %w", err)
	}
	return m, nil
}

// reasonEvery is how often the reason of a refusal is looked for, at most.
const reasonEvery = 5 * time.Second

// reason finds out why no broker can be had: the library says nothing more than
// that when TLS or the password fails. It connects once more to look; nil when
// it is none of these, or was looked for just now.
func (q *Queue) reason() error {
	if q.options.TLS == nil && q.options.SCRAM == nil {
		return nil
	}
	q.mu.Lock()
	recent := time.Since(q.reasoned) < reasonEvery
	if !recent {
		q.reasoned, q.why = time.Now(), nil
	}
	why := q.why
	q.mu.Unlock()
	if recent {
		return why
	}
	d := kafka.Dialer{ClientID: q.options.ClientID, Timeout: 3 * time.Second, DialFunc: q.dial, TLS: q.options.TLS, SASLMechanism: q.transport.SASL}
	broker, _, _ := strings.Cut(q.options.Brokers[0], ",")
	c, err := d.Dial("tcp", broker)
	if err == nil {
		err = c.Close()
	}
	if err != nil {
		why = fmt.Errorf("%s: %w", broker, err)
	}
	q.mu.Lock()
	q.why = why
	q.mu.Unlock()
	return why
}
