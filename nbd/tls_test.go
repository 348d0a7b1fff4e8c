package nbd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/nbd"
)

// authority is a certificate authority of a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate that is valid until the given time.
func (a *authority) issue(cn string, until time.Time) tls.Certificate {
	a.t.Helper()
	a.last++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(100 + a.last), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// dir writes a directory as QEMU and libnbd want it; without a certificate
// when cert is nil.
func (a *authority) dir(cert *tls.Certificate) string {
	a.t.Helper()
	dir := a.t.TempDir()
	write := func(name, kind string, der []byte) {
		b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	write("ca-cert.pem", "CERTIFICATE", a.cert.Raw)
	if cert != nil {
		key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			a.t.Fatal(err)
		}
		write("client-cert.pem", "CERTIFICATE", cert.Certificate[0])
		write("client-key.pem", "PRIVATE KEY", key)
	}
	return dir
}

// tlsWorld is a world that demands TLS with client certificates on TCP.
type tlsWorld struct {
	*world
	ca     *authority
	client tls.Certificate
}

func newTLSWorld(t testing.TB, change func(*nbd.Options)) *tlsWorld {
	t.Helper()
	ca := newAuthority(t)
	year := time.Now().Add(time.Hour)
	w := &tlsWorld{ca: ca, client: ca.issue("node-1", year)}
	w.world = newWorld(t, func(o *nbd.Options) {
		o.TLS = &tls.Config{
			Certificates: []tls.Certificate{ca.issue("server", year)},
			ClientCAs:    ca.pool(),
			ClientAuth:   tls.RequireAndVerifyClientCert,
		}
		o.ForceTLS = true
		if change != nil {
			change(o)
		}
	})
	return w
}

func (w *tlsWorld) config() *tls.Config {
	return &tls.Config{RootCAs: w.ca.pool(), Certificates: []tls.Certificate{w.client}, ServerName: "localhost"}
}

// secure does STARTTLS.
func (c *client) secure(cfg *tls.Config) *client {
	c.t.Helper()
	c.expect(optStartTLS, nil, repAck)
	t := tls.Client(c.Conn, cfg)
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.Conn = t
	return c
}

func (w *tlsWorld) uri(dir string) string {
	return fmt.Sprintf("nbds://%s/e?tls-certificates=%s", w.tcp, dir)
}

// qemu is the image option string of an export over TLS.
func (w *tlsWorld) qemu(dir string) []string {
	host, port, _ := net.SplitHostPort(w.tcp)
	return []string{
		"--object", "tls-creds-x509,id=tls0,endpoint=client,verify-peer=yes,dir=" + dir,
		"--image-opts", fmt.Sprintf("driver=nbd,host=%s,port=%s,export=e,tls-creds=tls0,tls-hostname=localhost", host, port),
	}
}

func TestTLSTools(t *testing.T) {
	w := newTLSWorld(t, nil)
	dir := w.ca.dir(&w.client)
	src := source(t)
	tool(t, "nbdcopy", "--flush", src, w.uri(dir))
	sameAs(t, w.world, src)
	dst := filepath.Join(t.TempDir(), "dst")
	tool(t, "nbdcopy", w.uri(dir), dst)
	tool(t, "cmp", src, dst)
	if out := tool(t, "nbdinfo", w.uri(dir)); !strings.Contains(out, "with TLS") {
		t.Errorf("nbdinfo: %s", out)
	}
	tool(t, "nbdinfo", "--list", w.uri(dir))
	if out := tool(t, "qemu-img", append([]string{"info"}, w.qemu(dir)...)...); !strings.Contains(out, "8 MiB") {
		t.Errorf("qemu-img info: %s", out)
	}
	if out := tool(t, "qemu-img", append([]string{"convert", "-O", "raw"}, append(w.qemu(dir), dst)...)...); out != "" {
		t.Errorf("qemu-img convert: %s", out)
	}
	tool(t, "cmp", src, dst)
	// QEMU can speak TLS on a unix socket as well.
	tool(t, "qemu-img", "info", "--object", "tls-creds-x509,id=tls0,endpoint=client,dir="+dir,
		"--image-opts", "driver=nbd,path="+w.unix+",export=e,tls-creds=tls0,tls-hostname=localhost")
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.closes {
		if e.Peer.Subject != "CN=node-1" || !strings.HasPrefix(e.Peer.TLS, "TLS 1.") {
			t.Errorf("peer %+v", e.Peer)
		}
	}
}

func TestTLSBadClients(t *testing.T) {
	w := newTLSWorld(t, nil)
	other := newAuthority(t)
	stranger := other.issue("node-1", time.Now().Add(time.Hour))
	expired := w.ca.issue("node-1", time.Now().Add(-time.Hour))
	strangerDir := w.ca.dir(&stranger)
	for name, dir := range map[string]string{
		"client signed by somebody else": strangerDir,
		"client expired":                 w.ca.dir(&expired),
		"client without certificate":     w.ca.dir(nil),
		"client that trusts another CA":  other.dir(&w.client),
	} {
		t.Run(name, func(t *testing.T) {
			failures := w.srv.Stats().HandshakeFailures
			if out, err := tryTool("nbdinfo", w.uri(dir)); err == nil {
				t.Errorf("nbdinfo got in: %s", out)
			}
			if out, err := tryTool("qemu-img", append([]string{"info"}, w.qemu(dir)...)...); err == nil {
				t.Errorf("qemu-img got in: %s", out)
			}
			eventually(t, "the failures are reported", func() bool {
				// A client that does not even find its certificate never comes.
				return w.srv.Stats().HandshakeFailures > failures || strings.Contains(name, "without")
			})
		})
	}
	if out, err := tryTool("nbdinfo", "nbd://"+w.tcp+"/e"); err == nil {
		t.Errorf("nbdinfo got in without TLS: %s", out)
	}
	for _, cfg := range []*tls.Config{
		{RootCAs: w.ca.pool(), ServerName: "localhost"},
		{RootCAs: w.ca.pool(), ServerName: "localhost", Certificates: []tls.Certificate{stranger}},
		{RootCAs: w.ca.pool(), ServerName: "localhost", Certificates: []tls.Certificate{expired}},
	} {
		// With TLS 1.3 the client believes that all is well until it reads.
		c := w.dialTCP().hello(fixed | noZeroes)
		c.expect(optStartTLS, nil, repAck)
		k := tls.Client(c.Conn, cfg)
		_ = k.Handshake()
		if _, err := k.Read(make([]byte, 1)); err == nil {
			t.Error("the server talked to a client without a good certificate")
		}
	}
	if n := w.disk.Opened.Load(); n != 0 {
		t.Errorf("%d devices opened", n)
	}
}

func TestTLSVersions(t *testing.T) {
	w := newTLSWorld(t, func(o *nbd.Options) { o.TLS.MinVersion = tls.VersionTLS10 })
	for v := uint16(tls.VersionTLS10); v <= tls.VersionTLS13; v++ {
		c := w.dialTCP().hello(fixed | noZeroes)
		c.expect(optStartTLS, nil, repAck)
		cfg := w.config()
		cfg.MinVersion, cfg.MaxVersion = v, v
		err := tls.Client(c.Conn, cfg).Handshake()
		if (err == nil) != (v >= tls.VersionTLS12) {
			t.Errorf("%s: %v", tls.VersionName(v), err)
		}
	}
}

func TestForcedTLSRefusesEverything(t *testing.T) {
	w := newTLSWorld(t, nil)
	c := w.dialTCP().hello(fixed | noZeroes)
	for _, tt := range []struct {
		id   uint32
		data []byte
	}{
		{optList, nil}, {optInfo, infoData("e")}, {optGo, infoData("e")}, {optGo, infoData("nope")},
		{optStructured, nil}, {optListMeta, metaData("e")}, {optSetMeta, metaData("e", "base:allocation")},
		{optExtended, nil}, {4711, []byte("data")}, {optList, []byte("bad")}, {optGo, []byte("bad")},
	} {
		c.expect(tt.id, tt.data, errTLSReqd)
	}
	c.secure(w.config())
	c.negotiateModern("e")
	c.alive()
	c.bye()

	w.dialTCP().hello(fixed).expect(optAbort, nil, repAck)
	for _, name := range []string{"e", "nope"} {
		c = w.dialTCP().hello(fixed | noZeroes)
		c.option(optExportName, []byte(name))
		c.gone()
	}
	// Without fixed newstyle there is no TLS, and so nothing at all.
	w.dialTCP().hello(0).gone()
	w.dialTCP().hello(noZeroes).gone()
	// A unix socket is guarded by its mode.
	w.modern("e").alive()
}

func TestTLSOptional(t *testing.T) {
	w := newTLSWorld(t, func(o *nbd.Options) { o.ForceTLS = false })
	c := w.dialTCP().modern("e")
	c.alive()
	c.bye()
	c = w.dialTCP().hello(fixed | noZeroes)
	c.expect(optGo, infoData("nope"), errUnknown)
	c.secure(w.config())
	c.expect(optGo, infoData("nope"), errUnknown)
	c.negotiateModern("e")
	c.alive()
	c = w.dial().hello(fixed | noZeroes).secure(w.config())
	c.negotiateModern("e")
	c.alive()
	// TLS is not possible for a client that is not fixed newstyle.
	w.dialTCP().hello(0).expect(optStartTLS, nil, errPolicy)
}

// What was agreed in the clear is forgotten.
func TestTLSForgetsNegotiation(t *testing.T) {
	w := newTLSWorld(t, func(o *nbd.Options) { o.ForceTLS = false })
	c := w.dialTCP().hello(fixed | noZeroes)
	c.expect(optStructured, nil, repAck)
	c.option(optSetMeta, metaData("e", "base:allocation"))
	c.answers(optSetMeta)
	c.secure(w.config())
	c.expect(optSetMeta, metaData("e", "base:allocation"), errInvalid)
	if g := c.enter(optInfo, "e"); g.flags&dfFlag != 0 {
		t.Error("structured replies survived STARTTLS")
	}
	c.expect(optStructured, nil, repAck)
	c.enter(optGo, "e")
	c.structured = true
	if o := c.do(cmdStatus, 0, 0, 100); o.errno != eINVAL {
		t.Errorf("BLOCK_STATUS with a context set before STARTTLS: errno %d", o.errno)
	}
	c.alive()
}

func TestTLSTwice(t *testing.T) {
	w := newTLSWorld(t, nil)
	c := w.dialTCP().hello(fixed | noZeroes)
	c.expect(optStartTLS, []byte("x"), errInvalid)
	c.secure(w.config())
	c.expect(optStartTLS, nil, errInvalid)
	c.expect(optStartTLS, []byte("x"), errInvalid)
	c.negotiateModern("e")
	c.alive()
}

// Plain bytes that somebody slips in behind STARTTLS must never be taken for
// something the client said under TLS.
func TestTLSInjection(t *testing.T) {
	w := newTLSWorld(t, nil)
	for _, extra := range [][]byte{
		cat([]byte("IHAVEOPT"), be32(optStructured), be32(0)),
		cat([]byte("IHAVEOPT"), be32(optStartTLS), be32(0)),
		{0x16},
		{0},
	} {
		c := w.dialTCP().hello(fixed | noZeroes)
		c.put([]byte("IHAVEOPT"), be32(optStartTLS), be32(0), extra)
		c.gone()
		// The same in two packets: then TLS itself must refuse it.
		c = w.dialTCP().hello(fixed | noZeroes)
		c.expect(optStartTLS, nil, repAck)
		c.put(extra)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		b := make([]byte, 100)
		if n, _ := c.Read(b); bytes.Contains(b[:n], be64(0x3e889045565a9)) {
			t.Errorf("option reply to plain bytes after STARTTLS: %x", b[:n])
		}
	}
	eventually(t, "all are reported", func() bool { return w.srv.Stats().HandshakeFailures == 8 })
}

func TestTLSHandshakeTimeout(t *testing.T) {
	w := newTLSWorld(t, func(o *nbd.Options) { o.Limits.HandshakeTimeout = 100 * time.Millisecond })
	c := w.dialTCP().hello(fixed | noZeroes)
	c.expect(optStartTLS, nil, repAck)
	c.gone()
}

func TestForceTLSNeedsTLS(t *testing.T) {
	if _, err := nbd.New(nbd.Options{Exports: &bigExports{}, ForceTLS: true}); err == nil {
		t.Error("ForceTLS without TLS accepted")
	}
}

// Large data in both directions at once.
func TestTLSBulk(t *testing.T) {
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newTLSWorld(t, nil)
		cfg := w.config()
		cfg.MaxVersion = max
		c := w.dialTCP().hello(fixed | noZeroes).secure(cfg)
		c.enter(optGo, "e")
		want := pattern(diskSize, byte(max))
		done := make(chan error, 1)
		var cookies []uint64
		for range 16 {
			c.cookie++
			cookies = append(cookies, c.cookie)
		}
		conn := c.Conn
		go func() {
			for i, cookie := range cookies {
				off := i * diskSize / 16
				b := cat(be32(0x25609513), be16(0), be16(cmdWrite), be64(cookie), be64(uint64(off)), be32(diskSize/16), want[off:off+diskSize/16])
				if _, err := conn.Write(b); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		for range cookies {
			if k := c.chunk(0); k.kind != cNone {
				t.Fatalf("chunk %+v", k)
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if o := c.must(cmdRead, 0, 0, diskSize); !bytes.Equal(o.data, want) {
			t.Error("data differ")
		}
		c.must(cmdFlush, 0, 0, 0)
		c.request(cmdDisc, 0, 0, 0)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("after DISC: %d %v", n, err)
		}
	}
}
