package integration

import (
	"bytes"
	enc "encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const (
	slotSize  = 4096
	slotCount = 700
	// uploadKills is how often TestKillDuringUploads kills, unless
	// STRONGROOM_KILLS says otherwise.
	uploadKills = 5
)

// upload is a file of slots that somebody keeps rewriting through a mount. Each
// slot holds the number of the write it was last written by.
type upload struct {
	s      *scene
	d      *drop
	rng    *rand.Rand
	writes uint64
	synced [slotCount]uint64 // at the last fsync that was answered
	last   [slotCount]uint64 // the last write sent
}

func slot(n uint64) []byte {
	return bytes.Repeat(enc.BigEndian.AppendUint64(nil, n), slotSize/8)
}

// run writes and syncs until the mount dies.
func (u *upload) run(path string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	for {
		for range u.rng.IntN(60) {
			at := u.rng.IntN(slotCount)
			u.writes++
			u.last[at] = u.writes
			if _, err := f.WriteAt(slot(u.writes), int64(at)*slotSize); err != nil {
				return
			}
		}
		if f.Sync() != nil {
			return
		}
		u.synced = u.last
	}
}

// check reads the file as it is after the server came back: each slot is at
// least as new as what was synced, is no newer than what was sent, and is whole.
// What is found counts as written from then on.
func (u *upload) check(path string) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for at := range slotCount {
		var found [slotSize]byte
		if at*slotSize < len(got) {
			copy(found[:], got[at*slotSize:])
		}
		n := enc.BigEndian.Uint64(found[:])
		if n < u.synced[at] || n > u.last[at] || !bytes.Equal(found[:], slot(n)) {
			return fmt.Errorf("slot %d of %s is of write %d; %d was synced, %d the last sent", at, path, n, u.synced[at], u.last[at])
		}
		u.synced[at], u.last[at] = n, n
	}
	return nil
}

// TestKillDuringUploads kills the server at random moments while mounts write
// and sync files. Nothing that was synced is ever lost or goes back, and in the
// end the point has what the mounts have.
func TestKillDuringUploads(t *testing.T) {
	t.Parallel()
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	kills := environment(t, "STRONGROOM_KILLS", uploadKills)
	t.Logf("seed: STRONGROOM_SEED=%d STRONGROOM_KILLS=%d", seed, kills)
	address := "sftp.listen=" + freeAddress(t)
	s := newSceneFor(t, sceneTimeout+time.Duration(kills)*10*time.Second, address)
	var uploads []*upload
	for i := range uint64(3) {
		uploads = append(uploads, &upload{s: s, d: s.drop(fmt.Sprint("vm", i)), rng: rand.New(rand.NewPCG(uint64(seed), i))})
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 99))
	for range kills {
		var wg sync.WaitGroup
		for _, u := range uploads {
			m := u.d.mountWith(sshfsOptions(u.rng)...)
			wg.Go(func() { u.run(filepath.Join(m.Dir, "slots.bin")) })
		}
		time.Sleep(time.Duration(50+rng.IntN(500)) * time.Millisecond)
		s.srv.Kill()
		wg.Wait()
		s.must(s.srv.Start(s.ctx))
		for _, u := range uploads {
			s.must(u.check(filepath.Join(u.d.mount(), "slots.bin")))
		}
	}
	for i, u := range uploads {
		if _, err := s.srv.Commit(s.ctx, u.d.Session); err == nil {
			t.Error("a file that was open at a kill was committed")
		}
		dir := u.d.mount()
		got, err := os.ReadFile(filepath.Join(dir, "slots.bin"))
		s.must(err)
		s.put(filepath.Join(dir, "slots.bin"), got)
		r := u.d.commit()
		dir = filepath.Join(s.restores(u.d.VM), r.Point, "files")
		s.must(u.check(filepath.Join(dir, "slots.bin")))
		t.Logf("upload %d: %d writes", i, u.writes)
	}
}

func sshfsOptions(rng *rand.Rand) []string {
	all := [][]string{{"direct_io"}, {"cache=no", "max_write=65536"}, {"max_read=65536", "max_write=65536"}, {"direct_io", "max_write=65536", "max_read=65536"}}
	return all[rng.IntN(len(all))]
}
