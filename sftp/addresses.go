package sftp

import (
	"net"
	"net/netip"
	"time"
)

// addresses bound what one address can ask of the server. A connection costs
// one of the address's credit and a failed login failedLogin more, so that
// guessing is slow however many connections it is spread over. The server's mu
// guards it.
type addresses struct {
	perAddress, logins int
	rate, burst        float64 // credit per second, and at most
	known              map[netip.Prefix]*address
}

type address struct {
	open, loggingIn int
	credit          float64 // at the time at; down to -burst after failed logins
	at              time.Time
}

func newAddresses(l Limits) addresses {
	return addresses{
		perAddress: l.ConnectionsPerAddress,
		logins:     max(1, l.Logins/2),
		rate:       l.NewPerSecond,
		burst:      float64(l.Burst),
		known:      make(map[netip.Prefix]*address),
	}
}

// addressOf is what counts as one address: an IPv4 address or an IPv6 /64, which
// is what one customer gets. All that is neither is one.
func addressOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// admit takes a connection into account, or says why it is not taken.
func (l *addresses) admit(key netip.Prefix, now time.Time) error {
	a := l.known[key]
	if a == nil {
		if len(l.known) >= addressesMax && !l.prune(now) {
			return errAddressRate
		}
		a = &address{credit: l.burst, at: now}
		l.known[key] = a
	}
	l.refill(a, now)
	switch {
	case a.open >= l.perAddress, a.loggingIn >= l.logins:
		return errAddressFull
	case a.credit < 1:
		return errAddressRate
	}
	a.credit--
	a.open++
	a.loggingIn++
	return nil
}

func (l *addresses) refill(a *address, now time.Time) {
	a.credit = min(l.burst, a.credit+l.rate*max(0, now.Sub(a.at).Seconds()))
	a.at = now
}

// loggedIn notes the end of a login.
func (l *addresses) loggedIn(key netip.Prefix, ok bool, now time.Time) {
	a := l.known[key]
	a.loggingIn--
	if !ok {
		l.refill(a, now)
		a.credit = max(a.credit-failedLogin, -l.burst)
	}
}

// leave notes the end of a connection.
func (l *addresses) leave(key netip.Prefix) { l.known[key].open-- }

// prune forgets addresses of which there is nothing to remember, and says
// whether there is room now.
func (l *addresses) prune(now time.Time) bool {
	for key, a := range l.known {
		if l.refill(a, now); a.open == 0 && a.credit >= l.burst {
			delete(l.known, key)
		}
	}
	return len(l.known) < addressesMax
}
