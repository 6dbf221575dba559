package client

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// cache is the endpoints that worked or were found last, on disk, so that a
// client starts where no DNS answers. A file that cannot be read or written
// costs that, and nothing else.
type cache struct {
	path string // "" is none
	last []netip.AddrPort
}

// cacheFile is the content of endpoints.json.
type cacheFile struct {
	Endpoints []string `json:"endpoints"` // host:port, best first
}

const maxCacheFile = 16 << 10 // bytes

func openCache(dir string) *cache {
	if dir == "" {
		return &cache{}
	}
	return &cache{path: filepath.Join(dir, "endpoints.json")}
}

// load returns what was stored, at most maxKnown.
func (c *cache) load() []netip.AddrPort {
	if c.path == "" {
		return nil
	}
	b, err := os.ReadFile(c.path)
	if err != nil {
		return nil
	}
	c.last = decodeCache(b)
	return slices.Clone(c.last)
}

func decodeCache(b []byte) []netip.AddrPort {
	var f cacheFile
	if len(b) > maxCacheFile || json.Unmarshal(b, &f) != nil {
		return nil
	}
	ends := parseEndpoints(f.Endpoints)
	return ends[:min(len(ends), maxKnown)]
}

// store keeps the endpoints when they are not what was stored last.
func (c *cache) store(ends []netip.AddrPort) error {
	if c.path == "" || slices.Equal(ends, c.last) {
		return nil
	}
	f := cacheFile{Endpoints: []string{}}
	for _, e := range ends {
		f.Endpoints = append(f.Endpoints, e.String())
	}
	b, err := json.Marshal(f)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(c.path), 0o700)
	}
	if err == nil {
		err = writeFile(c.path, append(b, '\n'), false)
	}
	if err == nil {
		c.last = slices.Clone(ends)
	}
	return err
}
