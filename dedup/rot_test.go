package dedup

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// TestRecoveryThatCannotSync: when the sync of a pack that an earlier process
// left open fails at a start, what that process had made durable stays readable,
// at that start and the next.
func TestRecoveryThatCannotSync(t *testing.T) {
	fs, _, addrs := openPackFS(t)
	fs.Inject(&crashfs.Fault{Err: syscall.EIO, Effect: crashfs.DropDirty, Sticky: true, Match: func(op crashfs.Op) bool {
		return op.Kind == crashfs.Sync && strings.HasSuffix(op.Path, ".pack")
	}})
	s := openTest(t, testOptions(t, fs))
	checkRead(t, s, addrs, blocks(goldenContent...))
	if s.Have(addrs[:1]) == nil {
		t.Error("a block that nobody knows to be durable is trusted")
	}
	fs.Heal()
	closeTest(t, s)
	o := testOptions(t, fs)
	o.Events.Damage = func(err *DamageError) { t.Errorf("called damage: %v", err) }
	s = openTest(t, o)
	defer closeTest(t, s)
	checkRead(t, s, addrs, blocks(goldenContent...))
	w := s.NewWriter()
	defer w.Close()
	if _, r := mustPut(t, w, blocks(goldenContent...), addrs); int(r.New) != len(addrs) {
		t.Errorf("put again: %+v, want all blocks stored", r)
	}
}

// TestSwappedHeadersInAnOpenPack: headers that are not where they were take no
// frame between them with them.
func TestSwappedHeadersInAnOpenPack(t *testing.T) {
	fs := crashfs.New()
	s := openTest(t, testOptions(t, fs))
	w := s.NewWriter()
	rng := rand.New(rand.NewPCG(4, 4))
	var want []byte
	var addrs []Addr
	for range 6 { // a frame each, stored as it is
		b := make([]byte, BlockSize)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		a, _ := mustPut(t, w, bytes.Clone(b), nil)
		want, addrs = append(want, b...), append(addrs, a...)
	}
	mustSync(t, w)
	dead := fs.Kill()
	w.Close()
	closeTest(t, s)
	pack := readFile(t, dead, packPath(1))
	header := func(i int) []byte {
		return pack[packHeaderSize+i*(frameHeaderSize(1)+BlockSize):][:frameHeaderSize(1)]
	}
	first := bytes.Clone(header(1))
	copy(header(1), header(4))
	copy(header(4), first)
	writeFile(t, dead, packPath(1), pack)
	damaged := false
	o := testOptions(t, dead)
	o.Events.Damage = func(*DamageError) { damaged = true }
	o.Events.PackRecovered = func(tier.ID, int, int64) {}
	s = openTest(t, o)
	defer closeTest(t, s)
	for i, a := range addrs {
		got := make([]byte, BlockSize)
		err := s.Read([]Addr{a}, got)
		if swapped := i == 1 || i == 4; swapped == (err == nil) {
			t.Errorf("block %d: %v", i, err)
		}
		if err == nil && !bytes.Equal(got, want[i*BlockSize:][:BlockSize]) {
			t.Errorf("block %d is wrong", i)
		}
	}
	if !damaged {
		t.Error("nobody was told")
	}
}
