//go:build !linux || (!amd64 && !arm64)

package bench

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

func paced(context.Context, netip.AddrPort, [][]byte, time.Duration, float64) (*dnsRun, error) {
	return nil, errors.ErrUnsupported
}
