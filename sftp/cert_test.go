package sftp_test

import (
	"crypto/rand"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

func TestCertificates(t *testing.T) {
	ca, _ := sftptest.NewKey(t)
	other, _ := sftptest.NewKey(t)
	key, _ := sftptest.NewKey(t)
	now := time.Now()
	_, s := serveMem(t, func(o *sftp.Options) {
		o.TrustedCAs = []ssh.PublicKey{ca.PublicKey()}
		o.Principals = func(user string) []string { return []string{user, "operators"} }
		o.Limits.Burst = 10000
	})
	for _, c := range []struct {
		what   string
		ok     bool
		ca     ssh.Signer
		change func(*ssh.Certificate)
	}{
		{"good", true, ca, nil},
		{"another principal of the user's", true, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"x", "operators"} }},
		{"from here", true, ca, func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8,127.0.0.0/8"}
		}},
		{"for ever", true, ca, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }},
		{"with extensions", true, ca, func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": "", "x@y": "z"} }},
		{"wrong authority", false, other, nil},
		{"no principals", false, ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }},
		{"wrong principal", false, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root", "Backup"} }},
		{"expired", false, ca, func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Add(-time.Minute).Unix()) }},
		{"not yet valid", false, ca, func(c *ssh.Certificate) { c.ValidAfter = uint64(now.Add(time.Minute).Unix()) }},
		{"from elsewhere", false, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "10.0.0.0/8"} }},
		{"from nowhere", false, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": ""} }},
		{"from something", false, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "home"} }},
		{"a command", false, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "internal-sftp"} }},
		{"an unknown option", false, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"x": ""} }},
		{"a host's", false, ca, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }},
	} {
		cert := &ssh.Certificate{
			Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: "job 42", Serial: 7, ValidPrincipals: []string{sftptest.User},
			ValidAfter: uint64(now.Add(-time.Hour).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
		}
		if c.change != nil {
			c.change(cert)
		}
		if err := cert.SignCert(rand.Reader, c.ca); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewCertSigner(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := dial(s, sftptest.User, ssh.PublicKeys(signer)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
		cert.Serial++ // changed after it was signed
		if err := dial(s, sftptest.User, ssh.PublicKeys(signer)); err == nil {
			t.Errorf("%s: a forged one lets in", c.what)
		}
	}
	if err := dial(s, sftptest.User, ssh.PublicKeys(key)); err == nil {
		t.Error("the bare key lets in")
	}
}
