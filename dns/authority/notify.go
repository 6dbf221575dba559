package authority

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	notifyLook  = 500 * time.Millisecond // between two looks at the zones' serials
	notifyWait  = 2 * time.Second        // for a secondary's answer; doubled after each try
	notifyTries = 5                      // after which the secondary's own refresh has to do
)

// notify tells the secondaries of every new serial (RFC 1996), until the server
// is closed. A serial that changes meanwhile is told about next.
func (s *Server) notify(secondaries []netip.AddrPort) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.stop
		cancel()
	}()
	told := map[string]uint32{}
	look := time.NewTicker(notifyLook)
	defer look.Stop()
	for ctx.Err() == nil {
		var asking sync.WaitGroup
		for zone, serial := range s.serials() {
			if was, known := told[zone]; known && was == serial {
				continue
			}
			told[zone] = serial
			for _, to := range secondaries {
				asking.Go(func() { s.notifyOne(ctx, zone, to) })
			}
		}
		asking.Wait()
		select {
		case <-look.C:
		case <-ctx.Done():
		}
	}
}

// notifyOne tells one secondary of one zone until it answers.
func (s *Server) notifyOne(ctx context.Context, zone string, to netip.AddrPort) {
	wait := notifyWait
	var err error
	for range notifyTries {
		if err = s.tell(ctx, zone, to, wait); err == nil || ctx.Err() != nil {
			return
		}
		wait *= 2
	}
	s.log.Warn("a secondary does not answer; it has the old zone until it asks by itself", "zone", zone, "secondary", to, "err", err)
}

// tell sends one NOTIFY and waits for its answer.
func (s *Server) tell(ctx context.Context, zone string, to netip.AddrPort, wait time.Duration) error {
	m := new(dns.Msg)
	m.SetNotify(zone)
	var packed []byte
	var err error
	if len(s.o.TransferKeys) > 0 {
		key := &s.o.TransferKeys[0]
		m.SetTsig(dns.CanonicalName(key.Name), tsigAlgorithm, tsigFudge, time.Now().Unix())
		packed, _, err = dns.TsigGenerate(m, key.secret(), "", false)
	} else {
		packed, err = m.Pack()
	}
	if err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := conn.Write(packed); err != nil {
		return err
	}
	answer := make([]byte, udpRead)
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return pause(ctx, err, wait)
		}
		var got dns.Msg
		if got.Unpack(answer[:n]) == nil && got.Id == m.Id && got.Response && got.Opcode == dns.OpcodeNotify {
			return nil
		}
	}
}

// pause waits where an error came at once, as from a port where nobody listens.
func pause(ctx context.Context, err error, wait time.Duration) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return err
}
