package child

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Address is one of [Addresses].
func Address() string { return Addresses(1)[0] }

// Addresses returns addresses of loopback, host:port, that are free for TCP and UDP.
// Their ports are below those that the kernel gives to whoever asks for any: one of
// these is somebody's connection by the time a server binds it, or binds it again.
func Addresses(n int) (out []string) {
	for tries := 0; len(out) < n; tries++ {
		if tries > 1000+10*n {
			panic(fmt.Sprintf("child: not %d ports of loopback are free", n))
		}
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000)))
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue // taken, maybe by the last one
		}
		defer func() { _ = l.Close() }() // all are held until the last is found
		if u, err := net.ListenPacket("udp", at); err == nil {
			_ = u.Close()
			out = append(out, at)
		}
	}
	return out
}
