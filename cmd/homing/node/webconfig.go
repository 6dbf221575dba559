package node

import (
	"path"
	"strings"
)

// validateWeb checks who may use the node's pages from where.
func (c *Config) validateWeb() error {
	if len(c.ConsoleHosts) > 0 && !c.Has(RoleConsole) {
		return wrongf("consoleHosts", "consoleHosts is for the role console")
	}
	for _, h := range c.ConsoleHosts {
		if h == "" || strings.ContainsAny(h, ":/*[]@ ") {
			return wrongf("consoleHosts", "consoleHosts %q: want a host name such as console.example.com, without scheme or port", h)
		}
	}
	if len(c.Origins) > 0 && !c.Has(RoleRegion) && !c.Has(RoleAccess) {
		return wrongf("origins", "origins is for the roles region and access")
	}
	for _, o := range c.Origins {
		_, err := path.Match(o, "")
		if err != nil || o == "" || strings.ContainsAny(o, "/@ ") || strings.Trim(o, "*.:?") == "" {
			return wrongf("origins", "origins %q: want a host such as chat.example.com or *.example.com, without scheme", o)
		}
	}
	return nil
}
