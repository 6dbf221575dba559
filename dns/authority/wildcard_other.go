//go:build !linux

package authority

import (
	"errors"
	"net"
)

const controlLen = 0

// askDestinations cannot: see wildcard_linux.go for what it is for.
func askDestinations(*net.UDPConn) error {
	return errors.New("destinations of packets are known on Linux only")
}

func sourceFor([]byte) []byte { return nil }
