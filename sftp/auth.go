package sftp

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// Methods, as figures and events name them.
const (
	methodKey         = "key"
	methodCertificate = "certificate"
	methodPassword    = "password"
)

// serverVersion is the line clients are greeted with.
const serverVersion = "SSH-2.0-Strongroom"

// algorithms are offered in this order, but the client's order wins. AES-GCM
// alone: both ends do it in hardware, several times as fast as the others.
var algorithms = ssh.Config{
	KeyExchanges: []string{
		ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519,
		ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
	},
	Ciphers: []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM},
	MACs:    []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
}

// authority checks what can be checked without knowing the users, and asks the
// Authenticator the rest.
type authority struct {
	hostKey    ssh.Signer
	users      Authenticator
	cas        []string // the keys in wire form
	principals func(user string) []string
	passwords  bool
	now        func() time.Time
}

func newAuthority(o Options) authority {
	a := authority{hostKey: o.HostKey, users: o.Auth, principals: o.Principals, passwords: o.Passwords, now: o.Now}
	if a.principals == nil {
		a.principals = func(user string) []string { return []string{user} }
	}
	for _, ca := range o.TrustedCAs {
		a.cas = append(a.cas, string(ca.Marshal()))
	}
	return a
}

// granted is what a method that would let in leaves in the Permissions. Only
// those of the method that was accepted come out of the handshake, so nothing
// else decides who the client is.
type granted struct {
	login            *Login
	method, identity string
}

type grantedKey struct{}

func (g *granted) permissions(critical map[string]string) *ssh.Permissions {
	return &ssh.Permissions{CriticalOptions: critical, ExtraData: map[any]any{grantedKey{}: g}}
}

var errNoLogin = errors.New("the authenticator returned no login")

// config is the SSH server's configuration for one connection.
func (a *authority) config(c *conn) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		Config:                  algorithms,
		PublicKeyAuthAlgorithms: ssh.SupportedAlgorithms().PublicKeyAuths,
		MaxAuthTries:            triesMax,
		ServerVersion:           serverVersion,
		PublicKeyCallback: func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if cert, ok := key.(*ssh.Certificate); ok {
				return a.certificate(m.User(), cert, c)
			}
			return a.key(m.User(), key, c)
		},
		AuthLogCallback: func(m ssh.ConnMetadata, method string, err error) { c.tried(m.User(), method, err) },
	}
	if a.passwords {
		config.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return a.password(m.User(), password, c)
		}
	}
	config.AddHostKey(a.hostKey)
	return config
}

func (a *authority) key(user string, key ssh.PublicKey, c *conn) (*ssh.Permissions, error) {
	c.method = methodKey
	login, err := a.users.Key(user, key, c.conn())
	g, err := grant(login, err, methodKey, ssh.FingerprintSHA256(key))
	if err != nil {
		return nil, err
	}
	return g.permissions(nil), nil
}

// certificate accepts one of a trusted authority. The source-address in it is
// handed on, and the SSH library enforces it.
func (a *authority) certificate(user string, cert *ssh.Certificate, c *conn) (*ssh.Permissions, error) {
	c.method = methodCertificate
	if err := a.checkCertificate(user, cert); err != nil {
		return nil, err
	}
	identity := fmt.Sprintf("%s %s serial %d", printable(cert.KeyId), ssh.FingerprintSHA256(cert.Key), cert.Serial)
	login, err := a.users.Certificate(user, cert, c.conn())
	g, err := grant(login, err, methodCertificate, identity)
	if err != nil {
		return nil, err
	}
	return g.permissions(cert.CriticalOptions), nil
}

func (a *authority) checkCertificate(user string, cert *ssh.Certificate) error {
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{"source-address"},
		Clock:                    a.now,
	}
	switch {
	case cert.CertType != ssh.UserCert:
		return errors.New("the certificate is not a user's")
	case !slices.Contains(a.cas, string(cert.SignatureKey.Marshal())):
		return fmt.Errorf("the certificate is signed by %s, which is not trusted", ssh.FingerprintSHA256(cert.SignatureKey))
	case len(cert.ValidPrincipals) == 0:
		return errors.New("the certificate names no principals; one for everybody is not accepted")
	}
	for _, principal := range a.principals(user) {
		if slices.Contains(cert.ValidPrincipals, principal) {
			return checker.CheckCert(principal, cert)
		}
	}
	return fmt.Errorf("none of the certificate's principals may log in as %s", printable(user))
}

// password answers a refused password after the same time, whatever the reason.
func (a *authority) password(user string, password []byte, c *conn) (*ssh.Permissions, error) {
	c.method = methodPassword
	start := time.Now()
	login, err := a.users.Password(user, password, c.conn())
	g, err := grant(login, err, methodPassword, "")
	if err != nil {
		c.srv.pause(passwordDelay - time.Since(start))
		return nil, err
	}
	return g.permissions(nil), nil
}

func grant(login *Login, err error, method, identity string) (*granted, error) {
	if err == nil && (login == nil || login.Open == nil) {
		err = errNoLogin
	}
	if err != nil {
		return nil, err
	}
	return &granted{login: login, method: method, identity: identity}, nil
}

// tried notes the outcome of one try, of any method, by any name.
func (c *conn) tried(user, method string, err error) {
	if err == nil || errors.Is(err, ssh.ErrNoAuth) {
		return
	}
	if method == "publickey" && c.method != "" {
		method = c.method
	}
	c.method = ""
	c.peer.User = printable(user)
	c.lastTry = err
	c.srv.counters.count(&c.srv.counters.failed, knownMethod(method))
	c.srv.events.refused(RefusedEvent{Peer: c.peer, What: RefusedLogin, Name: knownMethod(method), Reason: err})
}

// knownMethod keeps a client from making up names of counters.
func knownMethod(method string) string {
	switch method {
	case methodKey, methodCertificate, methodPassword:
		return method
	}
	return "other"
}

// printable is a text of the client's as it may stand in logs.
func printable(s string) string {
	short := clip(s, 128)
	if q := strconv.Quote(short); q != `"`+short+`"` || short != s {
		return q
	}
	return s
}
