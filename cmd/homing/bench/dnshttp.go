package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// httpClients keep a connection each.
const httpClients = 16

// measureHTTP asks HTTPDNS and a constant handler in turn.
func measureHTTP(ctx context.Context, dir string, o DNSOptions) (*DNSHTTP, error) {
	runs := map[string][]*dnsRun{}
	for range o.Rounds {
		for _, kind := range []string{kindHTTP, kindConstant} {
			run, err := httpRun(ctx, dir, kind, o)
			if err != nil {
				return nil, err
			}
			runs[kind] = append(runs[kind], run)
		}
	}
	a, b := summary(runs[kindHTTP]), summary(runs[kindConstant])
	return &DNSHTTP{
		PerSecond: a.PerSecond, ConstantPerSecond: b.PerSecond, Ratio: a.PerSecond / b.PerSecond,
		CPUMicros: a.CPUMicros, ConstantCPUMicros: b.CPUMicros,
	}, nil
}

func httpRun(ctx context.Context, dir, kind string, o DNSOptions) (*dnsRun, error) {
	at := freePorts(1)[0]
	server, err := startSelf(kind, o)(dir, at)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	server.pin(0, 0)
	for end := time.Now().Add(20 * time.Second); ; {
		if _, err = fetchAll(ctx, at, 0); err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return nil, fmt.Errorf("%w: %s", err, server.said())
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	if _, err := fetchAll(ctx, at, 300*time.Millisecond); err != nil {
		return nil, err
	}
	before, err := server.cpu()
	if err != nil {
		return nil, err
	}
	run, err := fetchAll(ctx, at, o.Duration)
	if err != nil {
		return nil, err
	}
	after, err := server.cpu()
	run.cpu, run.rss = after-before, server.rss()
	return run, err
}

// fetchAll asks for some time over connections that it keeps, each at least once.
func fetchAll(ctx context.Context, at netip.AddrPort, d time.Duration) (*dnsRun, error) {
	began := time.Now()
	runs, errs := make([]uint64, httpClients), make([]error, httpClients)
	var wg sync.WaitGroup
	for c := range httpClients {
		wg.Go(func() { runs[c], errs[c] = askOver(ctx, at, c, began.Add(d)) })
	}
	wg.Wait()
	run := &dnsRun{took: time.Since(began)}
	for _, n := range runs {
		run.asked, run.answered = run.asked+n, run.answered+n
	}
	return run, errors.Join(errs...)
}

// askOver asks over one connection until a time. It reads no more of an answer
// than where it ends: a client of net/http would cost more than the server.
func askOver(ctx context.Context, at netip.AddrPort, first int, end time.Time) (n uint64, err error) {
	conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(end.Add(5 * time.Second)); err != nil {
		return 0, err
	}
	in := bufio.NewReader(conn)
	var ask []byte
	for i := first; ctx.Err() == nil; i += httpClients {
		ask = fmt.Appendf(ask[:0], "GET /d?host=%s&ip=223.%d.%d.1 HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept-Encoding: gzip\r\n\r\n", benchName, i>>8&255, i&255, at)
		if _, err := conn.Write(ask); err != nil {
			return n, err
		}
		if err := skipAnswer(in); err != nil {
			return n, err
		}
		n++
		if !time.Now().Before(end) {
			break
		}
	}
	return n, ctx.Err()
}

// skipAnswer reads an answer of HTTP/1.1 that says its length.
func skipAnswer(in *bufio.Reader) error {
	length := -1
	for line := 0; ; line++ {
		b, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch text, isLength := bytes.CutPrefix(b, []byte("Content-Length: ")); {
		case line == 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("answered %q", b)
		case isLength:
			if length, err = strconv.Atoi(string(bytes.TrimSpace(text))); err != nil {
				return err
			}
		case len(b) == 2: // the empty line
			if length < 0 {
				return errors.New("answered without a length")
			}
			_, err := in.Discard(length)
			return err
		}
	}
}
