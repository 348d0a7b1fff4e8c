package dedup

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
)

// optionSets are run through the same histories.
var optionSets = map[string]func(*Options){
	"small packs": func(o *Options) { o.PackSize = MinPackSize },
	"tiny caches": func(o *Options) { o.TOCCacheBytes, o.FrameCacheBytes, o.IndexCacheBytes = 1, 1, 1 },
	"big packs":   func(o *Options) { o.PackSize = MaxPackSize },
}

// history is a store and what is known of it.
type history struct {
	t    *testing.T
	rng  *rand.Rand
	fs   *crashfs.FS
	set  func(*Options)
	s    *Store
	ws   []*Writer
	mine []map[Addr]bool // by writer: put and not yet synced

	ever   map[Addr]uint64 // content of every address there ever was
	acked  map[Addr]bool   // put since the last power cut, or known to be there
	synced map[Addr]bool
	gone   []Addr // forgotten, some of them collected
	log    []string
}

func (h *history) say(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *history) fatal(format string, args ...any) {
	h.t.Helper()
	tail := h.log[max(0, len(h.log)-25):]
	h.t.Fatalf("STRONGROOM_SEED repeats it: the number in the test's name\n%s\nlast operations:\n%s", fmt.Sprintf(format, args...), joinLines(tail))
}

func joinLines(lines []string) string {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString("  " + l + "\n")
	}
	return b.String()
}

func (h *history) open() {
	h.t.Helper()
	ts, err := tier.OpenDir(h.fs, tierDir, testStore)
	if err != nil {
		h.fatal("tier: %v", err)
	}
	o := Options{FS: h.fs, Dir: indexDir, Tier: ts, Key: testKey, StoreID: testStore, PackSize: 1 << 20}
	h.set(&o)
	if h.s, err = Open(o); err != nil {
		h.fatal("open: %v", err)
	}
	h.ws = []*Writer{newWriterOf(h.s, h.rng), newWriterOf(h.s, h.rng)}
	h.mine = []map[Addr]bool{{}, {}}
}

// abandonStore closes a store whose file system is not used any more.
func (h *history) abandonStore() {
	for _, w := range h.ws {
		w.Close()
	}
	if err := h.s.Close(); err != nil {
		h.fatal("close: %v", err)
	}
}

func (h *history) content() uint64 {
	switch h.rng.IntN(8) {
	case 0:
		return 0
	case 1, 2, 3:
		return 1 + uint64(h.rng.IntN(30)) // often the same
	default:
		return 1 + uint64(h.rng.IntN(400))
	}
}

func (h *history) put() {
	k, n := h.rng.IntN(len(h.ws)), 1+h.rng.IntN(20)
	ns, hints := make([]uint64, n), make([]Addr, n)
	known := h.known()
	first := h.content()
	for i := range ns {
		if ns[i] = h.content(); h.rng.IntN(2) == 0 {
			ns[i] = first + uint64(i)
		}
		if len(known) > 0 && h.rng.IntN(3) == 0 {
			hints[i] = known[h.rng.IntN(len(known))]
		} else if len(h.gone) > 0 && h.rng.IntN(3) == 0 {
			hints[i] = h.gone[h.rng.IntN(len(h.gone))]
			ns[i] = h.ever[hints[i]]
		}
	}
	out := make([]Addr, n)
	r, err := h.ws[k].Put(blocks(ns...), hints, out)
	h.say("writer %d puts %v at %v: %+v, %v", k, ns, out, r, err)
	if err != nil {
		h.fatal("put: %v", err)
	}
	for i, a := range out {
		if (a == 0) != (ns[i] == 0) {
			h.fatal("content %d is at %v", ns[i], a)
		}
		if a == 0 {
			continue
		}
		if was, ok := h.ever[a]; ok && was != ns[i] {
			h.fatal("%v had content %d and now has %d", a, was, ns[i])
		}
		h.ever[a] = ns[i]
		h.acked[a] = true
		if !h.synced[a] {
			h.mine[k][a] = true
		}
	}
}

// known lists addresses in an order that depends on the seed only.
func (h *history) known() []Addr {
	var all []Addr
	for a := range h.acked {
		all = append(all, a)
	}
	sortAddrs(all)
	return all
}

func (h *history) sync() {
	k := h.rng.IntN(len(h.ws))
	h.say("writer %d syncs %d blocks", k, len(h.mine[k]))
	if err := h.ws[k].Sync(); err != nil {
		h.fatal("sync: %v", err)
	}
	for a := range h.mine[k] {
		h.synced[a] = true
	}
	h.mine[k] = map[Addr]bool{}
}

func (h *history) read() {
	known := h.known()
	if len(known) == 0 {
		return
	}
	from := h.rng.IntN(len(known))
	addrs := append([]Addr(nil), known[from:min(len(known), from+1+h.rng.IntN(24))]...)
	for range h.rng.IntN(3) {
		addrs[h.rng.IntN(len(addrs))] = known[h.rng.IntN(len(known))]
	}
	if h.rng.IntN(3) == 0 {
		addrs[h.rng.IntN(len(addrs))] = 0
	}
	dst := randomBytes(len(addrs) * BlockSize)
	h.say("read %v", addrs)
	if err := h.s.Read(addrs, dst); err != nil {
		h.fatal("read: %v", err)
	}
	for i, a := range addrs {
		if !bytes.Equal(dst[i*BlockSize:(i+1)*BlockSize], block(h.ever[a])) {
			h.fatal("%v has other content than %d", a, h.ever[a])
		}
	}
}

// forget lets go of some blocks, as the deletion of a point does.
func (h *history) forget() {
	one, of := h.rng.IntN(4), 1+h.rng.IntN(4)
	n := 0
	for _, a := range h.known() {
		if pack := int(a.Pack()); (pack+one)%of == 0 || h.rng.IntN(3) == 0 {
			delete(h.acked, a)
			delete(h.synced, a)
			delete(h.mine[0], a)
			delete(h.mine[1], a)
			h.gone = append(h.gone, a)
			n++
		}
	}
	h.say("forget %d blocks", n)
}

// collect takes away what nobody holds.
func (h *history) collect() {
	ratio := float64(h.rng.IntN(3)) / 3
	if h.rng.IntN(2) == 0 {
		if _, err := h.s.SealIdle(int64(h.rng.IntN(600 << 10))); err != nil {
			h.fatal("seal: %v", err)
		}
	}
	c, err := h.s.BeginCollection()
	if err != nil {
		h.fatal("begin: %v", err)
	}
	defer c.Close()
	if h.rng.IntN(2) == 0 {
		h.put() // a hit in here is a mark
	}
	for a := range h.acked {
		c.Mark(a, 1)
	}
	tally := c.Tally()
	if tally.UnknownMarks != 0 {
		h.fatal("unknown marks: %+v", tally)
	}
	h.put()
	p, err := c.Sweep(context.Background(), SweepOptions{DeadRatio: ratio, FreeWanted: int64(h.rng.IntN(2)) << 19})
	h.say("collect from %.1f: %+v, %+v, %v", ratio, tally, p, err)
	if err != nil {
		h.fatal("sweep: %v", err)
	}
}

// compress makes good for what writers did not compress, a pack or all.
func (h *history) compress() {
	if _, err := h.s.SealLater(h.rng.IntN(2) == 0); err != nil {
		h.fatal("seal: %v", err)
	}
	packs := h.s.LaterPacks()
	if len(packs) > 0 && h.rng.IntN(3) == 0 {
		packs = packs[:1]
	}
	h.say("compress %v", packs)
	for _, pack := range packs {
		if r, err := h.s.CompressPack(context.Background(), pack, nil); err != nil && !isDamage(err) || err == nil && r.Frames == 0 {
			h.fatal("compress pack %d: %+v, %v", pack, r, err)
		}
	}
	checkLater(h.t, h.s)
}

// verify finds nothing wrong with any block somebody holds. (Of what was not
// synced a power cut may leave torn frames.)
func (h *history) verify() {
	h.say("verify")
	var packs []uint64
	if err := h.s.Packs(func(p PackInfo) bool { packs = append(packs, p.ID.Pack); return true }); err != nil {
		h.fatal("packs: %v", err)
	}
	for _, pack := range packs {
		r, err := h.s.VerifyPack(context.Background(), pack, nil)
		if err != nil || r.Unreadable != nil {
			h.fatal("verify pack %d: %+v, %v", pack, r, err)
		}
		for _, a := range r.Damaged {
			if h.acked[a] {
				h.fatal("verify pack %d: %+v", pack, r)
			}
		}
	}
}

func (h *history) newWriter() {
	k := h.rng.IntN(len(h.ws))
	h.say("writer %d closes, another opens", k)
	h.ws[k].Close()
	h.ws[k] = newWriterOf(h.s, h.rng)
	for _, a := range h.known() {
		if h.mine[k][a] {
			h.ws[k].Depend(a)
		}
	}
}

func (h *history) reopen() {
	index := h.rng.IntN(4) == 0
	h.say("reopen, index deleted: %v", index)
	h.abandonStore()
	if index {
		if err := h.fs.RemoveAll(indexDir); err != nil {
			h.fatal("%v", err)
		}
	}
	for a := range h.acked {
		h.synced[a] = true // Close syncs open packs
	}
	h.open()
}

// kill goes on with what the death of the process leaves.
func (h *history) kill() {
	h.say("kill")
	after := h.fs.Kill()
	h.abandonStore()
	h.fs = after
	h.open()
	h.checkAll(h.acked)
	for a := range h.acked {
		h.synced[a] = true // Open makes everything durable
	}
}

// powerCut goes on with what a power cut may leave.
func (h *history) powerCut() {
	profiles := crashfs.Profiles()
	p := profiles[h.rng.IntN(len(profiles))]
	h.say("power cut, %s", p.Name)
	after := h.fs.Crash(h.rng, p)
	h.abandonStore()
	h.fs = after
	h.open()
	h.checkAll(h.synced)
	dst := make([]byte, BlockSize)
	for _, a := range h.known() {
		err := h.s.Read([]Addr{a}, dst)
		if err == nil && h.s.Have([]Addr{a}) != nil && !h.synced[a] {
			err = ErrDamaged // a good block of a torn frame: it may be read, not relied on
		}
		if err != nil {
			if h.synced[a] {
				h.fatal("synced %v after a power cut: %v", a, err)
			}
			delete(h.acked, a)
		} else if !bytes.Equal(dst, block(h.ever[a])) {
			h.fatal("%v has other content than %d after a power cut", a, h.ever[a])
		}
	}
	for a := range h.acked {
		h.synced[a] = true
	}
}

func (h *history) checkAll(set map[Addr]bool) {
	dst := make([]byte, BlockSize)
	for a := range set {
		if err := h.s.Have([]Addr{a}); err != nil {
			h.fatal("have %v: %v", a, err)
		}
		if err := h.s.Read([]Addr{a}, dst); err != nil {
			h.fatal("read %v: %v", a, err)
		}
		if !bytes.Equal(dst, block(h.ever[a])) {
			h.fatal("%v has other content than %d", a, h.ever[a])
		}
	}
}

func (h *history) step() {
	switch n := h.rng.IntN(100); {
	case n < 45:
		h.put()
	case n < 62:
		h.read()
	case n < 72:
		h.sync()
	case n < 78:
		h.forget()
	case n < 86:
		h.collect()
	case n < 88:
		h.verify()
	case n < 90:
		h.compress()
	case n < 93:
		h.newWriter()
	case n < 95:
		h.reopen()
	case n < 97:
		h.kill()
	default:
		h.powerCut()
	}
}

func TestRandomHistories(t *testing.T) {
	steps, n := 120, uint64(4)
	if raceEnabled {
		steps, n = 60, 1
	}
	for name, set := range optionSets {
		for _, seed := range seeds(n) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				fs := crashfs.New()
				testOptions(t, fs)
				h := &history{
					t: t, rng: rand.New(rand.NewPCG(seed, 77)), fs: fs, set: set,
					ever: map[Addr]uint64{}, acked: map[Addr]bool{}, synced: map[Addr]bool{},
				}
				h.open()
				for range steps {
					h.step()
				}
				h.abandonStore()
			})
		}
	}
}
