package region

import (
	"net"
	"net/netip"
)

// AdminURL is the base URL of the admin listener at host:port. On loopback it is
// plain HTTP: whoever can listen in there can read the keys too. Everywhere else
// it is HTTPS, on which both sides show certificates (package peer).
func AdminURL(hostport string) string {
	if Loopback(hostport) {
		return "http://" + hostport
	}
	return "https://" + hostport
}

// Loopback says whether host:port is on this machine, whoever asks.
func Loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
