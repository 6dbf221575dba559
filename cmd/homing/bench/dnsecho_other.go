//go:build !linux || (!amd64 && !arm64)

package bench

import (
	"context"
	"net"
)

// echo sends every packet back.
func echo(ctx context.Context, at string) error {
	conn, err := net.ListenPacket("udp4", at)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	b := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return nil
		}
		_, _ = conn.WriteTo(b[:n], from)
	}
}
