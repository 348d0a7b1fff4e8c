package sftp

import (
	"errors"
	"net"
	"testing"
	"time"
)

func TestAddressOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1": "fe80::/64",
	} {
		if got := addressOf(&net.TCPAddr{IP: net.ParseIP(addr), Port: 1, Zone: "eth0"}); got.String() != want {
			t.Errorf("%s counts as %v, want %s", addr, got, want)
		}
	}
	if addressOf(&net.UnixAddr{Name: "@"}).IsValid() || addressOf(nil).IsValid() {
		t.Error("what has no address has one")
	}
}

// TestCreditOfAnAddress lets time pass by hand.
func TestCreditOfAnAddress(t *testing.T) {
	l := newAddresses(Limits{NewPerSecond: 2, Burst: 20, ConnectionsPerAddress: 1000, Logins: 2000})
	key := addressOf(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)})
	now := time.Unix(1e9, 0)
	login := func(ok bool) error {
		if err := l.admit(key, now); err != nil {
			return err
		}
		l.loggedIn(key, ok, now)
		l.leave(key)
		return nil
	}
	for i := range 20 {
		if err := login(true); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if err := login(true); !errors.Is(err, errAddressRate) {
		t.Errorf("a connection without credit: %v", err)
	}
	now = now.Add(10 * time.Second) // 20 again
	failed := 0
	for ; login(false) == nil; failed++ {
	}
	if failed != 3 { // 1 + 8 each: 11, 2, -7
		t.Errorf("%d failed logins, want 3", failed)
	}
	now = now.Add(3 * time.Second) // -7 + 6
	if err := login(true); !errors.Is(err, errAddressRate) {
		t.Errorf("a connection in debt: %v", err)
	}
	now = now.Add(time.Second)
	if err := login(true); err != nil {
		t.Errorf("a connection with credit: %v", err)
	}
	now = now.Add(time.Hour)
	for range 20 {
		if err := l.admit(key, now); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 { // all at once: the debt is bounded
		l.loggedIn(key, false, now)
		l.leave(key)
	}
	now = now.Add(11 * time.Second) // -20 + 22
	if err := login(true); err != nil {
		t.Errorf("a connection long after many failures: %v", err)
	}
	if now = now.Add(time.Hour); !l.prune(now) || len(l.known) != 0 {
		t.Errorf("%d addresses are remembered for nothing", len(l.known))
	}
}

func TestAddressesAreBounded(t *testing.T) {
	l := newAddresses(Limits{NewPerSecond: 1, Burst: 10, ConnectionsPerAddress: 10, Logins: 10})
	now := time.Unix(1e9, 0)
	key := func(i int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))} }
	for i := range addressesMax {
		if err := l.admit(addressOf(key(i)), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.admit(addressOf(key(addressesMax)), now); err == nil || len(l.known) != addressesMax {
		t.Errorf("one more address: %v, %d are known", err, len(l.known))
	}
	l.loggedIn(addressOf(key(5)), true, now)
	l.leave(addressOf(key(5)))
	if err := l.admit(addressOf(key(addressesMax)), now.Add(time.Minute)); err != nil || len(l.known) != addressesMax {
		t.Errorf("one in place of another: %v, %d are known", err, len(l.known))
	}
}
