package offline

import (
	"bytes"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/maintenance"
)

// TestDeletedPoints: what was removed is not there and what was moved to make
// room for it is; the trash is listed, and given back by id.
func TestDeletedPoints(t *testing.T) {
	w := newWorld(t)
	m, err := maintenance.New(maintenance.Options{Blocks: w.blocks, Catalog: w.cat, Volumes: w.vols,
		Config: maintenance.Config{Settings: maintenance.Settings{TrashKeep: time.Hour}, GC: maintenance.GCConfig{DeadRatio: 0.01}}})
	w.must(err)
	_, err = m.Delete(w.points[0].id, true)
	w.must(err)
	_, err = m.Delete(w.points[1].id, false)
	w.must(err)
	r, err := m.Collect(t.Context(), maintenance.CollectOptions{})
	w.must(err)
	if r.Sweep.FreedBytes <= 0 || r.Sweep.MovedBytes <= 0 {
		t.Errorf("nothing was moved: %+v", r.Sweep)
	}
	w.stop()
	w.loseDatabases()
	s := w.open()
	list, err := s.List("")
	w.must(err)
	trash, err := s.Trash()
	w.must(err)
	if len(list) != 1 || list[0].ID != w.points[2].id || len(trash) != 1 || trash[0].ID != w.points[1].id {
		t.Errorf("points %v, trash %v", list, trash)
	}
	w.checkAll(s, w.points[1:])
	if _, err := s.Export(t.Context(), w.points[0].id, ExportOptions{Disk: "vda", To: new(bytes.Buffer)}); err == nil {
		t.Error("a removed point is exported")
	}
}
