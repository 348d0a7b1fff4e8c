package catalog

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/crashfs"
)

// TestCrashOfEachOperation takes a crash of one kind and a kill after every file
// operation of everything that can be done to a point.
func TestCrashOfEachOperation(t *testing.T) {
	until, limit, profiles := testClock()().AddDate(9, 0, 0), 5, crashfs.Profiles()
	for i, o := range []*op{
		{kind: "trash", id: testID(4), when: until}, {kind: "undelete", id: testID(5)}, {kind: "hold", id: testID(2), why: "case"},
		{kind: "release", id: testID(1)}, {kind: "lock", id: testID(3), when: until}, {kind: "remove", id: testID(4)}, {kind: "remove", id: testID(5)},
		{kind: "policy", vm: "vm", rules: Policy{ChainLimit: &limit}}, {kind: "forget", ids: []string{testID(6)}},
		{kind: "merge", merge: MergeRequest{"vm", "vda", testID(2), testID(4)}}, {kind: "merge", merge: MergeRequest{"vm", "vda", testID(4), testID(2)}},
	} {
		what := fmt.Sprintf("%s (%d)", o.kind, i)
		fs := crashfs.New()
		options := testOptions(fs)
		c := mustOpen(t, options)
		c.commit.app.step = 1
		m := newModel()
		do := func(o *op) {
			mustDo(t, o.do(c))
			m = o.next(m, c)
		}
		for j := 1; j <= 7; j++ {
			n := onePoint(j, "vm", ChunkRef{New: testChunk(uint64(j))}, ChunkRef{New: testChunk(0)})
			if j > 1 {
				n.Images[0].Mode, n.Images[0].Parent = Incremental, testID(j-1)
			}
			do(&op{kind: "commit", n: &n})
		}
		do(&op{kind: "trash", id: testID(5), when: until})
		do(&op{kind: "hold", id: testID(1), why: "before"})
		do(&op{kind: "remove", id: testID(6)})
		at := &moment{m, o}
		dice := rand.New(rand.NewPCG(uint64(i), 1))
		var states []crashState
		fs.Observe(func(now *crashfs.Instant) {
			p := profiles[dice.IntN(len(profiles))]
			states = append(states, crashState{op: now.Op, kind: p.Name, fs: now.Crash(dice, p), at: at})
			states = append(states, crashState{op: now.Op, kind: "kill", fs: now.Kill(), at: at})
		})
		mustDo(t, o.do(c))
		after := &moment{m: o.next(m, c)}
		fs.Observe(func(*crashfs.Instant) {})
		states = append(states, crashState{kind: "cut at the end", fs: fs.Crash(dice, crashfs.LoseAll), at: after},
			crashState{kind: "kill at the end", fs: fs.Kill(), at: after})
		mustClose(t, c)
		for _, s := range states {
			checkCrash(t, fmt.Sprintf("%s, %s after %v", what, s.kind, s.op), s)
		}
	}
}
