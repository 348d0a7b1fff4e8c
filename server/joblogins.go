package server

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/crypto/ssh"

	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/ids"
)

const (
	// jobUserPrefix and a session's id are the name of its login.
	jobUserPrefix = "job-"
	jobFileFormat = 1
	jobFileSuffix = ".json"
)

// jobLogin is how a backup job logs in for as long as its session is open. Its
// JSON is kept in sftp/jobs/SESSION.json of the data directory, mode 0600; it
// has nothing in it that lets in.
type jobLogin struct {
	Format   int       `json:"format"`
	Session  string    `json:"session"`
	VM       string    `json:"vm"`
	Made     time.Time `json:"made"`
	Key      string    `json:"key"`             // public, as in an authorized_keys file
	Password []byte    `json:"password_sha256"` // a slow hash would protect 128 random bits no better

	public []byte        // Key as it is on the wire
	gone   chan struct{} // closed when the session has ended
}

// user is the name to log in with.
func (l *jobLogin) user() string { return jobUserPrefix + l.Session }

// jobSecrets let a job in. They are told once and kept nowhere.
type jobSecrets struct{ privateKey, password string }

// newJobSecrets gives a login a key and a password, either of which lets in.
func (l *jobLogin) newSecrets() (s jobSecrets, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return s, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return s, err
	}
	block, err := ssh.MarshalPrivateKey(private, l.user())
	if err != nil {
		return s, err
	}
	s = jobSecrets{privateKey: string(pem.EncodeToMemory(block)), password: ids.Token()}
	sum := sha256.Sum256([]byte(s.password))
	l.Key, l.Password = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), sum[:]
	return s, nil
}

func (l *jobLogin) hasKey(key ssh.PublicKey) bool {
	return subtle.ConstantTimeCompare(l.public, key.Marshal()) == 1
}

func (l *jobLogin) hasPassword(password []byte) bool {
	sum := sha256.Sum256(password)
	return subtle.ConstantTimeCompare(l.Password, sum[:]) == 1
}

// jobLogins are the logins of the sessions that are open.
type jobLogins struct {
	fs  vfs.FS
	dir string

	mu        sync.Mutex
	bySession map[string]*jobLogin
}

// openJobLogins reads what the last server left. Logins of sessions that are not
// open any more are removed; a file that cannot be read is told to broken, and
// its job cannot log in.
func openJobLogins(vfsys vfs.FS, dir string, open func(session string) bool, broken func(path string, err error)) (*jobLogins, error) {
	names, err := vfsys.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // there is none before the first login
		return nil, fmt.Errorf("list job logins: %w", err)
	}
	j := &jobLogins{fs: vfsys, dir: dir, bySession: map[string]*jobLogin{}}
	for _, name := range names {
		session, isLogin := strings.CutSuffix(name, jobFileSuffix)
		if !isLogin || !open(session) {
			if err := vfsys.Remove(vfsys.PathJoin(dir, name)); err != nil {
				broken(vfsys.PathJoin(dir, name), err)
			}
			continue
		}
		if err := j.read(session); err != nil {
			broken(j.path(session), err)
		}
	}
	return j, nil
}

func (j *jobLogins) path(session string) string { return j.fs.PathJoin(j.dir, session+jobFileSuffix) }

func (j *jobLogins) read(session string) error {
	text, err := atomicfile.Read(j.fs, j.path(session), jobLoginMax)
	if err != nil {
		return err
	}
	l := &jobLogin{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	switch err := d.Decode(l); {
	case err != nil:
		return fmt.Errorf("is damaged: %w", err)
	case l.Format != jobFileFormat:
		return fmt.Errorf("has format %d, which this version does not know", l.Format)
	case l.Session != session || len(l.Password) != sha256.Size:
		return errors.New("is damaged")
	}
	return j.add(l)
}

// add lets a login in from now on.
func (j *jobLogins) add(l *jobLogin) error {
	key, err := parseKeyLine(l.Key)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	l.public, l.gone = key.Marshal(), make(chan struct{})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bySession[l.Session] = l
	return nil
}

// make keeps a new login and returns what lets in. It is durable when make
// returns.
func (j *jobLogins) make(l jobLogin) (jobSecrets, error) {
	l.Format = jobFileFormat
	secrets, err := l.newSecrets()
	if err != nil {
		return secrets, fmt.Errorf("make a key for session %s: %w", l.Session, err)
	}
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return secrets, err
	}
	if err := makeDirs(j.fs, j.dir); err != nil {
		return secrets, fmt.Errorf("make the folder of job logins: %w", err)
	}
	if err := atomicfile.Write(j.fs, j.path(l.Session), append(text, '\n')); err != nil {
		return secrets, fmt.Errorf("keep the login of session %s: %w", l.Session, err)
	}
	return secrets, j.add(&l)
}

// find returns the login of a user's name.
func (j *jobLogins) find(user string) (*jobLogin, bool) {
	session, isJob := strings.CutPrefix(user, jobUserPrefix)
	if !isJob {
		return nil, false
	}
	return j.ofSession(session)
}

func (j *jobLogins) ofSession(session string) (*jobLogin, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, ok := j.bySession[session]
	return l, ok
}

// end ends the login of a session, if it has one: its connections are closed,
// and nobody gets in any more. The file goes too; when that fails the next start
// does it.
func (j *jobLogins) end(session string) error {
	j.mu.Lock()
	l, ok := j.bySession[session]
	delete(j.bySession, session)
	j.mu.Unlock()
	if !ok {
		return nil
	}
	close(l.gone)
	if err := j.fs.Remove(j.path(session)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the login of session %s: %w", session, err)
	}
	return nil
}
