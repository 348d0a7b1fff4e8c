package bitrot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/internal/identity"
	"github.com/strongroom-backup/strongroom/server"
)

// identityFiles say who a store is: a server reads them before its engines.
var identityFiles = []string{dataDir + "/strongroom.json", tierDir + "/strongroom.json", tierDir + "/TIER"}

// TestIdentity damages them and starts a server: it refuses, or it is the same
// store that it opens, with both files as they were. Nothing else is changed by
// a refusal.
func TestIdentity(t *testing.T) {
	seed := seedOf(t)
	w, _, err := build(seed)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 8))
	socket := filepath.Join(t.TempDir(), "api.sock")
	var refused, mended, same int
	for range 24 * soak(t) {
		name := identityFiles[rng.IntN(len(identityFiles))]
		kinds := append([]kind{flip, flip, flip, zero, truncate, duplicate}, garbage, remove)
		p := place{w, name, unit{"identity", 0, int64(len(w.files[name]))}}
		k := kinds[rng.IntN(len(kinds))]
		if k == garbage || k == remove {
			p.class = kindOf(name) + " file"
		}
		c := p.spoil(k, nil, rng)
		if c == nil {
			continue
		}
		switch err := tryIdentity(c, socket); {
		case errors.Is(err, errRefused):
			refused++
		case err != nil:
			t.Errorf("seed %d: %v: %v", seed, c, err)
		case k == remove:
			mended++
		default:
			same++
		}
	}
	t.Logf("%d refused, %d written again from the copy, %d mean the same", refused, mended, same)
}

var errRefused = errors.New("refused")

// tryIdentity starts a server on a damaged world.
func tryIdentity(c *cell, socket string) error {
	fs, err := c.apply()
	if err != nil {
		return err
	}
	config := server.NewConfig()
	config.Data, config.API.Socket, config.NBD.Socket = dataDir, socket, server.None
	config.NBD.Listen, config.HTTP.Listen = "127.0.0.1:0", server.None
	config.Store.Reserve = 1 << 20
	before, err := tree(fs)
	if err != nil {
		return err
	}
	s, err := server.Open(server.Options{Config: config, FS: fs, Clock: now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal: func(reason string) { panic(reason) }})
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errRefused, err), unchanged(fs, before))
	}
	if err := s.Close(); err != nil {
		return err
	}
	for _, name := range identityFiles[:2] {
		id, err := identity.Read(fs, name)
		if err != nil || id.Store != storeID || id.Key != domainKey || id.Domain != domain {
			return fmt.Errorf("the server runs, and %s says %+v, %v", name, id, err)
		}
	}
	return nil
}

// unchanged wants every file of before as it was; a lock may have been made.
func unchanged(fs *crashfs.FS, before map[string][]byte) error {
	after, err := tree(fs)
	if err != nil {
		return err
	}
	for name, data := range before {
		if !bytes.Equal(after[name], data) {
			return fmt.Errorf("the server refused to start, and changed %s", name)
		}
	}
	return nil
}
