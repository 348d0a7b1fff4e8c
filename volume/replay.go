package volume

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/atomicfile"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// recoverAll brings back every session folder.
func (m *Manager) recoverAll() error {
	names, err := m.fs.List(m.dir)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	for _, id := range names {
		if !ids.IsID(id) {
			continue
		}
		s, err := m.recoverSession(id)
		if err != nil {
			return fmt.Errorf("recover session %s: %w", id, err)
		}
		if s != nil {
			m.add(s)
		}
	}
	return nil
}

// recoverSession brings one session back as what it is by now. It returns nil
// for a folder that never became a session. Only errors of writing stop the
// server: whatever is wrong inside makes the session dead.
func (m *Manager) recoverSession(id string) (*session, error) {
	f, err := m.loadSessionFile(id)
	if errors.Is(err, fs.ErrNotExist) {
		if !m.wasWritten(id) {
			return nil, m.fs.RemoveAll(m.sessionDir(id)) // a crash while it was created
		}
		err = fmt.Errorf("session.json of %s is missing, though there are writes in its journals", id)
	}
	if err != nil {
		s := &session{m: m, file: sessionFile{Format: sessionFormat, ID: id, VM: "unknown", State: Dead, Expires: m.now().Add(DefaultTTL)}}
		s.file.Clone = m.wasClone(id)
		reason := err.Error()
		s.file.Reason = reason
		s.dead.Store(&reason)
		return s, nil
	}
	if err := m.settle(f); err != nil {
		return nil, err
	}
	s := &session{m: m, file: *f}
	s.files, s.names = map[uint64]*file{}, map[string]*file{}
	if f.State == Committing || f.State == Stale && f.Point != "" {
		if err := s.settleCommit(); err != nil {
			return nil, err
		}
	}
	if f.Clone && s.undecided() {
		return s, s.reviveClone()
	}
	switch s.file.State {
	case Open:
		return s, s.revive()
	case Dead:
		s.dead.Store(&s.file.Reason)
	}
	s.describeDisks()
	if s.file.State == Dead {
		return s, nil
	}
	return s, m.removeJournals(s)
}

// wasWritten reports whether a session's folder has a journal with records:
// session.json is there before the first of them.
func (m *Manager) wasWritten(id string) bool {
	names, err := m.fs.List(m.sessionDir(id))
	if err != nil {
		return true // whatever is there, it is not looked at
	}
	for _, n := range names {
		info, err := m.fs.Stat(m.fs.PathJoin(m.sessionDir(id), n))
		if strings.HasSuffix(n, journalSuffix) && (err != nil || info.Size() > journalHeaderSize) {
			return true
		}
	}
	return false
}

// settle makes the state just read durable: a process that was killed may have
// left it with the kernel only, and nobody may be told of a state that a power
// cut then takes back.
func (m *Manager) settle(f *sessionFile) error {
	if !f.Ended.IsZero() && m.now().Sub(f.Ended) > settledAfter {
		return nil
	}
	return atomicfile.SyncDir(m.fs, m.sessionDir(f.ID))
}

// settleCommit finds out what became of a commit that a crash interrupted.
func (s *session) settleCommit() error {
	_, err := s.m.cat.Point(s.file.Point)
	switch {
	case err == nil:
		s.file.State, s.file.Files = Committed, nil
	case errors.Is(err, catalog.ErrNotFound):
		s.file.Point = ""
		if s.file.State == Committing {
			s.file.State = Open
		}
	default:
		return err
	}
	return s.m.save(&s.file)
}

// describeDisks gives an ended session its disks, for Status only.
func (s *session) describeDisks() {
	for _, spec := range s.file.Disks {
		s.disks = append(s.disks, &disk{s: s, spec: spec})
	}
}

// revive reopens an open session's journals. It dies when an acknowledged
// write may be lost.
func (s *session) revive() error {
	if err := s.dropImports(); err != nil {
		return err
	}
	reason, err := s.replay()
	if err != nil {
		return err
	}
	if reason != "" && !mutant.On("volume/dead-session-lives") {
		s.kill(reason)
		return s.release()
	}
	if lost := s.replayFiles(); lost || s.file.BootID != s.m.boot {
		s.file.BootID = s.m.boot
		if err := s.m.save(&s.file); err != nil {
			return err
		}
	}
	if f := s.m.events.Recovered; f != nil {
		f(s.file.ID, s.file.VM, len(s.disks))
	}
	return nil
}

// replay reads the journals of all disks. reason says why the session must die.
func (s *session) replay() (reason string, err error) {
	s.writer = s.m.newWriter(s.file.KeepsFiles)
	for _, spec := range s.file.Disks {
		d, err := newDisk(s, spec)
		if err != nil {
			s.describeRest()
			return err.Error(), nil
		}
		s.disks = append(s.disks, d)
		reason, err := d.reopen(s.m.journalPath(s.file.ID, spec.Disk), s.owner(spec.Disk), spec.Records)
		if err != nil {
			s.describeRest()
			return fmt.Sprintf("disk %s: %v", spec.Disk, err), nil
		}
		if reason != "" {
			s.describeRest()
			return reason, nil
		}
	}
	return "", nil
}

// reopen brings a disk or a file back from its journal, of which so many records
// are known. reason says what was lost; a file is then as it was when it was
// flushed last, which a disk without its job is no good for.
func (d *disk) reopen(path, owner string, records uint64) (reason string, err error) {
	if d.journal, err = openJournal(d.s.m.fs, path, owner, d.spec.Size); err != nil {
		return "", err
	}
	if err := d.replay(allRecords); err != nil {
		return "", err
	}
	same := d.s.file.BootID == d.s.m.boot
	if !same && !d.isClean {
		reason = "the host restarted while writes to " + d.what() + " were acknowledged but not flushed"
	}
	if reason != "" && d.file == nil {
		return reason, nil
	}
	if err := d.journal.checkEnd(same, records); err != nil {
		return "", err
	}
	if reason != "" {
		if err := d.rewind(); err != nil {
			return "", err
		}
	}
	if err := d.depend(); err != nil {
		return "", err
	}
	return reason, d.journal.clearRest()
}

// rewind replays the journal of a file or of a clone's disk again, up to the last
// flush.
func (d *disk) rewind() error {
	if d.file != nil {
		d.s.space.Add(-d.file.length)
		d.file.length, d.file.state = 0, Whole
	}
	if d.clone != nil {
		d.clone = newCloneDisk()
	}
	d.chunks, d.resident, d.patched, d.raw, d.recent, d.total = map[uint32]*chunk{}, map[uint32]*chunk{}, 0, 0, nil, counts{}
	d.journal.end, d.journal.seq, d.isClean = journalHeaderSize, d.journal.first, true
	return d.replay(d.flushed)
}

// describeRest adds the disks that replay did not reach.
func (s *session) describeRest() {
	for _, spec := range s.file.Disks[len(s.disks):] {
		s.disks = append(s.disks, &disk{s: s, spec: spec})
	}
}

// allRecords makes replay go to the journal's end.
const allRecords = ^uint64(0)

// replay applies valid records, up to so many. The journal ends at the first that
// is not valid.
func (d *disk) replay(limit uint64) error {
	for d.journal.seq < limit {
		rec, err := d.journal.next(d.journal.file)
		if errors.Is(err, errTorn) {
			d.recent = nil
			return nil
		}
		if err == nil {
			err = d.redo(rec)
		}
		if err != nil {
			return fmt.Errorf("session journal, record %d: %w", d.journal.seq, err)
		}
	}
	d.recent = nil
	return nil
}

func (d *disk) redo(rec record) error {
	d.isClean = rec.typ == recClean
	if d.isClean {
		d.flushed = d.journal.seq
	}
	switch rec.typ {
	case recClean, recDirty:
		return nil
	case recMap:
		c, err := decodeMap(rec.payload, blocksOf(d.end()), func(m mapped) error {
			return d.apply(m.block, int64(m.count), m.addr)
		})
		d.total.add(c)
		return err
	case recRaw:
		off, n, err := decodeRaw(rec.payload, d.end())
		if err != nil {
			return err
		}
		d.total.written += int64(n)
		return d.patch(off, int64(n), rec.at+8, crc32.Checksum(rec.payload[8:], castagnoli))
	case recZero:
		off, n, written, err := decodeZero(rec.payload, d.end())
		if err != nil {
			return err
		}
		if written {
			d.total.written += n
		} else {
			d.total.zeroed += n
		}
		return d.applyZero(off, n)
	case recChunk:
		index, _, err := decodeChunk(rec.payload, d.numChunks())
		if err != nil {
			return err
		}
		c := d.chunks[index]
		if c == nil && d.clone != nil { // the journal was written anew
			c = new(chunk)
			d.chunks[index] = c
		}
		if c == nil {
			return fmt.Errorf("map of chunk %d, which nothing touched", index)
		}
		d.drop(index, c, rec.at)
		return nil
	case recFile:
		return d.redoFile(rec.payload)
	case recMark:
		return d.redoMark(rec.payload)
	}
	return fmt.Errorf("unknown type %d", rec.typ)
}

// depend checks that every block the journal names is there, and makes the
// session's next flush cover it.
func (d *disk) depend() error {
	var list []dedup.Addr
	for _, c := range d.chunks {
		a, err := d.load(c)
		if err != nil {
			return err
		}
		list = list[:0]
		for _, x := range a {
			if x != 0 && x != inherit {
				list = append(list, x)
			}
		}
		if err := d.s.m.blocks.Have(list); err != nil {
			return fmt.Errorf("data of acknowledged writes is missing: %w", err)
		}
		d.s.writer.Depend(list...)
	}
	return nil
}

// removeJournals frees what an ended session no longer needs.
func (m *Manager) removeJournals(s *session) error {
	return m.removeJournalsBut(s, nil)
}

// removeJournalsBut removes the journals of a session but for those to keep, by
// the names of their files.
func (m *Manager) removeJournalsBut(s *session, keep map[string]bool) error {
	names, err := m.fs.List(m.sessionDir(s.file.ID))
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n, journalSuffix) && !keep[n] {
			// A file that was open without a name may have gone meanwhile.
			err := m.fs.Remove(m.fs.PathJoin(m.sessionDir(s.file.ID), n))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
