package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/mutant"
)

// replayFiles brings back the files of a session. One that may have lost what
// was acknowledged is as it was when it was flushed last, and one whose journal is
// damaged is lost; neither can be committed. It reports whether there is a new one
// of these.
func (s *session) replayFiles() (news bool) {
	entries := slices.Clone(s.file.Files)
	for i := range entries {
		e := &entries[i]
		f := newFile(s, e)
		s.m.files.Add(1)
		if f.lost == "" {
			var cut string
			cut, f.lost = f.revive(e.Records)
			if cut != "" {
				f.d.file.cut, e.Cut, news = cut, cut, true
			}
			if f.lost != "" {
				e.Lost, news = f.lost, true
			}
		}
		s.files[f.id] = f
		for _, name := range f.names {
			s.names[name] = f
		}
	}
	s.file.Files = entries
	return news
}

// revive replays a file's journal. It returns why the file is not what was
// acknowledged, or why it is lost.
func (f *file) revive(records uint64) (cut, lost string) {
	s := f.d.s
	cut, err := f.d.reopen(s.m.fileJournalPath(s.file.ID, f.id), fileJournalOwner(s.file.ID, f.id), records)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		lost = "its journal is missing"
	case err != nil:
		lost = err.Error()
	}
	if mutant.On("volume/lost-file-lives") {
		cut = ""
	}
	if lost != "" {
		s.space.Add(-f.d.file.length)
		f.d.file.length = 0
		_ = f.d.close()
	}
	return cut, lost
}

// complete refuses to commit what nobody can read, or nothing.
func (s *session) complete() error {
	list := s.fileStatus()
	for _, st := range list {
		switch {
		case st.Lost != "":
			return fmt.Errorf("%w: file %q: %s; remove it or send it again", ErrDead, st.Name, st.Lost)
		case st.Unfinished != "" && !mutant.On("volume/commit-unfinished"):
			return fmt.Errorf("%w: file %q: %s; close it, send it again, or remove it", ErrUnfinished, st.Name, st.Unfinished)
		}
	}
	if len(s.disks)+len(list) == 0 {
		return fmt.Errorf("%w: no file was written; abort the backup instead", ErrBadRequest)
	}
	return nil
}

// fileImages makes images of all files, one for every name. What was transferred
// counts for the first.
func (s *session) fileImages() (list []catalog.NewFile, err error) {
	understood := map[uint64]string{}
	for _, d := range s.disks {
		if d.spec.Source != 0 {
			understood[d.spec.Source] = d.spec.Disk
		}
	}
	for _, f := range s.namedFiles() {
		refs, err := f.d.image()
		if err != nil {
			return nil, fmt.Errorf("file %q: %w", f.names[0], err)
		}
		end, c := f.d.look()
		for _, name := range f.names {
			list = append(list, catalog.NewFile{Chunks: refs, FileImage: catalog.FileImage{
				Name: name, Size: end.length, Modified: end.modified, Disk: understood[f.id],
				WrittenBytes: c.written, NewBytes: c.fresh, StoredBytes: c.stored,
			}})
			c = counts{}
		}
	}
	return list, nil
}
