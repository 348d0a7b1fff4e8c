package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// usableClone is usable of a clone.
func (s *session) usableClone() error {
	f := s.content()
	why := s.dead.Load()
	switch {
	case !f.Ended.IsZero():
		return fmt.Errorf("%w: clone %s of VM %s is %s", ErrClosed, f.ID, f.VM, f.State)
	case why != nil && f.State == Dead:
		return fmt.Errorf("%w: %s (VM %s, clone %s); its folder is kept until the clone is discarded", ErrDead, *why, f.VM, f.ID)
	case why != nil:
		return fmt.Errorf("%w: %s (VM %s, clone %s); what was flushed is there: stop the VM, run strongroom clone resume %s, "+
			"and start the VM with the new export", ErrStale, *why, f.VM, f.ID, f.ID)
	case f.State != Open:
		return fmt.Errorf("%w: clone %s of VM %s is %s", ErrClosed, f.ID, f.VM, f.State)
	}
	return nil
}

// resumed is the error for who comes with a token of before a clone was resumed.
func (s *session) resumed() error {
	return fmt.Errorf("%w: clone %s of VM %s was resumed since under another export, after it had lost writes that were not flushed; "+
		"stop the VM, and start it with the export that strongroom clone show %s names", ErrStale, s.file.ID, s.file.VM, s.file.ID)
}

// reviveClone brings a clone back that was not ended. It goes on where it was if
// nothing that was acknowledged may be lost, and is stale if something may be.
// One that is damaged is dead, and looked at again at the next start: what can be
// read of its journals stays until it is discarded.
func (s *session) reviveClone() error {
	s.writer = s.m.newWriter(false)
	if err := s.removeRewrites(); err != nil {
		return err
	}
	was := s.file.State
	disks, lost, damage := s.loadDisks(s.file.Disks, was != Open)
	s.disks = disks
	switch {
	case damage != nil:
		return s.findIt(Dead, damage.Error())
	case was == Dead:
		return s.findIt(Stale, "it could not be read when the server started before")
	case was == Stale:
		s.dead.Store(&s.file.Reason)
		return nil
	case lost != "" && !mutant.On("volume/stale-clone-lives"):
		return s.findIt(Stale, lost)
	}
	if s.file.BootID != s.m.boot {
		s.file.BootID = s.m.boot
		if err := s.m.save(&s.file); err != nil {
			return err
		}
	}
	for _, d := range s.disks {
		if err := d.journal.clearRest(); err != nil {
			return err
		}
	}
	if f := s.m.events.Recovered; f != nil {
		f(s.file.ID, s.file.VM, len(s.disks))
	}
	return nil
}

// findIt makes durable what a start found a clone to be. Before that nothing of
// it is changed, since the next start may find something else then.
func (s *session) findIt(st State, reason string) error {
	s.dead.Store(&reason)
	if s.file.State == st && s.file.Reason == reason {
		return nil
	}
	return s.sink(st, reason)
}

// loadDisks reads the journals of a clone's disks. lost says what was lost of
// what was acknowledged. If something was, or if the clone is stale, the disks
// are as they were when they were flushed last; nothing is written. A disk that
// cannot be read is what could be read of it.
func (s *session) loadDisks(specs []diskFile, stale bool) (disks []*disk, lost string, damage error) {
	for _, spec := range specs {
		d, why, err := s.loadDisk(spec, stale)
		disks = append(disks, d)
		if err != nil {
			damage = errors.Join(damage, fmt.Errorf("disk %s: %w", spec.Disk, err))
		}
		if lost == "" {
			lost = why
		}
	}
	if damage != nil {
		return disks, lost, damage
	}
	for _, d := range disks {
		var err error
		if stale || lost != "" && !mutant.On("volume/stale-clone-lives") {
			err = d.rewind()
			d.clone.retired = nil
		}
		if err == nil {
			err = d.depend()
		}
		if err != nil {
			damage = errors.Join(damage, fmt.Errorf("disk %s: %w", d.spec.Disk, err))
		}
	}
	return disks, lost, damage
}

// loadDisk reads one journal to its end.
func (s *session) loadDisk(spec diskFile, stale bool) (d *disk, lost string, err error) {
	d, err = newDisk(s, spec)
	if err != nil {
		return &disk{s: s, spec: spec}, "", err
	}
	if d.journal, err = openJournal(s.m.fs, s.m.journalPath(s.file.ID, spec.Disk), s.owner(spec.Disk), spec.Size); err != nil {
		return d, "", err
	}
	d.flushed = d.journal.first
	if err := d.replay(allRecords); err != nil {
		return d, "", err
	}
	same := s.file.BootID == s.m.boot
	if !same && !d.isClean {
		lost = "the host restarted while writes to " + d.what() + " were acknowledged but not flushed"
	}
	if !same && lost == "" {
		// Something stands behind a flush that is no record any more: if it was the mark
		// that comes before all acknowledgements, they may have been given.
		if written, err := d.journal.goesOn(); err != nil {
			return d, "", err
		} else if written {
			lost = "the host restarted, and what was being written to " + d.what() + " behind the last flush cannot be read"
		}
	}
	if d.clone.marked < d.journal.first {
		return d, lost, fmt.Errorf("%w: it lacks the mark that it was written anew with", errJournal)
	}
	return d, lost, d.journal.checkEnd(same && !stale, spec.Records)
}

// redoMark is redo of a clone's mark.
func (d *disk) redoMark(payload []byte) error {
	own := d.journal.seq - 1
	safe, _, err := decodeMark(payload, own)
	if err != nil {
		return err
	}
	if d.clone == nil {
		return errors.New("a clone's mark in the journal of a backup")
	}
	d.isClean = safe == own
	if safe > d.clone.marked {
		d.clone.marked, d.flushed = safe, safe
		d.clone.covered(safe)
	}
	return nil
}

// removeRewrites removes journals that did not come to replace others.
func (s *session) removeRewrites() error {
	for _, d := range s.file.Disks {
		if err := s.m.fs.Remove(s.m.rewritePath(s.file.ID, d.Disk)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// wasClone tells from its journals whether a session whose session.json cannot be
// read was a clone.
func (m *Manager) wasClone(id string) bool {
	names, err := m.fs.List(m.sessionDir(id))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		disk, ok := strings.CutSuffix(name, journalSuffix)
		if !ok {
			return false
		}
		f, err := m.fs.Open(m.fs.PathJoin(m.sessionDir(id), name))
		if err != nil {
			return false
		}
		defer f.Close()
		h := make([]byte, journalHeaderSize)
		return readFull(f, h, 0) == nil && binary.LittleEndian.Uint32(h[40:]) == ownerSum(cloneOwner(id, disk))
	})
}

// ResumeClone opens a stale clone as it was when it was flushed last, under new
// tokens; the old ones are refused for ever. It is durable when it returns. The
// error wraps ErrClosed when the clone is not stale. After another error it is
// stale as before.
func (m *Manager) ResumeClone(id string) (Status, error) {
	s, err := m.clone(id)
	if err != nil {
		return Status{}, err
	}
	s.verb.Lock()
	defer s.verb.Unlock()
	if err := s.lookForPoint(); err != nil {
		return Status{}, err
	}
	if st := s.state(); st != Stale {
		return Status{}, fmt.Errorf("%w: clone %s of VM %s is %s; only one that is stale is resumed", ErrClosed, id, s.file.VM, st)
	}
	s.awaitRewrites()
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.writer == nil {
		return Status{}, fmt.Errorf("%w: the server is stopping", ErrClosed)
	}
	op := m.epochs.enter()
	defer m.epochs.leave(op)
	if err := s.resume(); err != nil {
		return Status{}, fmt.Errorf("resume clone %s of VM %s: %w", id, s.file.VM, err)
	}
	m.stats.resumed.Add(1)
	return s.status(), nil
}

// resume makes new disks of what the journals say, in journals of their own: the
// old ones may have failed, and nothing is written over what they say. The old
// disks stay for Roots until the new ones are there. The caller holds verb and
// gate.
func (s *session) resume() error {
	old := s.writer
	s.writer = s.m.newWriter(false)
	next := s.content()
	next.State, next.Reason, next.BootID, next.Disks = Open, "", s.m.boot, renamed(next.Disks)
	disks, _, err := s.loadDisks(next.Disks, true)
	for _, d := range disks {
		if err == nil {
			err = d.rewriteAlone()
		}
	}
	if err == nil {
		s.saving.Lock()
		if err = s.m.save(&next); err == nil {
			s.replace(&next)
		}
		s.saving.Unlock()
	}
	if err != nil {
		for _, d := range disks {
			err = errors.Join(err, d.close())
		}
		s.writer.Close()
		s.writer = old
		return err
	}
	s.exchange(disks)
	old.Close()
	return nil
}

// awaitRewrites waits until nobody writes journals of the clone anew, which nobody
// begins while it is stale.
func (s *session) awaitRewrites() {
	for _, d := range s.maps() {
		if d.clone == nil {
			continue // it could not be read
		}
		d.mu.Lock()
		done := d.clone.rewriting
		d.mu.Unlock()
		if done != nil {
			<-done
		}
	}
}

// renamed are disks with new tokens.
func renamed(disks []diskFile) []diskFile {
	disks = slices.Clone(disks)
	for i := range disks {
		d := &disks[i]
		d.Former = append(slices.Clone(d.Former), d.Token)
		d.Former = d.Former[max(len(d.Former)-maxFormer, 0):]
		d.Token = ids.Token()
	}
	return disks
}

// exchange makes others the disks of a clone that is stale no more. Nobody who has
// one of the old ones can do anything with it.
func (s *session) exchange(disks []*disk) {
	s.mu.Lock()
	olds := s.disks
	s.disks = disks
	s.mu.Unlock()
	s.m.mu.Lock()
	for i, d := range disks {
		s.m.unname(olds[i])
		s.m.name(d)
	}
	s.m.mu.Unlock()
	for _, d := range olds {
		d.gone = true
		_ = d.close() // it was not written to
	}
	s.dead.Store(nil)
}

// saveAgain tells session.json what it could perhaps not be told when it
// happened. The caller holds the gate.
func (s *session) saveAgain() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	f := s.content()
	return s.m.save(&f)
}

// lookForPoint finds out whether a clone that became stale while it was being
// sealed was sealed after all. The caller holds verb.
func (s *session) lookForPoint() error {
	f := s.content()
	if f.State != Stale || f.Point == "" {
		return nil
	}
	_, err := s.m.cat.Point(f.Point)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if err := s.setState(Committed, f.Point); err != nil {
		return err
	}
	return s.discard()
}
