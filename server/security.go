package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// secrets are what the configuration names by path, loaded.
type secrets struct {
	nbdTLS  *tls.Config
	httpTLS *tls.Config
	token   *token
}

// token is the bearer token of the API over TCP. Only its hash is kept, so that
// neither a comparison's time nor a printed struct tells it.
type token struct{ sum [sha256.Size]byte }

func newToken(text []byte) *token { return &token{sha256.Sum256(text)} }

func (t *token) matches(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1
}

// CheckFiles reads the certificates, keys and token the configuration names and
// returns every problem.
func (c *Config) CheckFiles() error {
	_, err := c.loadSecrets()
	return err
}

func (c *Config) loadSecrets() (s secrets, err error) {
	var errs [4]error
	s.nbdTLS, errs[0] = loadTLS("nbd.tls", c.NBD.TLS.Cert, c.NBD.TLS.Key, c.NBD.TLS.ClientCA)
	s.httpTLS, errs[1] = loadTLS("http.tls", c.HTTP.TLS.Cert, c.HTTP.TLS.Key, "")
	s.token, errs[2] = loadToken(c.API.TokenFile)
	if c.SFTPOn() && c.SFTP.HostKey != "" {
		_, errs[3] = c.loadHostKey(vfs.Default)
	}
	return s, errors.Join(errs[:]...)
}

// loadTLS is nil when no certificate is configured.
func loadTLS(section, cert, key, clientCA string) (*tls.Config, error) {
	if cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s.cert and %s.key: %w", section, section, err)
	}
	// 1.2 and not 1.3 because QEMU on long-lived distributions knows no better.
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if clientCA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, fmt.Errorf("%s.client-ca: %w", section, err)
	}
	t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s.client-ca: %s holds no certificate", section, clientCA)
	}
	return t, nil
}

// loadToken is nil when no token is configured.
func loadToken(path string) (*token, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("api.token-file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("api.token-file: %w", err)
	}
	if st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("api.token-file: everybody may open %s (mode %04o); chmod it to 0600", path, st.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, tokenFileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("api.token-file: %w", err)
	}
	if text = bytes.TrimSpace(text); len(text) < tokenBytesMin || len(text) > tokenFileBytesMax || bytes.ContainsAny(text, " \t\r\n") {
		return nil, fmt.Errorf("api.token-file: %s: want one line of %d characters or more without spaces; make one with: openssl rand -base64 32", path, tokenBytesMin)
	}
	return newToken(text), nil
}
