package bitrot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/crashfs"
	"github.com/strongroom-backup/strongroom/tier"
	"github.com/strongroom-backup/strongroom/volume"
)

// trial is one damaged world and what is found out about it.
type trial struct {
	*cell
	fs      *crashfs.FS
	e       *engine
	noticed []string            // what anybody was told of the damage
	lost    map[string]error    // what cannot be read, or is gone
	harmed  map[dedup.Addr]bool // blocks whose frames the damage touched
}

// try makes the damage and everything that follows. problem is why it fails.
func try(c *cell) (t *trial, problem error) {
	t = &trial{cell: c, lost: map[string]error{}}
	defer func() {
		if x := recover(); x != nil {
			problem = fmt.Errorf("panic: %v\n%s", x, debug.Stack())
		}
	}()
	t.harmed = c.harm()
	var err error
	if t.fs, err = c.apply(); err != nil {
		return t, err
	}
	if err := t.open(); err != nil {
		return t, err
	}
	err = t.look()
	if err == nil && len(t.lost) > 0 {
		err = t.heal()
	}
	t.hear()
	if err := errors.Join(err, t.e.stop()); err != nil {
		return t, err
	}
	if !strings.HasPrefix(c.class, "log") {
		return t, nil
	}
	known := len(t.noticed)
	if err := t.rebuild(); err != nil || known > 0 || len(t.noticed) == 0 {
		return t, err
	}
	return t, errors.New("only a rebuild notices")
}

func (t *trial) notice(format string, args ...any) {
	t.noticed = append(t.noticed, fmt.Sprintf(format, args...))
}

// open opens the engines, doing what the errors say.
func (t *trial) open() (err error) {
	for range 3 {
		n := &notices{}
		if t.e, err = startOrDie(t.fs, n); err == nil {
			return nil
		}
		t.notice("refused: %v", err)
		if err := t.follow(err); err != nil {
			return err
		}
	}
	return fmt.Errorf("does not open, whatever is done: %w", err)
}

// startOrDie takes the databases' last words for a refusal.
func startOrDie(fs *crashfs.FS, n *notices) (e *engine, err error) {
	defer func() {
		if x := recover(); x != nil {
			words, ok := x.(fatal)
			if !ok {
				panic(x)
			}
			err = errors.New(string(words))
		}
	}()
	return start(fs, n)
}

// follow does what an operator is told to.
func (t *trial) follow(refusal error) error {
	text := refusal.Error()
	switch {
	case errors.Is(refusal, tier.ErrNoTier), strings.Contains(text, "put an intact copy"):
		for name := range t.files {
			if err := write(t.fs, name, t.w.files[name]); err != nil {
				return err
			}
		}
		return nil
	case strings.Contains(text, "take it out of the tier"):
		for name := range t.files {
			if err := t.fs.Remove(name); err != nil {
				return err
			}
		}
		return nil
	case strings.Contains(text, "is rebuilt from the metadata log"):
		return errors.Join(t.fs.RemoveAll(catalogDir), t.fs.RemoveAll(indexDir))
	}
	return fmt.Errorf("refused, and the operator is not told what to do: %w", refusal)
}

// hear takes over what the engines had to say, but for what they say of the
// undamaged world too.
func (t *trial) hear() {
	usual := slices.Clone(t.w.notices)
	for _, s := range t.e.notices.all() {
		if i := slices.Index(usual, s); i >= 0 {
			usual = slices.Delete(usual, i, i+1)
		} else {
			t.noticed = append(t.noticed, s)
		}
	}
}

// look reads everything there is and verifies every pack.
func (t *trial) look() error {
	if err := t.lookAtPoints(); err != nil {
		return err
	}
	if err := t.lookAtSessions(); err != nil {
		return err
	}
	return t.verify()
}

// lookAtPoints wants the catalog to be as it was, and reads every image.
func (t *trial) lookAtPoints() error {
	if is, err := dump(t.e); err != nil {
		if err := t.unreadable("the catalog", err); err != nil {
			return err
		}
	} else if is != t.w.dump {
		return &wrongBytes{"the catalog is another one:\n" + difference(t.w.dump, is)}
	}
	for _, p := range t.w.points {
		if err := t.lookAt(p); err != nil {
			return fmt.Errorf("point %s: %w", p.id, err)
		}
	}
	return nil
}

// difference is the first lines that differ.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%.300s\n%.300s", x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines, %d lines", len(x), len(y))
}

func (t *trial) lookAt(p *point) error {
	blob, err := t.e.cat.Blob(p.id, "domain.xml")
	if err == nil && string(blob) != p.blob {
		return &wrongBytes{fmt.Sprintf("blob %q", blob)}
	}
	if err != nil {
		return t.unreadable("blob of "+p.id, err)
	}
	for name, want := range p.images {
		what := fmt.Sprintf("point %s, disk %s", p.id, name)
		if p.trashed { // nobody reads it now
			continue
		}
		im, err := t.e.OpenImage(p.id, name)
		if err != nil {
			return t.unreadable(what, err)
		}
		failed, err := want.check(im)
		im.Close()
		if err := t.tally(what, failed, err, p.addrs[name]); err != nil {
			return fmt.Errorf("disk %s: %w", name, err)
		}
	}
	return nil
}

// unreadable is for what no damage to packs excuses: only the database's own
// damage may keep the catalog from answering.
func (t *trial) unreadable(what string, err error) error {
	t.lost[what] = err
	t.notice("%s: %v", what, err)
	if strings.HasPrefix(t.class, "catalog") && errors.Is(err, catalog.ErrCorrupt) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// tally counts the blocks that cannot be read. addrs, when known, says which of
// them may be.
func (t *trial) tally(what string, failed map[int64]error, err error, addrs []dedup.Addr) error {
	var wrong *wrongBytes
	if errors.As(err, &wrong) {
		return err
	}
	if err != nil {
		return t.unreadable(what, err)
	}
	for i, err := range failed {
		t.lost[fmt.Sprintf("%s, block %d", what, i)] = err
		t.notice("%s, block %d: %v", what, i, err)
		if addrs != nil && !t.harmed[addrs[i]] && !(strings.HasPrefix(t.class, "catalog") && errors.Is(err, catalog.ErrCorrupt)) {
			return fmt.Errorf("block %d cannot be read, though nothing of it was harmed: %w", i, err)
		}
	}
	return nil
}

// lookAtSessions holds open backups to their writes, or wants them dead. What
// goes on is committed, and the point read.
func (t *trial) lookAtSessions() error {
	found := map[string]volume.Status{}
	for _, st := range t.e.Sessions() {
		found[st.Session] = st
	}
	for id, was := range t.w.states {
		if err := t.lookAtEnded(id, was, found[id]); err != nil {
			return err
		}
	}
	for _, s := range t.w.sessions {
		st, here := found[s.id]
		if t.cutBetweenRecords() && t.mine(s) {
			continue // see lostEnd
		}
		if err := t.lookAtSession(s, st, here); err != nil {
			return fmt.Errorf("session %s of %s: %w", s.id, s.vm, err)
		}
	}
	return nil
}

// lookAtEnded wants the memory of a backup that ended to be as it was, or gone
// or dead for everybody to see.
func (t *trial) lookAtEnded(id string, was, is volume.Status) error {
	switch {
	case was.State == volume.Open || was.State == is.State && was.Point == is.Point && was.VM == is.VM && maps.Equal(was.Labels, is.Labels):
		return nil
	case is.State != "" && is.State != volume.Dead:
		return fmt.Errorf("session %s was %s of %s, point %q, and is %s of %s, point %q", id, was.State, was.VM, was.Point, is.State, is.VM, is.Point)
	case path.Dir(t.file) != path.Join(sessionDir, id) && t.class != "session file":
		return fmt.Errorf("session %s was %s and is %q (%s), and nothing of it was harmed", id, was.State, is.State, is.Reason)
	}
	t.notice("session %s is not known any more: %s", id, is.Reason)
	return nil
}

func (t *trial) mine(s *session) bool { return path.Dir(t.file) == path.Join(sessionDir, s.id) }

func (t *trial) lookAtSession(s *session, st volume.Status, here bool) error {
	mine := t.mine(s)
	if !here || st.State != volume.Open {
		what := "session " + s.id
		t.lost[what] = errors.New("dead")
		t.notice("%s: %s %s", what, st.State, st.Reason)
		if !mine && len(t.harmed) == 0 && t.class != "session file" && t.class != "journal file" && !strings.HasPrefix(t.class, "note") {
			return fmt.Errorf("is %q (%s) and nothing of it was harmed", st.State, st.Reason)
		}
		return nil
	}
	for _, d := range s.disks {
		what := fmt.Sprintf("session %s, disk %s", s.id, d.name)
		x, err := t.e.OpenExport(d.token)
		if err != nil {
			t.lost[what] = err
			t.notice("%s: %v", what, err)
			return nil // its client ends here
		}
		failed, err := d.want.check(x)
		x.Close()
		var wrong *wrongBytes
		if mine && err != nil && !errors.As(err, &wrong) {
			t.lost[what] = err
			t.notice("%s: %v", what, err)
			return nil // its client ends here
		}
		if err := t.tally(what, failed, err, nil); err != nil {
			return fmt.Errorf("disk %s: %w", d.name, err)
		}
		if len(failed) > 0 && len(t.harmed) == 0 && !mine {
			return fmt.Errorf("disk %s: %d blocks cannot be read, though nothing of them was harmed", d.name, len(failed))
		}
	}
	if !mine {
		return nil
	}
	r, err := t.e.Commit(s.id)
	if err != nil {
		t.lost["session "+s.id] = err
		t.notice("commit of %s: %v", s.id, err)
		return nil
	}
	p := s.point(r.Point)
	got, err := t.e.cat.Point(r.Point)
	if err != nil || got.VM != s.vm || got.Labels["by"] != "bitrot" || len(got.Images) != len(s.disks) {
		return &wrongBytes{fmt.Sprintf("session of %s was committed as %+v, %v", s.vm, got, err)}
	}
	return t.lookAt(p)
}

// verify is the scrub.
func (t *trial) verify() error {
	var packs []uint64
	if err := t.e.store.Packs(func(p dedup.PackInfo) bool {
		if packs = append(packs, p.ID.Pack); p.Missing {
			t.notice("pack %d is missing", p.ID.Pack)
		}
		return true
	}); err != nil {
		return fmt.Errorf("list packs: %w", err)
	}
	for _, n := range packs {
		r, err := t.e.store.VerifyPack(context.Background(), n, nil)
		if err != nil {
			return fmt.Errorf("verify pack %d: %w", n, err)
		}
		if r.Unreadable != nil || len(r.Damaged) > 0 || !r.Whole {
			t.notice("verification of pack %d: %d damaged, %v", n, len(r.Damaged), r.Unreadable)
		}
	}
	if err := t.e.cat.VerifyLog(); err != nil {
		t.notice("%v", err)
	}
	return nil
}

// heal makes a backup of everything that cannot be read, repairs the packs and
// looks again.
func (t *trial) heal() error {
	if len(t.harmed) == 0 {
		return nil
	}
	for _, p := range t.w.points {
		if !t.lostOf(p) || p.trashed {
			continue
		}
		if err := t.again(p); err != nil {
			return fmt.Errorf("back up %s again: %w", p.vm, err)
		}
	}
	packs := map[uint64]bool{}
	for _, a := range t.e.store.Damaged() {
		packs[a.Pack()] = true
	}
	for n := range packs {
		_, err := t.e.store.RepairPack(context.Background(), n)
		if err != nil && strings.Contains(err.Error(), "after a restart") {
			if err = t.restart(); err == nil {
				_, err = t.e.store.RepairPack(context.Background(), n)
			}
		}
		if err != nil && !strings.Contains(err.Error(), "after a restart") && !strings.Contains(err.Error(), "not this store's") {
			return fmt.Errorf("repair pack %d: %w", n, err)
		}
	}
	before := t.lost
	t.lost = map[string]error{}
	for _, p := range t.w.points {
		if err := t.lookAt(p); err != nil {
			return fmt.Errorf("after the repair: point %s: %w", p.id, err)
		}
	}
	if len(t.lost) > 0 && t.repairable() {
		return fmt.Errorf("is not repaired, though the table of contents has the hashes: %v", t.lost)
	}
	for what, err := range before {
		if strings.HasPrefix(what, "session") { // dead is dead
			t.lost[what] = err
		}
	}
	return nil
}

func (t *trial) lostOf(p *point) bool {
	for what := range t.lost {
		if strings.Contains(what, p.id) {
			return true
		}
	}
	return false
}

// restart closes the engines and opens them again.
func (t *trial) restart() error {
	t.hear()
	if err := t.e.stop(); err != nil {
		return err
	}
	return t.open()
}

// again backs up what a point held.
func (t *trial) again(p *point) error {
	var specs []volume.DiskSpec
	for name, c := range p.images {
		specs = append(specs, volume.DiskSpec{Name: name, Size: c.size})
	}
	st, err := t.e.Start(volume.StartRequest{VM: p.vm, Mode: "full", Disks: specs, TTL: time.Hour})
	if err != nil {
		return err
	}
	for _, ds := range st.Disks {
		x, err := t.e.OpenExport(ds.Token)
		if err != nil {
			return err
		}
		for i, b := range p.images[ds.Disk].blocks {
			off := i * dedup.BlockSize
			data := slices.Clone(b[:min(dedup.BlockSize, ds.Size-off)])
			if _, err := x.WriteAt(data, off); err != nil {
				return errors.Join(err, x.Close())
			}
		}
		if err := x.Close(); err != nil {
			return err
		}
	}
	_, err = t.e.Commit(st.Session)
	return err
}

// rebuild throws both databases away and makes them from packs and log.
func (t *trial) rebuild() error {
	if err := errors.Join(t.fs.RemoveAll(catalogDir), t.fs.RemoveAll(indexDir)); err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	err := t.lookAtPoints()
	if err != nil {
		err = fmt.Errorf("after the rebuild: %w", err)
	}
	return errors.Join(err, t.e.stop())
}

// harm lists the blocks whose frames are not as and where they were.
func (c *cell) harm() map[dedup.Addr]bool {
	out := map[dedup.Addr]bool{}
	for name, now := range c.files {
		if kindOf(name) != "pack" {
			continue
		}
		was := c.w.files[name]
		all, _, _ := frames(was)
		from, to := int64(0), int64(0)
		if c.kind == swap && !sealed(was) { // frames are found one after the other, and slots only go up
			from, to = changed(was, now)
		}
		for _, f := range all {
			same := int64(len(now)) >= f.end && string(now[f.off:f.end]) == string(was[f.off:f.end])
			if same && (f.end <= from || f.off >= to) {
				continue
			}
			for _, s := range f.slots {
				out[dedup.MakeAddr(packNumber(name), s)] = true
			}
		}
	}
	return out
}

// changed is where two files of one size differ first and last.
func changed(a, b []byte) (from, to int64) {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			if to == 0 {
				from = int64(i)
			}
			to = int64(i) + 1
		}
	}
	return from, to
}

// repairable: a sealed pack whose tables and footer are where they were names
// the hashes of what it lost.
func (c *cell) repairable() bool {
	for name, now := range c.files {
		was := c.w.files[name]
		_, toc1, _ := frames(was)
		if kindOf(name) != "pack" || !sealed(was) || len(now) != len(was) || string(now[toc1:]) != string(was[toc1:]) {
			return false
		}
	}
	return true
}

func packNumber(name string) (n uint64) {
	fmt.Sscanf(path.Base(name), "%x.", &n)
	return n
}
