package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: "+format, append([]any{key}, args...)...))
}

// Validate returns every problem of the values, joined. It reads no file but
// looks at no value alone that makes sense only with another.
func (c *Config) Validate() error {
	var p problems
	if c.Data == "" {
		p.add("data", "want the path of the data directory")
	}
	p.duration("drain-timeout", c.DrainTimeout, time.Second, time.Hour)
	c.validateNBD(&p)
	c.validateSFTP(&p)
	c.validateHTTP(&p)
	c.validateStore(&p)
	c.validateBackup(&p)
	c.validateLife(&p)
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "text", "json")
	return errors.Join(p...)
}

func (c *Config) validateNBD(p *problems) {
	n := c.NBD
	p.listen("nbd.listen", n.Listen)
	if n.Advertise != "" {
		p.address("nbd.advertise", n.Advertise)
	}
	p.socket("nbd.socket", c.NBDSocket())
	p.pair("nbd.tls.cert", n.TLS.Cert, "nbd.tls.key", n.TLS.Key)
	if n.TLS.ClientCA != "" && n.TLS.Cert == "" {
		p.add("nbd.tls.client-ca", "needs nbd.tls.cert and nbd.tls.key")
	}
	secured := n.TLS.Cert != "" && n.TLS.ClientCA != "" && n.TLS.Force
	if isPublic(n.Listen) && !secured && !n.AllowInsecurePublic {
		p.add("nbd.listen", "%s can be reached from other hosts, and every client could read every backup: "+
			"set nbd.tls.cert, nbd.tls.key and nbd.tls.client-ca and keep nbd.tls.force true, listen on a loopback address, "+
			"or accept the danger with nbd.allow-insecure-public: true", n.Listen)
	}
	p.integer("nbd.max-connections", n.MaxConnections, 1, 65536)
	p.size("nbd.buffer-memory", n.BufferMemory, bufferMemoryMin, bufferMemoryMax)
	p.duration("nbd.handshake-timeout", n.HandshakeTimeout, time.Second, 10*time.Minute)
	p.duration("nbd.stall-timeout", n.StallTimeout, time.Second, time.Hour)
}

func (c *Config) validateHTTP(p *problems) {
	h := c.HTTP
	p.socket("api.socket", c.APISocket())
	if c.APISocket() != "" && c.APISocket() == c.NBDSocket() {
		p.add("api.socket", "is also nbd.socket; they must differ")
	}
	p.listen("http.listen", h.Listen)
	p.pair("http.tls.cert", h.TLS.Cert, "http.tls.key", h.TLS.Key)
	secured := h.TLS.Cert != "" && c.API.TokenFile != ""
	if isPublic(h.Listen) && !secured && !h.AllowInsecurePublic {
		p.add("http.listen", "%s can be reached from other hosts: set http.tls.cert, http.tls.key and api.token-file, "+
			"listen on a loopback address, or accept the danger with http.allow-insecure-public: true", h.Listen)
	}
	if c.APISocket() == "" && (h.Listen == None || c.API.TokenFile == "") {
		p.add("api.socket", "is none, so backups could be started only over http.listen with api.token-file, and one of these is not set")
	}
}

func (c *Config) validateStore(p *problems) {
	p.size("store.reserve", c.Store.Reserve, 0, units.PiB)
	p.size("store.index-cache", c.Store.IndexCache, cacheMin, cacheMax)
	p.size("store.catalog-cache", c.Store.CatalogCache, cacheMin, cacheMax)
	p.size("store.toc-cache", c.Store.TOCCache, cacheMin, cacheMax)
	p.size("store.read-cache", c.Store.ReadCache, cacheMin, cacheMax)
}

func (c *Config) validateBackup(p *problems) {
	b := c.Backup
	p.duration("backup.max-ttl", b.MaxTTL, time.Second, 90*units.Day)
	if b.TTL < units.Duration(time.Second) || b.TTL > b.MaxTTL {
		p.add("backup.ttl", "is %v; want 1s to backup.max-ttl (%v)", b.TTL, b.MaxTTL)
	}
}

func (p *problems) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(key, "is %.40q; want one of %v", value, allowed)
	}
}

func (p *problems) integer(key string, v, low, high int) {
	if v < low || v > high {
		p.add(key, "is %d; want %d to %d", v, low, high)
	}
}

func (p *problems) size(key string, v, low, high units.Size) {
	if v < low || v > high {
		p.add(key, "is %v; want %v to %v", v, low, high)
	}
}

func (p *problems) duration(key string, v units.Duration, low, high time.Duration) {
	if v < units.Duration(low) || v > units.Duration(high) {
		p.add(key, "is %v; want %v to %v", v, units.Duration(low), units.Duration(high))
	}
}

func (p *problems) pair(keyA, a, keyB, b string) {
	if (a == "") != (b == "") {
		p.add(keyA, "and %s belong together; one of them is not set", keyB)
	}
}

func (p *problems) socket(key, path string) {
	if len(path) > unixPathMax {
		p.add(key, "%s is %d bytes long; a unix socket's path has at most %d: set %s to a shorter path", filepath.Base(path), len(path), unixPathMax, key)
	}
}

func (p *problems) listen(key, address string) {
	if address != None {
		p.address(key, address)
	}
}

func (p *problems) address(key, address string) {
	_, port, err := net.SplitHostPort(address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
		p.add(key, "is %.80q; want host:port with a port of 0 to 65535, such as 127.0.0.1:10809", address)
	}
}

// isPublic reports whether an address to listen on is reachable from elsewhere.
// A host name other than localhost counts as reachable: what it resolves to can
// change.
func isPublic(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || address == None || host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.IsLoopback()
}
