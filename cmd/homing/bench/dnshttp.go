package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
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
	at, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := startSelf(kind, o)(dir, at)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	server.pin(0)
	transport := &http.Transport{MaxIdleConnsPerHost: httpClients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	for end := time.Now().Add(20 * time.Second); ; {
		if err = get(ctx, client, at, 0); err == nil {
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
	if _, err := fetchAll(ctx, client, at, 300*time.Millisecond); err != nil {
		return nil, err
	}
	before, err := server.cpu()
	if err != nil {
		return nil, err
	}
	run, err := fetchAll(ctx, client, at, o.Duration)
	if err != nil {
		return nil, err
	}
	after, err := server.cpu()
	run.cpu, run.rss = after-before, server.rss()
	return run, err
}

func fetchAll(ctx context.Context, client *http.Client, at netip.AddrPort, d time.Duration) (*dnsRun, error) {
	began := time.Now()
	var answered atomic.Uint64
	errs := make(chan error, httpClients)
	var wg sync.WaitGroup
	for c := range httpClients {
		wg.Go(func() {
			for i := c; time.Since(began) < d; i += httpClients {
				if err := get(ctx, client, at, i); err != nil {
					errs <- err
					return
				}
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	run := &dnsRun{took: time.Since(began), asked: answered.Load(), answered: answered.Load()}
	select {
	case err := <-errs:
		return run, err
	default:
		return run, nil
	}
}

func get(ctx context.Context, client *http.Client, at netip.AddrPort, i int) error {
	url := fmt.Sprintf("http://%s/d?host=%s&ip=223.%d.%d.1", at, benchName, i>>8&255, i&255)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
