package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// PKI is a directory with a certificate authority's certificate and those of
// one server and one client, under the names QEMU and libnbd look for.
type PKI struct{ Dir string }

// CA, ServerCert and ServerKey are paths of PEM files.
func (p PKI) CA() string         { return filepath.Join(p.Dir, "ca-cert.pem") }
func (p PKI) ServerCert() string { return filepath.Join(p.Dir, "server-cert.pem") }
func (p PKI) ServerKey() string  { return filepath.Join(p.Dir, "server-key.pem") }

// Settings are the server's settings that demand this PKI's client certificates.
func (p PKI) Settings() []string {
	return []string{"nbd.tls.cert=" + p.ServerCert(), "nbd.tls.key=" + p.ServerKey(), "nbd.tls.client-ca=" + p.CA()}
}

// NewPKI makes an authority and its certificates for 127.0.0.1 in dir.
func NewPKI(dir string) (PKI, error) {
	p := PKI{dir}
	caKey, err := newKey()
	if err != nil {
		return p, err
	}
	ca := certificate(1, "Strongroom test authority")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	server := certificate(2, "localhost")
	server.DNSNames, server.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client := certificate(3, "compute-node-1")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return p, errors.Join(
		os.MkdirAll(dir, 0o700),
		p.issue("ca", ca, caKey, ca, caKey),
		p.issue("server", server, nil, ca, caKey),
		p.issue("client", client, nil, ca, caKey))
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func certificate(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// issue signs a certificate and writes it, and its key, as name-cert.pem and
// name-key.pem. A nil key is made.
func (p PKI) issue(name string, c *x509.Certificate, key *ecdsa.PrivateKey, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (err error) {
	if key == nil {
		if key, err = newKey(); err != nil {
			return err
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		p.write(name+"-cert.pem", "CERTIFICATE", der),
		p.write(name+"-key.pem", "PRIVATE KEY", keyDER))
}

func (p PKI) write(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(p.Dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
